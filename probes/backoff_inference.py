"""Which family of backoff gaps come from, or why the gaps cannot tell."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.special import logsumexp
from scipy.stats import kstest

from chaosgrade.probes.backoff_families import (
    JITTERED,
    TIMERS_S,
    Candidate,
    Gaps,
    Levels,
    candidates,
)
from chaosgrade.probes.backoff_fit import Fit, fits
from chaosgrade.probes.backoff_law import Floats

CERTAIN = 0.99
"""Posterior probability from which a family is named."""

FEWEST_JITTERED = 7
"""Full jitter imitates equal jitter over m gaps with probability 2^-m: below 1 in 100 from here."""

_FEW, _CERTAIN_OF_FEW = 16, 0.999  # the evidence of a few random gaps is an approximation

_EXACT_S = 0.003
_STRAY_SHARE = 0.1
_MISFIT = 0.1
_MISFIT_PER_RETRY = 0.25


@dataclass(frozen=True, slots=True)
class Explanation:
    """What explains gaps best, and how sure that is.

    Args:
        family: of the best; it is named only when `doubts` is empty.
        fit: the best candidate of that family.
        odds: posterior probability of each family that is not out of the question.
        doubts: why the gaps cannot tell; empty when they can.
        grounds: why they can.
        last: the highest number of a retry among the gaps.
        middle_s: their median.
    """

    family: str
    fit: Fit
    odds: Mapping[str, float]
    doubts: tuple[str, ...]
    grounds: tuple[str, ...]
    last: int
    middle_s: float


def explain(gaps: Gaps) -> Explanation:
    """The family that gaps come from.

    Args:
        gaps: at least one.
    """
    # No timer is more exact than a millisecond, and equal numbers would make a density unbounded.
    blur_s = np.random.default_rng(len(gaps)).uniform(0.0, _EXACT_S, len(gaps))
    gaps = replace(gaps, seconds=gaps.seconds + blur_s)
    found = fits(gaps)
    odds = _odds(found)
    family = max(odds, key=lambda name: odds[name])
    best = next(fit for fit in found if fit.candidate.family == family)
    doubts = [
        *_too_few(best, gaps),
        *_rivals(odds, family, gaps),
        *_twins(best, gaps),
        *_misfit(best, gaps),
        *_busy(best, gaps),
    ]
    return Explanation(
        family,
        best,
        odds,
        tuple(doubts),
        tuple(_grounds(odds, family, gaps)),
        int(gaps.numbers[-1]),
        float(np.median(gaps.seconds)),
    )


def _odds(found: Sequence[Fit]) -> dict[str, float]:
    names = sorted({fit.candidate.family for fit in found})
    weights = [
        float(logsumexp([fit.evidence for fit in found if fit.candidate.family == name]))
        for name in names
    ]
    total = float(logsumexp(weights))
    shares = {name: math.exp(w - total) for name, w in zip(names, weights, strict=True)}
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _too_few(best: Fit, gaps: Gaps) -> list[str]:
    backed_off = int((gaps.number > best.candidate.immediate).sum())
    if best.candidate.family in JITTERED and backed_off < FEWEST_JITTERED:
        return [
            f"{backed_off} random gaps are too few: over so many, full jitter imitates equal "
            f"jitter with probability 1 in {2**backed_off}; observe at least {FEWEST_JITTERED}"
        ]
    return []


def _rivals(odds: Mapping[str, float], family: str, gaps: Gaps) -> list[str]:
    few = family in JITTERED and len(gaps) < _FEW
    certain = _CERTAIN_OF_FEW if few else CERTAIN
    if odds[family] >= certain:
        return []
    rivals = [f"{name} {share:.1%}" for name, share in odds.items() if share > 1 - certain]
    longest = int(gaps.number.max())
    remedy = (
        f"observe more than {longest} retries of a request"
        if longest < 4
        else "observe more clients"
    )
    return [f"the gaps do not tell {' from '.join(rivals)}; {remedy}"]


def _twins(best: Fit, gaps: Gaps) -> list[str]:
    """Doubts because another curve with no more parameters goes through the same points."""
    chosen = best.candidate
    if chosen.form != "exact" or chosen.family == "none":
        return []
    seen_s = Levels.of(gaps, 1).middle
    tolerated_s = max(0.005, best.values["width_s"])
    for other in candidates(gaps):
        more = len(other.curve.open) + bool(other.cap) > len(chosen.curve.open) + bool(chosen.cap)
        if other.form != "exact" or other.family in ("none", chosen.family) or more:
            continue
        if np.abs(_through(other, gaps, seen_s) - seen_s).max() <= tolerated_s:
            return [
                f"{chosen.family} and {other.family} would make the same gaps before "
                f"{len(seen_s)} retries; observe more retries of a request"
            ]
    return []


def _through(candidate: Candidate, gaps: Gaps, seen_s: Floats) -> Floats:
    """The curve of a candidate, laid through the gap before each retry as well as it goes."""
    numbers = gaps.numbers[: len(seen_s)]
    waited = numbers > candidate.immediate
    n = np.maximum(numbers[waited] - candidate.shift, 1.0)
    values = candidate.curve.start(n, seen_s[waited], bool(candidate.cap))
    through_s = candidate.curve.at(n, values)
    if candidate.cap:
        through_s = np.minimum(through_s, seen_s[-1])
    laid = np.zeros(len(seen_s))
    laid[waited] = through_s
    return laid


def _misfit(best: Fit, gaps: Gaps) -> list[str]:
    """Doubts because even the best explanation explains badly."""
    law = best.candidate.law(best.values, gaps)
    strays = law.strays(gaps.seconds) > 0.5
    if strays.sum() > max(1.0, _STRAY_SHARE * len(gaps)):
        return [
            f"no known family explains the gaps: {strays.mean():.0%} of them are out of the range "
            f"of the nearest, {best.candidate.family}; clients may differ, or several requests "
            "of a client be mixed"
        ]
    if best.candidate.form == "exact":
        return []  # noise has whatever shape it has; how wide it is has been weighed
    judged = ~strays & (gaps.number > best.candidate.immediate)
    at, number = law.cumulative(gaps.seconds)[judged], gaps.number[judged]
    rows = [("", at, _MISFIT)]
    rows += [(f" before retry {n}", at[number == n], _MISFIT_PER_RETRY) for n in np.unique(number)]
    for where, part, tolerated in rows:
        if len(part) and _distance(part) > tolerated + 1.63 / math.sqrt(len(part)):
            return [
                f"no known family explains the gaps{where}: they are not spread as the nearest, "
                f"{best.candidate.family}, would have them; clients may differ"
            ]
    return []


def _busy(best: Fit, gaps: Gaps) -> list[str]:
    """Doubts because gaps are late by as much as what tells families apart."""
    if best.candidate.family == "none":
        if gaps.vague_s <= TIMERS_S:
            return []
        return [
            f"gaps shorter than {gaps.vague_s:.2g} s do not show: clock or timers are too coarse"
        ]
    law = best.candidate.law(best.values, gaps)
    known = law.high - law.low if best.candidate.family in JITTERED else law.low
    telling_s, slow_s = float(np.max(known)), best.values["slow_s"]
    if gaps.late_s <= telling_s and slow_s <= telling_s / 2:
        return []
    how = (
        f"timers of the machine were late by up to {gaps.late_s:.2g} s (95th percentile)"
        if gaps.late_s > telling_s
        else f"half of them may be late by {slow_s:.2g} s and more"
    )
    return [
        f"{how}, and {telling_s:.2g} s is all that the nearest, {best.candidate.family}, goes by; "
        "clients may differ, or observe on a machine that is less busy"
    ]


def _distance(at: Floats) -> float:
    """Between the distribution of these probabilities and the uniform one (Kolmogorov-Smirnov)."""
    return float(kstest(at, "uniform").statistic)


def _grounds(odds: Mapping[str, float], family: str, gaps: Gaps) -> list[str]:
    rival = next((name for name in odds if name != family), None)
    against = (
        f", {odds[family] / max(odds[rival], 1e-300):.0e} to 1 against {rival}" if rival else ""
    )
    return [f"{len(gaps)} gaps before {int(gaps.number.max())} retries{against}"]
