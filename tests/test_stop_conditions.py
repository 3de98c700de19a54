"""Stop conditions: refuse a run that begins in trouble, stop one that gets into it."""

import json
import threading
from collections.abc import Iterator
from http.client import BadStatusLine
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from chaoslib.exceptions import InterruptExecution

from chaosgrade.aws import Call
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, Refused
from chaosgrade.evidence import Record
from chaosgrade.policies.safety import (
    AlarmCondition,
    ErrorBudgetCondition,
    PrometheusCondition,
)
from chaosgrade.recent_traffic import RecentTraffic
from chaosgrade.stop_conditions import StopConditions
from chaosgrade.stopping import StopRequest


class CloudWatch:
    """Answers DescribeAlarms."""

    region = "us-east-1"

    def __init__(self, state: str | None) -> None:
        self.state = state
        self.broken: Exception | None = None

    def send(self, call: Call) -> dict[str, Any]:
        if self.broken:
            raise self.broken
        found = [{"AlarmName": "checkout", "StateValue": self.state}] if self.state else []
        return {"MetricAlarms": found, "CompositeAlarms": []}


class Prometheus(ThreadingHTTPServer):
    """Answers an instant query with whatever it is told to."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer: Any = None
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://ops:s3cret@127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Prometheus

    def do_GET(self) -> None:
        self.server.asked.append((self.path, self.headers["Authorization"]))
        body = json.dumps(self.server.answer).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture
def prometheus() -> Iterator[Prometheus]:
    server = Prometheus()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


def vector(*values: str) -> dict[str, Any]:
    result = [{"metric": {}, "value": [0, value]} for value in values]
    return {"status": "success", "data": {"resultType": "vector", "result": result}}


def conditions(*some: Any, aws: Any = None, tally: Any = lambda s: (0, 0)) -> StopConditions:
    return StopConditions(some, aws, tally=tally, every_s=0.01)


def reason(watched: StopConditions) -> str:
    """What the watch stops a run for."""
    stop = StopRequest()
    watched.watch(stop)
    with pytest.raises(InterruptExecution) as caught:
        stop.wait(10)
    watched.close()
    return str(caught.value)


@pytest.mark.parametrize(
    ("state", "says"),
    [("ALARM", "is in ALARM"), (None, "no such alarm"), ("INSUFFICIENT_DATA", "insufficient")],
)
def test_a_run_does_not_begin_under_an_alarm(state: str | None, says: str) -> None:
    """Nor under one that could not see."""
    with pytest.raises(Refused, match=f"CloudWatch alarm checkout: .*{says}"):
        conditions(AlarmCondition("checkout"), aws=CloudWatch(state)).check()
    conditions(AlarmCondition("checkout"), aws=CloudWatch("OK")).check()


def test_an_alarm_stops_a_run() -> None:
    """With its name as the reason."""
    cloudwatch = CloudWatch("OK")
    watched = conditions(AlarmCondition("checkout"), aws=cloudwatch)
    watched.check()
    cloudwatch.state = "ALARM"
    assert reason(watched) == "stop condition: CloudWatch alarm checkout: is in ALARM"


@pytest.mark.parametrize(
    "error", [AwsError("refused", code="AccessDenied"), BadStatusLine("refused")]
)
def test_a_condition_that_cannot_be_read_any_more_stops_a_run(error: Exception) -> None:
    """Blind is not safe; nor when nobody has expected what is in the way."""
    cloudwatch = CloudWatch("OK")
    cloudwatch.broken = error
    watched = conditions(AlarmCondition("checkout"), aws=cloudwatch)
    with pytest.raises(Refused, match=r"CloudWatch alarm checkout: .*refused"):
        watched.check()
    assert "refused" in reason(watched)


def test_a_query_is_asked_with_its_password_and_told_without(prometheus: Prometheus) -> None:
    """Samples beyond the bound stop; on the bound they do not."""
    condition = PrometheusCondition(prometheus.url, "errors > bool 0", 0.5, None)
    prometheus.answer = vector("0.5", "0.1")
    conditions(condition).check()
    path, authorization = prometheus.asked[0]
    assert path == "/api/v1/query?query=errors+%3E+bool+0"
    assert authorization == "Basic b3BzOnMzY3JldA=="
    prometheus.answer = vector("0.1", "0.6")
    with pytest.raises(Refused, match=r"is 0\.6") as caught:
        conditions(condition).check()
    assert "s3cret" not in str(caught.value)
    assert "s3cret" not in reason(conditions(condition))


@pytest.mark.parametrize(
    "answer",
    [
        vector(),
        vector("NaN"),
        {"status": "error", "error": "bad"},
        {"status": "success", "data": {"resultType": "matrix", "result": [{"values": []}]}},
        [],
    ],
)
def test_an_answer_without_a_number_refuses(prometheus: Prometheus, answer: Any) -> None:
    """No data is not zero."""
    prometheus.answer = answer
    with pytest.raises(Refused, match="stop condition"):
        conditions(PrometheusCondition(prometheus.url, "up", None, 1.0)).check()


def test_a_server_that_is_not_there_refuses() -> None:
    """Without showing the password."""
    condition = PrometheusCondition("http://ops:s3cret@127.0.0.1:9", "up", None, 1.0)
    with pytest.raises(Refused, match="cannot be asked") as caught:
        conditions(condition).check()
    assert "s3cret" not in str(caught.value)


def test_the_runs_own_error_budget_stops_it() -> None:
    """Counted over the requests that it recorded itself, the last of them."""
    ticks = [0.0]
    clock = Clock(wall=1000.0, monotonic=0.0, ticks=lambda: ticks[0])
    traffic = RecentTraffic(clock)

    def requests(failed: int, whole: int) -> None:
        rows = [[0, 0, "failed" if n < failed else "ok", 1.0, 1] for n in range(whole)]
        traffic.see(Record(0, clock.now(), "traffic", {"requests": rows}))

    budget = ErrorBudgetCondition(0.5, 10.0)
    requests(100, 100)
    ticks[0] = 20.0
    requests(5, 10)
    conditions(budget, tally=traffic.tally).check()
    requests(6, 10)
    assert traffic.tally(10.0) == (11, 20)
    assert "11 of 20 requests failed" in reason(conditions(budget, tally=traffic.tally))
