"""SIGKILL at every mutating call of every fault: after `recover`, everything is as before.

Real processes, a real journal, a real watchdog, moto behind a real socket. `make safety` tries
every case; here it is a seeded sample.
"""

import dataclasses
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.changes.journal import Journal
from chaosgrade.changes.recovery import open_runs, recover
from tests.safety.emulator import Emulator, emulator
from tests.safety.figures import FIGURES, WHOLE
from tests.safety.killing import MOMENTS

ROOT = Path(__file__).parents[2]
_TIMEOUT_S = 40.0

CALLS = {
    "black_hole_zone": 6,
    "power_off_zone": 8,
    "deregister_targets": 2,
    "terminate_instances": 1,
}
"""How many mutating calls each fault makes; as many undo it, but for the strike."""


@dataclasses.dataclass(frozen=True)
class Case:
    """Where which process is killed."""

    fault: str
    who: str
    number: int
    moment: str
    victims: str

    @property
    def plan(self) -> str:
        return f"{self.who}:{self.number}:{self.moment}:{self.victims}"

    def __str__(self) -> str:
        return f"{self.fault}-{self.who}-{self.number}-{self.moment}-{self.victims}"


def cases() -> list[Case]:
    """Every case, or the sample."""
    found = []
    for fault, calls in CALLS.items():
        undo = 0 if fault == "terminate_instances" else calls
        # A watchdog that only waits does not care at which moment it dies.
        for number in range(calls + undo):
            found.append(Case(fault, "runner", number, "before", "watchdog"))
        for moment in MOMENTS:
            for number in range(calls + undo):
                for victims in ("runner", "both"):
                    found.append(Case(fault, "runner", number, moment, victims))
            for number in range(undo):
                found.append(Case(fault, "watchdog", number, moment, "watchdog"))
    return found if WHOLE else random.Random(1).sample(found, 9)


@pytest.fixture(scope="module")
def world() -> Iterator[Emulator]:
    with emulator() as world:
        yield world


def started(case: Case | None, fault: str, world: Emulator, folder: Path) -> Any:
    """A runner with its own journal; dies where the case says."""
    environ = {
        **os.environ,
        **world.environ,
        "CHAOSGRADE_STATE_DIR": str(folder),
        "PYTHONPATH": f"{ROOT / 'tests' / 'safety' / 'site'}{os.pathsep}{ROOT}",
    }
    if case is not None:
        environ["KILL_PLAN"] = case.plan
    stay = ["stay"] if case is not None and case.who == "watchdog" else []
    return subprocess.Popen(
        [sys.executable, "-m", "tests.safety.runner", fault, *stay],
        cwd=ROOT,
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def watchdogs(folder: Path) -> list[int]:
    """Watchdogs of this journal that are alive."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
        except OSError:
            continue
        if b"chaosgrade.watchdog" in command and str(folder).encode() in command:
            found.append(int(process.name))
    return found


def until_the_watchdogs_are_done(folder: Path) -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while watchdogs(folder):
        assert time.monotonic() < deadline, "the watchdog does not end"
        time.sleep(0.05)


@pytest.mark.parametrize("case", cases(), ids=str)
def test_whatever_dies_everything_is_as_before(
    case: Case, world: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a second `recover` changes nothing."""
    for name, value in world.environ.items():
        monkeypatch.setenv(name, value)
    account = world.rebuild()
    before = account.state()
    runner = started(case, case.fault, world, tmp_path)
    try:
        _, errors = runner.communicate(timeout=_TIMEOUT_S)
        killed = case.victims in ("runner", "both") or case.who == "watchdog"
        assert runner.returncode == (-signal.SIGKILL if killed else 0), errors
        if case.victims == "runner" or case.who == "watchdog":
            until_the_watchdogs_are_done(tmp_path)
        journal = Journal(tmp_path / "journal.sqlite3")
        FIGURES.tried("kills")
        if comparable(account.state(), case) != comparable(before, case):
            # What is not as before must be on record: nobody may have called it undone.
            assert any(run.entries for run in open_runs(journal)), FIGURES.false("kills")
        for run in open_runs(journal):
            recover(run, journal)
        if comparable(account.state(), case) != comparable(before, case):
            FIGURES.left("kills")
        assert comparable(account.state(), case) == comparable(before, case)
        assert not any(run.entries for run in open_runs(journal))
        writes = world.writes()
        for run in open_runs(journal):
            recover(run, journal)
        assert world.writes() == writes
        journal.close()
    finally:
        runner.kill()
        runner.wait()
        for pid in watchdogs(tmp_path):
            os.kill(pid, signal.SIGKILL)


def comparable(state: dict[str, Any], case: Case) -> dict[str, Any]:
    """What a fault must not leave changed; a terminated instance stays terminated."""
    if case.fault != "terminate_instances":
        return state
    return {key: value for key, value in state.items() if key not in ("instances", "targets")}


@pytest.mark.parametrize("fault", CALLS)
def test_the_cases_reach_every_call(
    fault: str, world: Emulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fault that made more calls than are listed would be killed at too few of them."""
    world.rebuild()
    writes = world.writes()
    runner = started(None, fault, world, tmp_path)
    output, errors = runner.communicate(timeout=_TIMEOUT_S)
    assert output == "made\nundone\n", errors
    undo = 0 if fault == "terminate_instances" else CALLS[fault]
    assert world.writes() - writes == CALLS[fault] + undo
    until_the_watchdogs_are_done(tmp_path)
