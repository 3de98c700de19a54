"""What an action or probe works with: AWS, an executor for changes, a source of randomness.

Chaos Toolkit hands activities nothing but their arguments, so the run that they belong to is found
here: the control `chaosgrade.control` activates it, `chaosgrade plan` activates a planner, and an
activity used outside both gets an engine of its own, journalled like any other.
"""

import os
import random
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from chaoslib.exceptions import ActivityFailed, InterruptExecution

from chaosgrade import watchdog
from chaosgrade.aws import Aws
from chaosgrade.changes import guard
from chaosgrade.changes.engine import Applied, Engine, Executor
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Change
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import EvidenceLog
from chaosgrade.stopping import StopRequest


@dataclass(frozen=True, slots=True)
class Session:
    """Everything that one activity may use.

    Args:
        aws: the account and Region.
        executor: takes changes.
        random: seeded choice among equal targets.
        clock: the run's time.
        evidence: the run's records; None outside a graded run.
        window_s: how long the run observes after the fault, in AWS seconds.
        stop: whether somebody has asked the run to stop.
    """

    aws: Aws
    executor: Executor
    random: random.Random
    clock: Clock
    evidence: EvidenceLog | None = None
    window_s: float = 300.0
    stop: StopRequest = field(default_factory=StopRequest)


_active: Session | None = None


def activate(session: Session | None) -> None:
    """Make `session` the one that activities find; None ends that."""
    global _active  # noqa: PLW0603 - Chaos Toolkit runs one experiment per process
    _active = session


@lru_cache(maxsize=8)
def connect(region: str | None, profile: str | None, endpoint_url: str | None) -> Aws:
    """One `Aws` for each (Region, profile, endpoint) of this process."""
    return Aws(region=region, profile=profile, endpoint_url=endpoint_url)


def aws_of(configuration: Mapping[str, Any] | None) -> Aws:
    """The AWS that a Chaos Toolkit configuration names, by chaostoolkit-aws's keys."""
    configuration = configuration or {}
    return connect(
        configuration.get("aws_region"),
        configuration.get("aws_profile_name"),
        os.environ.get("AWS_ENDPOINT_URL"),
    )


@contextmanager
def activity(configuration: Mapping[str, Any] | None = None) -> Iterator[Session]:
    """The session of the activity in the `with` block.

    Our errors become Chaos Toolkit's. In a graded run a failed activity also becomes a `problem`
    in the evidence and ends the run: observing a fault that was not injected proves nothing.
    """
    session = _active
    try:
        yield session if session is not None else _own_session(configuration)
    except ChaosgradeError as error:
        if session is not None and session.evidence is not None:
            session.evidence.append(
                "problem", source="activity", detail=str(error), exit_code=int(error.exit_code)
            )
            raise InterruptExecution(str(error)) from error
        raise ActivityFailed(str(error)) from error


def _own_session(configuration: Mapping[str, Any] | None) -> Session:
    aws = aws_of(configuration)
    clock = Clock()
    return Session(aws, _Standalone(aws, clock), random.Random(), clock)


class _Standalone:
    """The executor of an activity outside any run: journalled like any other."""

    started_at: float | None = None

    def __init__(self, aws: Aws, clock: Clock) -> None:
        self._aws = aws
        self._clock = clock

    def apply(self, changes: Sequence[Change]) -> list[Applied]:
        run = f"activity-{uuid.uuid4().hex[:12]}"
        environment = self._aws.environment
        guard.check(changes, environment)
        journal = Journal()
        self.started_at = self._clock.now()
        journal.open_run(
            run,
            experiment="(no experiment)",
            environment=environment,
            endpoint=self._aws.endpoint_url,
            started=self.started_at,
        )
        watchdog.start(run, journal.path)
        return Engine(self._aws, environment, journal, run, self._clock).apply(changes)
