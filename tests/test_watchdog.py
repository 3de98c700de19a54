"""The watchdog: up before anything is changed, and not to be discouraged."""

import sqlite3
import sys
import time
from pathlib import Path

import pytest

from chaosgrade import watchdog
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.journal import Entry, Intent, Journal, JournalError, State
from chaosgrade.changes.model import Change
from chaosgrade.changes.recovery import OpenRun
from chaosgrade.changes.undo import Undone
from chaosgrade.clock import Clock
from chaosgrade.errors import Refused
from chaosgrade.watchdog import POLL_S, Watchdog
from tests.fake_aws import STAGE, Dial, FakeAws, guard


def test_nothing_is_changed_unless_the_watchdog_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither before it is up nor after somebody has killed it; wherever the journal is."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "signal.py").write_text("raise RuntimeError('not the one of Python')")
    journal = Journal(Path("state") / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    dog = Watchdog("r1", journal.path)
    aws = FakeAws({"a": 1})
    engine = Engine(
        aws, guard(aws, journal), journal, "r1", Clock(), watched=dog.confirm  # type: ignore[arg-type]
    )  # fmt: skip
    try:
        engine.apply([Change(Dial("a"), 2)])
        dog.process.kill()
        dog.process.wait()
        with pytest.raises(Refused, match=r"does not run.* see .*/state/watchdog\.log"):
            engine.apply([Change(Dial("a"), 3)])
        assert aws.dials == {"a": 2}
        stray = Watchdog("unheard-of", journal.path)
        with pytest.raises(Refused, match="nobody would undo"):
            stray.confirm()
        stray.end()
    finally:
        dog.end()
        journal.close()


def test_a_journal_that_fails_for_a_while_does_not_end_the_watch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or nobody would try again once there is room on the disk; its log is there as well."""
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    journal.intend("r1", [Intent(Change(Dial("a"), 2), 1)], lease_s=60.0, now=1.0)
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET boot = 'before'")
    tries: list[int] = []

    def recover(run: OpenRun, journal: Journal, *, entries: list[Entry]) -> list[Undone]:
        tries.append(len(entries))
        if len(tries) < 3:
            raise JournalError("the disk is full")
        journal.mark(entries, State.UNDONE)
        return [Undone(entry, State.UNDONE, "") for entry in entries]

    pauses: list[float] = []
    monkeypatch.setattr(watchdog, "recover", recover)
    monkeypatch.setattr(time, "sleep", pauses.append)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", open("/dev/full", "w"))  # noqa: SIM115 - as long as the process
        watchdog.watch(journal.runs()[0], journal)
    journal.close()
    assert (tries, pauses) == ([1, 1, 1], [2 * POLL_S, 4 * POLL_S, POLL_S])
