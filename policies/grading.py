"""The rules of grading: weights, bands, caps, and what each pattern is about.

They live in `grading.yaml`, each weight with its reason.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaosgrade.errors import UsageError

_Text = Annotated[str, Field(min_length=1)]
_Weight = Annotated[float, Field(gt=0)]
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
    """All rules. Bands come best first."""

    bands: tuple[Band, ...]
    coverage_caps: tuple[CoverageCap, ...]
    expiry_days: Annotated[float, Field(gt=0)]
    interval: _Share
    baseline_at_least: _Share
    regression: _Share
    pillars: Mapping[str, Pillar]
    patterns: Mapping[str, Pattern]

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
        grading = Grading.model_validate(yaml.safe_load(source.text))
    except yaml.YAMLError as error:
        raise UsageError(f"{source.name} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{source.name}: {where}: {first['msg']}") from None
    for name, pattern in grading.patterns.items():
        if pattern.pillar not in grading.pillars:
            raise UsageError(
                f"{source.name}: pattern {name} has an unknown pillar {pattern.pillar}"
            )
    return grading


def _read(path: Path | None) -> _Source:
    if path is None:
        resource = resources.files("chaosgrade.policies") / "grading.yaml"
        return _Source("grading.yaml", resource.read_text(encoding="utf-8"))
    try:
        return _Source(str(path), path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
