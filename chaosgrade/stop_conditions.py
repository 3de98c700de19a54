"""What ends a run that hurts more than it was meant to: alarms, queries, its own error budget."""

import base64
import json
import math
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Sequence
from typing import Any

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import AwsError, Refused, in_words
from chaosgrade.policies.safety import (
    AlarmCondition,
    ErrorBudgetCondition,
    PrometheusCondition,
    StopCondition,
    without_password,
)
from chaosgrade.stopping import StopRequest

EVERY_S = 5.0
"""Between two looks, in seconds."""

_BLIND_LOOKS = 3
"""A condition that could not be read so often in a row stops the run."""

_TIMEOUT_S = 5.0


class StopConditions:
    """Evaluates stop conditions, once before a run and again and again during it.

    Args:
        conditions: which.
        aws: where alarms are.
        tally: (failed, offered) requests of the run's own traffic in the last so many seconds.
        every_s: between two looks.
    """

    reads = ("cloudwatch:DescribeAlarms",)
    """IAM actions that alarms need."""

    def __init__(
        self,
        conditions: Sequence[StopCondition],
        aws: Aws,
        *,
        tally: Callable[[float], tuple[int, int]],
        every_s: float = EVERY_S,
    ) -> None:
        self._conditions = conditions
        self._aws = aws
        self._tally = tally
        self._every_s = every_s
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def check(self) -> None:
        """Let a run begin, or raise.

        Raises:
            Refused: a condition is met already, or cannot be evaluated.
        """
        for condition in self._conditions:
            try:
                breach = self._breach(condition, starting=True)
            except Exception as error:  # whatever it is, harm would not be seen
                raise Refused(f"stop condition: {condition.text}: {in_words(error)}") from None
            if breach:
                raise Refused(
                    f"stop condition: {condition.text}: {breach}: no fault before it ends"
                )

    def watch(self, stop: StopRequest) -> None:
        """From now on, request a stop when a condition is met or cannot be evaluated any more."""
        if not self._conditions:
            return
        self._thread = threading.Thread(
            target=self._watch, args=(stop,), name="stop-conditions", daemon=True
        )
        self._thread.start()

    def cease(self) -> None:
        """Request no stop any more: the run has come to its end by itself."""
        self._closed.set()

    def close(self) -> None:
        """Watch no more."""
        self.cease()
        if self._thread is not None:
            self._thread.join(2 * _TIMEOUT_S)

    def _watch(self, stop: StopRequest) -> None:
        blind = dict.fromkeys(self._conditions, 0)
        while not self._closed.wait(self._every_s):
            for condition in self._conditions:
                try:
                    breach = self._breach(condition, starting=False)
                    blind[condition] = 0
                except Exception as error:  # one that ended this thread would end the watch
                    blind[condition] += 1
                    breach = in_words(error) if blind[condition] >= _BLIND_LOOKS else ""
                if breach and not self._closed.is_set():
                    stop.request(f"stop condition: {condition.text}: {breach}")
                    return

    def _breach(self, condition: StopCondition, *, starting: bool) -> str:
        """What is wrong; "" when nothing is.

        Raises:
            ChaosgradeError: it cannot be evaluated.
        """
        match condition:
            case AlarmCondition(alarm):
                state = self._alarm(alarm)
                if state == "INSUFFICIENT_DATA" and starting:
                    raise Refused("it has insufficient data: it would not see any harm")
                return "is in ALARM" if state == "ALARM" else ""
            case PrometheusCondition():
                return self._query(condition)
            case ErrorBudgetCondition(share, over_s):
                failed, offered = self._tally(over_s)
                spent = failed > share * offered
                return f"{failed} of {offered} requests failed" if spent else ""

    def _alarm(self, name: str) -> str:
        answer = self._aws.send(
            Call(
                "cloudwatch",
                "DescribeAlarms",
                {"AlarmNames": [name], "AlarmTypes": ["MetricAlarm", "CompositeAlarm"]},
            )
        )
        found = [*answer.get("MetricAlarms", ()), *answer.get("CompositeAlarms", ())]
        if not found:
            raise Refused(f"there is no such alarm in {self._aws.region}")
        return str(found[0]["StateValue"])

    def _query(self, condition: PrometheusCondition) -> str:
        samples = _samples(_asked(condition))
        if not samples or any(math.isnan(sample) for sample in samples):
            raise AwsError("the query gives no number", code="NoData")
        for sample in samples:
            if condition.above is not None and sample > condition.above:
                return f"is {sample:g}"
            if condition.below is not None and sample < condition.below:
                return f"is {sample:g}"
        return ""


def _asked(condition: PrometheusCondition) -> dict[str, Any]:
    """The answer to an instant query.

    Source: Prometheus, "HTTP API", Instant queries.
    """
    parts = urllib.parse.urlsplit(condition.url)
    url = without_password(condition.url).rstrip("/") + "/api/v1/query"
    request = urllib.request.Request(  # noqa: S310 - http or https, by the policy
        f"{url}?{urllib.parse.urlencode({'query': condition.query})}"
    )
    if parts.username:
        user, password = (urllib.parse.unquote(x or "") for x in (parts.username, parts.password))
        token = base64.b64encode(f"{user}:{password}".encode()).decode()
        request.add_header("Authorization", f"Basic {token}")
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - as above
            document = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise AwsError(f"it cannot be asked: {reason}", code="Unreadable") from None
    if not isinstance(document, dict) or document.get("status") != "success":
        raise AwsError("it does not answer with success", code="Unreadable")
    return document


def _samples(document: dict[str, Any]) -> list[float]:
    try:
        data = document["data"]
        pairs = (
            [data["result"]]
            if data["resultType"] == "scalar"
            else [series["value"] for series in data["result"]]
        )
        return [float(value) for _, value in pairs]
    except (KeyError, TypeError, ValueError):
        raise AwsError("its answer holds no instant values", code="Unreadable") from None
