"""Retries that came when a machine went on, not when their clients wanted to."""

import numpy as np

from chaosgrade.probes.arrivals import Flags, Requests

_SILENCE_S, _BURST_S = 0.25, 0.05
_SPREAD_S = 0.3  # of the beginnings of waits that end at once
_FEWEST = 5
_SHARE = 0.05  # of all retries, to change what they look like


def stood_still(requests: Requests, usable: Flags) -> str | None:
    """What seems to have stood still, in one sentence; None where nothing does.

    A process that gets no time sends, once it goes on, all that was due meanwhile: retries whose
    waits began far apart come at once, after a silence and before few others. Clients that come
    back together without having stood still began to wait together.

    Args:
        requests: all that was observed.
        usable: of its attempts, the retries whose gaps tell of the backoff.
    """
    arrivals = requests.arrivals
    if arrivals.grain_s:
        return None  # everything that is recorded comes at once
    every = np.sort(arrivals.time)
    rows = np.flatnonzero(usable)
    rows = rows[np.argsort(arrivals.time[rows])]
    came = arrivals.time[rows]
    late, longest_s = 0, 0.0
    for index in np.flatnonzero(np.diff(every) >= _SILENCE_S):
        start = every[index + 1]
        first, last, soon = np.searchsorted(
            came, (start, start + _BURST_S, start + _SILENCE_S), side="left"
        )
        burst = rows[first:last]
        if len(np.unique(arrivals.client[burst])) < _FEWEST or 2 * len(burst) < soon - first:
            continue
        if np.ptp(arrivals.time[burst] - requests.gap[burst]) >= _SPREAD_S:
            late += len(burst)
            longest_s = max(longest_s, float(start - every[index]))
    if late < _SHARE * len(rows):
        return None
    return (
        f"{late} of {len(rows)} retries came at once after up to {longest_s:.1f} s of silence, as "
        "when a machine stands still: observe again"
    )
