"""Arrivals of attempts as columns, put in order and divided into requests."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

type Floats = NDArray[np.float64]
type Integers = NDArray[np.int64]
type Flags = NDArray[np.bool_]

UNKNOWN, UNANSWERED = -1, 0
"""Statuses: of an attempt whose outcome is not told, and of one that got no answer."""

_COARSE_S = 0.01


@dataclass(frozen=True, slots=True)
class Arrivals:
    """Attempts as they were recorded, one element of each column for one attempt.

    Args:
        client: a number for each client.
        request: a number for each request where the record tells them apart, else -1.
        time: when the attempt arrived, in seconds.
        ended: when it was answered or given up, in seconds; NaN where that is not known.
        status: HTTP status, `UNKNOWN` or `UNANSWERED`.
        retry_after: seconds that the answer asked to wait; NaN for none.
        until: up to when arrivals would have been recorded, in seconds.
        late_s: how late timers of the machine were that recorded them (95th percentile), in
            seconds; 0 where that was not measured.
        left_out: what could not be read, and why.
    """

    client: Integers
    request: Integers
    time: Floats
    ended: Floats
    status: Integers
    retry_after: Floats
    until: float
    late_s: float = 0.0
    left_out: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        client: ArrayLike,
        time: ArrayLike,
        status: ArrayLike | None = None,
        *,
        request: ArrayLike | None = None,
        ended: ArrayLike | None = None,
        retry_after: ArrayLike | None = None,
        until: float | None = None,
    ) -> Self:
        """Attempts from columns, in any order.

        Args:
            client: whose each attempt is: numbers or names.
            time: when each arrived, in seconds.
            status: HTTP status of each, `UNKNOWN` or `UNANSWERED`; None when no outcome is known.
            request: which request of its client each belongs to; None when that is not known.
            ended: when each was answered or given up, in seconds, NaN for not known.
            retry_after: seconds that each answer asked to wait, NaN for none.
            until: when the observation ended, in seconds; None: with the last attempt.

        Raises:
            ValueError: columns differ in length, or a time is not a finite number.
        """
        when = np.asarray(time, np.float64)
        shape, nothing = when.shape, np.full(when.shape, np.nan)
        made = cls(
            client=np.unique(np.asarray(client), return_inverse=True)[1].reshape(-1),
            request=np.full(shape, -1)
            if request is None
            else np.unique(np.asarray(request), return_inverse=True)[1].reshape(-1),
            time=when,
            ended=nothing if ended is None else np.asarray(ended, np.float64),
            status=np.full(shape, UNKNOWN) if status is None else np.asarray(status, np.int64),
            retry_after=nothing if retry_after is None else np.asarray(retry_after, np.float64),
            until=until if until is not None else float(when.max(initial=0.0)),
        )
        columns = (made.client, made.request, made.ended, made.status, made.retry_after)
        if when.ndim != 1 or any(column.shape != shape for column in columns):
            raise ValueError(
                f"columns must be as long as time ({len(when)}), got "
                f"{', '.join(str(len(column)) for column in columns)}"
            )
        if not np.isfinite(when).all():
            raise ValueError(f"a time must be finite, got {when[~np.isfinite(when)][0]}")
        return made

    def __len__(self) -> int:
        return len(self.time)

    def take(self, index: NDArray[np.intp] | Flags, *left_out: str) -> "Arrivals":
        """Some of them, in this order."""
        return Arrivals(
            self.client[index],
            self.request[index],
            self.time[index],
            self.ended[index],
            self.status[index],
            self.retry_after[index],
            self.until,
            self.late_s,
            (*self.left_out, *left_out),
        )

    @property
    def succeeded(self) -> Flags:
        """Which were answered below 400."""
        return (self.status >= 100) & (self.status < 400)

    @property
    def grain_s(self) -> float:
        """How coarse the times are: the largest of 1, 0.1 and 0.01 s that divides all; 0 below."""
        for grain_s in (1.0, 0.1, _COARSE_S):
            ticks = self.time / grain_s
            if len(ticks) and np.all(np.abs(ticks - np.round(ticks)) < 1e-4):
                return grain_s
        return 0.0


@dataclass(frozen=True, slots=True)
class Requests:
    """The same attempts, those of a request one after the other.

    Args:
        arrivals: sorted by client, request and time.
        first: index of each request's first attempt.
        number: of each attempt within its request, from 1.
        gap: seconds from the end of the attempt before it, or from its arrival where its end is
            not known; NaN for first attempts.
    """

    arrivals: Arrivals
    first: NDArray[np.intp]
    number: Integers
    gap: Floats

    @classmethod
    def of(cls, arrivals: Arrivals, idle_s: float | None = None) -> Self:
        """Requests from arrivals in any order.

        A request ends with a success. Where the record does not tell requests apart, a client's
        attempts belong to one request until then, or until a pause.

        Args:
            arrivals: as recorded.
            idle_s: a pause after which a client's next attempt begins a new request; None: none.
        """
        arrivals = _in_order(arrivals)
        count = len(arrivals)
        begins = np.ones(count, dtype=bool)
        gap = np.full(count, np.nan)
        if count > 1:
            same = (arrivals.client[1:] == arrivals.client[:-1]) & (
                arrivals.request[1:] == arrivals.request[:-1]
            )
            ended = np.where(np.isnan(arrivals.ended), arrivals.time, arrivals.ended)
            gap[1:] = arrivals.time[1:] - ended[:-1]
            begins[1:] = ~same | arrivals.succeeded[:-1]
            if idle_s is not None:
                begins[1:] |= gap[1:] > idle_s
        first = np.flatnonzero(begins)
        gap[begins] = np.nan
        sizes = np.diff(np.append(first, count))
        number = np.arange(count) - np.repeat(first, sizes) + 1
        return cls(arrivals, first, number, np.maximum(gap, 0.0))

    @property
    def sizes(self) -> Integers:
        """Attempts of each request."""
        return np.diff(np.append(self.first, len(self.arrivals)))

    @property
    def last(self) -> NDArray[np.intp]:
        """Index of each request's last attempt."""
        return self.first + self.sizes - 1


def _in_order(arrivals: Arrivals) -> Arrivals:
    """Sorted, without lines that are there twice and requests in which the clock went back."""
    if len(arrivals) > 1 and np.mean(np.diff(arrivals.time) < 0) > 0.5:
        arrivals = arrivals.take(np.arange(len(arrivals))[::-1])  # the newest first
    recorded = np.lexsort((arrivals.request, arrivals.client))
    back = _clock_went_back(arrivals.take(recorded))
    kept = np.ones(len(arrivals), dtype=bool)
    kept[recorded[back]] = False
    lost = int(back.sum())
    if lost:
        arrivals = arrivals.take(
            kept, f"the clock went back between attempts of a request: {lost} lines left out"
        )
    order = np.lexsort((arrivals.time, arrivals.request, arrivals.client))
    arrivals = arrivals.take(order)
    twice = _twice(arrivals)
    if twice.any() and not _at_once(arrivals, twice):
        arrivals = arrivals.take(~twice, f"{int(twice.sum())} lines are there twice")
    return arrivals


def _clock_went_back(recorded: Arrivals) -> Flags:
    """Lines of requests in which time goes back once, to before all that was recorded earlier.

    Lines that merely come in another order overlap, or go back more often.
    """
    count = len(recorded)
    lines = np.zeros(count, dtype=bool)
    if count < 2:
        return lines
    same = (recorded.client[1:] == recorded.client[:-1]) & (
        recorded.request[1:] == recorded.request[:-1]
    )
    falls = np.flatnonzero(same & (np.diff(recorded.time) < 0)) + 1
    if not len(falls):
        return lines
    starts = np.concatenate(([0], np.flatnonzero(~same) + 1, [count]))
    group = np.searchsorted(starts, falls, side="right") - 1
    groups, falls_of = np.unique(group, return_counts=True)
    for which in groups[falls_of == 1]:
        start, end = int(starts[which]), int(starts[which + 1])
        if end - start > 2 and recorded.time[end - 1] < recorded.time[start]:
            lines[start:end] = True
    return lines


def _at_once(arrivals: Arrivals, twice: Flags) -> bool:
    """Whether equal times are retries at once, or the clock's grain, and not lines told twice."""
    if arrivals.grain_s > 0:
        return True
    begins = np.ones(len(arrivals), dtype=bool)
    begins[1:] = (np.diff(arrivals.client) != 0) | (np.diff(arrivals.request) != 0)
    if twice[~begins].all():
        return True
    first = np.flatnonzero(begins)
    number = np.arange(len(arrivals)) - np.repeat(first, np.diff(np.append(first, len(arrivals))))
    later = twice[number > 1]
    return bool(len(later) and twice[number == 1].mean() > 0.5 and later.mean() < 0.05)


def _twice(arrivals: Arrivals) -> Flags:
    same = np.zeros(len(arrivals), dtype=bool)
    if len(arrivals) > 1:
        same[1:] = (
            (arrivals.client[1:] == arrivals.client[:-1])
            & (arrivals.request[1:] == arrivals.request[:-1])
            & (arrivals.time[1:] == arrivals.time[:-1])
            & (arrivals.status[1:] == arrivals.status[:-1])
        )
    return same
