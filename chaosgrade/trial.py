"""Runs one trial: Chaos Toolkit in a process of its own, followed through its evidence.

The process is plain `chaos run` with the experiment as it is; the control in the experiment does
the rest. So the grade is the same whoever starts it, and nothing that happens to the toolkit
(a crash, a hang) keeps this process from seeing to the undo.
"""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from chaosgrade import evidence
from chaosgrade.changes.journal import OUTSTANDING, Entry, Journal
from chaosgrade.changes.recovery import open_runs, recover
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError, Exit
from chaosgrade.evidence import Record

_POLL_S = 0.1
_GRACE_S = 120.0
"""How long an interrupted trial may take to undo before it is killed and undone from here."""


class NotStarted(ChaosgradeError):
    """Chaos Toolkit itself did not get as far as the run."""

    exit_code = Exit.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial to run.

    Args:
        experiment: the experiment's name.
        path: its file.
        folder: where evidence, journal and log go; created.
        number: from 1.
        seed: what its random choices are drawn from.
    """

    experiment: str
    path: Path
    folder: Path
    number: int
    seed: int


class Halt:
    """Remembers that somebody asked to stop: SIGINT, SIGTERM or SIGHUP, or `request`."""

    def __init__(self) -> None:
        self.requested = False
        self.count = 0

    def request(self, number: int = 0, frame: FrameType | None = None) -> None:
        """Ask to stop; also a signal handler."""
        self.requested = True
        self.count += 1

    @contextmanager
    def on_signals(self) -> Iterator["Halt"]:
        """Turn signals into requests within the block, however many come."""
        numbers = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as under nohup
            numbers.append(signal.SIGHUP)
        former = {number: signal.signal(number, self.request) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def run(trial: Trial, halt: Halt, watch: Callable[[Record], None]) -> list[Record]:
    """Run a trial to its end and return its evidence.

    The target is what the AWS SDK finds in this process's environment.

    Args:
        halt: when requested, the trial is told to end; it undoes and does.
        watch: called with each record soon after it was written.

    Raises:
        ChaosgradeError: Chaos Toolkit ended before the run began.
    """
    trial.folder.mkdir(parents=True, exist_ok=True)
    path = trial.folder / "evidence.jsonl"
    with (trial.folder / "chaostoolkit.log").open("wb") as log:
        process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "chaostoolkit",
                "--no-version-check",
                "--no-log-file",
                "run",
                "--journal-path",
                str(trial.folder / "journal.json"),
                str(trial.path),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env={
                **os.environ,
                "CHAOSGRADE_PARENT": str(os.getpid()),
                "CHAOSGRADE_RUN_FOLDER": str(trial.folder),
                "CHAOSGRADE_EXPERIMENT": trial.experiment,
                "CHAOSGRADE_TRIAL": str(trial.number),
                "CHAOSGRADE_SEED": str(trial.seed),
            },
            # Ctrl-C at a terminal goes to a whole process group: this one is told by us, once.
            start_new_session=True,
        )
        follow = _Follower(path, watch)
        try:
            _wait(process, halt, follow, path)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    if not path.exists():
        if halt.requested:
            return []
        raise NotStarted(
            f"Chaos Toolkit ended with code {process.returncode} before the run began; "
            f"see {trial.folder / 'chaostoolkit.log'}"
        )
    if not any(record.kind == "run.end" for record in evidence.read(path)):
        _undo_for(path, "halted" if halt.requested else "aborted")
    follow.catch_up()
    return evidence.read(path)


def _undo_for(path: Path, status: str) -> None:
    """Undo what a process that died in mid-run has left, and close its evidence."""
    start = next((r for r in evidence.read(path) if r.kind == "run.start"), None)
    entries: list[Entry] = []
    if start is not None:
        journal = Journal()
        for run in open_runs(journal):
            if run.row.id == start["run"]:
                recover(run, journal)
        # The watchdog may have been quicker: the journal knows how each undo ended.
        entries = [entry for entry in journal.entries(str(start["run"])) if entry.reversible]
    with evidence.EvidenceLog(path, Clock(), resume=True) as log:
        log.append(
            "problem",
            source="trial",
            detail="Chaos Toolkit died in mid-run; what it had changed was undone from the journal",
            exit_code=int(Exit.INCONCLUSIVE),
        )
        for entry in entries:
            log.append(
                "change.undone",
                change=entry.id,
                summary=entry.summary,
                outcome=str(entry.state),
                detail=entry.detail,
            )
        log.append(
            "run.end", status=status, undone=all(e.state not in OUTSTANDING for e in entries)
        )


def _wait(process: "subprocess.Popen[bytes]", halt: Halt, follow: "_Follower", path: Path) -> None:
    told_at: float | None = None
    heard = False
    while process.poll() is None:
        follow.catch_up()
        if halt.requested and not heard:
            # Before its evidence begins, nobody in it remembers what it is told: Chaos Toolkit may
            # lose the first word, and is told again.
            begun = path.exists()
            if begun or told_at is None:
                process.terminate()
                told_at = told_at or time.monotonic()
            heard = begun
        if told_at is not None and time.monotonic() - told_at > _GRACE_S:
            return
        time.sleep(_POLL_S)


class _Follower:
    """Reads what has been added to an evidence file."""

    def __init__(self, path: Path, watch: Callable[[Record], None]) -> None:
        self._path = path
        self._watch = watch
        self._offset = 0

    def catch_up(self) -> None:
        if not self._path.exists():
            return
        with self._path.open("rb") as file:
            file.seek(self._offset)
            added = file.read()
        whole = added[: added.rfind(b"\n") + 1]
        self._offset += len(whole)
        for record in evidence.parse(whole.decode()):
            self._watch(record)
