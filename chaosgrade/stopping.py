"""A request to stop that cannot get lost.

Chaos Toolkit turns a signal into an exception wherever the process happens to be. Raised inside a
finaliser, a callback or a library that catches everything, that exception vanishes and the run goes
on to break what it was told to leave alone. So the request is remembered as well, and looked at
before each step and in every wait.
"""

import logging
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from chaoslib.exceptions import InterruptExecution

logger = logging.getLogger("chaostoolkit")

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class StopRequest:
    """Whether this process was asked to stop, and by what: a signal, or a stop condition."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self._reason = ""
        self._undoing = False

    def request(self, reason: str) -> None:
        """Ask for a stop; the first reason is the one that is told."""
        if not self._event.is_set():
            self._reason = reason
            self._event.set()

    def begin_undo(self) -> None:
        """From now on no signal interrupts anything: what asks for an end is to wait for it.

        One assignment, so that no second signal can come between. A killed parent alone can send
        several: one for each of its threads that this process is handed on to (`prctl(2)`).
        """
        self._undoing = True

    @property
    def requested(self) -> bool:
        """Whether a stop was requested."""
        return self._event.is_set()

    @property
    def reason(self) -> str:
        """Why, or by what signal; "" when no stop was requested."""
        return self._reason

    def check(self) -> None:
        """Go on, or raise.

        Raises:
            InterruptExecution: a stop was requested.
        """
        if self._event.is_set():
            raise InterruptExecution(self._reason)

    def wait(self, seconds: float) -> None:
        """Wait, at most until a stop is requested.

        Raises:
            InterruptExecution: a stop was requested.
        """
        self._event.wait(max(0.0, seconds))
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
            if self._undoing:
                logger.warning("undoing what was changed, please wait")
                return
            self.request(f"{signal.Signals(number).name} received")
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
