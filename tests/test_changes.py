"""Changes: intent before effect, proof of effect, compare-then-restore."""

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from chaoslib.exceptions import InterruptExecution

from chaosgrade import evidence
from chaosgrade.aws import Call, ResourceGone
from chaosgrade.changes import engine as engine_module
from chaosgrade.changes import registry, undo
from chaosgrade.changes.engine import Applied, Engine, Planner
from chaosgrade.changes.journal import Intent, Journal, JournalError, RunRow, State, default_path
from chaosgrade.changes.model import Change, Effect, Live
from chaosgrade.changes.network_acl import SubnetAcl
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, ChaosgradeError, Refused
from chaosgrade.evidence import EvidenceError, EvidenceLog
from chaosgrade.machine import Process, uptime_s
from chaosgrade.stopping import StopRequest
from tests.fake_aws import STAGE, Dial, FakeAws, Smash, guard, refuse, registered

QUICK = replace(STAGE, time_scale=400.0)


@pytest.fixture(autouse=True)
def _fake_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTINGS", registered(registry.SETTINGS))
    monkeypatch.setitem(undo.IN_FLIGHT_S, "stage", 0.05)  # calls of the fake have their effect


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
    with pytest.raises(
        ChaosgradeError, match=r"^the run is being undone: no further change is made$"
    ):
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
    aws = FakeAws({"a": 1}, environment=QUICK)
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


def test_the_planner_sends_nothing() -> None:
    """Dry run is another executor: what it was asked for is numbered, and not proven."""
    planner = Planner()
    turn, smash, last = Change(Dial("a"), 2), Change(Smash("a")), Change(Dial("b"), 3)
    planned = Effect(False, "planned only")
    assert planner.apply([turn], [smash]) == [Applied(0, turn, planned), Applied(1, smash, planned)]
    assert planner.apply([last]) == [Applied(2, last, planned)]
    assert planner.changes == [turn, smash, last]
    assert (planner.run, planner.started_at, planner.lease_until) == ("plan", None, 0.0)


def test_each_wave_follows_the_effects_of_the_one_before(journal: Journal) -> None:
    """Side by side within, one after the other between, undone in reverse."""
    aws = FakeAws({"a": 1, "b": 1, "c": 1})
    run = engine(aws, journal)
    waves = [[Change(Dial("a"), 2)], [Change(Dial("b"), 2)], [Change(Dial("c"), 2)]]
    applied = run.apply(*waves)
    assert applied == [
        Applied(number, change, Effect(True, "reads back as 2"))
        for number, (change,) in enumerate(waves, start=1)
    ]
    assert [call.parameters["Dial"] for call in aws.sent] == ["a", "b", "c"]
    assert len(aws.reads) == 3 + 1 + 2 + 2  # before all, then before and after each but the first
    run.undo()
    assert [call.parameters["Dial"] for call in aws.sent[3:]] == ["c", "b", "a"]


def test_a_wave_without_effect_ends_the_transaction(journal: Journal) -> None:
    """What comes after would be built on nothing; what went before is undone."""
    aws = FakeAws({"a": 1, "b": 1, "c": 1}, environment=QUICK)
    turn = aws.send

    def ignore_b(call: Call) -> dict[str, Any]:
        return {} if call.parameters["Dial"] == "b" else turn(call)

    aws.send = ignore_b  # type: ignore[method-assign]
    waves = [[Change(Dial(name), 2)] for name in "abc"]
    with pytest.raises(AwsError) as caught:
        engine(aws, journal).apply(*waves)
    assert (str(caught.value), caught.value.code) == ("turn b to 2: reads back as 1", "NoEffect")
    assert [(e.state, e.detail) for e in journal.entries("r1")] == [
        (State.UNDONE, "was never sent"),
        (State.UNDONE, "was already as before: 1"),
        (State.UNDONE, "is as before again: 1"),
    ]
    assert aws.dials == {"a": 1, "b": 1, "c": 1}


def test_what_was_never_sent_needs_no_undo(journal: Journal) -> None:
    """A strike of a later wave, above all, is on record as not made."""
    aws = FakeAws({"a": 1, "b": 1}, before_send=refuse("AccessDenied"))
    with pytest.raises(AwsError, match="AccessDenied"):
        engine(aws, journal).apply([Change(Dial("a"), 2)], [Change(Smash("b"))])
    strike = journal.entries("r1")[0]
    assert (strike.state, strike.detail) == (State.UNDONE, "was never sent")


def test_an_error_tells_what_is_left_of_its_own_transaction(journal: Journal) -> None:
    """What an earlier one has changed stays until the run is over."""
    aws = FakeAws({"a": 1, "b": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])

    def happen_and_fail(call: Any) -> None:
        aws.dials["b"] = 2
        raise AwsError("timed out", code="ReadTimeoutError")

    aws.before_send = happen_and_fail
    with pytest.raises(AwsError) as caught:
        run.apply([Change(Dial("b"), 2)])
    assert str(caught.value) == "timed out; 1 of 1 changes are not undone yet"
    assert caught.value.code == "NotUndone"
    assert aws.dials["a"] == 2


def test_what_somebody_changes_just_before_a_call_is_left_alone(journal: Journal) -> None:
    """Between the intent and the call of a later wave."""
    aws = FakeAws({"a": 1, "b": 1})

    def meddle(call: Call) -> None:
        aws.dials["b"] = 7

    aws.before_send = meddle
    with pytest.raises(AwsError) as caught:
        engine(aws, journal).apply([Change(Dial("a"), 2)], [Change(Dial("b"), 2)])
    says = "turn b to 2: somebody else has changed it to 7 just now"
    assert (str(caught.value), caught.value.code) == (says, "Conflict")
    assert aws.dials == {"a": 1, "b": 7}


def test_calls_get_what_the_look_before_them_found(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Handles that AWS gives anew with each change are of the live setting; a strike needs none."""
    seen: list[Any] = []

    def calls(self: Dial, value: Any, live: Live) -> tuple[Call, ...]:
        seen.append((self.name, live))
        return (Call("fake", "TurnDial", {"Dial": self.name, "Value": value}),)

    monkeypatch.setattr(Dial, "calls", calls)
    aws = FakeAws({"a": 1, "b": 5})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)], [Change(Dial("b"), 6)])
    assert seen == [("a", Live(1)), ("b", Live(5))]
    run.undo()
    assert seen[2:] == [("b", Live(6)), ("a", Live(2))]


def test_an_interrupted_action_waits_for_no_effect(journal: Journal) -> None:
    """On AWS the look for one takes minutes, and the undo is waiting."""
    aws = FakeAws({"a": 1}, environment=replace(STAGE, time_scale=1.0))
    aws.before_read = lambda name: aws.dials.update(a=1)  # never smashed

    def interrupt(number: int, frame: object) -> None:
        raise InterruptExecution("told to stop")

    former = signal.signal(signal.SIGALRM, interrupt)
    began = time.monotonic()
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
        with pytest.raises(InterruptExecution):
            engine(aws, journal).apply([Change(Smash("a"))])
    finally:
        signal.signal(signal.SIGALRM, former)
    assert time.monotonic() - began < 60  # of 180


def test_the_first_change_is_where_the_fault_starts(journal: Journal, tmp_path: Path) -> None:
    """Once a run; every record says of what it is."""
    aws = FakeAws({"a": 1, "b": 1})
    with EvidenceLog(tmp_path / "evidence.jsonl", Clock()) as log:
        run = engine(aws, journal, log)
        assert run.started_at is None
        run.apply([Change(Dial("a"), 2)])
        started = run.started_at
        assert started is not None
        run.apply([Change(Smash("b"))])
        assert run.started_at == started
        run.undo()
    made = {"type": "fake:dial", "resource": "a", "zone": "us-east-1a", "summary": "turn a to 2"}
    struck = {"type": "fake:smash", "resource": "b", "zone": None, "summary": "smash b"}
    assert [(r.kind, r.data) for r in evidence.read(tmp_path / "evidence.jsonl")] == [
        ("fault.start", {}),
        ("change.applied", {"change": 1, **made, "reversible": True}),
        ("change.effect", {"change": 1, "proven": True, "detail": "reads back as 2"}),
        ("change.applied", {"change": 2, **struck, "reversible": False}),
        ("change.effect", {"change": 2, "proven": True, "detail": "b is smashed"}),
        (
            "change.undone",
            {"change": 1, "summary": "turn a to 2", "outcome": "undone",
             "detail": "is as before again: 1"},
        ),
    ]  # fmt: skip


def test_a_strike_is_looked_at_until_it_shows(journal: Journal) -> None:
    """Its effect may take a while; what is gone before shows nothing."""
    aws = FakeAws({"a": 1, "b": 1}, environment=QUICK)
    looks: list[str] = []

    def late(name: str) -> None:
        looks.append(name)
        aws.dials["a"] = "smashed" if len(looks) > 2 else 1
        if name == "b":
            raise ResourceGone("no b", code="NotFound")

    aws.before_read = late
    (applied,) = engine(aws, journal).apply([Change(Smash("a"))])
    assert applied.effect == Effect(True, "a is smashed")
    assert looks == ["a"] * 3
    other = Engine(aws, guard(aws), journal, "r1", Clock())  # type: ignore[arg-type]
    (applied,) = other.apply([Change(Smash("b"))])
    assert applied.effect == Effect(False, "gone before the effect was seen: no b")


def test_a_setting_that_is_gone_after_its_call_is_not_proven(journal: Journal) -> None:
    """Nothing is known of it."""
    aws = FakeAws({"a": 1})
    turn = aws.send

    def and_lose(call: Call) -> dict[str, Any]:
        answer = turn(call)
        del aws.dials["a"]
        return answer

    aws.send = and_lose  # type: ignore[method-assign]
    (applied,) = engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert applied.effect == Effect(False, "gone before the effect was seen: no dial a")
    assert aws.reads == ["a", "a"]


def test_an_effect_that_shows_late_is_waited_for(journal: Journal) -> None:
    """AWS may show the former state for a while."""
    aws = FakeAws({"a": 1}, environment=QUICK)
    turn, kept = aws.send, []
    aws.send = lambda call: kept.append(call) or {}  # type: ignore[method-assign,func-returns-value]

    def late(name: str) -> None:
        if len(aws.reads) == 3:
            turn(kept[0])

    aws.before_read = late
    (applied,) = engine(aws, journal).apply([Change(Dial("a"), 2)])
    assert applied.effect == Effect(True, "reads back as 2")
    assert len(aws.reads) == 4


@pytest.mark.parametrize("change", [Change(Dial("a"), 2), Change(Smash("a"))])
def test_an_effect_is_not_waited_for_once_undo_has_begun(journal: Journal, change: Change) -> None:
    """Whoever stops a run does not wait for minutes."""
    aws = FakeAws({"a": 1}, environment=replace(STAGE, time_scale=1.0))
    run = engine(aws, journal)

    def stop(call: Call) -> dict[str, Any]:
        threading.Thread(target=run.undo).start()
        return {}

    aws.send = stop  # type: ignore[method-assign]
    began = time.monotonic()
    (applied,) = run.apply([change])
    assert not applied.effect.proven
    assert time.monotonic() - began < 20


def test_calls_that_wait_for_a_place_do_not_leave_after_one_has_failed(journal: Journal) -> None:
    """Sixteen are under way at once; the rest is never sent, and all is undone."""
    names = [f"d{n:02}" for n in range(40)]
    aws = FakeAws(dict.fromkeys(names, 1))
    tried: list[str] = []

    def fail(call: Call) -> None:
        if call.parameters["Value"] == 2:
            tried.append(call.parameters["Dial"])
            time.sleep(0.05)
            raise AwsError("denied", code="AccessDenied")

    aws.before_send = fail
    with pytest.raises(AwsError, match="denied"):
        engine(aws, journal).apply([Change(Dial(name), 2) for name in names])
    assert len(tried) < 40
    assert aws.dials == dict.fromkeys(names, 1)
    assert {entry.state for entry in journal.entries("r1")} == {State.UNDONE}


def test_the_lock_is_confirmed_for_the_lease_and_the_lease_runs_from_now(journal: Journal) -> None:
    """Both are what an engine was given."""
    confirmed: list[float] = []

    class Lock:
        def confirm(self, lease_s: float) -> None:
            confirmed.append(lease_s)

    aws = FakeAws({"a": 1})
    clock = Clock(wall=5000.0, ticks=lambda: 0.0, monotonic=0.0)
    run: Any = Engine(
        aws, guard(aws, journal), journal, "r1", clock, lock=Lock(), lease_s=60.0,  # type: ignore[arg-type]
    )  # fmt: skip
    assert run.lease_until == 5060.0
    run.apply([Change(Dial("a"), 2)])
    assert confirmed == [60.0]
    assert run.started_at == 5000.0
    (entry,) = journal.entries("r1")
    assert entry.lease_until == 5060.0
    assert 50 < entry.lease_uptime - uptime_s() <= 60
    aws = FakeAws({"a": 1})
    with pytest.raises(Refused, match="up to 61 s, max_lease is 60 s"):
        Engine(aws, guard(aws, max_lease_s=60.0), journal, "r1", clock, lease_s=61.0)  # type: ignore[arg-type]


def test_an_undo_goes_by_memory_when_the_journal_is_lost(journal: Journal) -> None:
    """Of every transaction."""
    aws = FakeAws({"a": 1, "b": 1})
    run = engine(aws, journal)
    run.apply([Change(Dial("a"), 2)])
    run.apply([Change(Dial("b"), 2)])
    with sqlite3.connect(journal.path) as db:
        db.execute("DROP TABLE changes")
    assert [u.state for u in run.undo()] == [State.UNDONE] * 2
    assert aws.dials == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("column", "value"),
    [("run", "'r2'"), ("batch", "7"), ("wave", "1"), ("kind", "'x'"), ("address", "'{}'"),
     ("reversible", "0"), ("before", "'9'"), ("wanted", "'9'"), ("checksum", "1")],
)  # fmt: skip
def test_a_flipped_bit_is_noticed(journal: Journal, column: str, value: str) -> None:
    """In whatever an undo relies on."""
    journal.open_run("r2", experiment="e", environment=STAGE, endpoint=None, started=2.0)
    engine(FakeAws({"a": 1}), journal).apply([Change(Dial("a"), 2)])
    with sqlite3.connect(journal.path) as db:
        db.execute(f"UPDATE changes SET {column} = {value}")
    with pytest.raises(JournalError, match=r"damaged \(change 1 is not what was written\): undo"):
        journal.entries("r2" if column == "run" else "r1")


def test_a_run_is_on_record_as_it_was_opened(journal: Journal) -> None:
    """With what it takes to reach its place again; the oldest first."""
    journal.open_run(
        "r0", experiment="f", environment=replace(STAGE, kind="aws"), endpoint="http://a",
        started=0.5, profile="p", role="arn", role_session="Friday",
    )  # fmt: skip
    first, second = journal.runs()
    assert first == RunRow(
        "r0", "f", "aws", "http://a", "123456789012", "us-east-1", "p", "arn", "Friday",
        Process.this(), 0.5,
    )  # fmt: skip
    assert (second.id, second.started, second.place) == (
        "r1",
        1.0,
        (None, "123456789012", "us-east-1"),
    )


def test_intents_are_numbered_in_their_order(journal: Journal) -> None:
    """A transaction goes by the number of its first."""
    intents = [Intent(Change(Dial(name), 2), 1, wave) for name, wave in (("a", 0), ("b", 1))]
    for first in (1, 3):
        entries = journal.intend("r1", intents, lease_s=60.0, now=1000.0)
        assert [(e.id, e.batch, e.wave) for e in entries] == [
            (first, first, 0), (first + 1, first, 1),
        ]  # fmt: skip
        assert {(e.detail, e.lease_until) for e in entries} == {("", 1060.0)}
    assert journal.entries("r1")[:2] == entries[::-1]
    journal.mark(entries, State.UNREVERTED)
    assert {e.detail for e in journal.outstanding("r1")} == {""}


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


@pytest.mark.parametrize(
    ("variables", "path"),
    [
        ({"CHAOSGRADE_STATE_DIR": "/s", "XDG_STATE_HOME": "/x"}, "/s/journal.sqlite3"),
        ({"XDG_STATE_HOME": "/x"}, "/x/chaosgrade/journal.sqlite3"),
        ({}, "/h/.local/state/chaosgrade/journal.sqlite3"),
    ],
)
def test_the_journal_is_where_the_user_keeps_state(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], path: str
) -> None:
    """Unless a folder is named."""
    for name in ("CHAOSGRADE_STATE_DIR", "XDG_STATE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/h", **variables}.items():
        monkeypatch.setenv(name, value)
    assert default_path() == Path(path)


def test_a_journal_that_cannot_be_made_says_what_to_do(tmp_path: Path) -> None:
    """In one line, without losing what is to be undone."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "journal.sqlite3"
    with pytest.raises(JournalError) as caught:
        Journal(path)
    says = str(caught.value)
    assert says.startswith(f"the undo journal {path} cannot be used: ")
    assert says.endswith(
        "; make room or rights there, or set CHAOSGRADE_STATE_DIR to a folder that can be written, "
        "with a copy of the journal if it holds what is to be undone"
    )


def test_the_journal_is_the_users_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    """Old values may be nobody else's business."""
    folder = tmp_path / "deep" / "down"
    journal = Journal(folder / "journal.sqlite3")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert (folder / "journal.lock").stat().st_mode & 0o777 == 0o600
    journal.close()


def test_a_journal_of_another_version_is_left_as_it_is(tmp_path: Path) -> None:
    """With how to undo what it holds."""
    path = tmp_path / "journal.sqlite3"
    Journal(path).close()
    with sqlite3.connect(path) as db:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        db.execute("PRAGMA user_version = 999")
    with pytest.raises(JournalError) as caught:
        Journal(path)
    assert str(caught.value) == (
        f"the undo journal {path} is of version 999, this is {version}; undo with the version that "
        "wrote it, or with `chaosgrade recover --from-aws`, then move the file away"
    )


def test_an_address_is_the_same_whoever_writes_it(journal: Journal) -> None:
    """The order of fields says nothing; a run without a role has no session to name."""
    change = Change(SubnetAcl("vpc-1", "subnet-1", "us-east-1a"), "acl-1")
    (entry,) = journal.intend("r1", [Intent(change, "acl-2")], lease_s=60.0, now=1.0)
    assert entry.address == '{"subnet_id": "subnet-1", "vpc_id": "vpc-1", "zone": "us-east-1a"}'
    assert journal.runs()[0].role_session == ""


def test_no_call_leaves_after_its_lease_or_after_the_undo(journal: Journal) -> None:
    """A machine that slept, or a look that took long: others have undone it meanwhile."""
    aws = FakeAws({"a": 1})
    run = engine(aws, journal)
    with pytest.MonkeyPatch.context() as patch:
        later = uptime_s() + 3601
        asleep = lambda change: patch.setattr(engine_module, "uptime_s", lambda: later)  # noqa: E731
        patch.setattr(run._guard, "admit", asleep)
        with pytest.raises(Refused, match="turn a to 2: its lease was over before it was made"):
            run.apply([Change(Dial("a"), 2)])

    run = engine(aws, journal)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run._guard, "admit", lambda change: run.undo())
        run.apply([Change(Dial("a"), 2)])
    assert (aws.sent, aws.dials) == ([], {"a": 1})
    assert journal.outstanding("r1") == []


def test_a_stop_condition_is_heard_while_a_fault_is_made(journal: Journal) -> None:
    """Nothing more is sent, and no effect is waited for: on AWS that takes up to three minutes."""
    aws, stop = FakeAws({"a": 1, "b": 1}), StopRequest()
    run = Engine(aws, guard(aws, journal), journal, "r1", Clock(), stop=stop)  # type: ignore[arg-type]

    def alarm(call: Call) -> dict[str, Any]:
        stop.request("stop condition: CloudWatch alarm checkout: is in ALARM")
        return {}  # and no effect yet

    aws.send = alarm  # type: ignore[method-assign]
    (applied,) = run.apply([Change(Dial("a"), 2)])
    assert (applied.effect.proven, aws.reads) == (False, ["a", "a"])
    aws.send = lambda call: 1 / 0  # type: ignore[assignment, return-value]
    with pytest.raises(InterruptExecution, match="checkout"):
        run.apply([Change(Dial("b"), 2)])


def test_a_journal_that_breaks_within_a_transaction_does_not_keep_it_from_being_undone(
    journal: Journal,
) -> None:
    """At once, not when the run ends."""
    with sqlite3.connect(journal.path) as db:
        db.execute(
            "CREATE TRIGGER full BEFORE UPDATE ON changes BEGIN SELECT RAISE(ABORT,'full'); END"
        )
    aws = FakeAws({"a": 1, "b": 1})
    with pytest.raises(JournalError, match="full"):
        engine(aws, journal).apply([Change(Dial("a"), 2)], [Change(Dial("b"), 2)])
    assert aws.dials == {"a": 1, "b": 1}


def test_evidence_that_cannot_be_written_ends_a_fault_and_no_undo(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: what nobody can prove is undone."""
    aws = FakeAws({"a": 1})
    log = EvidenceLog(tmp_path / "evidence.jsonl", Clock())
    run = engine(aws, journal, log)
    run.apply([Change(Dial("a"), 2)])
    monkeypatch.setattr(log, "_file", open("/dev/full", "w"))  # noqa: SIM115 - closed by nobody
    with pytest.raises(EvidenceError, match=r"evidence\.jsonl cannot be written: No space left"):
        run.apply([Change(Dial("a"), 3)])
    assert aws.dials == {"a": 2}
    assert [u.state for u in run.undo()] == [State.UNDONE]
    assert aws.dials == {"a": 1}
