"""What a client's next gap may be: a range with a ceiling, seen through scheduling noise.

Every family of backoff says the same kind of thing about the gap before retry n: it is uniform
between two edges, or one value where the edges meet, and perhaps cut off at a cap. Whoever measures
it sees it late, and never early: timers, schedulers and the way take their time. Half of the gaps
are late by about the same little, which is normal noise here. The other half wait for a processor
that somebody else has: for how long knows no scale, so that the chance to wait longer than x is
s / (s + x). On a quiet machine s is a millisecond, on a busy one any number: the gaps tell.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

type Floats = NDArray[np.float64]

STRAY_SHARE = 0.01
"""One gap in a hundred is something else: a lost attempt, a machine that was suspended.

Such a gap may be anything from a millisecond to a thousand seconds, each decade equally likely.
"""

SLOW_SHARE = 0.5
"""How many of the gaps wait for a processor too."""

_STRAY_LOG_RANGE = float(np.log(1000.0 / 0.001))
_ROOT_TWO_PI = float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, slots=True)
class Law:
    """The distribution of each of some gaps, in seconds.

    Args:
        low, high: edges of the range, one each per gap; they never meet quite.
        ceiling: what the range is cut off at; None for nothing.
        late: how much later it is seen, in the mean.
        noise: standard deviation of the normal noise, one for each gap or for all.
        slow: what the wait for a processor exceeds in half of the cases.
        tail: mean of an exponential delay that takes the place of the range; 0 for none.
    """

    low: Floats
    high: Floats
    ceiling: float | None
    late: float
    noise: Floats | float
    slow: float
    tail: float = 0.0

    def density(self, gap_s: Floats, stray: Floats) -> Floats:
        """Probability density at each gap, strays included.

        Args:
            gap_s: in seconds.
            stray: `stray_density` of the same gaps, which no law changes.
        """
        return (1.0 - STRAY_SHARE) * self._density(gap_s) + stray

    def strays(self, gap_s: Floats) -> Floats:
        """How likely it is, from 0 to 1, that each gap is a stray."""
        stray = stray_density(gap_s)
        share: Floats = stray / (stray + (1.0 - STRAY_SHARE) * self._density(gap_s))
        return share

    def cumulative(self, gap_s: Floats) -> Floats:
        """Probability that a gap is no longer than each of these; strays are left out."""
        low, cut, share = self._range()
        above_low, above_cut = self._above(low, gap_s), self._above(cut, gap_s)
        if self.tail:
            tailed: Floats = ndtr(above_low) - self.tail * self._tailed(above_low)
            return np.clip(tailed, 0.0, 1.0)
        width = self.high - self.low
        prompt = self.noise * (_ramp(above_low) - _ramp(above_cut)) / width + share * ndtr(
            above_cut
        )
        beyond_low, beyond_cut = np.maximum(gap_s - low, 0.0), np.maximum(gap_s - cut, 0.0)
        slow = (self._waited(beyond_low) - self._waited(beyond_cut)) / width
        slow += share * beyond_cut / (beyond_cut + self.slow)
        whole: Floats = (1.0 - SLOW_SHARE) * prompt + SLOW_SHARE * slow
        return np.clip(whole, 0.0, 1.0)

    def _density(self, gap_s: Floats) -> Floats:
        low, cut, share = self._range()
        above_low = self._above(low, gap_s)
        if self.tail:
            return self._tailed(above_low)
        above_cut = self._above(cut, gap_s)
        beyond_low, beyond_cut = np.maximum(gap_s - low, 0.0), np.maximum(gap_s - cut, 0.0)
        # s / (s + x) at one edge less that at the other: how many waits end between them.
        slow = self.slow / (beyond_cut + self.slow) - self.slow / (beyond_low + self.slow)
        prompt = ndtr(above_low) - ndtr(above_cut)
        density: Floats = ((1.0 - SLOW_SHARE) * prompt + SLOW_SHARE * slow) / (self.high - self.low)
        if self.ceiling is not None:
            bell = np.exp(-0.5 * above_cut * above_cut) / (_ROOT_TWO_PI * self.noise)
            waits = np.where(gap_s > cut, self.slow / (beyond_cut + self.slow) ** 2, 0.0)
            density = density + share * ((1.0 - SLOW_SHARE) * bell + SLOW_SHARE * waits)
        return density

    def _waited(self, beyond_s: Floats) -> Floats:
        """The integral, up to a time beyond an edge, of how many have waited no longer."""
        waited: Floats = beyond_s - self.slow * np.log1p(beyond_s / self.slow)
        return waited

    def _above(self, edge_s: Floats, gap_s: Floats) -> Floats:
        return (gap_s - self.late - edge_s) / self.noise

    def _range(self) -> tuple[Floats, Floats, Floats | float]:
        """Both edges under the ceiling, and the share of gaps that it holds at the upper one."""
        if self.ceiling is None:
            return self.low, self.high, 0.0
        low, cut = np.minimum(self.low, self.ceiling), np.minimum(self.high, self.ceiling)
        return low, cut, 1.0 - (cut - low) / (self.high - self.low)

    def _tailed(self, above_low: Floats) -> Floats:
        """Normal noise and an exponential delay: the exponentially modified Gaussian."""
        shift = self.noise / self.tail
        exponent: Floats = 0.5 * shift * shift - above_low * shift + log_ndtr(above_low - shift)
        return np.exp(exponent) / self.tail


def stray_density(gap_s: Floats) -> Floats:
    """Density of gaps that are something else, times their share."""
    return STRAY_SHARE / (_STRAY_LOG_RANGE * np.maximum(gap_s, 0.001))


def _ramp(z: Floats) -> Floats:
    """The integral of the normal distribution function up to z."""
    integral: Floats = z * ndtr(z) + np.exp(-0.5 * z * z) / _ROOT_TWO_PI
    return integral
