"""Runs that are over, as `score` and `explain` find them again."""

import json
from pathlib import Path

import pytest

from chaosgrade.cli import past
from chaosgrade.errors import UsageError
from chaosgrade.evidence import Record
from tests.synthetic import trial


def write(file: Path, records: list[Record]) -> None:
    file.parent.mkdir(parents=True)
    lines = [json.dumps({"seq": r.seq, "at": r.at, "kind": r.kind, **r.data}) for r in records]
    file.write_text("\n".join(lines) + "\n")


def test_a_run_that_is_named_twice_is_one_run(tmp_path: Path) -> None:
    """Its folder, the folder above, a copy of it: the interval must not shrink."""
    write(tmp_path / "runs/a/evidence.jsonl", trial(number=1))
    write(tmp_path / "runs/b/evidence.jsonl", trial(number=2))
    write(tmp_path / "copy/evidence.jsonl", trial(number=1))
    folders = [str(tmp_path / name) for name in ("runs", "runs/a", "copy")]
    verdicts, _ = past.trials(folders)
    assert sorted(verdict.run for verdict in verdicts) == ["instance-kill-1", "instance-kill-2"]


@pytest.mark.parametrize("line", ["12", "[]", "null", '{"seq": 1}', '{"seq":1,"at":"x","kind":2}'])
def test_damaged_evidence_is_one_line_with_its_file(tmp_path: Path, line: str) -> None:
    """And never a verdict."""
    (tmp_path / "evidence.jsonl").write_text(line + "\n")
    with pytest.raises(UsageError, match=r"evidence\.jsonl is damaged: "):
        past.trials([str(tmp_path)])
