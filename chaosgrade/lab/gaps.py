"""Gaps of a backoff family, drawn for many retries at a time."""

import numpy as np
from numpy.typing import NDArray

from chaosgrade.policies.backoff_families import Backoff

type Floats = NDArray[np.float64]
type Whole = NDArray[np.intp]


class Gaps:
    """A family's spans by the number of the retry, as arrays; they grow as far as is asked.

    Args:
        backoff: the family with its numbers.
    """

    def __init__(self, backoff: Backoff) -> None:
        self._backoff = backoff
        self._tabulate(64)
        self.remembers = bool(self._times_previous.any())
        """Whether a gap depends on the one before."""

    def _tabulate(self, retries: int) -> None:
        spans = [self._backoff.span(retry) for retry in range(1, retries + 1)]
        self._low = np.array([span.low_s for span in spans])
        self._width = np.array([span.high_s - span.low_s for span in spans])
        self._times_previous = np.array([span.times_previous for span in spans])
        self._cap = np.array([span.cap_s for span in spans])

    def draw_s(
        self, retry: Whole, previous_s: Floats | None, random: np.random.Generator
    ) -> Floats:
        """The gaps before these retries, in seconds.

        Args:
            retry: numbers of the retries, from 1.
            previous_s: the gap before each; None where the family does not remember.
        """
        if not retry.size:
            return np.empty(0)
        last = int(retry.max())
        if last > self._low.size:
            self._tabulate(2 * last)
        place = retry - 1
        width = self._width[place]
        if previous_s is not None:
            width += self._times_previous[place] * previous_s
        width *= random.random(retry.size)
        width += self._low[place]
        return np.minimum(width, self._cap[place]) if self.remembers else width
