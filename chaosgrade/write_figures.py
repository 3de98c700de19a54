"""Each figure of a trial's writes as measured, before it is turned into AWS time.

Compares what customers were told with what was read back in the end, see `probes/ledger.py`. What
the evidence does not hold has no value and a reason, never a zero.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from chaosgrade.figures import (
    EVIDENCE_AT_MOST,
    STRETCH_AT_LEAST_S,
    STRETCH_S,
    Figure,
    share_of,
)
from chaosgrade.history import History, Request, Write
from chaosgrade.outages import Baseline, Outage, find_outages

_SLOW_PERCENTILE = 90
_AFTER_A_FAULT = ("time_to_write_again", "time_to_fail_over")
# From the load balancer: it got no answer either.
_NOBODY_ANSWERED = ("http_502", "http_504")


def figure_of_writes(history: History, name: str) -> Figure:
    """One figure of one trial; `name` is a key of `FIGURES`."""
    if history.fault_at is None and (name in _AFTER_A_FAULT or not history.writes):
        return Figure(None, reason="no fault was injected")
    if not history.writes and name != "time_to_fail_over":
        return Figure(None, reason="no orders were written")
    return FIGURES[name](history)


def is_answered(outcome: str) -> bool:
    """Whether an outcome is the service's own word; a refused connection has taken nothing."""
    return outcome in ("ok", "refused") or (
        outcome.startswith("http_") and outcome not in _NOBODY_ANSWERED
    )


def outages_of_writes(history: History) -> list[Outage]:
    """When writes were not acknowledged as before the fault, until the ledger's end."""
    fault_at = history.fault_at
    if fault_at is None or not history.writes:
        return []
    baseline = history.baseline_writes()
    return find_outages(
        [_as_request(write) for write in history.writes if write.at >= fault_at],
        end=history.writes[-1].at,
        stretch_s=max(STRETCH_AT_LEAST_S, STRETCH_S / history.time_scale),
        baseline=Baseline(sum(not write.ok for write in baseline), len(baseline)),
    )


def _as_request(write: Write) -> Request:
    return Request(write.at, 0, write.ok, write.latency_ms, 1, write.seq)


def _seqs(history: History, writes: Sequence[Write] = ()) -> tuple[int, ...]:
    """The reading and the first records that hold `writes`."""
    read = () if history.found_seq is None else (history.found_seq,)
    return (*read, *dict.fromkeys(write.seq for write in writes))[:EVIDENCE_AT_MOST]


def _lost_acknowledged_writes(history: History) -> Figure:
    acknowledged = [write for write in history.writes if write.ok]
    if history.found is None:
        return _unread(history)
    if not acknowledged:
        return Figure(None, reason="no write was acknowledged: none could be lost")
    lost = [write for write in acknowledged if write.number not in history.found]
    reason = f"all {len(acknowledged)} acknowledged writes are there"
    if lost:
        reason = f"of {len(acknowledged)} acknowledged writes {len(lost)} are not there"
    return Figure(float(len(lost)), reason=reason, evidence=_seqs(history, lost))


def _duplicated_writes(history: History) -> Figure:
    found = history.found
    if found is None:
        return _unread(history)
    if not found:
        return Figure(None, reason="no write is there: none could be there twice")
    double = [write for write in history.writes if found.get(write.number, 0) > 1]
    reason = f"each of {len(found)} writes is there once"
    if double:
        reason = f"of {len(found)} writes that are there {len(double)} are there more than once"
    return Figure(float(len(double)), reason=reason, evidence=_seqs(history, double))


def _indeterminate_writes(history: History) -> Figure:
    unanswered = [write for write in history.writes if not is_answered(write.outcome)]
    refused = [w for w in history.writes if not w.ok and is_answered(w.outcome)]
    evidence = _seqs(history, unanswered)
    if history.found is None:
        there = "how many of them are there is not known"
    else:
        there = (
            f"{sum(w.number in history.found for w in unanswered)} of {len(unanswered)} without an"
            f" answer are there, and {sum(w.number in history.found for w in refused)} of"
            f" {len(refused)} that were refused"
        )
    return Figure(float(len(unanswered)), reason=there, evidence=evidence)


def _unread(history: History) -> Figure:
    reason = history.unread or "the run ended before"
    return Figure(None, reason=f"what is there was not read: {reason}", evidence=_seqs(history))


def _write_availability(history: History) -> Figure:
    if hole := history.hole_in_writes():
        return Figure(None, reason=hole)
    observed = history.observed_writes()
    failed = [write for write in observed if not write.ok]
    figure = share_of(len(observed) - len(failed), len(observed))
    return replace(figure, evidence=_fault_and(history, failed))


def _baseline_write_availability(history: History) -> Figure:
    baseline = history.baseline_writes()
    if not baseline:
        return Figure(None, reason="no write was over before the fault")
    return share_of(sum(write.ok for write in baseline), len(baseline))


def _failed_write_latency(history: History) -> Figure:
    if hole := history.hole_in_writes():
        return Figure(None, reason=hole)
    failed = sorted(
        (write for write in history.observed_writes() if not write.ok),
        key=lambda write: write.latency_ms,
    )
    if not failed:
        return Figure(None, reason="no write failed in the observed window")
    place = math.ceil(_SLOW_PERCENTILE / 100 * len(failed)) - 1
    return Figure(failed[place].latency_ms, evidence=_fault_and(history, failed[place:]))


def _time_to_write_again(history: History) -> Figure:
    if history.over_at is None:
        return Figure(None, reason="the fault was not over when the run ended")
    if not history.baseline_writes():
        return Figure(None, reason="no write was over before the fault: there is no baseline")
    end = history.writes[-1].at
    if end <= history.over_at:
        return Figure(None, reason="no order was written after the fault")
    outages = outages_of_writes(history)
    if not outages:
        return Figure(0.0, reason="writes never left the baseline's level")
    last = outages[-1]
    evidence = _fault_and(history, last.evidence)
    if last.open:
        value = end - history.over_at
        reason = "writes were not back at the baseline's level when the ledger ended"
        return Figure(value, value, None, True, reason, evidence)
    value = last.end - history.over_at
    low, high = max(0.0, value - last.spacing_s), max(0.0, value + last.error_s)
    return Figure(max(0.0, value), low, high, evidence=evidence)


def _time_to_fail_over(history: History) -> Figure:
    fault_at = history.fault_at or 0.0
    before = [seen for seen in history.databases if seen.at <= fault_at and seen.address]
    if not before:
        return Figure(None, reason="no address of the database was recorded before the fault")
    after = [seen for seen in history.databases if seen.at > fault_at]
    moved = next((s for s in after if s.address and s.address != before[-1].address), None)
    if moved is None:
        reason = "the endpoint of the database led to the same address all the time"
        return Figure(None, reason=reason, evidence=(before[-1].seq,))
    return Figure(moved.at - fault_at, evidence=(before[-1].seq, moved.seq))


def _fault_and(history: History, found: Sequence[Write] | Sequence[int]) -> tuple[int, ...]:
    seqs = dict.fromkeys(one.seq if isinstance(one, Write) else one for one in found)
    fault = () if history.fault_seq is None else (history.fault_seq,)
    return (*fault, *seqs)[:EVIDENCE_AT_MOST]


FIGURES: Mapping[str, Callable[[History], Figure]] = {
    "lost_acknowledged_writes": _lost_acknowledged_writes,
    "duplicated_writes": _duplicated_writes,
    "indeterminate_writes": _indeterminate_writes,
    "write_availability": _write_availability,
    "baseline_write_availability": _baseline_write_availability,
    "failed_write_latency_p90": _failed_write_latency,
    "time_to_write_again": _time_to_write_again,
    "time_to_fail_over": _time_to_fail_over,
}
