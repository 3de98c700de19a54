"""The rules of grading: weights, bands, caps, and what each pattern is about.

They live in `grading.yaml`, each weight with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chaosgrade.errors import UsageError

_Text = Annotated[str, Field(min_length=1)]
_Weight = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(gt=0, le=1)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Band(_Rule):
    """A grade and the lowest score that earns it."""

    grade: _Text
    at_least: Annotated[float, Field(ge=0, le=100)]


class CoverageCap(_Rule):
    """The best grade that a coverage below `below` allows."""

    below: _Share
    cap: _Text


class FindingCap(_Rule):
    """The best grade that one finding allows."""

    grade: _Text
    reason: _Text


class FindingCaps(_Rule):
    """What limits the grade whatever the score."""

    lost_acknowledged_writes: FindingCap
    not_recovered: FindingCap
    single_point_of_failure: FindingCap
    critical_inconclusive: FindingCap


class Pillar(_Rule):
    """A group of patterns."""

    weight: _Weight
    reason: _Text


class Pattern(_Rule):
    """One claim of the whitepaper.

    Args:
        experiment: the shipped experiment that tests it; None when there is none yet.
        section: where the whitepaper makes it.
        remedy: what to change in AWS when it does not hold.
    """

    pillar: _Text
    weight: _Weight
    section: _Text
    reason: _Text
    remedy: _Text
    experiment: str | None = None


class Grading(_Rule):
    """All rules. Bands come best first; `remedies` has those that a metric names by itself."""

    bands: tuple[Band, ...]
    coverage_caps: tuple[CoverageCap, ...]
    caps: FindingCaps
    expiry_days: Annotated[float, Field(gt=0)]
    interval: _Share
    baseline_at_least: _Share
    regression: _Share
    pillars: Mapping[str, Pillar]
    patterns: Mapping[str, Pattern]
    remedies: Mapping[str, _Text] = {}

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        limits = [band.at_least for band in self.bands]
        if not limits or limits[-1] != 0 or limits != sorted(set(limits), reverse=True):
            raise ValueError(f"bands must fall to 0, the best first, got {limits}")
        grades = [band.grade for band in self.bands]
        if len(set(grades)) < len(grades):
            raise ValueError(f"bands must have a grade each, got {grades}")
        caps = [cap.cap for cap in self.coverage_caps]
        caps += [getattr(self.caps, name).grade for name in FindingCaps.model_fields]
        for cap in caps:
            if cap not in grades:
                raise ValueError(f"{cap!r} is no grade of the bands; there are: {grades}")
        used = {pattern.pillar for pattern in self.patterns.values()}
        for name, pattern in self.patterns.items():
            if pattern.pillar not in self.pillars:
                raise ValueError(f"pattern {name} has an unknown pillar {pattern.pillar!r}")
        for name in self.pillars:
            if name not in used:
                raise ValueError(f"pillar {name} has no pattern: nothing could ever test it")
        return self

    def grade_of(self, score: float) -> str:
        """The grade that a score earns before caps."""
        return next(band.grade for band in self.bands if score >= band.at_least)

    def worse(self, one: str, other: str) -> str:
        """The worse of two grades."""
        return max(one, other, key=self.rank)

    def rank(self, grade: str) -> int:
        """0 for the best grade."""
        return [band.grade for band in self.bands].index(grade)


@dataclass(frozen=True, slots=True)
class _Source:
    name: str
    text: str


@lru_cache(maxsize=4)
def load_grading(path: Path | None = None) -> Grading:
    """The rules that come with chaosgrade, or those of a file.

    Raises:
        UsageError: the file is not there, or a rule in it makes no sense.
    """
    source = _read(path)
    try:
        return Grading.model_validate(yaml.safe_load(source.text))
    except yaml.YAMLError as error:
        raise UsageError(f"{source.name} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UsageError(f"{source.name}: {first_problem(error)}") from None


def first_problem(error: ValidationError) -> str:
    """The first thing that is wrong with what somebody wrote: place, rule and value, in a line."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    message = " ".join(str(first["msg"]).removeprefix("Value error, ").split())
    given = first["input"]
    if first["type"] not in ("missing", "value_error") and isinstance(given, str | int | float):
        message += f", got {given!r}"
    return f"{where}: {message}" if where else message


def _read(path: Path | None) -> _Source:
    if path is None:
        resource = resources.files("chaosgrade.policies") / "grading.yaml"
        return _Source("grading.yaml", resource.read_text(encoding="utf-8"))
    try:
        return _Source(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
