"""One trial from opening to undo, where things go wrong in between."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgrade import evidence, session
from chaosgrade.changes import registry
from chaosgrade.changes.model import Change
from chaosgrade.experiment import shipped
from chaosgrade.graded_run import GradedRun
from chaosgrade.stopping import StopRequest
from tests.fake_aws import Dial, FakeAws, registered


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeAws:
    fake = FakeAws({"a": 1})
    monkeypatch.setattr(registry, "SETTINGS", registered(registry.SETTINGS))
    monkeypatch.setattr(session, "aws_of", lambda configuration: fake)
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path / "state"))
    monkeypatch.setenv("CHAOSGRADE_RUN_FOLDER", str(tmp_path / "run"))
    return fake


@pytest.fixture
def run(aws: FakeAws) -> Iterator[GradedRun]:
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    run = GradedRun(document, {}, StopRequest())
    yield run
    watchdog(run).kill()
    watchdog(run).wait()


def watchdog(run: GradedRun) -> "subprocess.Popen[bytes]":
    assert run._changing is not None
    assert run._changing._watchdog is not None
    return run._changing._watchdog


def _end(run: GradedRun) -> dict[str, Any]:
    return evidence.read(run.evidence.path)[-1].data


def test_a_finished_run_is_undone_and_its_watchdog_gone(run: GradedRun, aws: FakeAws) -> None:
    """The order is: open, break, undo, close."""
    with session.activity() as active:
        active.executor.apply([Change(Dial("a"), 2)])
    assert aws.dials == {"a": 2}
    assert run.finish("completed")
    assert aws.dials == {"a": 1}
    assert _end(run) == {"status": "completed", "undone": True, "reason": ""}
    assert watchdog(run).poll() is not None


def test_an_undo_that_breaks_down_is_never_reported_as_done(
    run: GradedRun, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A journal that cannot be read leaves doubt, and the watchdog at its post."""
    with session.activity() as active:
        active.executor.apply([Change(Dial("a"), 2)])

    def fail(*_: object) -> None:
        raise OSError("No space left on device")

    assert run._changing is not None
    monkeypatch.setattr(run._changing._journal, "entries", fail)
    assert not run.finish("completed")
    assert _end(run) == {"status": "completed", "undone": False, "reason": ""}
    assert watchdog(run).poll() is None


def test_an_observer_that_cannot_end_does_not_keep_the_run_open(run: GradedRun) -> None:
    """The others are ended, and the trouble is on record."""
    ended = []

    class Stuck:
        def start(self) -> None: ...

        def stop(self) -> None:
            raise RuntimeError("stuck")

    class Fine:
        def start(self) -> None: ...

        def stop(self) -> None:
            ended.append(time.monotonic())

    run._observers += [Stuck(), Fine()]
    assert run.finish("completed")
    assert ended
    problems = [r for r in evidence.read(run.evidence.path) if r.kind == "problem"]
    assert "stuck" in problems[0]["detail"]
