"""Clients that exist only as arrivals: every family and modifier, with scheduling noise."""

import math
from dataclasses import dataclass

import numpy as np

from chaosgrade.probes.arrivals import Arrivals
from chaosgrade.probes.backoff_families import FAMILIES

_FIBONACCI = (0, 1, 1, 2, 3, 5, 8, 13, 21, 34, 55)


@dataclass(frozen=True)
class Client:
    """How one waits.

    Args:
        family: one of `backoff_families.FAMILIES`.
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


def drawn(family: str, draw: np.random.Generator) -> Client:
    """A client of a family with parameters from wide ranges, half of them with a factor of 2."""
    base_s = _log_uniform(draw, 0.05, 10.0)
    factor = 2.0 if draw.random() < 0.5 else draw.uniform(1.5, 4.0)
    capped = family not in ("no-retry", "none", "fixed") and draw.random() < 0.3
    # A third around the middle is equal jitter, and nearly all is full jitter.
    share = draw.choice([draw.uniform(0.05, 0.28), draw.uniform(0.39, 0.75)])
    return Client(
        family,
        base_s,
        factor,
        cap_s=base_s * _log_uniform(draw, 2.0, factor**5) if capped else math.inf,
        jitter_s=_log_uniform(draw, 0.1, 5.0),
        share=float(share),
        immediate=family != "none" and bool(draw.random() < 0.25),
    )


def _log_uniform(draw: np.random.Generator, low: float, high: float) -> float:
    return float(math.exp(draw.uniform(math.log(low), math.log(high))))


def arrivals(
    client: Client,
    clients: int,
    *,
    noise_s: float = 0.02,
    busy_s: float = 0.0,
    seed: int = 0,
    spread_s: float = 5.0,
) -> Arrivals:
    """What so many clients do, each with one request that fails throughout.

    Every gap is longer by up to `noise_s`, uniformly, and one in three by an exponential delay of
    `busy_s` in the mean on top. The record goes on for long enough that nobody can have had another
    retry to come.
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
            if busy_s and draw.random() < 1 / 3:
                time += draw.exponential(busy_s)
            if time - start > client.deadline_s:
                break
            who.append(number)
            when.append(time)
    return recorded(who, when, until=max(when) + 3600.0)


def recorded(who: list[int], when: list[float], until: float | None = None) -> Arrivals:
    """Attempts of these clients at these times, all of them answered with 503."""
    return Arrivals.of(who, when, [503] * len(when), until=until)
