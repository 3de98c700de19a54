"""One graded trial of an experiment, from its first observation to its last undo.

Chaos Toolkit runs the method; this owns everything around it: observers, evidence, the changes and
their undo. The control calls it at the right moments, whether `chaosgrade run` started Chaos
Toolkit or a person did.
"""

import contextlib
import os
import random
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chaoslib.exceptions import InterruptExecution

from chaosgrade import session
from chaosgrade.changes.engine import EFFECT_TIMEOUT_S
from chaosgrade.changes.journal import State
from chaosgrade.changing import Changing
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError, Exit, UsageError, in_words
from chaosgrade.evidence import EvidenceError, EvidenceLog
from chaosgrade.policies.objectives import Extension, parse_extension
from chaosgrade.policies.safety import load_safety
from chaosgrade.probes import observers
from chaosgrade.recent_traffic import RecentTraffic
from chaosgrade.stop_conditions import StopConditions
from chaosgrade.stopping import StopRequest

BASELINE_S = 60.0
"""How long customers' normal experience is measured before the fault, in AWS seconds."""

LEASE_MARGIN_S = 120.0
"""How much longer than its window a change may stay, in measured seconds, before the watchdog
undoes it under the feet of a run that hangs."""

BASELINE_AT_LEAST_S = 3.0
"""The same in measured seconds, so that a fast stage still sees enough requests."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a trial writes, and which one it is.

    Args:
        folder: the trial's folder; created.
        experiment: the experiment's name.
        trial: its number, from 1.
        seed: what random choices are drawn from.
        managed: whether `chaosgrade` started Chaos Toolkit and writes the reports itself.
    """

    folder: Path
    experiment: str
    trial: int
    seed: int
    managed: bool

    @classmethod
    def of(cls, experiment: Mapping[str, Any], environ: Mapping[str, str] = os.environ) -> "Place":
        """The place that `chaosgrade run` has prepared, or a new one under `runs/`."""
        # Chaos Toolkit does not tell the file's name; a title such as "name: what happens" does.
        name = environ.get("CHAOSGRADE_EXPERIMENT") or _slug(
            str(experiment["title"]).partition(":")[0]
        )
        seed = environ.get("CHAOSGRADE_SEED")
        folder = environ.get("CHAOSGRADE_RUN_FOLDER")
        return cls(
            folder=Path(folder) if folder else new_folder(name),
            experiment=name,
            trial=int(environ.get("CHAOSGRADE_TRIAL", "1")),
            seed=int(seed) if seed else random.randrange(2**31),
            managed=folder is not None,
        )


def new_folder(name: str, parent: Path = Path("runs")) -> Path:
    """A run folder's path: `runs/<UTC time>-<name>`, with a number behind it if that is taken."""
    stem = f"{datetime.now(UTC):%Y-%m-%dT%H-%M-%SZ}-{name}"
    folder, number = parent / stem, 1
    while folder.exists():
        number += 1
        folder = parent / f"{stem}-{number}"
    return folder


class GradedRun:
    """A trial under way.

    Args:
        experiment: the experiment as Chaos Toolkit loaded it.
        configuration: its resolved configuration.
        stop: whether somebody has asked for an end.

    Raises:
        UsageError: the `chaosgrade` extension or an observer is wrong.
        ChaosgradeError: AWS or the journal cannot be reached.
    """

    def __init__(
        self, experiment: Mapping[str, Any], configuration: Mapping[str, Any], stop: StopRequest
    ) -> None:
        self.stop = stop
        self.place = Place.of(experiment)
        self.id = f"{self.place.experiment}-{uuid.uuid4().hex[:12]}"
        self._clock = Clock()
        self.evidence = EvidenceLog(self.place.folder / "evidence.jsonl", self._clock)
        self._changing: Changing | None = None
        self._stop_conditions: StopConditions | None = None
        self._observers: list[observers.Observer] = []
        self._finished = False
        try:
            self._open(experiment, configuration)
        except Exception as error:  # whatever it is, Chaos Toolkit would go on without a run
            self.problem("start", error)
            self.finish("aborted")
            raise

    def _open(self, experiment: Mapping[str, Any], configuration: Mapping[str, Any]) -> None:
        extension: Extension = parse_extension(experiment)
        observers.check(extension.observers)
        aws = session.aws_of(configuration)
        environment = aws.environment
        self._environment = environment
        self._extension = extension
        self.evidence.append(
            "run.start",
            run=self.id,
            experiment=self.place.experiment,
            title=str(experiment["title"]),
            pattern=extension.pattern,
            pillar=extension.pillar,
            objectives=[dict(objective) for objective in extension.declared],
            window_s=extension.window_s,
            trial=self.place.trial,
            seed=self.place.seed,
            environment=environment.to_json(),
        )
        profile = load_safety()[environment.kind]
        traffic = RecentTraffic(self._clock)
        self.evidence.on_append(traffic.see)
        conditions = StopConditions(profile.stop_conditions, aws, tally=traffic.tally)
        conditions.check()
        self._changing = Changing(
            self.id,
            self.place.experiment,
            aws,
            profile,
            self._clock,
            lease_s=(extension.window_s + EFFECT_TIMEOUT_S) / environment.time_scale
            + LEASE_MARGIN_S,
            evidence=self.evidence,
            stop=self.stop,
        )
        self._stop_conditions = conditions
        self._session = session.Session(
            aws=aws,
            executor=self._changing.engine,
            random=random.Random(self.place.seed),
            clock=self._clock,
            evidence=self.evidence,
            window_s=extension.window_s,
            stop=self.stop,
        )
        session.activate(self._session)

    def observe(self) -> None:
        """Start the observers and let them see the baseline.

        Raises:
            ChaosgradeError: one of them cannot observe.
        """
        try:
            for observer in observers.build(self._session, self._extension.observers):
                self._observers.append(observer)
                observer.start()
        except Exception as error:  # whatever it is, nobody would observe
            self.stop.check()  # what was interrupted has failed by that
            self.problem("observers", error)
            raise
        if self._stop_conditions is not None:
            self._stop_conditions.watch(self.stop)
        self.stop.wait(max(BASELINE_AT_LEAST_S, BASELINE_S / self._environment.time_scale))

    def hypothesis(self, when: str, state: Mapping[str, Any] | None) -> None:
        """Record what Chaos Toolkit found of the steady state, "before", "during" or "after"."""
        if state is None:
            return
        failed = [
            str(probe["activity"]["name"])
            for probe in state.get("probes", [])
            if probe.get("status") != "succeeded" or not probe.get("tolerance_met", True)
        ]
        self.evidence.append(
            "hypothesis",
            when=when,
            met=bool(state.get("steady_state_met")),
            detail=f"not met: {', '.join(failed)}" if failed else "",
        )

    def activity_failed(self, name: str, reason: str) -> None:
        """Record that Chaos Toolkit could not carry out an activity of the method."""
        if not self.stop.requested:  # what was interrupted has failed by that
            self._problem("activity", f"{name} failed: {reason}")

    def problem(self, source: str, error: Exception) -> None:
        """Record that something which should have worked did not."""
        code = error.exit_code if isinstance(error, ChaosgradeError) else Exit.INCONCLUSIVE
        self._problem(source, in_words(error), code)

    def finish(self, status: str) -> bool:
        """Stop observing, undo, close the evidence; whether everything is as it was.

        Args:
            status: "completed" or "aborted"; one that was told to stop is "halted".
        """
        if self._finished:
            return True
        self._finished = True
        session.activate(None)
        if self._stop_conditions is not None:
            self._stop_conditions.cease()
        # Undo before waiting for observers: what is broken must not wait for what watches it.
        clean = self._undo()
        self._watch_aftermath()
        if self._stop_conditions is not None:
            self._stop_conditions.close()
        for observer in self._observers:
            try:
                observer.stop()
            except Exception as error:  # one that cannot end must not keep the others from it
                self.problem("observers", error)
        if self.stop.requested:
            status = "halted"
        self.evidence.tell("run.end", status=status, undone=clean, reason=self.stop.reason)
        with contextlib.suppress(EvidenceError):
            self.evidence.close()
        if self._changing is not None:
            self._changing.close(clean=clean)
        return clean

    def _watch_aftermath(self) -> None:
        """Let observers see how the system takes the undo, if the experiment asks for it."""
        after_s = self._extension.after_s if self._changing is not None else 0.0
        if not after_s or self.stop.requested:
            return
        self.evidence.tell("aftermath.start", after_s=after_s)
        with contextlib.suppress(InterruptExecution):  # somebody does not want to wait
            self.stop.wait(after_s / self._environment.time_scale)

    def _undo(self) -> bool:
        """Undo; whether it is certain that everything is as it was."""
        if self._changing is None:
            return True
        try:
            self.evidence.tell("undo.start")
            results = self._changing.engine.undo()
            return all(result.state != State.UNREVERTED for result in results)
        except Exception as error:  # the journal, the disk: whatever it is, nothing is certain
            self.problem("undo", error)
            return False

    def _problem(self, source: str, detail: str, code: Exit = Exit.INCONCLUSIVE) -> None:
        self.evidence.tell("problem", source=source, detail=detail, exit_code=int(code))


def _slug(title: str) -> str:
    words = re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")
    if not words:
        raise UsageError(f"the experiment's title {title!r} holds no letter or digit")
    return words[:60].rstrip("-")
