"""Runs trials one after another, each on a target of its own."""

import contextlib
import random
from dataclasses import dataclass

from chaosgrade import experiment, trial
from chaosgrade.cli import leftovers
from chaosgrade.cli.gate import Gate, present
from chaosgrade.cli.live import Live
from chaosgrade.cli.target import Interrupted, Target
from chaosgrade.errors import Exit, UsageError
from chaosgrade.graded_run import new_folder
from chaosgrade.policies.grading import load_grading
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


def carry_out(campaign: Campaign, gate: Gate, *, as_json: bool) -> Exit:
    """Run the campaign, write its folder, present the grade; returns the exit code.

    Raises:
        ChaosgradeError: nothing could be run.
    """
    gate.former(load_grading())  # a wrong gate is found before anything is broken
    files = [experiment.load(name) for name in campaign.experiments]
    seed = random.randrange(2**31) if campaign.seed is None else campaign.seed
    folder = new_folder(campaign.name)
    try:
        folder.mkdir(parents=True)
    except OSError as error:
        raise UsageError(f"run folder {folder} cannot be created: {error.strerror}") from None
    alone = len(files) * campaign.trials == 1
    verdicts: list[TrialVerdict] = []
    with Halt().on_signals() as halt:
        try:
            with Live(files, campaign.trials) as live:
                for number in range(1, campaign.trials + 1):
                    for file in files:
                        if halt.requested or any(v.status == "halted" for v in verdicts):
                            break
                        place = folder if alone else folder / f"{file.name}-{number}"
                        live.begin(file.name, number)
                        one = Trial(file.name, file.path, place, number, seed + number - 1)
                        with (
                            contextlib.suppress(Interrupted),
                            campaign.target.of(file).reached(halt),
                        ):
                            records = trial.run(one, halt, live.watch)
                            if records:
                                verdicts.append(judge(records))
                                live.end(verdicts[-1])
        finally:
            if not verdicts:
                with contextlib.suppress(OSError):
                    folder.rmdir()
        if not verdicts:
            raise Interrupted("stopped before anything was changed")
        code = present(verdicts, folder, gate, as_json=as_json, write=True, halted=halt.requested)
        if code == Exit.NOT_UNDONE:
            leftovers.say_what_is_left()
    return code
