"""An observer that looks at intervals and records what has changed."""

import threading
from collections.abc import Callable
from typing import Any

from chaosgrade.errors import ChaosgradeError
from chaosgrade.session import Session

INTERVAL_S = 0.2
"""Measured seconds between looks on the stage, which bounds the error of what is timed by them:
4 s of projected time at the default scale. AWS is asked every 2 s."""

_TOLERATED_FAILURES = 5


class Poll:
    """Calls `look` until stopped; writes a record of `kind` when the answer differs from the last.

    One failed look is a gap; several in a row are a `problem`: the figures of this observer are
    missing from then on, and nothing that needs them passes.
    """

    def __init__(self, session: Session, kind: str, look: Callable[[], dict[str, Any]]) -> None:
        if session.evidence is None:
            raise ValueError("an observer needs a run with evidence")
        self._evidence = session.evidence
        self._interval_s = INTERVAL_S if session.aws.environment.kind == "stage" else 2.0
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
        self._thread.start()

    def stop(self) -> None:
        """Look no more; returns when the last record is written."""
        self._stop.set()
        if self._thread.ident is not None:
            self._thread.join(timeout=60)

    def _run(self) -> None:
        failures = 0
        while not self._stop.wait(self._interval_s):
            try:
                self._record(self._look())
                failures = 0
            except ChaosgradeError as error:
                failures += 1
                if failures == _TOLERATED_FAILURES:
                    self._evidence.append(
                        "problem",
                        source=self._kind,
                        detail=f"{failures} looks in a row failed: {error}",
                        exit_code=int(error.exit_code),
                    )

    def _record(self, seen: dict[str, Any]) -> None:
        if seen != self._last:
            self._evidence.append(self._kind, **seen)
            self._last = seen
