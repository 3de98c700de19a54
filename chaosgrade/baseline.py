"""Against a former score: worse, or only noise?"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from chaosgrade.errors import UsageError
from chaosgrade.policies.grading import Grading, first_problem
from chaosgrade.score import ObjectiveScore, Score, credit_of, posterior


def compare(former: Mapping[str, Any], score: Score, grading: Grading) -> dict[str, Any]:
    """Whether experiments have become worse than in a former `score.json`.

    Returns: {"worse": bool, "experiments": {name: {"credit", "former", "probability_worse"}},
        "missing": [name]}, the probability being the posterior one that the credit is lower now,
        and missing what was conclusive then and is not now.

    Raises:
        UsageError: `former` is no such document.
    """
    now = {e.experiment: e for e in score.experiments if e.credit is not None}
    rows: dict[str, dict[str, float]] = {}
    missing = []
    for name, objectives in read_former(former).items():
        credit = credit_of(objectives)
        if credit is None:
            continue
        if name not in now:
            missing.append(name)
            continue
        now_draws = posterior(now[name].objectives, name)
        then_draws = posterior(objectives, f"{name}, former")
        rows[name] = {
            "credit": now[name].credit or 0.0,
            "former": credit,
            "probability_worse": float(np.mean(now_draws < then_draws)),
        }
    worse = any(
        row["credit"] < row["former"] and row["probability_worse"] >= grading.regression
        for row in rows.values()
    )
    return {"worse": worse, "experiments": rows, "missing": missing}


def read_former(document: Mapping[str, Any]) -> dict[str, tuple[ObjectiveScore, ...]]:
    """The objectives of each experiment in a `score.json`.

    Raises:
        UsageError: it is none, or it is damaged.
    """
    try:
        former = _FORMER.validate_python(document)
    except ValidationError as error:
        raise UsageError(
            f"the baseline is no score.json of chaosgrade: {first_problem(error)}; "
            "make one with: chaosgrade score --json"
        ) from None
    return {one.experiment: one.objectives for one in former.experiments}


@dataclass(frozen=True, slots=True)
class _FormerExperiment:
    experiment: str
    objectives: tuple[ObjectiveScore, ...]


@dataclass(frozen=True, slots=True)
class _Former:
    experiments: tuple[_FormerExperiment, ...]


_FORMER = TypeAdapter(_Former)
