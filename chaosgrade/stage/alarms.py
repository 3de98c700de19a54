"""When an Amazon CloudWatch alarm changes its state: pure rules, from datapoints to a verdict.

Source: Amazon CloudWatch User Guide, "Alarm evaluation", "Configuring how CloudWatch alarms treat
missing data" (with the tables that the tests hold these rules against), "Percentile-based
CloudWatch alarms and low data samples".
"""

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from chaosgrade.stage.metrics import Metric, MetricStore, Statistics, percentile_of

OK, ALARM, INSUFFICIENT_DATA = "OK", "ALARM", "INSUFFICIENT_DATA"
MISSING, IGNORE, BREACHING, NOT_BREACHING = "missing", "ignore", "breaching", "notBreaching"

COMPARISONS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}

_FURTHER_BACK = 2
"""Periods beyond the evaluation periods that are looked at in case some are missing. Assumption:
AWS says that their number depends; in its examples it is five for three evaluation periods."""


@dataclass(frozen=True, slots=True)
class Condition:
    """What an alarm watches for.

    Args:
        unit: of the samples that count; None for all.
        statistic: "Sum", …, or a percentile such as "p99".
        period_s: AWS seconds.
        periods: how many are evaluated ("N").
        to_alarm: how many of those must breach ("M").
        comparison: a key of `COMPARISONS`.
        missing: how a period without samples counts.
        few_samples_ignored: whether a percentile of too few samples changes nothing.
    """

    metric: Metric
    statistic: str
    period_s: int
    periods: int
    to_alarm: int
    comparison: str
    threshold: float
    missing: str = MISSING
    unit: str | None = None
    few_samples_ignored: bool = False

    def breached_by(self, value: float) -> bool:
        """Whether a datapoint is beyond the threshold."""
        return COMPARISONS[self.comparison][0](value, self.threshold)


@dataclass(frozen=True, slots=True)
class Point:
    """A period as an alarm sees it.

    Args:
        unix_s: when it began.
        value: None without samples.
        significant: whether there are enough samples for the percentile.
    """

    unix_s: float
    value: float | None
    significant: bool = True


@dataclass(frozen=True, slots=True)
class Verdict:
    """The state that an evaluation comes to.

    Args:
        points: what was looked at, the latest first, without the missing ones.
    """

    state: str
    reason: str
    points: tuple[Point, ...]


def points(store: MetricStore, condition: Condition, end: int) -> list[Point]:
    """The periods before `end`, in AWS seconds, that an evaluation looks at; the latest last."""
    count = condition.periods + _FURTHER_BACK
    first = end - count * condition.period_s
    found = dict(store.periods(condition.metric, condition.period_s, first, end, condition.unit))
    return [
        Point(
            store.unix(first + number * condition.period_s),
            found[number].value(condition.statistic) if number in found else None,
            number not in found or _significant(condition.statistic, found[number]),
        )
        for number in range(count)
    ]


def _significant(statistic: str, statistics: Statistics) -> bool:
    """Whether a percentile has at least ten samples beyond it."""
    percent = percentile_of(statistic)
    if percent is None or percent in (0, 100):
        return True
    return statistics.count * min(percent, 100 - percent) / 100 >= 10


def judge(condition: Condition, seen: Sequence[Point]) -> Verdict | None:
    """What follows from these periods; None when the state stays as it is.

    Args:
        seen: as `points` gives them.
    """
    real = [point for point in seen if point.value is not None]
    if all(point.value is not None for point in seen[-condition.periods :]):
        window = list(seen[-condition.periods :])
    else:
        window = real[-condition.periods :]
    if condition.few_samples_ignored and not all(point.significant for point in window):
        return None
    breaching = sum(_breaches(condition, point) for point in window)
    filled = condition.periods - len(window)
    state: str | None
    if filled and condition.missing in (BREACHING, NOT_BREACHING):
        breaching += filled if condition.missing == BREACHING else 0
        state = ALARM if breaching >= condition.to_alarm else OK
    elif not real:
        state = INSUFFICIENT_DATA if condition.missing == MISSING else None
    elif breaching >= condition.to_alarm:
        state = ALARM
    elif filled and breaching == len(window):
        # Nothing speaks against an alarm, and too little for it: it waits for more, unless what
        # breached has been waited for long enough.
        oldest = len(seen) - seen.index(real[0])
        late = condition.missing == MISSING and oldest >= condition.to_alarm
        state = ALARM if late else None
    else:
        state = OK
    if state is None:
        return None
    told = tuple(reversed(window))
    return Verdict(state, _reason(condition, state, told, filled), told)


def _breaches(condition: Condition, point: Point) -> bool:
    return point.value is not None and condition.breached_by(point.value)


def _reason(condition: Condition, state: str, told: Sequence[Point], filled: int) -> str:
    """As DescribeAlarms words it."""
    if state == INSUFFICIENT_DATA:
        return f"Insufficient Data: {_datapoints(filled)} {_were(filled)} unknown."
    treated = ""
    speaking = [p for p in told if _breaches(condition, p) == (state == ALARM)]
    if filled and condition.missing in (BREACHING, NOT_BREACHING):
        how = condition.missing[0].upper() + condition.missing[1:]
        noun = "datapoint" if filled == 1 else "datapoints"
        treated = f"{filled} missing {noun} {_were(filled)} treated as [{how}]"
        if not speaking:
            periods = "1 period" if filled == 1 else f"{filled} periods"
            return f"Threshold Crossed: no datapoints were received for {periods} and {treated}."
    values = ", ".join(f"{p.value} ({_at(p.unix_s)})" for p in speaking)
    wording = COMPARISONS[condition.comparison][1]
    needed = condition.to_alarm if state == ALARM else condition.periods - condition.to_alarm + 1
    change = "OK -> ALARM" if state == ALARM else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(speaking)} out of the last {_datapoints(len(told))} [{values}] "
        f"{_were(len(speaking))} {'' if state == ALARM else 'not '}{wording} the threshold "
        f"({condition.threshold}) (minimum {_datapoints(needed)} for {change} transition)"
        + (f"; {treated}." if treated else ".")
    )


def _datapoints(count: int) -> str:
    return "1 datapoint" if count == 1 else f"{count} datapoints"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"


def _at(unix_s: float) -> str:
    return datetime.fromtimestamp(unix_s, UTC).strftime("%d/%m/%y %H:%M:%S")
