"""Outlives a run to undo what it left: `python -m chaosgrade.watchdog RUN JOURNAL`.

Up before the first change, in a session of its own, so that nothing that ends the run ends it. It
undoes everything when the run's process is gone, and single changes whose lease is over while it
still lives. It leaves when the run is over and nothing is outstanding.
"""

import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from chaosgrade import lifeline
from chaosgrade.changes.journal import Journal, JournalError, RunRow, State
from chaosgrade.changes.recovery import OpenRun, recover
from chaosgrade.errors import Refused

POLL_S = 0.5
"""Between two looks: a fault outlives its lease, or its run, by this and the undo itself."""

START_S = 120.0
"""How long it may take to come up, on a machine that is busy."""

GIVE_UP_S = {"aws": 6 * 3600.0, "localstack": 900.0, "stage": 900.0}
"""After the run's end, undo is tried again for this long; then it is left to `recover`. On AWS an
outage of the API, or expired credentials that somebody renews in the morning, take hours."""


class Watchdog:
    """The watchdog of one run. Its messages go beside the journal.

    Args:
        run: whose.
        journal: where the run is already on record; absolute.
    """

    def __init__(self, run: str, journal: Path) -> None:
        self._log = journal.parent / "watchdog.log"
        with self._log.open("ab") as messages:
            # In the run's own folder, in case the SDK's files are named relative to it; -P keeps
            # that folder from being searched for modules.
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "chaosgrade.watchdog", run, str(journal)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=messages,
                start_new_session=True,
            )
        self._up = False
        self._waiting = threading.Lock()

    def confirm(self) -> None:
        """Make sure that it watches; the first time this waits until it does.

        Raises:
            Refused: it does not: what is changed now would stay if this process died.
        """
        with self._waiting:
            if not self._up:
                self._up = self._has_said_so()
        if not self._up or self.process.poll() is not None:
            raise Refused(
                f"the watchdog does not run: nobody would undo what a run that dies has left; "
                f"see {self._log}"
            )

    def _has_said_so(self) -> bool:
        said = self.process.stdout
        assert said is not None  # noqa: S101 - it was asked for
        with selectors.DefaultSelector() as waiting:
            waiting.register(said, selectors.EVENT_READ)
            return bool(waiting.select(START_S) and said.readline())

    def end(self) -> None:
        """End it: nothing is outstanding."""
        self.process.terminate()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


def watch(row: RunRow, journal: Journal) -> None:
    """Watch a run until it is over and nothing of it is outstanding."""
    dead_since: float | None = None
    pause = POLL_S
    while True:
        alive = row.process.alive
        if not alive and dead_since is None:
            dead_since = time.monotonic()
        try:
            entries = tuple(journal.outstanding(row.id))
            due = [e for e in entries if not alive or row.lease_is_over(e)]
            if not alive and not entries:
                return
            undone = recover(OpenRun(row, alive, entries), journal, entries=due) if due else []
            for one in undone:
                _say(f"{row.id}: {one.entry.summary}: {one.state}: {one.detail}")
            failed = any(one.state == State.UNREVERTED for one in undone)
        except JournalError as error:  # a full disk, somebody's lock: it may be over in a while
            _say(f"{row.id}: {error}")
            failed = True
        pause = min(60.0, pause * 2) if failed else POLL_S
        if dead_since is not None and time.monotonic() - dead_since > GIVE_UP_S[row.environment]:
            return
        time.sleep(pause)


def _say(line: str) -> None:
    with suppress(OSError):  # its log is on a disk that may be full, too
        print(line, flush=True)


def main() -> None:
    """Watch the run named on the command line."""
    lifeline.name_process("chaosgrade-dog")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    run, path = sys.argv[1:3]
    journal = Journal(Path(path))
    row = next(row for row in journal.runs() if row.id == run)
    print("watching", flush=True)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # the run may be gone before the next word
    watch(row, journal)


if __name__ == "__main__":
    main()
