"""Observers that look at intervals: what they miss is told, and is no "nothing changed"."""

import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
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


def problems(session: Session) -> list[Record]:
    assert session.evidence is not None
    return [record for record in read(session.evidence.path) if record.kind == "problem"]


def test_a_look_that_breaks_down_is_a_problem(session: Session) -> None:
    """An answer that nobody has foreseen: whoever stopped looking has not seen that all is well."""
    looks = 0
    broken = threading.Event()

    def look() -> dict[str, Any]:
        nonlocal looks
        looks += 1
        if looks == 10:
            broken.set()
        if looks > 1:
            raise KeyError("TargetHealthDescriptions")
        return {}

    observer = Poll(session, "target_health", look)
    observer.start()
    assert broken.wait(10)
    observer.stop()
    (problem,) = problems(session)
    assert problem["source"] == "target_health"
    assert "KeyError: 'TargetHealthDescriptions'" in problem["detail"]


def test_a_look_that_hangs_is_a_problem(session: Session) -> None:
    """While it hung nothing was seen, even if it answers in the end."""
    now = 0.0
    seen_again = threading.Event()
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
    observer = Poll(slow, "target_health", look)
    observer.start()
    assert seen_again.wait(10)
    observer.stop()
    (problem,) = problems(session)
    assert problem["detail"] == "it saw nothing for 40.0 s"
