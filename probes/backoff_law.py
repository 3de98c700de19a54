"""What a client's next gap may be: a range with a ceiling, seen through scheduling noise.

Every family of backoff says the same kind of thing about the gap before retry n: it is uniform
between two edges, or one value where the edges meet, and perhaps cut off at a cap. Whoever measures
it sees it late: the client's timer, its scheduler and the way add a little, which is normal noise
here, with an exponential tail where that fits better.
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
        tail: mean of an exponential delay that takes the place of the range; 0 for none.
    """

    low: Floats
    high: Floats
    ceiling: float | None
    late: float
    noise: Floats | float
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
        within: Floats = self.noise * (_ramp(above_low) - _ramp(above_cut)) / (self.high - self.low)
        whole: Floats = within + share * ndtr(above_cut)
        return np.clip(whole, 0.0, 1.0)

    def _density(self, gap_s: Floats) -> Floats:
        low, cut, share = self._range()
        above_low = self._above(low, gap_s)
        if self.tail:
            return self._tailed(above_low)
        above_cut = self._above(cut, gap_s)
        within: Floats = (ndtr(above_low) - ndtr(above_cut)) / (self.high - self.low)
        if self.ceiling is None:
            return within
        at_cut: Floats = share * np.exp(-0.5 * above_cut * above_cut) / (_ROOT_TWO_PI * self.noise)
        return within + at_cut

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
