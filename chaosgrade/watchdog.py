"""Outlives a run to undo what it left: `python -m chaosgrade.watchdog RUN`.

Started before the first change, in a session of its own, so that nothing that ends the run ends it.
It undoes everything when the run's process is gone, and single changes whose lease is over while it
still lives. It leaves when the run is over and nothing is outstanding.
"""

import signal
import subprocess
import sys
import time
from pathlib import Path

from chaosgrade import lifeline
from chaosgrade.changes.journal import Journal, State
from chaosgrade.changes.recovery import OpenRun, recover
from chaosgrade.changes.undo import Undone

POLL_S = 0.5
"""Between two looks: a fault outlives its lease, or its run, by this and the undo itself."""

GIVE_UP_S = {"aws": 6 * 3600.0, "localstack": 900.0, "stage": 900.0}
"""After the run's end, undo is tried again for this long; then it is left to `recover`. On AWS an
outage of the API, or expired credentials that somebody renews in the morning, take hours."""


def start(run: str, journal: Path) -> "subprocess.Popen[bytes]":
    """Start the watchdog of a run; its messages go beside the journal.

    Returns its process, which may be ended once nothing is outstanding.
    """
    log = journal.parent / "watchdog.log"
    with log.open("ab") as messages:
        return subprocess.Popen(
            [sys.executable, "-m", "chaosgrade.watchdog", run, str(journal)],
            stdin=subprocess.DEVNULL,
            stdout=messages,
            stderr=messages,
            start_new_session=True,
            cwd="/",
        )


def watch(run: str, journal: Journal) -> None:
    """Watch a run until it is over and nothing of it is outstanding."""
    row = next(row for row in journal.runs() if row.id == run)
    dead_since: float | None = None
    pause = POLL_S
    while True:
        alive = row.process.alive
        if not alive and dead_since is None:
            dead_since = time.monotonic()
        entries = tuple(journal.outstanding(run))
        due = [e for e in entries if not alive or row.lease_is_over(e)]
        if not alive and not entries:
            return
        if due:
            undone = recover(OpenRun(row, alive, entries), journal, entries=due)
            _say(run, undone)
            failed = any(one.state == State.UNREVERTED for one in undone)
            pause = min(60.0, pause * 2) if failed else POLL_S
        if dead_since is not None and time.monotonic() - dead_since > GIVE_UP_S[row.environment]:
            return
        time.sleep(pause)


def _say(run: str, undone: list[Undone]) -> None:
    for one in undone:
        print(f"{run}: {one.entry.summary}: {one.state}: {one.detail}", flush=True)


def main() -> None:
    """Watch the run named on the command line."""
    lifeline.name_process("chaosgrade-dog")
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    run, path = sys.argv[1:3]
    watch(run, Journal(Path(path)))


if __name__ == "__main__":
    main()
