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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from chaosgrade import evidence
from chaosgrade.evidence import Record

_POLL_S = 0.1
_GRACE_S = 120.0
"""How long an interrupted trial may take to undo before it is killed and undone from here."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One trial to run.

    Args:
        experiment: the experiment's name.
        path: its file.
        folder: where evidence, journal and log go; created.
        number: from 1.
        seed: what its random choices are drawn from.
        environ: environment variables of the target, such as the stage's endpoint.
    """

    experiment: str
    path: Path
    folder: Path
    number: int
    seed: int
    environ: Mapping[str, str]


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
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        former = {number: signal.signal(number, self.request) for number in numbers}
        try:
            yield self
        finally:
            for number, handler in former.items():
                signal.signal(number, handler)


def run(trial: Trial, halt: Halt, watch: Callable[[Record], None]) -> list[Record]:
    """Run a trial to its end and return its evidence.

    Args:
        halt: when requested, the trial is told to end; it undoes and does.
        watch: called with each record soon after it was written.
    """
    trial.folder.mkdir(parents=True)
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
                **trial.environ,
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
            _wait(process, halt, follow)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
    follow.catch_up()
    return evidence.read(path) if path.exists() else []


def _wait(process: "subprocess.Popen[bytes]", halt: Halt, follow: "_Follower") -> None:
    told_at: float | None = None
    while process.poll() is None:
        follow.catch_up()
        if halt.requested and told_at is None:
            process.terminate()
            told_at = time.monotonic()
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
