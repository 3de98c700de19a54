"""Observers that look at intervals: what they miss is told, and is no "nothing changed"."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from chaosgrade.clock import Clock
from chaosgrade.evidence import EvidenceLog, Record, read
from chaosgrade.probes import poll
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session
from tests.fake_aws import FakeAws


@pytest.fixture
def session(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    monkeypatch.setattr(poll, "INTERVAL_S", 0.01)
    clock = Clock()
    with EvidenceLog(tmp_path / "evidence.jsonl", clock) as evidence:
        yield Session(FakeAws(), None, random.Random(1), clock, evidence)  # type: ignore[arg-type] # changes nothing


def problem_of(session: Session, look: Callable[[], dict[str, Any]], done: Event) -> Record:
    """The one problem on record when somebody has looked until it is done."""
    assert session.evidence is not None
    observer = Poll(session, "target_health", look)
    observer.start()
    assert done.wait(10)
    observer.stop()
    (found,) = (record for record in read(session.evidence.path) if record.kind == "problem")
    return found


def test_a_look_that_breaks_down_is_a_problem(session: Session) -> None:
    """An answer that nobody has foreseen: whoever stopped looking has not seen that all is well."""
    looks = 0
    broken = Event()

    def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        if looks == 10:
            broken.set()
        if looks > 1:
            raise KeyError("TargetHealthDescriptions")
        return {}

    problem = problem_of(session, look, broken)
    assert problem["source"] == "target_health"
    assert "KeyError: 'TargetHealthDescriptions'" in problem["detail"]


def test_a_look_that_hangs_is_a_problem(session: Session) -> None:
    """While it hung nothing was seen, even if it answers in the end."""
    now = 0.0
    seen_again = Event()
    looks = 0

    def look() -> dict[str, Any]:
        nonlocal looks, now
        looks += 1
        if looks == 2:
            now += 40.0
        if looks == 4:
            seen_again.set()
        return {}

    slow = replace(session, clock=Clock(0.0, 0.0, ticks=lambda: now))
    problem = problem_of(slow, look, seen_again)
    assert problem["detail"] == "it saw nothing for 40.0 s"
