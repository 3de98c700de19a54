"""Evidence: append-only, readable after a crash."""

from pathlib import Path

import pytest

from chaosgrade import evidence
from chaosgrade.clock import Clock
from chaosgrade.evidence import EvidenceError, EvidenceLog


def test_records_come_back_as_they_were_written(tmp_path: Path) -> None:
    """Order, time and fields survive the file."""
    path = tmp_path / "run" / "evidence.jsonl"
    with EvidenceLog(path, Clock()) as log:
        log.append("a", x=1)
        log.append("b", at=12.5, y={"z": [1, None]})
    first, second = evidence.read(path)
    assert (first.seq, first.kind, first["x"]) == (0, "a", 1)
    assert (second.seq, second.at, second["y"]) == (1, 12.5, {"z": [1, None]})


def test_existing_evidence_is_never_overwritten(tmp_path: Path) -> None:
    """A second run in the same folder would mix two truths."""
    path = tmp_path / "evidence.jsonl"
    path.write_text("{}\n")
    with pytest.raises(EvidenceError, match="File exists"):
        EvidenceLog(path, Clock())


@pytest.mark.parametrize("torn", ["", '{"seq": 2, "at": 3.', "garbage"])
def test_a_dead_writers_file_is_read_and_resumed(tmp_path: Path, torn: str) -> None:
    """A torn last line is skipped by readers and cut off by whoever goes on writing."""
    path = tmp_path / "evidence.jsonl"
    with EvidenceLog(path, Clock()) as log:
        log.append("a")
        log.append("b")
    with path.open("a") as file:
        file.write(torn)
    assert [r.kind for r in evidence.read(path)] == ["a", "b"]
    with EvidenceLog(path, Clock(), resume=True) as log:
        log.append("c")
    assert [(r.seq, r.kind) for r in evidence.read(path)] == [(0, "a"), (1, "b"), (2, "c")]


def test_time_never_jumps_within_a_run() -> None:
    """Wall time is read once; afterwards only the monotonic clock counts."""
    ticks = iter([100.0, 100.25])
    clock = Clock(wall=5000.0, monotonic=99.0, ticks=lambda: next(ticks))
    assert [clock.now(), clock.now()] == [5001.0, 5001.25]
