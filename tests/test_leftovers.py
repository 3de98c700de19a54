"""What a person sees of changes that could not be undone."""

import json
import sqlite3
from pathlib import Path

import pytest

from chaosgrade.aws import Environment
from chaosgrade.changes.journal import Intent, Journal
from chaosgrade.changes.model import Change
from chaosgrade.changes.process import RUNNING, STOPPED, ProcessState
from chaosgrade.cli import leftovers
from chaosgrade.errors import Exit

PLACE = Environment("localstack", "000000000000", "us-east-1")


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Journal:
    """A dead run's stopped process on a LocalStack that does not answer any more."""
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path))
    journal = Journal()
    journal.open_run(
        "r1", experiment="e", environment=PLACE, endpoint="http://127.0.0.1:9", started=1.0
    )
    change = Change(ProcessState("i-1", "us-east-1a", "web"), STOPPED)
    journal.intend("r1", [Intent(change, RUNNING)], lease_s=1.0, now=1.0)
    with sqlite3.connect(journal.path) as db:
        db.execute("UPDATE runs SET boot = 'before the machine was restarted'")
    return journal


def test_recover_says_what_is_left_and_how_to_undo_it(
    left: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 5, never "recovered"; the command is complete."""
    assert leftovers.recover_all(as_json=False) == Exit.NOT_UNDONE
    captured = capsys.readouterr()
    assert "unreverted" in captured.out
    assert "NOT UNDONE" in captured.err
    (command,) = [line for line in captured.err.splitlines() if line.startswith("aws ssm ")]
    assert "SIGCONT" in command
    assert "--endpoint-url http://127.0.0.1:9" in command
    assert len(left.outstanding("r1")) == 1


def test_status_is_5_while_something_is_orphaned(
    left: Journal, capsys: pytest.CaptureFixture[str]
) -> None:
    """As JSON, with the lease and the commands."""
    assert leftovers.show_status(as_json=True) == Exit.NOT_UNDONE
    (run,) = json.loads(capsys.readouterr().out)["runs"]
    assert not run["alive"]
    assert run["outstanding"][0]["lease_until"] == 2.0
    assert run["outstanding"][0]["by_hand"][0].startswith("aws ssm send-command")
    assert leftovers.show_status(as_json=False) == Exit.NOT_UNDONE
    assert "stop process web" in capsys.readouterr().out


def test_with_nothing_left_everything_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And exits with 0."""
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path))
    assert leftovers.show_status(as_json=False) == Exit.HOLDS
    assert leftovers.recover_all(as_json=False) == Exit.HOLDS
    assert leftovers.halt_all(as_json=False) == Exit.HOLDS
    assert capsys.readouterr().out.count("Nothing") == 3
