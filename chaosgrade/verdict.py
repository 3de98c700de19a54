"""What one trial proves: its objectives passed, failed or inconclusive, from evidence alone.

The worse wins: failed, then inconclusive, then passed. Nothing passes without data, and nothing is
concluded from a trial in which the system was ill before the fault, the fault is not proven to have
bitten, or something that should have worked did not.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaosgrade.breakdown import Breakdown, break_down
from chaosgrade.errors import Exit
from chaosgrade.evidence import Record
from chaosgrade.history import History, read_history
from chaosgrade.measurement import METRICS, Measurement, measure
from chaosgrade.policies.grading import load_grading
from chaosgrade.policies.objectives import Objective, format_value, parse_objectives
from chaosgrade.timeline import Timeline, timeline

PASSED, FAILED, INCONCLUSIVE = "passed", "failed", "inconclusive"

_EARLY_S = 0.5
"""By how much an observation may end before its window does, in measured seconds."""


@dataclass(frozen=True, slots=True)
class ObjectiveVerdict:
    """One objective of one trial.

    Args:
        objective: what had to hold.
        measurement: what was measured.
        verdict: "passed", "failed" or "inconclusive".
        reason: one sentence.
    """

    objective: Objective
    measurement: Measurement
    verdict: str
    reason: str

    @property
    def measured(self) -> str:
        """The figure as people write it, with its sampling error."""
        return format_measurement(self.measurement, self.objective.target)


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that should have worked and did not."""

    source: str
    detail: str
    exit_code: int


@dataclass(frozen=True, slots=True)
class ChangeRecord:
    """A change that was made.

    Args:
        proven: whether its effect was seen.
        outcome: how its undo ended; None for a strike, or when it was not undone.
    """

    id: int
    summary: str
    zone: str | None
    reversible: bool
    proven: bool
    detail: str
    outcome: str | None


@dataclass(frozen=True, slots=True)
class TrialVerdict:
    """Everything that one trial has shown.

    Args:
        started: Unix seconds; None when nothing was recorded, which does not make it old.
        verdict: the worst of its objectives.
        invalid: why nothing can be concluded; empty for a valid trial.
        measurements: every figure of `METRICS`, whether an objective asks for it or not.
        status: "completed", "halted" or "aborted".
        undone: whether everything is as it was.
        breakdown: requests by zone and by customer.
    """

    run: str
    experiment: str
    title: str
    pattern: str
    pillar: str
    trial: int
    seed: int
    window_s: float
    environment: Mapping[str, Any]
    started: float | None
    verdict: str
    invalid: tuple[str, ...]
    objectives: tuple[ObjectiveVerdict, ...]
    measurements: Mapping[str, Measurement]
    problems: tuple[Problem, ...]
    changes: tuple[ChangeRecord, ...]
    status: str
    undone: bool
    timeline: Timeline = field(repr=False)
    breakdown: Breakdown = field(repr=False)


def judge(records: Sequence[Record]) -> TrialVerdict:
    """The verdict on one trial.

    Args:
        records: its evidence; a trial that broke off early has few.
    """
    start = next((r.data for r in records if r.kind == "run.start"), {})
    end = next((r.data for r in records if r.kind == "run.end"), {})
    problems = tuple(
        Problem(r["source"], r["detail"], int(r.data.get("exit_code", Exit.INCONCLUSIVE)))
        for r in records
        if r.kind == "problem"
    )
    changes = tuple(_changes(records))
    history = read_history(records)
    measurements = measure(records, METRICS)
    status = str(end.get("status", "aborted"))
    undone = bool(end.get("undone", not changes))
    ended = f"{status}: {end['reason']}" if end.get("reason") else status
    window_s = float(start.get("window_s", 0.0))
    invalid = tuple(_invalid(records, measurements, problems, changes, ended, undone=undone))
    invalid = invalid or tuple(_too_short(history, window_s))
    objectives = tuple(
        _judge(objective, measurements[objective.metric], invalid)
        for objective in parse_objectives(start.get("objectives", ()))
    )
    return TrialVerdict(
        run=str(start.get("run", "")),
        experiment=str(start.get("experiment", "unknown")),
        title=str(start.get("title", "")),
        pattern=str(start.get("pattern", "")),
        pillar=str(start.get("pillar", "")),
        trial=int(start.get("trial", 1)),
        seed=int(start.get("seed", 0)),
        window_s=window_s,
        environment=start.get("environment", {}),
        started=records[0].at if records else None,
        verdict=worst(o.verdict for o in objectives),
        invalid=invalid,
        objectives=objectives,
        measurements=measurements,
        problems=problems,
        changes=changes,
        status=status,
        undone=undone,
        timeline=timeline(records),
        breakdown=break_down(history),
    )


def worst(verdicts: Iterable[str]) -> str:
    """Failed over inconclusive over passed; nothing at all is inconclusive."""
    found = set(verdicts)
    for verdict in (FAILED, INCONCLUSIVE, PASSED):
        if verdict in found:
            return verdict
    return INCONCLUSIVE


def format_measurement(measurement: Measurement, bound: float | None = None) -> str:
    """A figure with its sampling error, such as "23 s (22–24 s)", written apart from a bound."""
    unit = measurement.unit
    text = format_value(measurement.value, unit, beside=bound)
    if measurement.censored and measurement.value is not None:
        return f"more than {text}"
    if measurement.value is None or measurement.low is None or measurement.high is None:
        return text
    low, high = format_value(measurement.low, unit), format_value(measurement.high, unit)
    return text if low == high else f"{text} ({low}–{high})"


def _invalid(
    records: Sequence[Record],
    measurements: Mapping[str, Measurement],
    problems: Sequence[Problem],
    changes: Sequence[ChangeRecord],
    ended: str,
    *,
    undone: bool,
) -> Iterable[str]:
    """Why nothing can be concluded, in the order in which it would have shown."""
    for problem in problems:
        yield f"{problem.source}: {problem.detail}"
    unmet = [
        r for r in records if r.kind == "hypothesis" and r["when"] == "before" and not r["met"]
    ]
    for record in unmet:
        yield f"the steady state was not there before the fault: {record['detail']}"
    if not ended.startswith("completed"):
        yield f"the run was {ended}"
    if not undone:
        yield "a change was not undone"
    if not changes:
        yield "no fault was injected"
        return
    for change in changes:
        if not change.proven:
            yield f"the fault is not proven: {change.summary}: {change.detail}"
    needed = load_grading().baseline_at_least
    for metric, what, sent in (
        ("availability", "traffic", "requests"),
        ("write_availability", "write", "writes"),
    ):
        baseline = measurements[f"baseline_{metric}"].value
        if baseline is None and measurements[metric].value is not None:
            yield f"no {what} was seen before the fault: whether the system was well is unknown"
        if baseline is not None and baseline < needed:
            was = format_value(baseline, "share", beside=needed)
            yield (
                f"the system was ill before the fault: {was} of {sent} "
                f"succeeded, {format_value(needed, 'share')} are needed"
            )


def _too_short(history: History, window_s: float) -> Iterable[str]:
    """Whether the fault was observed for less than the experiment's window, in AWS seconds."""
    if history.fault_at is None or history.window_end is None:
        return
    seen_s = history.window_end - history.fault_at
    if seen_s < window_s / history.time_scale - _EARLY_S:
        seen, declared = (format_value(s, "s") for s in (seen_s * history.time_scale, window_s))
        yield (
            f"the fault was observed for {seen} of the {declared} that the experiment declares; "
            "does its method end with the probe observe_window?"
        )


def _judge(
    objective: Objective, measurement: Measurement, invalid: Sequence[str]
) -> ObjectiveVerdict:
    value = measurement.value
    if invalid:
        verdict, reason = INCONCLUSIVE, invalid[0]
    elif value is None:
        verdict, reason = INCONCLUSIVE, measurement.reason or "no data"
    elif objective.holds(value) and measurement.censored:
        verdict, reason = INCONCLUSIVE, "the observation ended before the bound was reached"
    elif objective.holds(value):
        verdict, reason = PASSED, measurement.reason
    else:
        verdict, reason = FAILED, measurement.reason
    if verdict != INCONCLUSIVE and _straddles(objective, measurement):
        reason = " ".join(filter(None, (reason, "The bound lies within the sampling error.")))
    return ObjectiveVerdict(objective, measurement, verdict, reason)


def _straddles(objective: Objective, measurement: Measurement) -> bool:
    if measurement.low is None or measurement.high is None:
        return False
    return objective.holds(measurement.low) != objective.holds(measurement.high)


def _changes(records: Sequence[Record]) -> Iterable[ChangeRecord]:
    effects = {r["change"]: r for r in records if r.kind == "change.effect"}
    undone = {r["change"]: r["outcome"] for r in records if r.kind == "change.undone"}
    for record in records:
        if record.kind != "change.applied":
            continue
        effect = effects.get(record["change"])
        yield ChangeRecord(
            id=record["change"],
            summary=record["summary"],
            zone=record["zone"],
            reversible=record["reversible"],
            proven=bool(effect and effect["proven"]),
            detail=str(effect["detail"]) if effect else "its effect was never looked at",
            outcome=undone.get(record["change"]),
        )
