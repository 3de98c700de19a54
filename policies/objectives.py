"""What must hold: objectives, and the extension of an experiment that declares them."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isclose
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from chaosgrade.errors import UsageError
from chaosgrade.measurement import METRICS
from chaosgrade.policies.grading import first_problem, load_grading

DEFAULT_TEMPLATE = "three-tier"
"""What a private stage is built from where an experiment does not say."""

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_SUFFIXES = {"share": "%", "s": " s", "ms": " ms"}
_WHOLE = {"share": (0.0, 1.0)}
_MORE_DIGITS = 8
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-z%]*)\s*")


@dataclass(frozen=True, slots=True)
class Objective:
    """One condition on one figure.

    Args:
        metric: its name in `METRICS`.
        target: the bound, in the metric's unit (shares from 0 to 1, seconds, milliseconds).
        at_least: whether the figure must reach the bound; else it must not exceed it.
        weight: its share of the experiment's credit, relative to the others.
        critical: when it cannot be decided, the grade is capped.
        because: the arithmetic behind the bound.
    """

    metric: str
    target: float
    at_least: bool
    weight: float
    critical: bool
    because: str

    def holds(self, value: float) -> bool:
        """Whether a figure meets the bound."""
        return value >= self.target if self.at_least else value <= self.target

    @property
    def text(self) -> str:
        """The bound as people write it, such as "≥ 97%"."""
        sign = "≥" if self.at_least else "≤"
        return f"{sign} {format_bound(self.target, METRICS[self.metric].unit)}"


@dataclass(frozen=True, slots=True)
class Extension:
    """The `chaosgrade` extension of an experiment.

    Args:
        pattern, pillar: what it tests, as in `grading.yaml`.
        window_s: how long it observes after the fault, in AWS seconds.
        observers: specifications of what observes, see `chaosgrade.probes.observers`.
        objectives: at least one.
        declared: the objectives as written, for the evidence.
        after_s: how long it goes on observing after the undo, in AWS seconds.
        template: what a private stage is built from, unless somebody wants another.
    """

    pattern: str
    pillar: str
    window_s: float
    observers: tuple[Mapping[str, Any], ...]
    objectives: tuple[Objective, ...]
    declared: tuple[Mapping[str, Any], ...]
    after_s: float = 0.0
    template: str = DEFAULT_TEMPLATE


class _Objective(BaseModel):
    model_config = ConfigDict(extra="forbid")

    metric: str
    at_least: str | float | None = None
    at_most: str | float | None = None
    weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    critical: bool = False
    because: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]

    @model_validator(mode="after")
    def _one_bound(self) -> "_Objective":
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give exactly one of at_least and at_most")
        return self


class _Extension(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    pattern: str
    pillar: str
    window: str
    after: str = "0s"
    template: Annotated[str, Field(min_length=1)] = DEFAULT_TEMPLATE
    observers: Annotated[list[dict[str, Any]], Field(min_length=1)]
    objectives: Annotated[list[dict[str, Any]], Field(min_length=1)]


def parse_extension(experiment: Mapping[str, Any]) -> Extension:
    """The extension of an experiment, checked.

    Raises:
        UsageError: it is missing, or a value in it makes no sense.
    """
    blocks = [
        block
        for block in experiment.get("extensions") or ()
        if isinstance(block, Mapping) and block.get("name") == "chaosgrade"
    ]
    if len(blocks) != 1:
        raise UsageError(
            f"the experiment has {len(blocks)} extensions named chaosgrade, one is needed: "
            "pattern, pillar, window, observers, objectives"
        )
    try:
        extension = _Extension.model_validate(blocks[0])
    except ValidationError as error:
        raise UsageError(f"extension chaosgrade: {first_problem(error)}") from None
    _check_pattern(extension.pattern, extension.pillar)
    objectives = parse_objectives(extension.objectives)
    window_s = _quantity(extension.window, "s", "window")
    if not window_s:
        raise UsageError("extension chaosgrade: window must be above 0, got " + extension.window)
    return Extension(
        pattern=extension.pattern,
        pillar=extension.pillar,
        window_s=window_s,
        observers=tuple(extension.observers),
        objectives=objectives,
        declared=tuple(extension.objectives),
        after_s=_quantity(extension.after, "s", "after"),
        template=extension.template,
    )


def parse_objectives(declared: Sequence[Mapping[str, Any]]) -> tuple[Objective, ...]:
    """Objectives from what an experiment or its evidence declares.

    Raises:
        UsageError: one of them makes no sense.
    """
    objectives: list[Objective] = []
    for number, fields in enumerate(declared, start=1):
        where = f"objective {number}"
        try:
            given = _Objective.model_validate(fields)
        except ValidationError as error:
            raise UsageError(f"extension chaosgrade, {where}: {first_problem(error)}") from None
        if given.metric not in METRICS:
            raise UsageError(
                f"extension chaosgrade, {where}: metric {given.metric!r} is unknown; "
                f"there are: {', '.join(sorted(METRICS))}"
            )
        metric = METRICS[given.metric]
        at_least = given.at_least is not None
        if at_least != metric.higher_is_better:
            better, bound = ("more", "at_least") if metric.higher_is_better else ("less", "at_most")
            raise UsageError(
                f"extension chaosgrade, {where}: {given.metric} is better the {better} it is: "
                f"give {bound}"
            )
        bound_given = given.at_least if given.at_least is not None else given.at_most
        target = _quantity(bound_given, metric.unit, f"{where}, {given.metric}")
        objective = Objective(
            given.metric, target, at_least, given.weight, given.critical, given.because
        )
        if any((o.metric, o.target) == (objective.metric, objective.target) for o in objectives):
            raise UsageError(
                f"extension chaosgrade, {where}: {given.metric} {objective.text} is there already"
            )
        objectives.append(objective)
    return tuple(objectives)


def format_value(value: float | None, unit: str, *, beside: float | None = None) -> str:
    """A figure as people write it; an em dash when there is none.

    Args:
        value: in the metric's unit.
        unit: "share", "s", "ms" or "count".
        beside: a bound that is written next to it: what is not the bound is not written like it,
            nor 100% or 0% what is only nearly that.
    """
    if value is None:
        return "—"
    bounds = [
        _scaled(other, unit) for other in (beside, *_WHOLE.get(unit, ())) if other is not None
    ]
    apart = [bound for bound in bounds if not isclose(_scaled(value, unit), bound)]
    return _written(value, unit, lambda shown: not any(isclose(shown, bound) for bound in apart))


def format_bound(value: float, unit: str) -> str:
    """A bound as people write it, with all its digits."""
    return _written(value, unit, lambda shown: isclose(shown, _scaled(value, unit)))


def _written(value: float, unit: str, enough: Callable[[float], bool]) -> str:
    """With as few digits as are enough."""
    text = ""
    for more in range(_MORE_DIGITS):
        text = _digits(value, unit, more)
        if enough(float(text)):
            break
    return text + _SUFFIXES.get(unit, "")


def _scaled(value: float, unit: str) -> float:
    return value * 100 if unit == "share" else value


def _digits(value: float, unit: str, more: int) -> str:
    """The number of a figure, with so many digits more than are usual."""
    if unit == "share":
        percent = _scaled(value, unit)
        digits = 3 if 99.9 <= percent < 100 else 2 if 99 <= percent < 100 else 1
        return f"{percent:.{digits + more}f}".rstrip("0").rstrip(".")
    if value == int(value):
        return f"{value:.0f}"
    least = {"s": 0 if value >= 10 else 1, "ms": 0 if value >= 100 else 1}.get(unit, 2)
    return f"{value:.{least + more}f}"


def _quantity(given: str | float | None, unit: str, where: str) -> float:
    """A number in the metric's own unit."""
    match = _QUANTITY.fullmatch(str(given))
    if not match:
        raise UsageError(
            f"extension chaosgrade, {where}: {given!r} is no quantity such as 97% or 60s"
        )
    number, suffix = float(match.group(1)), match.group(2)
    value = _converted(number, suffix, unit)
    if value is None:
        example = {"share": "97%", "s": "60s", "ms": "250ms"}.get(unit, "2")
        raise UsageError(f"extension chaosgrade, {where}: {given!r} is no {unit}; write {example}")
    if unit == "share" and value > 1:
        raise UsageError(f"extension chaosgrade, {where}: {given!r} is more than 100%")
    return value


def _converted(number: float, suffix: str, unit: str) -> float | None:
    if unit == "share":
        # Rounded: 99.9 / 100 is a little more than 0.999, which 999 of 1,000 would miss.
        return round(number / 100, 12) if suffix == "%" else number if not suffix else None
    if unit in ("s", "ms"):
        seconds = _UNITS_S.get(suffix)
        return None if seconds is None else number * seconds / _UNITS_S[unit]
    return number if not suffix else None


def _check_pattern(pattern: str, pillar: str) -> None:
    patterns = load_grading().patterns
    if pattern not in patterns:
        raise UsageError(
            f"extension chaosgrade: pattern {pattern!r} is unknown; "
            f"there are: {', '.join(sorted(patterns))}"
        )
    if patterns[pattern].pillar != pillar:
        raise UsageError(
            f"extension chaosgrade: pattern {pattern} belongs to pillar "
            f"{patterns[pattern].pillar}, not {pillar}"
        )
