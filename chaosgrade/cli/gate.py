"""What decides the exit code, and how a result is presented."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from chaosgrade.baseline import compare, read_former
from chaosgrade.errors import ChaosgradeError, Exit, UsageError
from chaosgrade.policies.grading import Grading, load_grading
from chaosgrade.report import terminal, write_reports
from chaosgrade.score import exit_code, grade, to_json
from chaosgrade.verdict import TrialVerdict


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides between exit code 0 and 1.

    Args:
        fail_under: the lowest grade that passes; None: any failed objective or finding fails.
        baseline: a `score.json` that must not be credibly undercut.
    """

    fail_under: str | None = None
    baseline: Path | None = None

    def former(self, grading: Grading) -> dict[str, Any] | None:
        """The baseline's document, after a check of both values.

        Raises:
            UsageError: no such grade, or no such document.
        """
        bands = [band.grade for band in grading.bands]
        if self.fail_under is not None and self.fail_under not in bands:
            raise UsageError(
                f"--fail-under must be one of {', '.join(bands)}, got {self.fail_under!r}"
            )
        if self.baseline is None:
            return None
        try:
            document = json.loads(self.baseline.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise UsageError(f"--baseline {self.baseline} is no score.json: {error}") from None
        if not isinstance(document, dict):
            raise UsageError(f"--baseline {self.baseline} is no score.json of chaosgrade")
        read_former(document)  # a damaged one is found before anything is broken
        return document


class NothingBroken(ChaosgradeError):
    """No trial got as far as a change."""

    def __init__(self, message: str, exit_code: Exit) -> None:
        super().__init__(message)
        self.exit_code = exit_code


def present(
    verdicts: Sequence[TrialVerdict],
    folder: Path,
    gate: Gate,
    *,
    as_json: bool,
    write: bool = False,
    halted: bool = False,
) -> Exit:
    """Print the grade of these trials and return the exit code.

    Args:
        verdicts: at least one.
        folder: where their evidence is.
        gate: what decides.
        as_json: one document instead of tables.
        write: put the reports into the folder as well.
        halted: somebody asked to stop, whether or not a trial was left to be told.

    Raises:
        NothingBroken: no trial changed anything: the reason, with its exit code.
        UsageError: the gate makes no sense.
    """
    grading = load_grading()
    former = gate.former(grading)
    score = grade(verdicts, grading)
    if write:
        write_reports(folder, score, verdicts)
    code = exit_code(score, gate.fail_under, grading)
    change = None if former is None else compare(former, score, grading)
    if change is not None and change["worse"] and code in (Exit.HOLDS, Exit.INCONCLUSIVE):
        code = Exit.WEAKNESS
    if change is not None and change["missing"] and code == Exit.HOLDS:
        code = Exit.INCONCLUSIVE  # what was left out this time has not held
    if halted and code != Exit.NOT_UNDONE:
        code = Exit.HALTED
    problem = _why_nothing_began(verdicts)
    if problem is not None and code == Exit.HALTED and problem.exit_code != Exit.NOT_UNDONE:
        problem = None  # what is interrupted may well fail
    if problem is not None:
        code = problem.exit_code
    if as_json:
        document = {**to_json(score), "folder": str(folder), "exit_code": int(code)}
        if change is not None:
            document["comparison"] = change
        print(json.dumps(document, indent=2))
    if problem is not None:
        raise problem
    if not as_json:
        console = terminal.console()
        console.print(terminal.render(score, folder))
        if change is not None:
            console.print(terminal.comparison(change))
    return code


def _why_nothing_began(verdicts: Sequence[TrialVerdict]) -> NothingBroken | None:
    if any(verdict.changes for verdict in verdicts):
        return None
    problems = [problem for verdict in verdicts for problem in verdict.problems]
    if not problems:
        return None
    worst = min(problems, key=lambda problem: problem.exit_code)
    return NothingBroken(worst.detail, Exit(worst.exit_code))
