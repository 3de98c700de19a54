"""A circuit breaker: after failures in a row, calls fail at once until a single probe succeeds.

For dependencies that need rest more than they need callers. It comes inside a retry: the policy
calls the breaker, and the breaker the dependency. Source: Michael Nygard, "Release It!" (2007),
chapter "Stability Patterns"; AWS Prescriptive Guidance, "Circuit breaker pattern".
"""

import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from chaosgrade.policies.arguments import require_number, require_whole_number


class State(StrEnum):
    """Of the circuit."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpen(Exception):
    """The call was not made: the dependency has failed too often of late.

    Args:
        retry_after_s: seconds until a probe is let through; 0 while one is under way.
    """

    def __init__(self, retry_after_s: float) -> None:
        super().__init__(f"the circuit is open for another {retry_after_s:.3g} s")
        self.retry_after_s = retry_after_s


class CircuitBreaker:
    """Guards one dependency for all callers and threads of a process.

    Args:
        failures: so many in a row open the circuit.
        open_s: seconds until a probe is let through; all others are still refused.
        failed_on: exceptions that tell of an unwell dependency; with any other it has answered.
        now: monotonic seconds.
    """

    def __init__(
        self,
        failures: int = 5,
        open_s: float = 30.0,
        *,
        failed_on: tuple[type[Exception], ...] = (Exception,),
        now: Callable[[], float] = time.monotonic,
    ) -> None:
        require_whole_number("failures", failures, least=1)
        require_number("open_s", open_s, above=True)
        self._failures = failures
        self._open_s = open_s
        self._failed_on = failed_on
        self._now = now
        self._lock = threading.Lock()
        self._in_a_row = 0
        self._opened_at: float | None = None
        self._probing = False
        self._era = 0  # of the circuit: what began before it opened or closed tells nothing since

    @property
    def state(self) -> State:
        """What a call would meet now."""
        with self._lock:
            if self._opened_at is None:
                return State.CLOSED
            return State.OPEN if self._remaining_s() > 0 else State.HALF_OPEN

    def call[T](self, attempt: Callable[[], T]) -> T:
        """Make a call, or refuse to.

        Raises:
            CircuitOpen: it was not made. Anything else is the attempt's own.
        """
        with self._watched():
            return attempt()

    async def call_async[T](self, attempt: Callable[[], Awaitable[T]]) -> T:
        """As `call`."""
        with self._watched():
            return await attempt()

    @contextmanager
    def _watched(self) -> Iterator[None]:
        era = self._admit()
        try:
            yield
        except self._failed_on:
            self._learn(era, failed=True)
            raise
        except Exception:
            self._learn(era, failed=False)
            raise
        except BaseException:  # cancelled: nothing was learnt, and the next may probe
            self._forget(era)
            raise
        self._learn(era, failed=False)

    def _admit(self) -> int:
        with self._lock:
            if self._opened_at is not None:
                remaining_s = self._remaining_s()
                if remaining_s > 0 or self._probing:
                    raise CircuitOpen(max(0.0, remaining_s))
                self._probing = True
            return self._era

    def _learn(self, era: int, *, failed: bool) -> None:
        with self._lock:
            if era != self._era:
                return
            self._in_a_row = self._in_a_row + 1 if failed else 0
            if self._opened_at is None and self._in_a_row < self._failures:
                return
            self._opened_at = self._now() if failed else None
            self._probing = False
            self._era += 1

    def _forget(self, era: int) -> None:
        with self._lock:
            if era == self._era:
                self._probing = False

    def _remaining_s(self) -> float:
        opened_at = self._now() if self._opened_at is None else self._opened_at
        return opened_at + self._open_s - self._now()
