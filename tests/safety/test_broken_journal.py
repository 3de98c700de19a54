"""A journal that is torn, damaged, full or lost: no new fault, and what was done is undone."""

import json
import random
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from chaosgrade import session
from chaosgrade.actions.zones import power_off_zone
from chaosgrade.aws import Aws
from chaosgrade.changes import manifest, registry
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.journal import Entry, Journal, JournalError, State
from chaosgrade.changes.model import Change
from chaosgrade.changes.undo import undo
from chaosgrade.clock import Clock
from tests.fake_aws import STAGE, Dial, FakeAws, guard, registered
from tests.safety.inventory import ZONE, Account
from tests.safety.wire import Sent, Wire


@pytest.fixture(autouse=True)
def _fake_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTINGS", registered(registry.SETTINGS))


def opened(folder: Path) -> Journal:
    journal = Journal(folder / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    return journal


def engine(aws: FakeAws, journal: Journal) -> Engine:
    return Engine(aws, guard(aws, journal), journal, "r1", Clock())  # type: ignore[arg-type]


def facts(entry: Entry) -> tuple[Any, ...]:
    """What an undo relies on."""
    return (entry.run, entry.kind, entry.address, entry.before, entry.wanted, entry.reversible)


@pytest.mark.parametrize("file", ["journal.sqlite3", "journal.sqlite3-wal"])
@pytest.mark.parametrize("damage", ["cut", "flip"])
def test_a_damaged_journal_is_refused_or_right(tmp_path: Path, file: str, damage: str) -> None:
    """Never a changed value as if it had been committed: restoring it would be a new fault."""
    whole = tmp_path / "whole"
    journal = opened(whole)
    aws = FakeAws({f"dial-{n}": n for n in range(30)})
    engine(aws, journal).apply([Change(Dial(f"dial-{n}"), -1) for n in range(30)])
    committed = {facts(entry) for entry in journal.entries("r1")}
    if file == "journal.sqlite3":
        journal.close()  # everything is in the main file now
    chance, messages = random.Random(3), set[str]()
    for number in range(150):
        folder = tmp_path / str(number)
        shutil.copytree(whole, folder)
        path = folder / file
        data = bytearray(path.read_bytes())
        position = chance.randrange(len(data))
        if damage == "cut":
            del data[position:]
        else:
            data[position] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
        try:
            damaged = Journal(folder / "journal.sqlite3")
            found = {facts(entry) for entry in damaged.entries("r1")}
            damaged.close()
        except JournalError as error:
            messages.add(str(error))
        else:
            assert found <= committed
        shutil.rmtree(folder, ignore_errors=True)  # SQLite tidies up, too
    if file == "journal.sqlite3":
        assert messages
    for message in messages:
        assert "\n" not in message
        assert "CHAOSGRADE_STATE_DIR" in message or "--from-aws" in message


def failing_disk(what: str, when: str, folder: Path) -> dict[str, Any]:
    """What became of a run whose journal is on a disk that really fails."""
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this machine allows no mount namespaces: no disk can be made to fail")
    done = subprocess.run(
        [*namespace, sys.executable, "-m", "tests.safety.failing_disk", what, when, folder],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    told: dict[str, Any] = json.loads(done.stdout)
    return told


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_no_fault_without_room_for_its_intent(tmp_path: Path, what: str) -> None:
    """A disk that takes no intent: one line that names the file, zero calls."""
    told = failing_disk(what, "before", tmp_path)
    assert told["sent"] == 0
    assert str(tmp_path) in told["refused"]
    assert "\n" not in told["refused"]


def test_a_disk_that_fills_up_in_mid_run_does_not_keep_from_undoing(tmp_path: Path) -> None:
    """No further fault; what the journal goes on to call outstanding is found to be as before."""
    told = failing_disk("full", "during", tmp_path)
    assert told["sent"] == 1
    assert str(tmp_path) in told["refused"]
    assert told["undone"] == ["undone"]
    assert told["dials"] == {"a": 1, "b": 1}
    assert (told["again"], told["sent_again"], told["outstanding"]) == (["undone"], 0, 0)


@pytest.mark.parametrize("what", ["full", "read-only"])
def test_what_is_outstanding_is_known_when_the_disk_has_failed_since(
    tmp_path: Path, what: str
) -> None:
    """Either the journal can be read, or it says in one line what to do first."""
    told = failing_disk(what, "after", tmp_path)
    assert told.get("outstanding") == 1 or (
        str(tmp_path) in told["refused"] and "a copy of the journal" in told["refused"]
    )


def test_a_journal_that_breaks_in_mid_run_is_undone_from_memory(tmp_path: Path) -> None:
    """The process that made the changes knows them itself; it makes no further one."""
    journal = opened(tmp_path)
    aws = FakeAws({"a": 1, "b": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE changes SET before = '7'")
    with pytest.raises(JournalError, match="--from-aws"):
        journal.entries("r1")
    calls = len(aws.sent)
    with pytest.raises(Exception, match="from-aws"):
        run.apply([Change(Dial("b"), 2)])
    assert len(aws.sent) == calls
    assert [one.state for one in run.undo()] == [State.UNDONE]
    assert aws.dials == {"a": 1, "b": 1}


@pytest.mark.parametrize("dies_at", [None, pytest.param(2, marks=pytest.mark.nightly)])
def test_a_lost_journal_is_made_up_for_by_the_tags_on_aws(
    dies_at: int | None,
    account: Account,
    wire: Wire,
    aws: Aws,
    journal: Journal,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All of the zone fault, or as much of it as had happened; the second time nothing is left."""
    with wire.paused():
        account.build(vpcs=2, subnets=2, groups=2, instances=1)
        before = account.state()
    fake = guard(FakeAws(), journal)
    journal.open_run("r1", experiment="e", environment=aws.environment, endpoint=None, started=1)
    run = Engine(aws, fake, journal, "r1", Clock())
    session.activate(session.Session(aws, run, random.Random(1), Clock()))
    swaps = 0

    def die(sent: Sent, answer: Any) -> Any:
        nonlocal swaps
        swaps += sent.operation == "ReplaceNetworkAclAssociation"
        if dies_at is not None and swaps > dies_at:
            raise KeyboardInterrupt
        return None

    wire.answer = die
    if dies_at is None:
        power_off_zone(ZONE, suspend=["Launch", "AZRebalance"])
    else:
        with pytest.raises(KeyboardInterrupt):
            power_off_zone(ZONE, suspend=["Launch", "AZRebalance"])
    wire.clear()
    with wire.paused():
        assert account.state() != before
    (trace,) = manifest.traces(aws)
    assert (trace.run, trace.unreadable) == ("r1", ())
    assert {one.state for one in undo(trace.entries, None, aws)} == {State.UNDONE}
    with wire.paused():
        assert account.state() == before
    wire.clear()
    assert manifest.traces(aws) == []
    assert wire.writes() == []
