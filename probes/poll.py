"""An observer that looks at intervals and records what has changed."""

import threading
from collections.abc import Callable
from typing import Any

from chaosgrade.errors import Exit, in_words
from chaosgrade.session import Session

INTERVAL_S = 0.2
"""Measured seconds between looks on the stage, which bounds the error of what is timed by them:
4 s of projected time at the default scale. AWS is asked every 2 s."""

BLIND_S = 30.0
"""How long it may see nothing before that is a problem, in AWS seconds."""

_BLIND_AT_LEAST_S = 3.0  # the same in measured seconds, of a busy machine
_TOLERATED_FAILURES = 5


class Poll:
    """Calls `look` until stopped; writes a record of `kind` when the answer differs from the last.

    One failed look is a gap; several in a row, whatever they failed of, are a `problem`, and so is
    one that takes too long: nothing seen must not read as nothing changed.
    """

    def __init__(self, session: Session, kind: str, look: Callable[[], dict[str, Any]]) -> None:
        if session.evidence is None:
            raise ValueError("an observer needs a run with evidence")
        self._evidence = session.evidence
        environment = session.aws.environment
        self._interval_s = INTERVAL_S if environment.kind == "stage" else 2.0
        self._blind_s = max(_BLIND_AT_LEAST_S, BLIND_S / environment.time_scale)
        self._clock = session.clock
        self._seen_at = session.clock.now()
        self._kind = kind
        self._look = look
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"observe-{kind}", daemon=True)
        self._last: dict[str, Any] | None = None

    def start(self) -> None:
        """Look once, record it, and go on in the background.

        Raises:
            ChaosgradeError: the first look failed.
        """
        self._record(self._look())
        self._seen_at = self._clock.now()
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns when the last record is written."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=60)
            self._note_gap()

    def _run(self) -> None:
        failures = 0
        while not self._stop.wait(self._interval_s):
            try:
                self._record(self._look())
            except Exception as error:  # a thread that ended by it would have seen no change
                failures += 1
                if failures == _TOLERATED_FAILURES:
                    self._problem(f"{failures} looks in a row failed: {in_words(error)}")
            else:
                failures = 0
                self._note_gap()

    def _note_gap(self) -> None:
        now = self._clock.now()
        gap_s, self._seen_at = now - self._seen_at, now
        if gap_s > self._blind_s:
            self._problem(f"it saw nothing for {gap_s:.1f} s")

    def _problem(self, detail: str) -> None:
        self._evidence.tell(
            "problem", source=self._kind, detail=detail, exit_code=int(Exit.INCONCLUSIVE)
        )

    def _record(self, seen: dict[str, Any]) -> None:
        if seen != self._last:
            self._evidence.append(self._kind, **seen)
            self._last = seen
