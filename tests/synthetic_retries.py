"""Clients that exist only as arrivals: every family and modifier, with scheduling noise."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from chaosgrade.probes.arrivals import Arrivals

FAMILIES = (
    "no-retry",
    "none",
    "fixed",
    "linear",
    "fibonacci",
    "exponential",
    "full-jitter",
    "equal-jitter",
    "decorrelated-jitter",
    "additive-jitter",
    "multiplicative-jitter",
)

_FIBONACCI = (0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55)


@dataclass(frozen=True)
class Client:
    """How one waits.

    Args:
        family: one of `FAMILIES`.
        base_s, factor, cap_s, jitter_s, share: b, m, c, j and r of the family's formula.
        immediate: whether its first retry comes at once.
        attempts: at most this many.
        deadline_s: no attempt begins later than this after the first.
    """

    family: str
    base_s: float = 0.5
    factor: float = 2.0
    cap_s: float = math.inf
    jitter_s: float = 0.5
    share: float = 0.2
    immediate: bool = False
    attempts: int = 5
    deadline_s: float = math.inf

    def gap_s(self, n: int, previous_s: float, draw: np.random.Generator) -> float:
        """Seconds before retry n."""
        if self.family == "none" or (self.immediate and n == 1):
            return 0.0
        b, c = self.base_s, self.cap_s
        bound = b * self.factor ** (n - 1)
        match self.family:
            case "fixed":
                return b
            case "linear":
                return min(c, b * n)
            case "fibonacci":
                return min(c, b * _FIBONACCI[n])
            case "exponential":
                return min(c, bound)
            case "full-jitter":
                return float(draw.uniform(0, min(c, bound)))
            case "equal-jitter":
                return float(min(c, bound) / 2 + draw.uniform(0, min(c, bound) / 2))
            case "decorrelated-jitter":
                return float(min(c, draw.uniform(b, 3 * previous_s)))
            case "additive-jitter":
                return float(min(c, bound + draw.uniform(0, self.jitter_s)))
            case _:
                return float(min(c, bound) * draw.uniform(1 - self.share, 1 + self.share))


MODIFIERS: dict[str, dict[str, Any]] = {
    "plain": {},
    "base 50 ms": {"base_s": 0.05, "jitter_s": 0.2},
    "factor 3": {"factor": 3.0},
    "cap": {"base_s": 0.3, "cap_s": 1.0},
    "first retry at once": {"immediate": True},
    "both": {"base_s": 0.2, "cap_s": 0.7, "immediate": True},
}


def arrivals(
    client: Client, clients: int, *, noise_s: float = 0.02, seed: int = 0, spread_s: float = 5.0
) -> Arrivals:
    """What so many clients do, each with one request that fails throughout.

    Every gap is longer by up to `noise_s`, uniformly. The record goes on for long enough that
    nobody can have had another retry to come.
    """
    draw = np.random.default_rng([seed, clients, FAMILIES.index(client.family)])
    who: list[int] = []
    when: list[float] = []
    attempts = 1 if client.family == "no-retry" else client.attempts
    for number in range(clients):
        start = time = draw.uniform(0, spread_s)
        previous_s = client.base_s
        who.append(number)
        when.append(time)
        for n in range(1, attempts):
            gap_s = client.gap_s(n, previous_s, draw)
            previous_s = previous_s if client.immediate and n == 1 else gap_s
            time += gap_s + draw.uniform(0, noise_s)
            if time - start > client.deadline_s:
                break
            who.append(number)
            when.append(time)
    return recorded(who, when, until=max(when) + 3600.0)


def recorded(who: list[int], when: list[float], until: float | None = None) -> Arrivals:
    """Attempts of these clients at these times, all of them answered with 503."""
    return Arrivals.of(who, when, [503] * len(when), until=until)


def with_modifier(family: str, modifier: str) -> Client:
    """A client of a family, modified."""
    return replace(Client(family), **MODIFIERS[modifier])
