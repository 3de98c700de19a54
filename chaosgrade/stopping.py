"""A request to stop that cannot get lost.

Chaos Toolkit turns a signal into an exception wherever the process happens to be. Raised inside a
finaliser, a callback or a library that catches everything, that exception vanishes and the run goes
on to break what it was told to leave alone. So the request is remembered as well, and looked at
before each step and in every wait.
"""

import logging
import math
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chaoslib.exceptions import InterruptExecution

logger = logging.getLogger("chaostoolkit")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)
"""The last two are how Chaos Toolkit's own `exit_gracefully` and `exit_ungracefully` end a run."""

_LOOK_S = 0.1
"""How soon a wait ends that no signal interrupts, because a stop condition ends it."""

_UNWINDING_S = 1.0
"""So long after an interruption no signal interrupts again: it would cut short what the first has
led to, as Chaos Toolkit's way to the undo."""


class StopRequest:
    """Whether this process was asked to stop, and by what: a signal, or a stop condition."""

    def __init__(self) -> None:
        # No Event: a handler that sets one waits for its lock, which the code that it has
        # interrupted may hold.
        self._requested = False
        self._reason = ""
        self._interrupts = True
        self._interrupted_at = -math.inf

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason is the one that is told."""
        if not self._requested:
            self._reason = reason
            self._requested = True

    def begin_undo(self) -> None:
        """From now on no signal interrupts anything: what asks for an end is to wait for it.

        One assignment, so that no second signal can come between. A killed parent alone can send
        several: one for each of its threads that this process is handed on to (`prctl(2)`).
        """
        self._interrupts = False

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within the block no signal interrupts anything: what it opens is opened as a whole.

        Raises:
            InterruptExecution: at the end of the block: a stop was requested.
        """
        self._interrupts = False
        try:
            yield
        finally:
            self._interrupts = True
        self.check()

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._requested

    @property
    def reason(self) -> str:
        """Why, or by what signal; "" when no stop was requested."""
        return self._reason

    def check(self) -> None:
        """Go on, or raise.

        Raises:
            InterruptExecution: a stop was requested.
        """
        if self._requested:
            self._interrupted_at = time.monotonic()
            raise InterruptExecution(self._reason)

    def wait(self, seconds: float) -> None:
        """Wait, at most until a stop is requested.

        Raises:
            InterruptExecution: a stop was requested.
        """
        deadline = time.monotonic() + seconds
        self.check()
        while (left := deadline - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            self.check()

    @contextmanager
    def on_signals(self) -> Iterator[None]:
        """Within the block, remember signals before whoever handled them so far does.

        Only the main thread may handle signals; in another one nothing is changed.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        # What is ignored, as SIGHUP under nohup, stays ignored.
        former = {
            number: handler
            for number in SIGNALS
            if (handler := signal.getsignal(number)) is not signal.SIG_IGN
        }

        def remember(number: int, frame: FrameType | None) -> None:
            self.request(f"{signal.Signals(number).name} received")
            if not self._interrupts:
                logger.warning("told to stop: please wait until everything is as it was")
                return
            if time.monotonic() - self._interrupted_at < _UNWINDING_S:
                return
            self._interrupted_at = time.monotonic()
            handler = former[signal.Signals(number)]
            if callable(handler):
                handler(number, frame)
            else:
                self.check()

        for number in former:
            signal.signal(number, remember)
        try:
            yield
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)
