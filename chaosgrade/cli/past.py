"""Runs that are over: their trials, judged anew from the evidence."""

import json
from collections.abc import Sequence
from pathlib import Path

from rich.text import Text

from chaosgrade import evidence
from chaosgrade.errors import UsageError
from chaosgrade.policies.grading import load_grading
from chaosgrade.report import terminal
from chaosgrade.report.wording import grade_lines
from chaosgrade.score import grade, to_json
from chaosgrade.verdict import TrialVerdict, judge

_RUNS = Path("runs")


def trials(runs: Sequence[str]) -> tuple[list[TrialVerdict], Path]:
    """The trials under these run folders, each once, and the folder to name for them.

    Args:
        runs: folders; none means the latest under `runs/`.

    Raises:
        UsageError: a folder that does not exist or holds no evidence.
    """
    folders = [Path(run) for run in runs] or [_latest()]
    verdicts: dict[str, TrialVerdict] = {}
    for folder in folders:
        if not folder.is_dir():
            raise UsageError(f"there is no run folder {folder}")
        files = sorted(folder.rglob("evidence.jsonl"))
        if not files:
            raise UsageError(f"{folder} holds no evidence.jsonl: it is no run folder")
        for file in files:
            verdict = _judged(file)
            verdicts[verdict.run or str(file.resolve())] = verdict
    return list(verdicts.values()), folders[-1]


def explain(verdicts: Sequence[TrialVerdict], *, as_json: bool) -> None:
    """Print each lost point of these trials, worst first."""
    score = grade(verdicts, load_grading())
    if as_json:
        document = to_json(score)
        kept = ("score", "grade", "coverage", "caps", "lost")
        print(json.dumps({key: document[key] for key in kept}, indent=2))
        return
    console = terminal.console()
    for line in grade_lines(score):
        console.print(Text(line))
    console.print(terminal.lost_points(score) if score.lost else Text("No point was lost."))
    for experiment in score.experiments:
        for reason in experiment.invalid:
            console.print(Text(f"{experiment.experiment}: nothing is concluded: {reason}"))


def _latest() -> Path:
    folders = sorted(
        (f for f in _RUNS.glob("*") if f.is_dir()), key=lambda folder: folder.stat().st_mtime
    )
    if not folders:
        raise UsageError(
            f"there is no run under {_RUNS.absolute()}; make one with: chaosgrade gameday"
        )
    return folders[-1]


def _judged(file: Path) -> TrialVerdict:
    try:
        return judge(evidence.read(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {type(error).__name__}: {error}") from None
