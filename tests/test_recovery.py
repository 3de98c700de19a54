"""Recovery: whatever died, what it changed is as it was, or a person is told what is not."""

import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.aws import Aws, Call
from chaosgrade.changes import registry
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.journal import Intent, Journal, JournalError, RunRow, State
from chaosgrade.changes.model import Change
from chaosgrade.changes.recovery import (
    OpenRun,
    by_hand,
    open_runs,
    reach_run,
    recover,
    refuse_while_outstanding,
)
from chaosgrade.changes.undo import Undone
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, NotUndone
from chaosgrade.machine import Process, uptime_s
from tests.fake_aws import STAGE, Dial, FakeAws, guard, registered


@pytest.fixture(autouse=True)
def _fake_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTINGS", registered(registry.SETTINGS))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite3")
    yield journal
    journal.close()


def broken(journal: Journal, aws: FakeAws, *changes: Change, run: str = "r1") -> OpenRun:
    """A run that made these changes and then vanished."""
    journal.open_run(run, experiment="e", environment=STAGE, endpoint=None, started=time.time())
    engine = Engine(aws, guard(aws), journal, run, Clock())  # type: ignore[arg-type]
    engine.apply(changes)
    (found,) = [r for r in open_runs(journal) if r.row.id == run]
    return replace(found, alive=False)


def test_a_recovery_assumes_the_role_as_the_run_did(journal: Journal) -> None:
    """A role's trust may depend on what its session is called."""
    role = "arn:aws:iam::123456789012:role/chaos"
    place = replace(STAGE, kind="aws")
    for run, session in (("r1", "Friday"), ("r2", "")):
        journal.open_run(
            run, experiment="e", environment=place, endpoint=None, started=1.0, role=role,
            role_session=session,
        )  # fmt: skip
    reached = [reach_run(row) for row in journal.runs()]
    assert [aws.role_arn for aws in reached] == [role, role]
    assert [aws.role_session_name for aws in reached] == ["Friday", "ChaosGrade"]


def reach(aws: FakeAws) -> Callable[[RunRow], Aws]:
    return lambda row: aws  # type: ignore[return-value]  # the fake has what undo needs


def test_a_dead_runs_changes_are_undone_once(journal: Journal) -> None:
    """A second recovery makes no call."""
    aws = FakeAws({"a": 1, "b": 1})
    run = broken(journal, aws, Change(Dial("a"), 2), Change(Dial("b"), 2))
    assert [u.state for u in recover(run, journal, reach=reach(aws))] == [State.UNDONE] * 2
    assert aws.dials == {"a": 1, "b": 1}
    calls = len(aws.sent)
    assert recover(run, journal, reach=reach(aws)) == []
    assert len(aws.sent) == calls


def test_another_account_is_left_alone(journal: Journal) -> None:
    """Restoring into the wrong account would be a new fault."""
    aws = FakeAws({"a": 1})
    run = broken(journal, aws, Change(Dial("a"), 2))
    calls = len(aws.sent)
    elsewhere = FakeAws({"a": 2}, environment=replace(STAGE, account="999999999999"))
    (undone,) = recover(run, journal, reach=reach(elsewhere))
    assert undone.state is State.UNREVERTED
    assert "999999999999" in undone.detail
    assert (len(aws.sent), elsewhere.sent) == (calls, [])
    assert [u.state for u in recover(run, journal, reach=reach(aws))] == [State.UNDONE]


def test_an_emulator_in_the_place_of_aws_is_left_alone(journal: Journal) -> None:
    """AWS_ENDPOINT_URL of another shell: there, what is to be undone would be taken for gone."""
    run = broken(journal, FakeAws({"a": 1}), Change(Dial("a"), 2))
    run = replace(run, row=replace(run.row, environment="aws", endpoint=None))
    emulator = FakeAws(environment=replace(STAGE, kind="localstack"))
    (undone,) = recover(run, journal, reach=reach(emulator))
    assert (undone.state, emulator.reads) == (State.UNREVERTED, [])
    assert undone.detail == (
        "http://127.0.0.1:1 is localstack, the change was made on aws: see AWS_ENDPOINT_URL"
    )


def test_damage_to_what_is_over_keeps_nothing_else_from_being_undone(journal: Journal) -> None:
    """A journal holds years; what is outstanding and damaged is never guessed."""
    aws = FakeAws({"a": 1, "b": 1})
    over = broken(journal, aws, Change(Dial("a"), 2), run="r0")
    recover(over, journal, reach=reach(aws))
    left = broken(journal, aws, Change(Dial("b"), 2))
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE changes SET wanted = '7' WHERE run = 'r0'")
    assert [run.row.id for run in open_runs(journal) if run.entries] == ["r1"]
    assert [u.state for u in recover(left, journal, reach=reach(aws))] == [State.UNDONE]
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE changes SET state = 'applyed' WHERE run = 'r0'")
    with pytest.raises(JournalError, match="damaged"):
        open_runs(journal)


def test_what_was_changed_after_somebody_looked_is_undone_as_well(journal: Journal) -> None:
    """A run that is told to halt may be in the midst of a change."""
    aws = FakeAws({"a": 1, "b": 1})
    seen = broken(journal, aws, Change(Dial("a"), 2))
    Engine(aws, guard(aws), journal, "r1", Clock()).apply([Change(Dial("b"), 2)])  # type: ignore[arg-type]
    assert [u.state for u in recover(seen, journal, reach=reach(aws))] == [State.UNDONE] * 2
    assert aws.dials == {"a": 1, "b": 1}


@pytest.mark.parametrize(
    ("kind", "code", "state"),
    [
        ("stage", "EndpointConnectionError", State.VANISHED),
        ("stage", "AccessDenied", State.UNREVERTED),
        ("aws", "EndpointConnectionError", State.UNREVERTED),
    ],
)
def test_what_cannot_be_reached_is_undone_only_if_it_is_gone(
    journal: Journal, kind: str, code: str, state: State
) -> None:
    """A stage that does not answer took everything with it; AWS that does not answer did not."""
    run = broken(journal, FakeAws({"a": 1}), Change(Dial("a"), 2))
    run = replace(run, row=replace(run.row, environment=kind))

    def unreachable(row: RunRow) -> Aws:
        raise AwsError("no answer", code=code)

    (undone,) = recover(run, journal, reach=unreachable)
    assert undone.state is state
    assert bool(journal.outstanding("r1")) == (state is State.UNREVERTED)


def test_only_what_is_asked_for_is_undone(journal: Journal) -> None:
    """An overdue lease does not take the other changes of a living run with it."""
    aws = FakeAws({"a": 1, "b": 1})
    run = broken(journal, aws, Change(Dial("a"), 2), Change(Dial("b"), 2))
    overdue = [entry for entry in run.entries if "turn a" in entry.summary]
    recover(run, journal, reach=reach(aws), entries=overdue)
    assert aws.dials == {"a": 1, "b": 2}


def test_a_person_gets_the_commands(journal: Journal) -> None:
    """For what could not be undone: copy, paste, done."""
    aws = FakeAws({"a": 1})
    run = broken(journal, aws, Change(Dial("a"), 2))
    row = replace(run.row, endpoint="http://127.0.0.1:4566")
    assert by_hand(run.entries[0], row) == [
        """aws fake turn-dial --cli-input-json '{"Dial": "a", "Value": 1}'"""
        " --region us-east-1 --endpoint-url http://127.0.0.1:4566"
    ]


def test_commands_are_of_the_runs_profile_and_role(journal: Journal) -> None:
    """And say so when there is none."""
    run = broken(journal, FakeAws({"a": 1}), Change(Dial("a"), 2))
    row = replace(run.row, profile="p", role="arn:aws:iam::123456789012:role/chaos")
    assert by_hand(run.entries[0], row) == [
        "# as arn:aws:iam::123456789012:role/chaos",
        """aws fake turn-dial --cli-input-json '{"Dial": "a", "Value": 1}'"""
        " --region us-east-1 --profile p",
    ]
    (comment,) = by_hand(replace(run.entries[0], kind="later:dial"), row)
    assert comment.startswith("# turn a to 2: restore 1 (the journal holds a change of kind")


def test_commands_start_from_what_the_change_has_set(journal: Journal) -> None:
    """Nobody has looked since."""
    journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    change = Change(SuspendedProcesses("g", ("Launch",)), ["Launch"])
    (entry,) = journal.intend("r1", [Intent(change, [])], lease_s=60.0, now=1.0)
    (command,) = by_hand(entry, journal.runs()[0])
    assert command.startswith("aws autoscaling resume-processes ")


def test_a_run_is_open_while_it_lives_or_has_left_something(journal: Journal) -> None:
    """Neither needs the other."""
    for run in ("lives", "left", "over"):
        journal.open_run(run, experiment="e", environment=STAGE, endpoint=None, started=1.0)
    (entry,) = journal.intend("left", [Intent(Change(Dial("a"), 2), 1)], lease_s=9.0, now=1.0)
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET boot = 'before' WHERE id != 'lives'")
    found = {run.row.id: (run.alive, run.entries) for run in open_runs(journal)}
    assert found == {"lives": (True, ()), "left": (False, (entry,))}


def test_the_place_is_reached_as_the_run_did(journal: Journal) -> None:
    """Its own row tells how; why it cannot be is on record."""
    run = broken(journal, FakeAws({"a": 1}), Change(Dial("a"), 2))

    def unreachable(row: RunRow) -> Aws:
        raise AwsError(f"no way to {row.id}", code="AccessDenied")

    (undone,) = recover(run, journal, reach=unreachable)
    assert undone == Undone(run.entries[0], State.UNREVERTED, "no way to r1")
    assert [e.detail for e in journal.outstanding("r1")] == ["no way to r1"]


def test_no_new_fault_while_something_is_left_here(journal: Journal) -> None:
    """Runs that live see to themselves; other places do not matter."""
    here = ("http://127.0.0.1:9", replace(STAGE, kind="localstack"))

    def intend(run: str, endpoint: str | None, **place: str) -> None:
        environment = replace(here[1], **place)  # type: ignore[arg-type]
        journal.open_run(
            run, experiment="e", environment=environment, endpoint=endpoint, started=1.0
        )
        change = Change(Dial(run), 2)
        journal.intend(run, [Intent(change, 1)], lease_s=9.0, now=1.0)

    intend("lives", here[0])
    intend("elsewhere", "http://127.0.0.1:8")
    intend("far", here[0], region="eu-west-1")
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET boot = 'before' WHERE id != 'lives'")
    refuse_while_outstanding(journal, here[1], here[0])
    intend("dead", here[0])
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET boot = 'before' WHERE id = 'dead'")
    with pytest.raises(NotUndone) as caught:
        refuse_while_outstanding(journal, here[1], here[0])
    says = str(caught.value)
    assert says.startswith("run dead has left something changed: turn dead to 2 (")
    assert says.endswith("); no new fault before `chaosgrade recover` succeeds")


@pytest.mark.parametrize(
    ("kind", "key"), [("stage", "stage"), ("localstack", "stage"), ("aws", "own")]
)
def test_an_emulator_takes_any_key_and_aws_only_its_own(
    journal: Journal, monkeypatch: pytest.MonkeyPatch, kind: str, key: str
) -> None:
    """At the run's endpoint, in its Region."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "own")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own")
    place = replace(STAGE, kind=kind, region="eu-west-1")
    journal.open_run(
        "r1", experiment="e", environment=place, endpoint="http://127.0.0.1:9", started=1.0
    )
    aws = reach_run(journal.runs()[0])
    client = aws.client("sts")
    assert (aws.region, aws.endpoint_url) == ("eu-west-1", "http://127.0.0.1:9")
    credentials = client._request_signer._credentials
    assert (credentials.access_key, credentials.secret_key) == (key, key)


def test_the_runs_profile_is_used_again(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever this shell's default is."""
    (tmp_path / "config").write_text("[profile p]\nregion = us-east-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    place = replace(STAGE, kind="aws")
    journal.open_run(
        "r1", experiment="e", environment=place, endpoint=None, started=1.0, profile="p"
    )
    assert reach_run(journal.runs()[0]).profile == "p"


def test_a_process_is_told_from_a_later_one_of_its_id() -> None:
    """Process ids are used again, and a machine starts again."""
    this = Process.this()
    assert this.alive
    assert not replace(this, began=this.began - 1).alive
    assert not replace(this, boot="another").alive
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    assert not replace(this, pid=gone.pid).alive


def test_a_zombie_is_dead() -> None:
    """It changes nothing any more, though its id is still taken."""
    tell = "from chaosgrade.machine import Process; print(Process.this().began)"
    child = subprocess.Popen([sys.executable, "-c", tell], stdout=subprocess.PIPE)
    assert child.stdout is not None
    began = int(child.stdout.read())
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not replace(Process.this(), pid=child.pid, began=began).alive
    child.wait()
    child.stdout.close()


def test_a_lease_is_over_by_the_time_since_the_start_not_by_the_clock(journal: Journal) -> None:
    """Somebody who sets the clock neither shortens nor lengthens it."""
    run = broken(journal, FakeAws({"a": 1}), Change(Dial("a"), 2))
    (entry,) = run.entries
    assert not run.row.lease_is_over(entry)
    for wrong in (entry.lease_until - 7200, entry.lease_until + 7200):
        assert not run.row.lease_is_over(replace(entry, lease_until=wrong))
    assert run.row.lease_is_over(replace(entry, lease_uptime=uptime_s() - 0.001))
    restarted = replace(run.row, process=replace(run.row.process, boot="another"))
    assert restarted.lease_is_over(entry)


def test_calls_as_commands_survive_a_shell() -> None:
    """Quotes in values stay in values."""
    call = Call("ec2", "TerminateInstances", {"InstanceIds": ["it's; rm -rf /"]})
    words: Any = subprocess.run(
        ["sh", "-c", f"printf '%s\\n' {call.as_cli()}"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert words[:4] == ["aws", "ec2", "terminate-instances", "--cli-input-json"]
    assert words[4] == """{"InstanceIds": ["it's; rm -rf /"]}"""
