"""Each figure of a trial as measured, before it is turned into AWS time.

`figure_of` computes one by its name in `chaosgrade.measurement.METRICS`. What the evidence does not
hold has no value and a reason, never a zero.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

from hdrh.histogram import HdrHistogram

from chaosgrade.capacity import Capacity, read_capacity
from chaosgrade.history import History, Request
from chaosgrade.outages import Baseline, Outage, find_outages, find_total_outages

STRETCH_S = 20.0
"""How long success must stay at the baseline's level to count as recovered, in AWS seconds."""

STRETCH_AT_LEAST_S = 0.5
"""The same in measured seconds: fewer requests than these hold cannot tell noise from failure."""

EVIDENCE_AT_MOST = 12
"""How many records a figure names."""

_Z = 1.96  # two-sided 95%
_HOUR_US = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure in measured units; fields as of `chaosgrade.measurement.Measurement`."""

    value: float | None
    low: float | None = None
    high: float | None = None
    censored: bool = False
    reason: str = ""
    evidence: tuple[int, ...] = ()


class _Trial:
    """The parts of one trial that several figures share, each computed once."""

    def __init__(self, history: History, fault_at: float, end: float) -> None:
        self.history = history
        self.fault_at = fault_at
        self.end = end

    @cached_property
    def baseline(self) -> Sequence[Request]:
        return self.history.baseline()

    @cached_property
    def observed(self) -> Sequence[Request]:
        return self.history.observed()

    @cached_property
    def stretch_s(self) -> float:
        return max(STRETCH_AT_LEAST_S, STRETCH_S / self.history.time_scale)

    @cached_property
    def outages(self) -> list[Outage]:
        return find_outages(
            self.observed,
            end=self.end,
            stretch_s=self.stretch_s,
            baseline=Baseline(
                failed=sum(not request.ok for request in self.baseline),
                offered=len(self.baseline),
            ),
        )

    @cached_property
    def total_outages(self) -> list[Outage]:
        return find_total_outages(self.observed, end=self.end)

    @cached_property
    def capacity(self) -> Capacity | None:
        return read_capacity(self.history.health, self.fault_at, self.end)

    @cached_property
    def spacing_s(self) -> float:
        return (self.end - self.fault_at) / len(self.observed)

    def deciding(self, chosen: Iterable[Request] = ()) -> tuple[int, ...]:
        """The fault and the first records that hold `chosen` requests."""
        seqs = dict.fromkeys(request.seq for request in chosen)
        fault = () if self.history.fault_seq is None else (self.history.fault_seq,)
        return (*fault, *list(seqs)[: EVIDENCE_AT_MOST - 1])


def figure_of(history: History, name: str) -> Figure:
    """One figure of one trial; `name` is a key of `METRICS`."""
    if name == "baseline_availability":
        return _baseline_availability(history)
    if history.fault_at is None or history.window_end is None:
        return Figure(None, reason="no fault was injected")
    trial = _Trial(history, history.fault_at, history.window_end)
    if name in _OF_TARGETS:
        return _figure_of_targets(trial, name)
    if hole := history.hole():
        return Figure(None, reason=hole)
    if name in _OF_OUTAGES and not trial.baseline:
        return Figure(None, reason="no request ended before the fault: there is no baseline")
    return (_OF_TRAFFIC | _OF_OUTAGES)[name](trial)


def _figure_of_targets(trial: _Trial, name: str) -> Figure:
    if trial.capacity is None:
        return Figure(None, reason="no target health was recorded before the fault")
    return _OF_TARGETS[name](trial, trial.capacity)


def share_of(successes: int, offered: int) -> Figure:
    """A share with its 95% Wilson score interval (Wilson, 1927)."""
    share = successes / offered
    middle = (share + _Z**2 / (2 * offered)) / (1 + _Z**2 / offered)
    half = _Z * math.sqrt(share * (1 - share) / offered + (_Z / offered / 2) ** 2)
    half /= 1 + _Z**2 / offered
    return Figure(share, max(0.0, middle - half), min(1.0, middle + half))


def _baseline_availability(history: History) -> Figure:
    requests = history.baseline()
    if not requests:
        return Figure(None, reason="no request ended before the fault")
    failed = [request for request in requests if not request.ok]
    seqs = tuple(dict.fromkeys(request.seq for request in failed or requests))
    figure = share_of(len(requests) - len(failed), len(requests))
    return replace(figure, evidence=seqs[:EVIDENCE_AT_MOST])


def _availability(trial: _Trial) -> Figure:
    failed = [request for request in trial.observed if not request.ok]
    figure = share_of(len(trial.observed) - len(failed), len(trial.observed))
    return replace(figure, evidence=trial.deciding(failed))


def _availability_per_attempt(trial: _Trial) -> Figure:
    # Of the attempts of one request at most the last one succeeds.
    successes = sum(request.ok for request in trial.observed)
    attempts = sum(request.attempts for request in trial.observed)
    bad = (request for request in trial.observed if request.attempts > 1 or not request.ok)
    return replace(share_of(successes, attempts), evidence=trial.deciding(bad))


def _customers_affected(trial: _Trial) -> Figure:
    seen = {request.customer for request in trial.observed}
    failed = [request for request in trial.observed if not request.ok]
    affected = len({request.customer for request in failed})
    return Figure(affected / len(seen), evidence=trial.deciding(failed))


def _retry_amplification(trial: _Trial) -> Figure:
    attempts = sum(request.attempts for request in trial.observed)
    repeated = (request for request in trial.observed if request.attempts > 1)
    return Figure(attempts / len(trial.observed), evidence=trial.deciding(repeated))


def _latency(percentile: float) -> Callable[[_Trial], Figure]:
    def figure(trial: _Trial) -> Figure:
        histogram = HdrHistogram(1, _HOUR_US, 3)
        for request in trial.observed:
            if request.ok:
                histogram.record_value(max(1, round(request.latency_ms * 1e3)))
        count = histogram.get_total_count()
        if not count:
            return Figure(None, reason="no request succeeded in the observed window")
        # The rank of a percentile is binomial, so that ranks bound it without any distribution.
        half = 100 * _Z * math.sqrt(percentile / 100 * (1 - percentile / 100) / count)

        def at(rank: float) -> float:
            return float(histogram.get_value_at_percentile(min(100.0, max(0.0, rank)))) / 1e3

        value = at(percentile)
        slow = [r for r in trial.observed if r.ok and r.latency_ms >= value]
        evidence = trial.deciding(sorted(slow, key=lambda r: -r.latency_ms)[:EVIDENCE_AT_MOST])
        return Figure(value, at(percentile - half), at(percentile + half), evidence=evidence)

    return figure


def _time_to_recover(trial: _Trial) -> Figure:
    if not trial.outages:
        reason = "success never left the baseline's level"
        return Figure(0.0, 0.0, trial.spacing_s, reason=reason, evidence=trial.deciding())
    last = trial.outages[-1]
    evidence = (*trial.deciding(), *last.evidence)
    if last.open:
        reason = "success was not back at the baseline's level when the observation ended"
        return Figure(
            trial.end - trial.fault_at,
            low=trial.end - trial.fault_at,
            censored=True,
            reason=reason,
            evidence=evidence,
        )
    value = last.end - trial.fault_at
    low, high = max(0.0, value - last.spacing_s), value + last.error_s
    return Figure(value, low, high, evidence=evidence)


def _longest(outages: Sequence[Outage], trial: _Trial) -> Figure:
    if not outages:
        return Figure(0.0, 0.0, trial.spacing_s, evidence=trial.deciding())
    return _lasting([max(outages, key=lambda outage: outage.duration_s)], trial)


def _lasting(outages: Sequence[Outage], trial: _Trial) -> Figure:
    """The summed length of `outages`, each boundary with its own error."""
    if not outages:
        return Figure(0.0, 0.0, trial.spacing_s, evidence=trial.deciding())
    value = sum(outage.duration_s for outage in outages)
    low = value - sum(outage.spacing_s for outage in outages)
    high = sum(outage.longest_s for outage in outages)
    censored = any(outage.open for outage in outages)
    seqs = dict.fromkeys(seq for outage in outages for seq in outage.evidence)
    return Figure(
        value,
        max(0.0, low),
        None if censored else high,
        censored,
        "the outage had not ended when the observation did" if censored else "",
        (*trial.deciding(), *list(seqs)[: EVIDENCE_AT_MOST - 1]),
    )


def _time_to_detect(trial: _Trial, capacity: Capacity) -> Figure:
    evidence = (*trial.deciding(), capacity.before.seq)
    if not capacity.before.healthy:
        return Figure(None, reason="no target was healthy before the fault", evidence=evidence)
    if capacity.lost is None:
        window_s = trial.end - trial.fault_at
        reason = "no target that was healthy left service in the observed window"
        return Figure(window_s, window_s, None, True, reason, evidence)
    value = capacity.lost.at - trial.fault_at
    return Figure(
        value,
        max(0.0, value - trial.history.look_s),
        value,
        evidence=(*evidence, capacity.lost.seq),
    )


def _time_to_replace(trial: _Trial, capacity: Capacity) -> Figure:
    evidence = (*trial.deciding(), capacity.before.seq, capacity.lowest.seq)
    if not capacity.dropped:
        reason = "no healthy target was lost, so that no replacement could be seen"
        return Figure(None, reason=reason, evidence=evidence)
    if capacity.restored is None:
        window_s = trial.end - trial.fault_at
        count = len(capacity.before.healthy)
        reason = f"fewer than {count} targets were healthy when the observation ended"
        return Figure(window_s, window_s, None, True, reason, evidence)
    value = capacity.restored.at - trial.fault_at
    return Figure(
        value,
        max(0.0, value - trial.history.look_s),
        value,
        evidence=(*evidence, capacity.restored.seq),
    )


def _capacity_kept(trial: _Trial, capacity: Capacity) -> Figure:
    evidence = (*trial.deciding(), capacity.before.seq, capacity.lowest.seq)
    if not capacity.before.healthy:
        return Figure(None, reason="no target was healthy before the fault", evidence=evidence)
    kept = len(capacity.lowest.healthy) / len(capacity.before.healthy)
    return Figure(kept, evidence=evidence)


_OF_TRAFFIC: dict[str, Callable[[_Trial], Figure]] = {
    "availability": _availability,
    "availability_per_attempt": _availability_per_attempt,
    "customers_affected": _customers_affected,
    "retry_amplification": _retry_amplification,
    "latency_p50": _latency(50),
    "latency_p99": _latency(99),
    "total_outage_longest": lambda trial: _longest(trial.total_outages, trial),
}
_OF_OUTAGES: dict[str, Callable[[_Trial], Figure]] = {
    "time_to_recover": _time_to_recover,
    "outage_longest": lambda trial: _longest(trial.outages, trial),
    "outage_total": lambda trial: _lasting(trial.outages, trial),
}
_OF_TARGETS: dict[str, Callable[[_Trial, Capacity], Figure]] = {
    "time_to_detect": _time_to_detect,
    "time_to_replace": _time_to_replace,
    "capacity_kept": _capacity_kept,
}
