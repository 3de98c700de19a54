"""Changes: intent before effect, proof of effect, compare-then-restore."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosgrade import evidence
from chaosgrade.changes import registry
from chaosgrade.changes.engine import Engine, Planner
from chaosgrade.changes.journal import Journal, JournalError, State
from chaosgrade.changes.model import Change
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, ChaosgradeError, Refused
from chaosgrade.evidence import EvidenceLog
from tests.fake_aws import STAGE, Dial, FakeAws, Smash, guard, refuse, registered


@pytest.fixture(autouse=True)
def _fake_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTINGS", registered(registry.SETTINGS))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    yield journal
    journal.close()


def engine(aws: FakeAws, journal: Journal, log: EvidenceLog | None = None) -> Engine:
    return Engine(aws, guard(aws, journal), journal, "r1", Clock(), evidence=log)  # type: ignore[arg-type]


def states(journal: Journal) -> list[str]:
    with sqlite3.connect(journal.path) as db:
        return [row[0] for row in db.execute("SELECT state FROM changes ORDER BY id")]


def test_the_intent_is_on_disk_before_the_call_leaves(journal: Journal) -> None:
    """A second reader of the database sees old value and intent at the moment of the call."""
    seen: list[tuple[str, str]] = []

    def look(call: Any) -> None:
        with sqlite3.connect(journal.path) as db:
            seen.extend(db.execute("SELECT state, before FROM changes"))

    aws = FakeAws({"a": 1}, before_send=look)
    engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert seen == [("intended", "1")]
    assert states(journal) == ["applied"]


def test_nothing_is_sent_when_the_intent_cannot_be_committed(journal: Journal) -> None:
    """A fault without a durable undo is refused."""
    with sqlite3.connect(journal.path) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE INSERT ON changes BEGIN SELECT RAISE(ABORT,'full'); END"
        )
    aws = FakeAws({"a": 1})
    with pytest.raises(JournalError, match="CHAOSGRADE_STATE_DIR"):
        engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert aws.sent == []


def test_the_guard_refuses_real_aws_without_a_call(journal: Journal) -> None:
    """Deny by default: what is neither a stage nor LocalStack is not touched."""
    aws = FakeAws({"a": 1}, environment=replace(STAGE, kind="aws"))
    with pytest.raises(Refused, match="123456789012"):
        engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert aws.sent == []
    assert states(journal) == []


def test_undo_restores_the_old_values_and_only_once(journal: Journal) -> None:
    """After equals before, and a second undo makes no call."""
    aws = FakeAws({"a": 1, "b": "x"})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2), Change(Dial("b"), "y")])
    assert {str(u.state) for u in run.undo()} == {"undone"}
    assert aws.dials == {"a": 1, "b": "x"}
    calls = len(aws.sent)
    assert run.undo() == []
    assert len(aws.sent) == calls


def test_two_changes_of_one_setting_are_undone_in_reverse(journal: Journal) -> None:
    """The value before the first change is the one that comes back."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    run.apply([Change(Dial("a"), 3)])
    run.undo()
    assert aws.dials == {"a": 1}
    assert states(journal) == ["undone", "undone"]


def test_what_somebody_else_changed_is_left_alone(journal: Journal) -> None:
    """Neither our value nor the former one: CONFLICT, and no write."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    aws.dials["a"] = 7
    (undone,) = run.undo()
    assert undone.state is State.CONFLICT
    assert "7" in undone.detail
    assert aws.dials == {"a": 7}


def test_a_resource_that_is_gone_has_nothing_to_undo(journal: Journal) -> None:
    """VANISHED is an end, not a failure."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    del aws.dials["a"]
    assert [u.state for u in run.undo()] == [State.VANISHED]


def test_a_refused_undo_stays_outstanding(journal: Journal) -> None:
    """UNREVERTED is reported and tried again by the next undo."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    aws.before_send = refuse("AccessDenied")
    assert [u.state for u in run.undo()] == [State.UNREVERTED]
    aws.before_send = lambda call: None
    assert [u.state for u in run.undo()] == [State.UNDONE]
    assert aws.dials == {"a": 1}


def test_a_call_that_fails_is_undone_at_once(journal: Journal) -> None:
    """The reply may have been lost after the effect: the setting counts, not the answer."""
    aws = FakeAws({"a": 1})

    def lose_reply(call: Any) -> None:
        aws.dials["a"] = call.parameters["Value"]
        raise AwsError("timed out", code="ReadTimeoutError")

    aws.before_send = lose_reply
    run = engine(aws, journal)
    with pytest.raises(AwsError):
        run.apply([Change(Dial("a"), 2)])
    assert states(journal) == ["undone"]
    assert aws.dials == {"a": 1}
    assert run.undo() == []


def test_what_cannot_be_undone_at_once_is_undone_with_the_run(journal: Journal) -> None:
    """And the error says that something is left."""
    aws = FakeAws({"a": 1})

    def happen_and_fail(call: Any) -> None:
        aws.dials["a"] = 2
        raise AwsError("timed out", code="ReadTimeoutError")

    aws.before_send = happen_and_fail
    run = engine(aws, journal)
    with pytest.raises(AwsError, match="1 of 1 changes are not undone yet"):
        run.apply([Change(Dial("a"), 2)])
    assert states(journal) == ["unreverted"]
    aws.before_send = lambda call: None
    assert [u.state for u in run.undo()] == [State.UNDONE]
    assert aws.dials == {"a": 1}


def test_no_change_is_made_once_undo_has_begun(journal: Journal) -> None:
    """An action that is still running when the run ends must not break anything any more."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.undo()
    with pytest.raises(ChaosgradeError, match="being undone"):
        run.apply([Change(Dial("a"), 2)])
    assert aws.sent == []


def test_the_effect_is_looked_at_and_recorded(journal: Journal, tmp_path: Path) -> None:
    """Proof of effect comes from reading the world, not from the answer to the call."""
    aws = FakeAws({"a": 1, "b": 1})
    with EvidenceLog(tmp_path / "evidence.jsonl", Clock()) as log:
        engine(aws, journal, log).apply([Change(Dial("a"), 2), Change(Smash("b"))])
    records = evidence.read(tmp_path / "evidence.jsonl")
    assert records[0].kind == "fault.start"
    assert [r["proven"] for r in records if r.kind == "change.effect"] == [True, True]
    assert {r["reversible"] for r in records if r.kind == "change.applied"} == {True, False}


def test_an_effect_that_never_shows_is_not_proven(journal: Journal) -> None:
    """A call that was accepted and did nothing is a fault that did not bite."""
    aws = FakeAws({"a": 1})
    aws.send = lambda call: {}  # type: ignore[method-assign]
    (applied,) = engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert not applied.effect.proven
    assert "1" in applied.effect.detail


def test_a_strike_is_journalled_and_never_undone(journal: Journal) -> None:
    """One-way events are on record, but nothing is outstanding."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    run.apply([Change(Smash("a"))])
    assert states(journal) == ["applied"]
    assert journal.outstanding("r1") == []
    assert run.undo() == []


def test_the_planner_sends_nothing(journal: Journal) -> None:
    """Dry run is another executor."""
    planner = Planner()
    planner.apply([Change(Dial("a"), 2), Change(Smash("a"))])
    assert [c.summary for c in planner.changes] == ["turn a to 2", "smash a"]


_DIES_AFTER_EFFECT = """
import os, signal, sys
from pathlib import Path
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Change
from chaosgrade.clock import Clock
from tests.fake_aws import Dial, FakeAws, STAGE, guard

def die(call):
    print("sent", flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

journal = Journal(Path(sys.argv[1]))
journal.open_run("r2", experiment="e", environment=STAGE, endpoint=None, started=1.0)
aws = FakeAws({"a": 1}, before_send=die)
Engine(aws, guard(aws), journal, "r2", Clock()).apply([Change(Dial("a"), 2)])
"""


def test_undo_survives_sigkill(journal: Journal) -> None:
    """The process dies with the call under way; another one finds the intent and undoes it."""
    died = subprocess.run(
        [sys.executable, "-c", _DIES_AFTER_EFFECT, str(journal.path)],
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (died.returncode, died.stdout) == (-signal.SIGKILL, "sent\n")
    aws = FakeAws({"a": 2})  # the effect had happened
    later = Engine(aws, guard(aws), journal, "r2", Clock())  # type: ignore[arg-type]
    assert [u.state for u in later.undo()] == [State.UNDONE]
    assert aws.dials == {"a": 1}


def test_the_journal_holds_data_that_rebuilds_the_setting(journal: Journal) -> None:
    """Undo is stored as data: kind, address, old value."""
    engine(FakeAws({"a": 1}), journal).apply([Change(Dial("a"), 2)])
    (entry,) = journal.outstanding("r1")
    assert json.loads(entry.address) == {"name": "a"}
    assert registry.setting(entry.kind, entry.address) == Dial("a")


def test_a_stage_that_has_ended_has_nothing_to_undo(journal: Journal) -> None:
    """On AWS the same silence is no reason to believe so."""
    for kind, state in (("stage", State.VANISHED), ("localstack", State.UNREVERTED)):
        aws = FakeAws({"a": 1}, environment=replace(STAGE, kind=kind))
        run = engine(aws, journal)
        run.apply([Change(Dial("a"), 2)])
        aws.before_read = aws.before_send = refuse("EndpointConnectionError")
        assert [u.state for u in run.undo()] == [state]
