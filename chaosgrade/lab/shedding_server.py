"""A server that takes what it can do in time and refuses the rest, in many trials side by side.

First come, first served. A client that has waited too long leaves, and the server does its work all
the same, because it does not learn that. Refusing takes some of the time that serving would have
had. Source: Amazon Builders' Library, "Using load shedding to avoid overload".
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chaosgrade.lab.agenda import runs
from chaosgrade.lab.gaps import Floats, Whole

TICK_S = 0.01
"""Work goes in ticks: what is done within one is answered at its end."""
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class Tick:
    """What came of a tick; calls are numbers that the caller gave.

    Args:
        done: calls that are answered.
        failed, failed_s: calls that were refused or whose client has left, and when.
        trouble: trials in which there are any of these.
    """

    done: Whole
    failed: Whole
    failed_s: Floats
    trouble: Whole


class SheddingServers:
    """One server for each trial.

    Args:
        trials: how many.
        capacity: requests that each serves per second.
        queue_s: work beyond so many seconds is refused.
        timeout_s: how long a client waits.
        refusal_cost: the work of refusing a call, as a share of that of serving it.
    """

    def __init__(
        self, trials: int, *, capacity: float, queue_s: float, timeout_s: float, refusal_cost: float
    ) -> None:
        self._trials = trials
        self._per_tick = capacity * TICK_S
        self._queue = capacity * queue_s
        self._timeout_s = timeout_s
        self._refusal_cost = refusal_cost
        self._accepted = np.zeros(trials, np.intp)
        self._served = np.zeros(trials)
        # What waits: whose call it is (or nobody's any more), in which trial, its place among all
        # that were ever accepted there, and when it came.
        self._call = np.empty(0, np.intp)
        self._trial = np.empty(0, np.intp)
        self._place = np.empty(0, np.intp)
        self._came_s = np.empty(0)

    def break_down(self) -> Whole:
        """Lose what waits; returns whose calls it was."""
        lost: Whole = self._call[self._call != _NOBODY]
        self._keep(np.zeros(self._call.size, np.bool))
        self._served[:] = self._accepted
        return lost

    def serve(self, calls: Whole, trial: Whole, came_s: Floats, end_s: float) -> Tick:
        """Take and refuse what has come, and work until `end_s`.

        Args:
            calls, trial, came_s: what has come in this tick, for which server, and when.
        """
        order = np.lexsort((came_s, trial))
        calls, trial, came_s = calls[order], trial[order], came_s[order]
        room = np.ceil(self._queue - (self._accepted - self._served))
        number = rank(trial)
        taken = number < room[trial]
        refused = ~taken
        self._call = np.concatenate((self._call, calls[taken]))
        self._trial = np.concatenate((self._trial, trial[taken]))
        place = self._accepted[trial] + number
        self._place = np.concatenate((self._place, place[taken]))
        self._came_s = np.concatenate((self._came_s, came_s[taken]))
        self._accepted += np.bincount(trial[taken], minlength=self._trials)
        refusals = np.bincount(trial[refused], minlength=self._trials)
        able = np.maximum(0.0, self._per_tick - self._refusal_cost * refusals)
        self._served = np.minimum(self._accepted, self._served + able)
        is_done = self._place + 1 <= self._served[self._trial] + 1e-9
        done = self._call[is_done & (self._call != _NOBODY)]
        self._keep(~is_done)
        late = (self._came_s <= end_s - self._timeout_s) & (self._call != _NOBODY)
        tick = Tick(
            done=done,
            failed=np.concatenate((calls[refused], self._call[late])),
            failed_s=np.concatenate((came_s[refused], self._came_s[late] + self._timeout_s)),
            trouble=np.concatenate((trial[refused], self._trial[late])),
        )
        self._call[late] = _NOBODY
        return tick

    def _keep(self, kept: NDArray[np.bool]) -> None:
        self._call, self._trial = self._call[kept], self._trial[kept]
        self._place, self._came_s = self._place[kept], self._came_s[kept]


def rank(groups: Whole) -> Whole:
    """The number of each element among its equals, which stand together, from 0."""
    starts, ends = runs(groups)
    return np.arange(groups.size) - np.repeat(starts, ends - starts)
