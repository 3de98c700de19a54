"""What limits a grade, whatever the points say."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from chaosgrade.policies.grading import Grading
from chaosgrade.policies.objectives import format_value
from chaosgrade.verdict import INCONCLUSIVE, TrialVerdict


@dataclass(frozen=True, slots=True)
class Cap:
    """A finding that limits the grade.

    Args:
        grade: the best that it allows; None means none at all.
        bites: whether the grade would be better without.
        weakness: whether it is one of the system, and not of what is known about it.
    """

    grade: str | None
    finding: str
    bites: bool = False
    weakness: bool = False


def findings(
    trials: Sequence[TrialVerdict], coverage: float, grading: Grading, *, undone: bool
) -> Iterable[Cap]:
    """What limits the grade; whether it bites shows when all is known."""
    if not undone:
        yield Cap(None, "a change was not undone")
    for trial in trials:
        if trial.invalid:
            continue
        for grade, finding in _weaknesses(trial, grading):
            yield Cap(grade, finding, weakness=True)
    critical = {
        f"{trial.experiment}: {verdict.objective.metric}"
        for trial in trials
        for verdict in trial.objectives
        if verdict.objective.critical and verdict.verdict == INCONCLUSIVE
    }
    for name in sorted(critical):
        grade = grading.caps.critical_inconclusive.grade
        yield Cap(grade, f"the critical objective {name} was inconclusive")
    for cap in sorted(grading.coverage_caps, key=lambda cap: cap.below):
        if coverage < cap.below:
            yield Cap(
                cap.cap,
                f"coverage is {format_value(coverage, 'share', beside=cap.below)}, "
                f"below {format_value(cap.below, 'share')}",
            )
            break


def _weaknesses(trial: TrialVerdict, grading: Grading) -> Iterable[tuple[str, str]]:
    caps = grading.caps
    lost = trial.measurements.get("lost_acknowledged_writes")
    if lost is not None and lost.value:
        grade = caps.lost_acknowledged_writes.grade
        yield grade, f"{trial.experiment} lost acknowledged writes: {lost.value:g}"
    recovery = trial.measurements["time_to_recover"]
    if recovery.censored and recovery.value is not None:
        grade = caps.not_recovered.grade
        yield grade, f"{trial.experiment}: not recovered without a person within the window"
    targets = [v.objective for v in trial.objectives if v.objective.metric == "time_to_recover"]
    outage = trial.measurements["total_outage_longest"].value
    if targets and outage is not None and outage > targets[0].target:
        yield (
            caps.single_point_of_failure.grade,
            f"{trial.experiment}: one fault took availability to zero for "
            f"{format_value(outage, 's', beside=targets[0].target)}, longer than the "
            f"{format_value(targets[0].target, 's')} in which it should have recovered",
        )


def capped(
    earned: str | None, limits: Iterable[Cap], grading: Grading
) -> tuple[tuple[Cap, ...], str | None]:
    """The caps, each once, and the grade that they leave of the earned one."""
    found = list(dict.fromkeys(limits))
    final = earned
    for cap in found:
        final = None if cap.grade is None or final is None else grading.worse(final, cap.grade)
    return tuple(
        replace(cap, bites=cap.grade is None or (cap.grade == final and cap.grade != earned))
        for cap in found
    ), final
