"""One trial from opening to undo, where things go wrong in between."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from chaoslib.exceptions import InterruptExecution

from chaosgrade import control, evidence, graded_run, session
from chaosgrade.changes import registry
from chaosgrade.changes.model import Change
from chaosgrade.errors import AwsError
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
    return run._changing._watchdog.process


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


def test_a_run_is_undone_and_closed_though_its_evidence_cannot_be_written(
    run: GradedRun, aws: FakeAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk must not leave a fault until the process ends; the place is given back, too."""
    with session.activity() as active:
        active.executor.apply([Change(Dial("a"), 2)])
    monkeypatch.setattr(run.evidence, "_file", open("/dev/full", "w"))  # noqa: SIM115 - as by the run
    with pytest.raises(InterruptExecution, match="No space left"), session.activity() as active:
        active.executor.apply([Change(Dial("a"), 3)])
    assert run.finish("completed")
    assert aws.dials == {"a": 1}
    assert watchdog(run).poll() is not None


@pytest.mark.parametrize("fails", ["the folder", "something"])
def test_an_experiment_whose_run_cannot_be_opened_does_not_go_on(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fails: str
) -> None:
    """Chaos Toolkit would break things with nobody to observe, stop or undo before the end."""
    monkeypatch.delenv("CHAOSGRADE_PARENT", raising=False)
    if fails == "the folder":
        (tmp_path / "run").write_text("in the way")
    else:
        monkeypatch.setattr(session, "aws_of", lambda configuration: {}["region"])
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    try:
        with pytest.raises(InterruptExecution, match=r"cannot be written|KeyError: 'region'"):
            control.before_experiment_control(document)
    finally:
        control.cleanup_control()


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


def test_what_nobody_has_foreseen_ends_a_run_before_its_fault(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Chaos Toolkit would swallow it, and break things that nobody observes."""

    def fail(*_: object) -> None:
        raise KeyError("Listeners")

    monkeypatch.setattr(graded_run.observers, "build", fail)
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    try:
        control.before_experiment_control(document)
        with pytest.raises(InterruptExecution, match="KeyError: 'Listeners'"):
            control.before_method_control(document)
    finally:
        control.cleanup_control()
    kinds = [record.kind for record in evidence.read(tmp_path / "run/evidence.jsonl")]
    assert kinds == ["run.start", "problem", "undo.start", "run.end"]


def test_an_activity_that_fails_proves_nothing(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half a fault is none, whoever's action it was; a probe of the steady state may fail."""
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    monkeypatch.setattr(graded_run.observers, "build", lambda *_: [])
    monkeypatch.setattr(graded_run, "BASELINE_AT_LEAST_S", 0.0)
    monkeypatch.setattr(graded_run, "BASELINE_S", 0.0)
    failed = {"status": "failed", "exception": ["chaoslib.ActivityFailed: no such role\n"]}
    probe = document["steady-state-hypothesis"]["probes"][0]
    try:
        control.before_experiment_control(document)
        control.after_activity_control(probe, state=failed, experiment=document)
        control.before_method_control(document)
        for activity in document["method"]:
            control.before_activity_control(activity)
            control.after_activity_control(activity, state=failed, experiment=document)
    finally:
        control.cleanup_control()
    problems = [r for r in evidence.read(tmp_path / "run/evidence.jsonl") if r.kind == "problem"]
    assert [problem["detail"] for problem in problems] == [
        f"{activity['name']} failed: chaoslib.ActivityFailed: no such role"
        for activity in document["method"]
    ]


def test_observers_see_what_comes_after_the_undo(run: GradedRun, aws: FakeAws) -> None:
    """For as long as the experiment says, in AWS time, unless somebody wants it to end."""
    run._extension = replace(run._extension, after_s=aws.environment.time_scale / 5)
    ended: list[tuple[float, dict[str, Any]]] = []

    class Fine:
        def start(self) -> None: ...

        def stop(self) -> None:
            ended.append((time.time(), dict(aws.dials)))

    run._observers.append(Fine())
    with session.activity() as active:
        active.executor.apply([Change(Dial("a"), 2)])
    assert run.finish("completed")
    undone = next(r for r in evidence.read(run.evidence.path) if r.kind == "change.undone")
    ((at, dials),) = ended
    assert dials == {"a": 1}
    assert at - undone.at >= 0.2


def test_a_stop_in_the_midst_of_the_undo_is_a_stop(run: GradedRun, aws: FakeAws) -> None:
    """Whoever asked for it is told 4, and not what the grade would be."""
    with session.activity() as active:
        active.executor.apply([Change(Dial("a"), 2)])
    aws.before_send = lambda call: run.stop.request("SIGTERM received")
    assert run.finish("completed")
    assert aws.dials == {"a": 1}
    assert _end(run) == {"status": "halted", "undone": True, "reason": "SIGTERM received"}


def test_what_fails_because_it_was_interrupted_is_no_problem(run: GradedRun) -> None:
    """The SDK turns whatever is raised within it into an error of its own."""

    def interrupted() -> None:
        with session.activity():
            run.stop.request("SIGTERM received")
            raise AwsError("the call failed", code="HTTPClientError")

    with pytest.raises(InterruptExecution, match="SIGTERM"):
        interrupted()
    run.finish("aborted")
    kinds = [record.kind for record in evidence.read(run.evidence.path)]
    assert kinds == ["run.start", "undo.start", "run.end"]


def test_a_run_that_is_told_to_stop_while_it_opens_is_opened_and_undone(
    aws: FakeAws, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Half open, nobody would close it: it would look as if Chaos Toolkit had died."""
    monkeypatch.delenv("CHAOSGRADE_PARENT", raising=False)

    def aws_of(configuration: object) -> FakeAws:
        os.kill(os.getpid(), signal.SIGTERM)
        return aws

    monkeypatch.setattr(session, "aws_of", aws_of)
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    journal: dict[str, Any] = {"status": "interrupted"}
    try:
        with pytest.raises(InterruptExecution, match="SIGTERM"):
            control.before_experiment_control(document)
        control.after_experiment_control(document, journal)
    finally:
        control.cleanup_control()
    assert journal["chaosgrade"]["statuses"] == {"halted": 1}
    (end,) = [r for r in evidence.read(tmp_path / "run/evidence.jsonl") if r.kind == "run.end"]
    assert (end["undone"], end["reason"]) == (True, "SIGTERM received")
