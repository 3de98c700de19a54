"""How well each family explains gaps: maximum a posteriori by search, evidence by Laplace's method.

The evidence of a candidate is the probability of the gaps, averaged over its parameters: it falls
with every parameter that has to be chosen precisely, so that a family which can imitate everything
does not win by that. Source: D. J. C. MacKay, "Bayesian Interpolation", Neural Computation (1992).
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import minimize

from chaosgrade.probes.backoff_curves import EXPONENTIAL
from chaosgrade.probes.backoff_families import (
    Candidate,
    Gaps,
    Levels,
    Parameter,
    candidates,
    shapes,
)
from chaosgrade.probes.backoff_law import Floats, stray_density

_SCREENED = 120  # gaps of the first look
_GLANCE_NATS = 100.0
_OF_FAMILY = 4
_SCREEN_NATS = 40.0
_FINAL_NATS = 15.0
_NATS_PER_PARAMETER = 3.0  # half the logarithm of some 400 gaps
_RESTARTS = 5
_RARER = math.log(5.0)  # most that grow by a factor double, most that draw draw evenly


@dataclass(frozen=True, slots=True)
class Fit:
    """A candidate with the values that suit the gaps best.

    Args:
        candidate: what was fitted.
        values: of its parameters.
        peak: logarithm of likelihood and prior at these values.
        evidence: logarithm of the probability of the gaps under the candidate.
    """

    candidate: Candidate
    values: Mapping[str, float]
    peak: float
    evidence: float = -math.inf


class _Sample:
    """Gaps, and what every search in them needs."""

    def __init__(self, gaps: Gaps) -> None:
        self.gaps = gaps
        self.stray = stray_density(gaps.seconds)
        self.levels = {at_once: Levels.of(gaps, 1 + at_once) for at_once in (False, True)}


class _Search:
    """The search for the values of one candidate."""

    def __init__(self, candidate: Candidate, sample: _Sample) -> None:
        self._candidate, self._gaps, self._stray = candidate, sample.gaps, sample.stray
        levels = sample.levels[candidate.immediate]
        self._parameters = candidate.parameters(self._gaps, levels)
        if candidate.form != "exact":
            other = candidate.parameters(self._gaps, levels, longest=False)
            self._parameters = min(self._parameters, other, key=self._at_start)

    def _at_start(self, parameters: Sequence[Parameter]) -> float:
        return self._loss(np.array([p.coordinate for p in parameters]))

    def run(self, start: Mapping[str, float] | None, evaluations: int) -> Fit:
        """The best fit of a bounded search."""
        parameters = (
            [replace(p, start=start[p.name]) for p in self._parameters]
            if start
            else self._parameters
        )
        first = np.array([p.coordinate for p in parameters])
        simplex = np.vstack([first, first + np.diag([p.step for p in parameters])])
        found = minimize(
            self._loss,
            first,
            method="Nelder-Mead",
            options={
                "initial_simplex": simplex,
                "maxfev": evaluations,
                "fatol": 0.05,
                "xatol": 1e-3,
            },
        )
        return Fit(self._candidate, self._values(found.x), -float(found.fun))

    def settle(self, fit: Fit) -> Fit:
        """The fit that a search begun anew where the last one ended does not improve any more."""
        for _ in range(_RESTARTS):
            better = self.run(fit.values, 200)
            gain, fit = better.peak - fit.peak, max(fit, better, key=lambda one: one.peak)
            if gain < 0.1:
                break
        return fit

    def weigh(self, fit: Fit) -> Fit:
        """The same fit with its evidence."""
        at = np.array([replace(p, start=fit.values[p.name]).coordinate for p in self._parameters])
        volume = 0.0
        for axis, parameter in enumerate(self._parameters):
            # The end of a range falls steeply to one side and gently to the other.
            sides = [
                self._width(at, axis, sign * 0.1 * parameter.step, -fit.peak) for sign in (-1, 1)
            ]
            volume += math.log(math.sqrt(2 * math.pi) * sum(sides) / 2)
        return replace(fit, evidence=fit.peak + volume)

    def _values(self, x: Floats) -> dict[str, float]:
        return {p.name: p.value(float(c)) for p, c in zip(self._parameters, x, strict=True)}

    def _loss(self, x: Floats) -> float:
        prior = sum(p.prior(float(c)) for p, c in zip(self._parameters, x, strict=True))
        if prior < -1e8:
            return -prior
        values = self._values(x)
        if not self._candidate.possible(values, self._gaps):
            return 1e8
        law = self._candidate.law(values, self._gaps)
        density = law.density(self._gaps.seconds, self._stray)
        likelihood = float(np.log(density).sum())
        return -prior - likelihood if math.isfinite(likelihood) else 1e8

    def _width(self, at: Floats, axis: int, step: float, loss: float) -> float:
        """How far, to one side, the fit stays nearly as good: a standard deviation."""
        rise = 1.0
        for _ in range(10):
            offset = np.zeros(len(at))
            offset[axis] = step
            rise = self._loss(at + offset) - loss
            if rise < 0.2:
                step *= 3
            elif rise > 2.0:
                step /= 3 if rise < 50 else 10
            else:
                break
        return abs(step) / math.sqrt(2 * max(rise, 0.2))


def fits(gaps: Gaps) -> list[Fit]:
    """What may explain the gaps, the best first; what is out of the question is left out."""
    everything = list(candidates(gaps))
    weights = Counter(candidate.family for candidate in everything)
    whole, few = _Sample(gaps), _Sample(_thinned(gaps, _SCREENED))
    glanced = [_Search(candidate, few).run(None, 25) for candidate in everything]
    looked = [
        _Search(fit.candidate, few).run(fit.values, 60) for fit in _near(glanced, _GLANCE_NATS)
    ]
    second = [
        _Search(replace(fit.candidate, shape=shape), whole).run(fit.values, 120)
        for fit in _near(looked, _SCREEN_NATS)
        for shape in (fit.candidate.shape, *shapes(fit.candidate))
    ]
    third = [_Search(fit.candidate, whole).settle(fit) for fit in _near(second, _SCREEN_NATS)]
    final = [_Search(fit.candidate, whole).weigh(fit) for fit in _near(third, _FINAL_NATS)]
    weighed = [
        replace(
            fit,
            evidence=fit.evidence
            - math.log(weights[fit.candidate.family])
            - _RARER * (fit.candidate.curve is EXPONENTIAL)
            - _RARER * (fit.candidate.shape != "box"),
        )
        for fit in final
    ]
    return sorted(weighed, key=lambda fit: -fit.evidence)


def _near(found: Sequence[Fit], nats: float) -> list[Fit]:
    """Those that are not worse than the best by more than so much, a few of each family."""
    ranked = sorted(found, key=_promise, reverse=True)
    taken = Counter[str]()
    kept = []
    for fit in ranked:
        taken[fit.candidate.family] += 1
        if _promise(fit) > _promise(ranked[0]) - nats and taken[fit.candidate.family] <= _OF_FAMILY:
            kept.append(fit)
    return kept


def _promise(fit: Fit) -> float:
    """How good a fit is for what it leaves open, before its evidence is known."""
    return fit.peak - _NATS_PER_PARAMETER * len(fit.values)


def _thinned(gaps: Gaps, most: int) -> Gaps:
    if len(gaps) <= most:
        return gaps
    order = np.argsort(gaps.number, kind="stable")
    kept = np.zeros(len(gaps), dtype=bool)
    kept[order[:: -(-len(gaps) // most)]] = True
    return gaps.where(kept)
