"""From verdicts to points, an interval, a grade, and where each lost point went."""

import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chaosgrade.caps import Cap, capped, findings
from chaosgrade.errors import Exit
from chaosgrade.policies.grading import Grading
from chaosgrade.policies.objectives import Objective
from chaosgrade.verdict import (
    FAILED,
    INCONCLUSIVE,
    PASSED,
    ObjectiveVerdict,
    TrialVerdict,
    worst,
)

_DRAWS = 20_000
_SEED = 20_150_101
"""Fixed: the same evidence has the same interval, today and in a year."""

type _Draws = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class ObjectiveScore:
    """One objective over the trials of its experiment.

    Args:
        target: the bound as people write it.
        weight: within its experiment.
        passed, failed, inconclusive: trials.
        measured: the figure of the worst trial, as people write it.
        reason: of that trial.
        evidence: record numbers of that trial.
        run: that trial's run id.
    """

    metric: str
    target: str
    weight: float
    critical: bool
    because: str
    passed: int
    failed: int
    inconclusive: int
    measured: str
    reason: str
    evidence: tuple[int, ...]
    run: str

    @property
    def credit(self) -> float | None:
        """Passed over conclusive trials; None when none was conclusive."""
        conclusive = self.passed + self.failed
        return self.passed / conclusive if conclusive else None

    @property
    def verdict(self) -> str:
        """The worst of its trials."""
        found = ((self.failed, FAILED), (self.inconclusive, INCONCLUSIVE), (self.passed, PASSED))
        return next((verdict for count, verdict in found if count), INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class ExperimentScore:
    """One experiment over its trials.

    Args:
        weight: of its pattern, within its pillar.
        credit: 0 to 1; None when nothing was conclusive.
    """

    experiment: str
    title: str
    pattern: str
    pillar: str
    weight: float
    trials: int
    verdict: str
    credit: float | None
    objectives: tuple[ObjectiveScore, ...]
    invalid: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PillarScore:
    """One pillar.

    Args:
        score: 0 to 100; None when nothing in it was conclusive.
        coverage: tested weight over applicable weight within it.
    """

    pillar: str
    weight: float
    score: float | None
    coverage: float


@dataclass(frozen=True, slots=True)
class LostPoint:
    """Points that one objective cost."""

    points: float
    experiment: str
    metric: str
    target: str
    measured: str
    reason: str
    because: str
    section: str
    remedy: str
    run: str
    evidence: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Score:
    """The result.

    Args:
        value: 0 to 100; None when nothing was conclusive.
        low, high: its interval, of the mass that the grading says.
        earned: the grade before caps: on what was tested.
        grade: the grade; None when there is none.
        coverage: tested weight over applicable weight, 0 to 1.
        expired: experiments whose evidence is too old to count.
        environments: where the trials took place, each once.
    """

    value: float | None
    low: float | None
    high: float | None
    interval: float
    earned: str | None
    grade: str | None
    coverage: float
    caps: tuple[Cap, ...]
    pillars: tuple[PillarScore, ...]
    experiments: tuple[ExperimentScore, ...]
    lost: tuple[LostPoint, ...]
    expired: tuple[str, ...]
    environments: tuple[Mapping[str, Any], ...]
    statuses: Mapping[str, int]
    undone: bool


def grade(
    trials: Sequence[TrialVerdict], grading: Grading, *, now: Callable[[], float] = time.time
) -> Score:
    """Grade trials.

    Args:
        trials: of any number of experiments, in any order.
        grading: the rules.
        now: Unix seconds, against which evidence expires.
    """
    fresh, expired = _fresh(trials, grading, now())
    experiments = tuple(_experiments(fresh, grading))
    # Sums of floats depend on their order, a score must not.
    conclusive = sorted(
        (e for e in experiments if e.credit is not None), key=lambda e: e.experiment
    )
    shares = _shares(conclusive, grading)
    undone = all(trial.undone for trial in trials)
    value = low = high = earned = None
    lost: tuple[LostPoint, ...] = ()
    if conclusive:
        value = 100 * sum(shares[e.experiment] * (e.credit or 0.0) for e in conclusive)
        draws = 100 * sum(
            (shares[e.experiment] * posterior(e.objectives, e.experiment) for e in conclusive),
            start=np.zeros(_DRAWS),
        )  # fmt: skip
        tail = 50 * (1 - grading.interval)
        low, high = (float(np.percentile(draws, q)) for q in (tail, 100 - tail))
        # The prior pulls few trials towards the middle: what was observed stays within.
        low, high = min(low, value), max(high, value)
        earned = grading.grade_of(round(value, 9))
        lost = tuple(sorted(_lost(conclusive, shares, grading), key=lambda one: -one.points))
    coverage = _coverage({e.pattern for e in conclusive}, grading)
    caps, final = capped(earned, findings(fresh, coverage, grading, undone=undone), grading)
    return Score(
        value=value,
        low=low,
        high=high,
        interval=grading.interval,
        earned=earned,
        grade=final,
        coverage=coverage,
        caps=caps,
        pillars=tuple(_pillars(conclusive, grading)),
        experiments=experiments,
        lost=lost,
        expired=expired,
        environments=_distinct(trial.environment for trial in trials),
        statuses=dict(Counter(trial.status for trial in fresh)),
        undone=undone,
    )


def exit_code(score: Score, fail_under: str | None, grading: Grading) -> Exit:
    """The exit code of a score, the worst news first: a found weakness outranks a missing answer.

    Without `fail_under`, any failed objective is below the gate, and so is what caps the grade as a
    weakness of the system, whether or not an objective asks for it.
    """
    if not score.undone:
        return Exit.NOT_UNDONE
    if score.statuses.get("halted"):
        return Exit.HALTED
    verdicts = [experiment.verdict for experiment in score.experiments]
    if fail_under is None:
        weak = FAILED in verdicts or any(cap.weakness for cap in score.caps)
    else:
        weak = score.grade is not None and grading.rank(score.grade) > grading.rank(fail_under)
    if weak:
        return Exit.WEAKNESS
    return Exit.INCONCLUSIVE if score.grade is None or INCONCLUSIVE in verdicts else Exit.HOLDS


def to_json(score: Score) -> dict[str, Any]:
    """The score as one JSON object; what is derived (credits, verdicts) is spelled out."""
    document = asdict(score)
    for experiment, fields in zip(score.experiments, document["experiments"], strict=True):
        for objective, inner in zip(experiment.objectives, fields["objectives"], strict=True):
            inner["credit"], inner["verdict"] = objective.credit, objective.verdict
    return {"score": document.pop("value"), **document}


def _fresh(
    trials: Sequence[TrialVerdict], grading: Grading, now: float
) -> tuple[list[TrialVerdict], tuple[str, ...]]:
    limit = now - grading.expiry_days * 86_400
    fresh = [trial for trial in trials if trial.started is None or trial.started >= limit]
    return fresh, tuple(sorted({t.experiment for t in trials} - {t.experiment for t in fresh}))


def _experiments(trials: Sequence[TrialVerdict], grading: Grading) -> Iterable[ExperimentScore]:
    by_name: defaultdict[str, list[TrialVerdict]] = defaultdict(list)
    for trial in trials:
        by_name[trial.experiment].append(trial)
    patterns = Counter(group[0].pattern for group in by_name.values())
    for name, group in by_name.items():
        first = group[0]
        rule = grading.patterns.get(first.pattern)
        objectives = tuple(_objectives(group))
        yield ExperimentScore(
            experiment=name,
            title=first.title,
            pattern=first.pattern,
            pillar=first.pillar,
            # Several experiments of one pattern share its weight.
            weight=(rule.weight if rule else 1.0) / patterns[first.pattern],
            trials=len(group),
            verdict=worst(trial.verdict for trial in group),
            credit=credit_of(objectives),
            objectives=objectives,
            invalid=tuple(dict.fromkeys(reason for trial in group for reason in trial.invalid)),
        )


def credit_of(objectives: Sequence[ObjectiveScore]) -> float | None:
    weights = [(o.weight, o.credit) for o in objectives if o.credit is not None]
    total = sum(weight for weight, _ in weights)
    return sum(weight * credit for weight, credit in weights) / total if total else None


def _objectives(trials: Sequence[TrialVerdict]) -> Iterable[ObjectiveScore]:
    held: defaultdict[Objective, list[tuple[TrialVerdict, ObjectiveVerdict]]] = defaultdict(list)
    for trial in trials:
        for verdict in trial.objectives:
            held[verdict.objective].append((trial, verdict))
    order = (FAILED, INCONCLUSIVE, PASSED)
    for objective, group in held.items():
        counts = Counter(verdict.verdict for _, verdict in group)
        trial, shown = min(group, key=lambda pair: order.index(pair[1].verdict))
        yield ObjectiveScore(
            metric=objective.metric,
            target=objective.text,
            weight=objective.weight,
            critical=objective.critical,
            because=objective.because,
            passed=counts[PASSED],
            failed=counts[FAILED],
            inconclusive=counts[INCONCLUSIVE],
            measured=shown.measured,
            reason=shown.reason,
            evidence=shown.measurement.evidence,
            run=trial.run,
        )


def _shares(experiments: Sequence[ExperimentScore], grading: Grading) -> dict[str, float]:
    """The share of the score that each conclusive experiment decides; together 1."""
    within: defaultdict[str, float] = defaultdict(float)
    for experiment in experiments:
        within[experiment.pillar] += experiment.weight
    total = sum(_pillar_weight(pillar, grading) for pillar in within)
    return {
        e.experiment: _pillar_weight(e.pillar, grading) / total * e.weight / within[e.pillar]
        for e in experiments
    }


def _pillar_weight(pillar: str, grading: Grading) -> float:
    return grading.pillars[pillar].weight if pillar in grading.pillars else 1.0


def posterior(objectives: Sequence[ObjectiveScore], stream: str) -> _Draws:
    """Draws of an experiment's credit, each objective's pass probability from Jeffreys' prior.

    All objectives take the same quantile: one trial decides them all, and who is slow to recover
    was unavailable too. Drawn one by one their noise would cancel out, as if five figures of one
    trial were five trials. However they depend on each other, no sum of them spreads more than this
    one. Source: Dhaene and others, "The concept of comonotonicity in actuarial science and finance:
    theory" (2002).

    The stream has a name, so that draws do not depend on what else is graded, or in which order.
    """
    random = np.random.default_rng((_SEED, zlib.crc32(stream.encode())))
    conclusive = [o for o in objectives if o.credit is not None]
    total = sum(o.weight for o in conclusive)
    credit = np.zeros(_DRAWS)
    for objective in conclusive:
        draws = random.beta(objective.passed + 0.5, objective.failed + 0.5, _DRAWS)
        credit += objective.weight / total * np.sort(draws)
    random.shuffle(credit)  # experiments are trials of their own
    return credit


def _lost(
    experiments: Sequence[ExperimentScore], shares: Mapping[str, float], grading: Grading
) -> Iterable[LostPoint]:
    for experiment in experiments:
        conclusive = [o for o in experiment.objectives if o.credit is not None]
        total = sum(o.weight for o in conclusive)
        rule = grading.patterns.get(experiment.pattern)
        for objective in conclusive:
            missing = 1 - (objective.credit or 0.0)
            if not missing:
                continue
            yield LostPoint(
                points=100 * shares[experiment.experiment] * objective.weight / total * missing,
                experiment=experiment.experiment,
                metric=objective.metric,
                target=objective.target,
                measured=objective.measured,
                reason=objective.reason,
                because=objective.because,
                section=rule.section if rule else "",
                remedy=grading.remedies.get(objective.metric, rule.remedy if rule else ""),
                run=objective.run,
                evidence=objective.evidence,
            )


def _coverage(tested: set[str], grading: Grading, pillar: str | None = None) -> float:
    covered = applicable = 0.0
    for name, rule in grading.pillars.items():
        if pillar not in (None, name):
            continue
        patterns = {k: p.weight for k, p in grading.patterns.items() if p.pillar == name}
        total = sum(patterns.values())
        applicable += rule.weight
        covered += rule.weight * sum(w for k, w in patterns.items() if k in tested) / total
    return covered / applicable


def _pillars(experiments: Sequence[ExperimentScore], grading: Grading) -> Iterable[PillarScore]:
    tested = {e.pattern for e in experiments}
    for name, rule in grading.pillars.items():
        within = [e for e in experiments if e.pillar == name]
        total = sum(e.weight for e in within)
        score = 100 * sum(e.weight * (e.credit or 0.0) for e in within) / total if total else None
        yield PillarScore(name, rule.weight, score, _coverage(tested, grading, name))


def _distinct(environments: Iterable[Mapping[str, Any]]) -> tuple[Mapping[str, Any], ...]:
    found: list[Mapping[str, Any]] = []
    for environment in environments:
        if environment and environment not in found:
            found.append(environment)
    return tuple(found)
