"""What is due when, for many things at a time: a calendar queue on arrays.

Source: Randy Brown, "Calendar queues: a fast O(1) priority queue implementation for the simulation
event set problem", Communications of the ACM 31 (1988).
"""

from collections import defaultdict

import numpy as np

from chaosgrade.lab.gaps import Floats, Whole

_DAY_S = 0.2


class Agenda:
    """Numbers, each with the time at which it is due, in seconds.

    Days that have not begun are lists, today is sorted, and what comes up in the course of today is
    kept apart until it is due.
    """

    def __init__(self) -> None:
        self._days: defaultdict[int, list[tuple[Whole, Floats]]] = defaultdict(list)
        self._today: int | None = None
        self._sorted: tuple[Whole, Floats] = _NOTHING
        self._since: tuple[Whole, Floats] = _NOTHING

    def put(self, numbers: Whole, due_s: Floats) -> None:
        """Remember these; what is overdue is taken next."""
        day = np.floor(due_s / _DAY_S).astype(np.intp)
        if self._today is not None:
            soon = day <= self._today
            self._since = _joined([self._since, (numbers[soon], due_s[soon])])
            numbers, due_s, day = numbers[~soon], due_s[~soon], day[~soon]
        order = np.argsort(day, kind="stable")
        numbers, due_s, day = numbers[order], due_s[order], day[order]
        for start, end in zip(*runs(day), strict=True):
            self._days[int(day[start])].append((numbers[start:end], due_s[start:end]))

    def take_until(self, end_s: float) -> tuple[Whole, Floats]:
        """Take what is due before `end_s`, which must not fall, in no particular order."""
        taken = []
        # The day that ends at this moment is not over for what it still holds.
        for day in sorted(d for d in self._days if d * _DAY_S < end_s):
            taken.append(self._sorted)
            numbers, due_s = _joined(self._days.pop(day))
            order = np.argsort(due_s)
            self._today, self._sorted = day, (numbers[order], due_s[order])
        numbers, due_s = self._sorted
        split = int(np.searchsorted(due_s, end_s))
        taken.append((numbers[:split], due_s[:split]))
        self._sorted = numbers[split:], due_s[split:]
        numbers, due_s = self._since
        now = due_s < end_s
        taken.append((numbers[now], due_s[now]))
        self._since = numbers[~now], due_s[~now]
        return _joined(taken)


def runs(groups: Whole) -> tuple[Whole, Whole]:
    """Where each run of equal neighbours begins, and where it ends."""
    starts = np.flatnonzero(np.concatenate(([True], groups[1:] != groups[:-1]))[: groups.size])
    return starts, np.append(starts, groups.size)[1:]


def _joined(parts: list[tuple[Whole, Floats]]) -> tuple[Whole, Floats]:
    return np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts])


_NOTHING: tuple[Whole, Floats] = (np.empty(0, np.intp), np.empty(0))
