"""What an alarm does when it changes its state: notify a topic, or execute a scaling policy.

Source: Amazon CloudWatch API Reference, "PutMetricAlarm" (AlarmActions); User Guide, "Using Amazon
CloudWatch alarms" (Auto Scaling actions go on once per minute).
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime

from chaosgrade.stage.alarms import Condition
from chaosgrade.stage.metrics import percentile_of
from chaosgrade.stage.world import ACCOUNT

_TOPIC = re.compile(r"arn:aws:sns:[^:]+:\d{12}:[^:]+")
_PLACES = {"us-east-1": "US East (N. Virginia)"}
_POLICY = re.compile(r"arn:aws:autoscaling:[^:]+:\d{12}:scalingPolicy:[^:]+:.+")


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm as it stands.

    Args:
        actions: {state: ARNs of what is done when it comes to that state}.
        acts: whether its actions are enabled.
        configured_at: when it was last put, in Unix seconds.
    """

    name: str
    arn: str
    description: str | None
    condition: Condition
    state: str
    actions: Mapping[str, tuple[str, ...]]
    acts: bool
    configured_at: float


@dataclass(frozen=True, slots=True)
class Change:
    """An alarm's change of state.

    Args:
        alarm: as it was before.
        value: of the latest datapoint; None without one.
        at: Unix seconds.
    """

    alarm: Alarm
    state: str
    reason: str
    value: float | None
    at: float


def supports(action: str) -> bool:
    """Whether the stage does what this ARN names."""
    return bool(_TOPIC.fullmatch(action) or _POLICY.fullmatch(action))


def goes_on(action: str) -> bool:
    """Whether an action is repeated each minute while its alarm stays in the state."""
    return bool(_POLICY.fullmatch(action))


class AlarmActions:
    """Carries actions out.

    Args:
        region: where.
        notify: publishes (subject, message) to a topic (ARN); raises LookupError without such one.
        scale: executes a scaling policy (ARN) for a metric so far beyond the alarm's threshold;
            raises LookupError without such one.
    """

    def __init__(
        self,
        region: str,
        notify: Callable[[str, str, str], None],
        scale: Callable[[str, float], None],
    ) -> None:
        self._region = region
        self._notify = notify
        self._scale = scale

    def carry_out(self, action: str, change: Change) -> str | None:
        """Do what an ARN names; returns why it failed, None when it did not."""
        try:
            if goes_on(action):
                threshold = change.alarm.condition.threshold
                self._scale(action, 0.0 if change.value is None else change.value - threshold)
            else:
                self._notify(action, *notification(change, self._region))
        except LookupError as error:
            return str(error.args[0])
        return None


def notification(change: Change, region: str) -> tuple[str, str]:
    """Subject and message, as Amazon CloudWatch sends them to a topic."""
    alarm, condition = change.alarm, change.alarm.condition
    place = _PLACES.get(region, region)
    trigger: dict[str, object] = {
        "MetricName": condition.metric.name,
        "Namespace": condition.metric.namespace,
        "StatisticType": "Statistic",
        "Statistic": condition.statistic.replace("SampleCount", "Sample_Count").upper(),
        "Unit": condition.unit,
        "Dimensions": [
            {"value": value, "name": name} for name, value in condition.metric.dimensions
        ],
        "Period": condition.period_s,
        "EvaluationPeriods": condition.periods,
        "DatapointsToAlarm": condition.to_alarm,
        "ComparisonOperator": condition.comparison,
        "Threshold": condition.threshold,
        "TreatMissingData": condition.missing,
        "EvaluateLowSampleCountPercentile": "ignore" if condition.few_samples_ignored else "",
    }
    if percentile_of(condition.statistic) is not None:
        del trigger["Statistic"]
        trigger |= {
            "StatisticType": "ExtendedStatistic",
            "ExtendedStatistic": condition.statistic,
        }
    message = {
        "AlarmName": alarm.name,
        "AlarmDescription": alarm.description,
        "AWSAccountId": ACCOUNT,
        "AlarmConfigurationUpdatedTimestamp": timestamp(alarm.configured_at),
        "NewStateValue": change.state,
        "NewStateReason": change.reason,
        "StateChangeTime": timestamp(change.at),
        "Region": place,
        "AlarmArn": alarm.arn,
        "OldStateValue": alarm.state,
        "OKActions": list(alarm.actions["OK"]),
        "AlarmActions": list(alarm.actions["ALARM"]),
        "InsufficientDataActions": list(alarm.actions["INSUFFICIENT_DATA"]),
        "Trigger": trigger,
    }
    return f'{change.state}: "{alarm.name}" in {place}'[:100], json.dumps(message)


def timestamp(unix_s: float) -> str:
    """As Amazon CloudWatch writes times into JSON."""
    at = datetime.fromtimestamp(unix_s, UTC)
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond // 1000:03}+0000"
