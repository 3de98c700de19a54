"""Runs trials one after another, each on a target of its own, and presents what they found."""

import contextlib
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from chaosgrade import experiment, trial
from chaosgrade.cli.live import Live
from chaosgrade.cli.target import Interrupted, Target
from chaosgrade.errors import ChaosgradeError, Exit, UsageError
from chaosgrade.experiment import ExperimentFile
from chaosgrade.graded_run import new_folder
from chaosgrade.policies.grading import Grading, load_grading
from chaosgrade.report import terminal, write_reports
from chaosgrade.score import Score, compare, exit_code, grade, to_json
from chaosgrade.trial import Halt, Trial
from chaosgrade.verdict import TrialVerdict, judge


@dataclass(frozen=True, slots=True)
class Campaign:
    """What to run.

    Args:
        name: of the run folder.
        experiments: names or files.
        target: where; a private stage is started afresh for each trial.
        trials: how often each experiment is run.
        seed: of the first trial; later ones count on from it. None draws one.

    Raises:
        UsageError: no trial at all.
    """

    name: str
    experiments: tuple[str, ...]
    target: Target
    trials: int = 1
    seed: int | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise UsageError(f"--trials must be at least 1, got {self.trials}")


@dataclass(frozen=True, slots=True)
class Gate:
    """What decides between exit code 0 and 1.

    Args:
        fail_under: the lowest grade that passes; None: any failed objective fails.
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
        if not isinstance(document, dict) or "experiments" not in document:
            raise UsageError(f"--baseline {self.baseline} is no score.json of chaosgrade")
        return document


def carry_out(campaign: Campaign, gate: Gate, *, as_json: bool) -> int:
    """Run the campaign, write its folder, present the grade; returns the exit code.

    Raises:
        ChaosgradeError: nothing could be run.
    """
    gate.former(load_grading())
    files = [experiment.load(name) for name in campaign.experiments]
    seed = random.randrange(2**31) if campaign.seed is None else campaign.seed
    folder = new_folder(campaign.name)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"{folder} cannot be created: {error.strerror}") from None
    alone = len(files) * campaign.trials == 1
    verdicts: list[TrialVerdict] = []
    with Halt().on_signals() as halt, Live(files, campaign.trials) as live:
        for number in range(1, campaign.trials + 1):
            for file in files:
                if halt.requested:
                    break
                place = folder if alone else folder / f"{file.name}-{number}"
                one = Trial(file.name, file.path, place, number, seed + number - 1)
                live.begin(file.name, number)
                with contextlib.suppress(Interrupted):
                    verdicts += _run(one, campaign.target, halt, live)
    if not verdicts:
        with contextlib.suppress(OSError):
            folder.rmdir()
        raise Interrupted("stopped before anything was changed")
    code = present(verdicts, folder, gate, as_json=as_json, write=True)
    return int(Exit.HALTED) if halt.requested and code != Exit.NOT_UNDONE else code


def _run(one: Trial, target: Target, halt: Halt, live: Live) -> list[TrialVerdict]:
    with target.reached(halt):
        records = trial.run(one, halt, live.watch)
    verdict = [judge(records)] if records else []
    live.end(verdict)
    return verdict


def present(
    verdicts: Sequence[TrialVerdict],
    folder: Path,
    gate: Gate,
    *,
    as_json: bool,
    write: bool = False,
) -> int:
    """Print the grade of these trials and return the exit code.

    Args:
        verdicts: at least one.
        folder: where their evidence is.
        gate: what decides.
        as_json: one document instead of tables.
        write: put the reports into the folder as well.

    Raises:
        ChaosgradeError: no trial got as far as a change: the reason, with its exit code.
    """
    grading = load_grading()
    former = gate.former(grading)
    score = grade(verdicts, grading)
    if write:
        write_reports(folder, score, verdicts)
    code, comparison = _decide(score, gate, former)
    if as_json:
        document = {**to_json(score), "folder": str(folder), "exit_code": code}
        if comparison is not None:
            document["comparison"] = comparison
        print(json.dumps(document, indent=2))
        return code
    _raise_when_nothing_began(verdicts)
    Console().print(terminal.render(score, verdicts, folder))
    for line in terminal.comparison_lines(comparison):
        print(line)
    _say_problems(verdicts)
    return code
