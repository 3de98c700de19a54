"""What somebody puts as an alarm, checked: what AWS would refuse, what the stage does not evaluate.

Source: Amazon CloudWatch API Reference, "PutMetricAlarm".
"""

from collections.abc import Mapping
from typing import Any

from chaosgrade.stage.alarm_actions import supports
from chaosgrade.stage.alarms import (
    BREACHING,
    COMPARISONS,
    IGNORE,
    MISSING,
    NOT_BREACHING,
    Condition,
)
from chaosgrade.stage.metrics import KEPT_S, MINUTE_S, SIMPLE, Metric, percentile_of
from chaosgrade.stage.operations import NotPlayed
from chaosgrade.stage.published_metrics import PUBLISHED

_ACTIONS = ("AlarmActions", "OKActions", "InsufficientDataActions")
_NEEDED = (
    "AlarmName", "MetricName", "Namespace", "Period", "EvaluationPeriods", "Threshold",
    "ComparisonOperator",
)  # fmt: skip
_KNOWN = {
    *_NEEDED, *_ACTIONS, "ActionsEnabled", "AlarmDescription", "DatapointsToAlarm", "Dimensions",
    "EvaluateLowSampleCountPercentile", "EvaluationWindow", "ExtendedStatistic", "Statistic",
    "Tags", "TreatMissingData", "Unit",
}  # fmt: skip


class Invalid(ValueError):
    """A definition that AWS would refuse with a ValidationError."""


def condition_of(given: Mapping[str, Any]) -> Condition:
    """What an alarm watches for.

    Args:
        given: as PutMetricAlarm, or a template, has it; numbers may be text.

    Raises:
        Invalid: AWS would refuse it.
        NotPlayed: the stage does not evaluate that.
    """
    _check_played(given)
    for name in _NEEDED:
        if given.get(name) in (None, ""):
            raise Invalid(f"The parameter {name} is required.")
    simple, extended = given.get("Statistic"), given.get("ExtendedStatistic")
    if (simple is None) == (extended is None):
        raise Invalid("Exactly one of Statistic and ExtendedStatistic must be specified.")
    statistic = str(simple or extended)
    if simple and simple not in SIMPLE:
        raise Invalid(f"Statistic must be one of {', '.join(SIMPLE)}, got {simple}.")
    if extended and percentile_of(statistic) is None:
        raise NotPlayed(f"with statistic {extended}: of extended statistics there is pNN.NN")
    missing = given.get("TreatMissingData") or MISSING
    if missing not in (MISSING, IGNORE, BREACHING, NOT_BREACHING):
        raise Invalid(f"TreatMissingData {missing} is not supported.")
    few = given.get("EvaluateLowSampleCountPercentile") or "evaluate"
    if few not in ("evaluate", "ignore"):
        raise Invalid(f"EvaluateLowSampleCountPercentile {few} is not supported.")
    dimensions = {d["Name"]: str(d["Value"]) for d in given.get("Dimensions") or ()}
    periods = int(given["EvaluationPeriods"])
    condition = Condition(
        metric=Metric.of(given["Namespace"], given["MetricName"], dimensions),
        statistic=statistic,
        period_s=int(given["Period"]),
        periods=periods,
        to_alarm=int(given.get("DatapointsToAlarm") or periods),
        comparison=given["ComparisonOperator"],
        threshold=float(given["Threshold"]),
        missing=missing,
        unit=given.get("Unit"),
        few_samples_ignored=few == "ignore",
    )
    _check_periods(condition)
    return condition


def _check_played(given: Mapping[str, Any]) -> None:
    if given.get("Metrics"):
        raise NotPlayed("with metric math: an alarm watches one metric")
    if strange := sorted(name for name, value in given.items() if name not in _KNOWN and value):
        raise NotPlayed(f"with {', '.join(strange)}")
    if "WallClockWindow" in (given.get("EvaluationWindow") or {}):
        raise NotPlayed("with a wall clock window: windows slide")
    namespace, name = str(given.get("Namespace", "")), given.get("MetricName")
    if namespace.startswith("AWS/") and name not in PUBLISHED.get(namespace, ()):
        published = "; ".join(f"{known}: {', '.join(n)}" for known, n in PUBLISHED.items())
        raise NotPlayed(
            f"of {namespace} {name}, which it does not publish. It publishes {published}"
        )
    comparison = given.get("ComparisonOperator")
    if comparison is not None and comparison not in COMPARISONS:
        raise NotPlayed(f"with {comparison}: there are {', '.join(COMPARISONS)}")
    for action in (action for kind in _ACTIONS for action in given.get(kind) or ()):
        if not supports(str(action)):
            raise NotPlayed(
                f"with action {action}: alarms notify SNS topics and execute scaling policies"
            )


def _check_periods(condition: Condition) -> None:
    period_s = condition.period_s
    if period_s not in (10, 20, 30) and (period_s < MINUTE_S or period_s % MINUTE_S):
        raise Invalid(f"Period must be 10, 20, 30 or a multiple of 60, got {period_s}.")
    if condition.periods < 1 or not 1 <= condition.to_alarm <= condition.periods:
        raise Invalid(
            "EvaluationPeriods must be at least 1, and DatapointsToAlarm from 1 to "
            f"EvaluationPeriods; got {condition.to_alarm} of {condition.periods}."
        )
    if period_s * condition.periods > KEPT_S:
        raise Invalid(
            "Metrics cannot be checked across more than a day "
            "(EvaluationPeriods * Period must be <= 86400)."
        )
