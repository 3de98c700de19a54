"""Recovery: whatever died, what it changed is as it was, or a person is told what is not."""

import os
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
from chaosgrade.changes.journal import Journal, RunRow, State
from chaosgrade.changes.model import Change
from chaosgrade.changes.recovery import OpenRun, by_hand, open_runs, reach_run, recover
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError
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
