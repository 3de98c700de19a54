"""Each figure of the calls to a dependency as measured, before it is turned into AWS time.

A call is a request of a client, with all attempts that it makes of it. What the evidence does not
hold has no value and a reason, never a zero. See `probes/access_log.py` for where it is from.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from statistics import quantiles

from chaosgrade.figures import EVIDENCE_AT_MOST, STRETCH_AT_LEAST_S, STRETCH_S, Figure
from chaosgrade.history import CallAttempt, History, Request
from chaosgrade.outages import Baseline, find_outages
from chaosgrade.retries import INCONCLUSIVE

PEAK_S = 0.5
"""Over which a peak of attempts is counted, in measured seconds: clients' waits are not scaled."""

_FEWEST = 20  # attempts, or gaps: below, their rate or their spread is a guess
_MORE_CALLS = 1.5  # as usual: customers ask as often as before, so that the others are attempts
_HARDLY = 0.25  # of a gap: less than any jitter that is advised, and more than a busy machine adds


def figure_of_calls(history: History, name: str) -> Figure:
    """One figure of one trial; `name` is a key of `CALL_FIGURES`."""
    if history.fault_at is None:
        return Figure(None, reason="no fault was injected")
    if not history.calls:
        return Figure(None, reason="no call to a dependency was recorded")
    return CALL_FIGURES[name](history)


def _amplification(history: History) -> Figure:
    struck = _struck(history)
    if not struck:
        return _untouched(history)
    if mixed := _not_told_apart(history, struck):
        return mixed
    attempts = sum(map(len, struck))
    reason = f"{attempts} attempts of {len(struck)} calls that failed at first"
    return Figure(attempts / len(struck), reason=reason, evidence=_seqs(history, *struck))


def _attempts(history: History) -> Figure:
    struck = _struck(history)
    if not struck:
        return _untouched(history)
    if mixed := _not_told_apart(history, struck):
        return mixed
    longest = max(struck, key=len)
    return Figure(float(len(longest)), evidence=_seqs(history, longest))


def _peak(history: History) -> Figure:
    if history.over_at is None or history.fault_at is None:
        return Figure(None, reason="the fault was not over when the run ended")
    before = [call for call in history.calls if call.at < history.fault_at]
    if len(before) < _FEWEST:
        reason = f"{len(before)} attempts before the fault, {_FEWEST} are needed to know their rate"
        return Figure(None, reason=reason)
    usual = len(before) / (history.fault_at - before[0].at) * PEAK_S
    after = [call for call in history.calls if call.at >= history.over_at]
    if not after:
        return Figure(None, reason="nobody called after the fault")
    first, peak, most = 0, after[:1], 0
    for last, call in enumerate(after):
        while after[first].at < call.at - PEAK_S:
            first += 1
        if last + 1 - first > most:
            most, peak = last + 1 - first, after[first : last + 1]
    reason = f"{most} attempts within {PEAK_S:g} s, {usual:.1f} were usual"
    return Figure(most / usual, reason=reason, evidence=_seqs(history, peak))


def _time_to_serve(history: History) -> Figure:
    fault_at, over_at = history.fault_at, history.over_at
    if over_at is None or fault_at is None:
        return Figure(None, reason="the fault was not over when the run ended")
    # What was in flight when the fault began tells of the fault.
    before = [call for call in history.calls if call.at + call.took_ms / 1e3 < fault_at]
    if not before:
        return Figure(None, reason="nobody called before the fault: there is no baseline")
    end = history.calls[-1].at
    if end <= over_at:
        return Figure(None, reason="nobody called after the fault")
    outages = find_outages(
        [
            Request(call.at, 0, call.ok, call.took_ms, 1, call.seq)
            for call in history.calls
            if call.at >= fault_at
        ],
        end=end,
        stretch_s=max(STRETCH_AT_LEAST_S, STRETCH_S / history.time_scale),
        baseline=Baseline(sum(not call.ok for call in before), len(before)),
    )
    if not outages:
        return Figure(0.0, reason="attempts never left the baseline's level")
    last = outages[-1]
    if last.open:
        reason = "attempts were not back at the baseline's level when the observation ended"
        return Figure(end - over_at, end - over_at, None, True, reason, last.evidence)
    value = last.end - over_at
    low, high = max(0.0, value - last.spacing_s), max(0.0, value + last.error_s)
    return Figure(max(0.0, value), low, high, evidence=last.evidence)


def _jitter(history: History) -> Figure:
    seen = history.retries
    if seen is None:
        return Figure(None, reason="how clients back off was not looked at")
    reasons = "; ".join(seen["reasons"])
    evidence = () if history.retries_seq is None else (history.retries_seq,)
    if seen["family"] == "no-retry":
        if mixed := _not_told_apart(history, _struck(history)):
            return mixed
        return Figure(1.0, reason=f"clients do not retry: {reasons}", evidence=evidence)
    if seen["jitter_share"] is None:
        spread = _spread(history)
        if spread is None or spread > _HARDLY:
            return Figure(None, reason=f"{seen['family']}: {reasons}", evidence=evidence)
        reason = f"gaps before the same retry differ by {spread:.0%}, as a busy machine makes them"
        return Figure(0.0, 0.0, spread, reason=f"{reason}; {reasons}", evidence=evidence)
    family = seen["family"] if seen["family"] != INCONCLUSIVE else seen["nearest"]
    return Figure(seen["jitter_share"], reason=f"clients back off by {family}", evidence=evidence)


def _spread(history: History) -> float | None:
    """How much gaps before the same retry differ, nine of ten from one of ten, as a share of them.

    The most of all retries; None where there are too few gaps to tell. More of a gap than that is
    not random, whatever the family.
    """
    gaps: defaultdict[int, list[float]] = defaultdict(list)
    for attempts in _struck(history):
        for number, (before, after) in enumerate(pairwise(attempts)):
            gaps[number].append(after.at - before.at - before.took_ms / 1e3)
    spreads = []
    for waits in gaps.values():
        if len(waits) >= _FEWEST:
            tenths = quantiles(waits, n=10)
            spreads.append(1 - max(tenths[0], 0.0) / tenths[-1] if tenths[-1] > 0 else 1.0)
    return max(spreads, default=None)


def _struck(history: History) -> list[list[CallAttempt]]:
    """Calls whose first attempt the fault has met, each with its attempts in order."""
    end = history.over_at or history.calls[-1].at
    calls: defaultdict[int, list[CallAttempt]] = defaultdict(list)
    for attempt in history.calls:
        calls[attempt.call].append(attempt)
    return [
        attempts
        for attempts in calls.values()
        if history.fault_at is not None
        and history.fault_at <= attempts[0].at < end
        and not attempts[0].ok
    ]


def _not_told_apart(history: History, struck: Sequence[Sequence[CallAttempt]]) -> Figure | None:
    """Nothing, and why, where calls seem to be attempts of each other; None where they do not.

    Who retries without passing on the trace id makes a new call of each attempt.
    """
    before = [call for call in history.calls if history.fault_at and call.at < history.fault_at]
    if len(struck) < 2 * _FEWEST or len(before) < _FEWEST or history.fault_at is None:
        return None
    end = history.over_at or history.calls[-1].at
    usual = len({call.call for call in before}) / (history.fault_at - before[0].at)
    often = len(struck) / (end - history.fault_at) / usual
    if often < _MORE_CALLS:
        return None
    reason = (
        f"{often:.1f} times as many calls as before the fault: attempts of a call cannot be told "
        "apart when callers do not pass on the trace id (X-Amzn-Trace-Id)"
    )
    return Figure(None, reason=reason, evidence=_seqs(history, *struck))


def _untouched(history: History) -> Figure:
    reason = "no call failed while the fault lasted: it has not reached the dependency"
    return Figure(None, reason=reason, evidence=_seqs(history))


def _seqs(history: History, *calls: Sequence[CallAttempt]) -> tuple[int, ...]:
    seqs = dict.fromkeys(attempt.seq for call in calls for attempt in call)
    fault = () if history.fault_seq is None else (history.fault_seq,)
    return (*fault, *seqs)[:EVIDENCE_AT_MOST]


CALL_FIGURES: Mapping[str, Callable[[History], Figure]] = {
    "call_amplification": _amplification,
    "call_attempts": _attempts,
    "call_peak": _peak,
    "retry_jitter": _jitter,
    "time_to_serve_calls": _time_to_serve,
}
