"""Against a former score: worse, or only noise?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from chaosgrade.errors import UsageError
from chaosgrade.policies.grading import Grading, first_problem
from chaosgrade.score import ObjectiveScore, Score, credit_of, posterior


def compare(former: Mapping[str, Any], score: Score, grading: Grading) -> dict[str, Any]:
    """Whether experiments have become worse than in a former `score.json`.

    Objectives are compared that were conclusive then and are now, with the same bound.

    Returns: {"worse": bool, "experiments": {name: {"credit", "former", "probability_worse"}},
        "missing": [name]}, the probability being the posterior one that the credit is lower now,
        and missing what was conclusive then and is not now, an experiment or one of its objectives.

    Raises:
        UsageError: `former` is no such document.
    """
    now = {
        experiment.experiment: _conclusive(experiment.objectives)
        for experiment in score.experiments
    }
    rows: dict[str, dict[str, float]] = {}
    missing: list[str] = []
    for name, objectives in read_former(former).items():
        before, after = _conclusive(objectives), now.get(name, {})
        gone = [key for key in before if key not in after]
        both = [key for key in before if key in after]
        missing += [f"{name}: {key}" for key in gone] if both else [name] if gone else []
        if both:
            rows[name] = _row(name, [before[key] for key in both], [after[key] for key in both])
    worse = any(
        row["credit"] < row["former"] and row["probability_worse"] >= grading.regression
        for row in rows.values()
    )
    return {"worse": worse, "experiments": rows, "missing": missing}


def _conclusive(objectives: Sequence[ObjectiveScore]) -> dict[str, ObjectiveScore]:
    """By what they ask, such as "availability ≥ 97%"; asked for another reason it is the same."""
    found: dict[str, ObjectiveScore] = {}
    for one in objectives:
        if one.credit is not None:
            same = found.get(key := f"{one.metric} {one.target}")
            passed, failed = (same.passed, same.failed) if same else (0, 0)
            found[key] = replace(one, passed=one.passed + passed, failed=one.failed + failed)
    return found


def _row(
    name: str, before: Sequence[ObjectiveScore], after: Sequence[ObjectiveScore]
) -> dict[str, float]:
    worse = posterior(after, name) < posterior(before, f"{name}, former")
    return {
        "credit": credit_of(after) or 0.0,
        "former": credit_of(before) or 0.0,
        "probability_worse": float(np.mean(worse)),
    }


def read_former(document: Mapping[str, Any]) -> dict[str, tuple[ObjectiveScore, ...]]:
    """The objectives of each experiment in a `score.json`.

    Raises:
        UsageError: it is none, it is damaged, or nothing in it was conclusive.
    """
    try:
        former = _FORMER.validate_python(document)
    except ValidationError as error:
        raise UsageError(
            f"the baseline is no score.json of chaosgrade: {first_problem(error)}; "
            "make one with: chaosgrade score --json"
        ) from None
    if not any(_conclusive(one.objectives) for one in former.experiments):
        raise UsageError(
            "nothing in the baseline was conclusive: nothing can be compared with it; "
            "make one with: chaosgrade score --json"
        )
    return {one.experiment: one.objectives for one in former.experiments}


@dataclass(frozen=True, slots=True)
class _FormerExperiment:
    experiment: str
    objectives: tuple[ObjectiveScore, ...]


@dataclass(frozen=True, slots=True)
class _Former:
    experiments: tuple[_FormerExperiment, ...]


_FORMER = TypeAdapter(_Former)
