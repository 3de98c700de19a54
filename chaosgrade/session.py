"""What an action or probe works with: AWS, an executor for changes, a source of randomness.

Chaos Toolkit hands activities nothing but their arguments, so the run that they belong to is found
here: the control `chaosgrade.control` activates it, `chaosgrade plan` activates a planner, and an
activity used outside both gets an engine of its own, journalled like any other.
"""

import os
import random
import threading
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from chaoslib.exceptions import ActivityFailed, InterruptExecution

from chaosgrade.aws import ROLE_SESSION, Aws
from chaosgrade.changes.engine import Applied, Engine, Executor
from chaosgrade.changes.model import Change
from chaosgrade.changes.undo import Undone
from chaosgrade.changing import Changing
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import EvidenceLog
from chaosgrade.policies.safety import load_safety
from chaosgrade.stopping import StopRequest

STANDALONE_LEASE_S = 3600.0
"""How long changes made outside any graded run may stay, unless the rules want it shorter."""


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


_connecting = threading.Lock()
_connected: dict[tuple[str | None, ...], Aws] = {}


def connect(
    region: str | None,
    profile: str | None,
    endpoint_url: str | None,
    role_arn: str | None = None,
    role_session_name: str = ROLE_SESSION,
) -> Aws:
    """One `Aws` for each place and identity of this process; the arguments are those of `Aws`.

    Raises:
        UsageError: as `Aws`.
    """
    key = (region, profile, endpoint_url, role_arn, role_session_name)
    with _connecting:
        if key not in _connected:
            _connected[key] = Aws(
                region=region,
                profile=profile,
                endpoint_url=endpoint_url,
                role_arn=role_arn,
                role_session_name=role_session_name,
            )
        return _connected[key]


def aws_of(configuration: Mapping[str, Any] | None) -> Aws:
    """The AWS that a Chaos Toolkit configuration names, by chaostoolkit-aws's keys.

    Those are `aws_region`, `aws_profile_name`, `aws_assume_role_arn` and
    `aws_assume_role_session_name`; one that is empty counts as absent.
    Source: https://chaostoolkit.org/drivers/aws/#other-aws-settings

    Raises:
        UsageError: as `Aws`.
    """
    configuration = configuration or {}
    return connect(
        configuration.get("aws_region") or None,
        configuration.get("aws_profile_name") or None,
        os.environ.get("AWS_ENDPOINT_URL"),
        configuration.get("aws_assume_role_arn") or None,
        configuration.get("aws_assume_role_session_name") or ROLE_SESSION,
    )


@contextmanager
def activity(configuration: Mapping[str, Any] | None = None) -> Iterator[Session]:
    """The session of the activity in the `with` block, and its errors as `reported` has them."""
    with reported() as session:
        yield session if session is not None else _own_session(configuration)


@contextmanager
def reported() -> Iterator[Session | None]:
    """The session of the graded run that the activity in the `with` block is part of, if any.

    Our errors become Chaos Toolkit's. In a graded run a failed activity also becomes a `problem`
    in the evidence and ends the run: observing a fault that was not injected proves nothing.
    """
    session = _active
    try:
        yield session
    except ChaosgradeError as error:
        if session is not None:
            session.stop.check()  # what was interrupted has failed by that, and is no problem
        if session is not None and session.evidence is not None:
            session.evidence.tell(  # the run ends all the same
                "problem", source="activity", detail=str(error), exit_code=int(error.exit_code)
            )
            raise InterruptExecution(str(error)) from error
        raise ActivityFailed(str(error)) from error


def _own_session(configuration: Mapping[str, Any] | None) -> Session:
    aws = aws_of(configuration)
    return Session(aws, _Standalone(aws), random.Random(), Clock())


_open: dict[Aws, Changing] = {}


class _Standalone:
    """The executor of activities outside any run: those of one process and place are one run.

    It is opened by the first change, and undone by its watchdog when the process ends.
    """

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    @property
    def run(self) -> str:
        return self._engine.run

    @property
    def started_at(self) -> float | None:
        return self._engine.started_at

    @property
    def lease_until(self) -> float:
        return self._engine.lease_until

    def apply(self, *waves: Sequence[Change]) -> list[Applied]:
        return self._engine.apply(*waves)

    @property
    def _engine(self) -> Engine:
        if self._aws not in _open:
            profile = load_safety()[self._aws.environment.kind]
            _open[self._aws] = Changing(
                f"activity-{uuid.uuid4().hex[:12]}",
                "(no experiment)",
                self._aws,
                profile,
                Clock(),
                lease_s=min(STANDALONE_LEASE_S, profile.max_lease_s or STANDALONE_LEASE_S),
            )
        return _open[self._aws].engine


def undo_standalone() -> list[Undone]:
    """Undo what activities outside any run have changed, as the end of the process would."""
    return [undone for changing in _open.values() for undone in changing.engine.undo()]
