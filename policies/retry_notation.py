"""Retry policies in one line, as the command line and environment variables take them.

full                                   full jitter with the usual numbers
full:base=0.05,cap=2,attempts=5        with some of its own
exponential:factor=1.5,deadline=30,quota=500
no-retry                               one attempt
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff_families import (
    AdditiveJitter,
    Backoff,
    DecorrelatedJitter,
    EqualJitter,
    Exponential,
    Fibonacci,
    Fixed,
    FullJitter,
    Linear,
    MultiplicativeJitter,
    NoBackoff,
)
from chaosgrade.policies.retry import RetryPolicy

NO_RETRY = "no-retry"
UNLIMITED = "unlimited"

_FAMILIES: Mapping[str, type[Backoff]] = {
    family.family: family
    for family in (
        NoBackoff, Fixed, Linear, Fibonacci, Exponential, FullJitter, EqualJitter,
        DecorrelatedJitter, AdditiveJitter, MultiplicativeJitter,
    )
}  # fmt: skip
_JITTER = "-jitter"
_LIMITS = ("attempts", "deadline", "quota")


@dataclass(frozen=True, slots=True)
class NotedPolicy:
    """A policy as somebody wrote it.

    Args:
        text: what was written.
        family: the backoff's, or "no-retry".
        retry: the policy.
        quota: tokens of the client's retry quota; None for no quota.
    """

    text: str
    family: str
    retry: RetryPolicy
    quota: int | None = None


def family_names() -> list[str]:
    """What a policy can begin with, each in its shortest form."""
    return [NO_RETRY, *(name.removesuffix(_JITTER) for name in _FAMILIES)]


def parse(text: str, usual: Mapping[str, Mapping[str, float]] | None = None) -> NotedPolicy:
    """Read one policy. Times are in seconds; without `attempts` it never gives up by number.

    Args:
        text: `FAMILY` or `FAMILY:NAME=VALUE,…`.
        usual: numbers to take where the text gives none, by family; those of "" are for all.

    Raises:
        UsageError: naming what is wrong with it.
    """
    name, _, rest = text.strip().partition(":")
    given = _numbers(text, rest)
    if name == NO_RETRY:
        if given:
            raise UsageError(f"policy {text!r}: {NO_RETRY} takes no numbers")
        return NotedPolicy(text, NO_RETRY, RetryPolicy(1, NoBackoff()))
    kind = _FAMILIES.get(name) or _FAMILIES.get(name + _JITTER)
    if kind is None:
        close = get_close_matches(name, family_names(), n=1)
        hint = f"did you mean {close[0]}? " if close else ""
        raise UsageError(
            f"policy {text!r} begins with no family; {hint}There are: {', '.join(family_names())}"
        )
    fields = {f.name.removesuffix("_s"): f.name for f in dataclasses.fields(kind)}  # type: ignore[arg-type]
    unknown = next((n for n in given if n not in fields and n not in _LIMITS), None)
    if unknown is not None:
        known = ", ".join((*fields, *_LIMITS))
        raise UsageError(f"policy {text!r}: {kind.family} has no {unknown!r}; it has: {known}")
    usual = usual or {}
    numbers = {**usual.get("", {}), **usual.get(kind.family, {}), **given}
    try:
        backoff = kind(**{fields[n]: value for n, value in numbers.items() if n in fields})
        attempts, deadline_s, quota = (numbers.get(name) for name in _LIMITS)
        retry = RetryPolicy(_whole("attempts", attempts), backoff, deadline_s)
        tokens = _whole("quota", quota)
    except UsageError as error:
        raise UsageError(f"policy {text!r}: {error}") from None
    return NotedPolicy(text, kind.family, retry, tokens)


def _numbers(text: str, rest: str) -> dict[str, float]:
    numbers: dict[str, float] = {}
    for part in rest.split(",") if rest.strip() else ():
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not name or name in numbers:
            problem = "stands there twice" if name in numbers else "is no NAME=VALUE"
            raise UsageError(f"policy {text!r}: {part.strip()!r} {problem}")
        try:
            numbers[name] = float("inf") if value == UNLIMITED else float(value)
        except ValueError:
            raise UsageError(f"policy {text!r}: {name} must be a number, got {value!r}") from None
    return numbers


def _whole(name: str, value: float | None) -> int | None:
    if value is None or value == float("inf"):
        return None
    if value != value // 1 or value < 0:
        raise UsageError(f"{name} must be a whole number or {UNLIMITED}, got {value:g}")
    return int(value)
