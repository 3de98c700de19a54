"""Figures of a run, computed from its evidence and from nothing else.

`measure` is a pure function: the same records give the same figures on any machine, today or in a
year. Durations are in AWS time: on the stage, where the control plane's waits are divided by the
time scale, a measured duration is multiplied by it and marked `projected`.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from chaosgrade.call_figures import CALL_FIGURES, figure_of_calls
from chaosgrade.errors import UsageError
from chaosgrade.evidence import Record
from chaosgrade.figures import Figure, figure_of
from chaosgrade.history import History, read_history
from chaosgrade.notice import notice_left
from chaosgrade.write_figures import FIGURES, figure_of_writes


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure.

    Args:
        metric: its name, as objectives use it.
        value: the figure; None when the evidence holds no data for it.
        unit: "share" (0 to 1), "s", "ms" or "count".
        low, high: the sampling error: the interval in which the true figure lies.
        censored: the observation ended first: the true figure is at least `value`.
        projected: stage time multiplied by the time scale.
        reason: why there is no value, or what bounds it; one sentence.
        evidence: sequence numbers of the records behind it.
    """

    metric: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    censored: bool = False
    projected: bool = False
    reason: str = ""
    evidence: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Metric:
    """What can be measured.

    Args:
        name: as objectives use it.
        unit: "share" (0 to 1), "s", "ms" or "count".
        higher_is_better: whether objectives say `at_least`.
        meaning: one sentence.
        aws_time: a duration in AWS time, projected on the stage.
    """

    name: str
    unit: str
    higher_is_better: bool
    meaning: str
    aws_time: bool = False


def measure(records: Sequence[Record], metrics: Iterable[str]) -> dict[str, Measurement]:
    """Measure one trial.

    Args:
        records: its evidence.
        metrics: names out of `METRICS`.

    Raises:
        UsageError: there is no such metric.
    """
    history = read_history(records)
    return {name: _measurement(history, name) for name in metrics}


def _measurement(history: History, name: str) -> Measurement:
    if name not in METRICS:
        raise UsageError(f"metric {name!r} is unknown; there are: {', '.join(sorted(METRICS))}")
    metric = METRICS[name]
    figure = _figure(history, name)
    scale = history.time_scale if metric.aws_time else 1.0
    return Measurement(
        metric=name,
        value=_times(figure.value, scale),
        unit=metric.unit,
        low=_times(figure.low, scale),
        high=_times(figure.high, scale),
        censored=figure.censored,
        projected=metric.aws_time and history.stage and figure.value is not None,
        reason=figure.reason,
        evidence=figure.evidence,
    )


def _figure(history: History, name: str) -> Figure:
    if name == "notice_left":
        return notice_left(history)
    if name in CALL_FIGURES:
        return figure_of_calls(history, name)
    return (figure_of_writes if name in FIGURES else figure_of)(history, name)


def _times(value: float | None, scale: float) -> float | None:
    return None if value is None else value * scale


METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        metric.name: metric
        for metric in (
            Metric(
                "availability",
                "share",
                True,
                "Requests that succeeded, retries included, of those due from the fault's start to"
                " the end of the window.",
            ),
            Metric(
                "availability_per_attempt",
                "share",
                True,
                "Attempts that succeeded of all that were made in the window, each retry counted.",
            ),
            Metric(
                "baseline_availability",
                "share",
                True,
                "Requests that succeeded before the fault.",
            ),
            Metric(
                "time_to_recover",
                "s",
                False,
                "From the fault's start until success is back at the baseline's level, and stays"
                " there for the rest of the window and for 20 s at least.",
                aws_time=True,
            ),
            Metric(
                "time_to_detect",
                "s",
                False,
                "From the fault's start until the load balancer takes a target out of service.",
                aws_time=True,
            ),
            Metric(
                "time_to_replace",
                "s",
                False,
                "From the fault's start until as many targets are healthy as before, for good.",
                aws_time=True,
            ),
            Metric(
                "capacity_kept",
                "share",
                True,
                "The fewest healthy targets in the window, as a share of those before the fault.",
            ),
            Metric(
                "notice_left",
                "s",
                True,
                "Of the Spot Instances that were interrupted, the least that was left of the two"
                " minutes of notice when the load balancer sent nothing more.",
                aws_time=True,
            ),
            Metric(
                "outage_longest",
                "s",
                False,
                "The longest interval with success below the baseline's level.",
                aws_time=True,
            ),
            Metric(
                "outage_total",
                "s",
                False,
                "All intervals with success below the baseline's level, together.",
                aws_time=True,
            ),
            Metric(
                "total_outage_longest",
                "s",
                False,
                "The longest interval in which every request failed.",
                aws_time=True,
            ),
            Metric(
                "customers_affected",
                "share",
                False,
                "Customers with at least one failed request in the window, of all seen in it.",
            ),
            Metric(
                "retry_amplification",
                "count",
                False,
                "Attempts made for each request in the window.",
            ),
            Metric(
                "latency_p50",
                "ms",
                False,
                "Median latency of successful requests in the window, from when each was due.",
            ),
            Metric(
                "latency_p99",
                "ms",
                False,
                "99th percentile of the latency of successful requests in the window, from when"
                " each was due.",
            ),
            Metric(
                "lost_acknowledged_writes",
                "count",
                False,
                "Orders of the run that were acknowledged and in the end are not there.",
            ),
            Metric(
                "duplicated_writes",
                "count",
                False,
                "Orders of the run that in the end are there more than once.",
            ),
            Metric(
                "indeterminate_writes",
                "count",
                False,
                "Orders of the run that nobody has answered: whether they are there is luck.",
            ),
            Metric(
                "write_availability",
                "share",
                True,
                "Orders that were acknowledged, of those due from the fault's start to the end of"
                " the window.",
            ),
            Metric(
                "baseline_write_availability",
                "share",
                True,
                "Orders that were acknowledged before the fault.",
            ),
            Metric(
                "failed_write_latency_p90",
                "ms",
                False,
                "90th percentile of how long orders of the window took to fail, from when each was"
                " due.",
            ),
            Metric(
                "time_to_write_again",
                "s",
                False,
                "From when the fault is over (the beginning of its undo; the start of one that has"
                " none) until orders are acknowledged as before it, and stay so.",
                aws_time=True,
            ),
            Metric(
                "time_to_fail_over",
                "s",
                False,
                "From the fault's start until the database's endpoint has another address.",
                aws_time=True,
            ),
            Metric(
                "call_amplification",
                "count",
                False,
                "Attempts made for each call to a dependency that failed at first.",
            ),
            Metric(
                "call_attempts",
                "count",
                False,
                "The most attempts made of one call to a dependency while it was away.",
            ),
            Metric(
                "call_peak",
                "count",
                False,
                "The most attempts in half a second once the dependency was back, against the mean"
                " before the fault.",
            ),
            Metric(
                "retry_jitter",
                "share",
                True,
                "How much of the gap before a dependency is tried again is random.",
            ),
            Metric(
                "time_to_serve_calls",
                "s",
                False,
                "From when the fault is over until the dependency answers as before it, and stays"
                " so.",
                aws_time=True,
            ),
        )
    }
)
