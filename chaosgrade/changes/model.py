"""Changes as data: everything that chaosgrade does to AWS is a Setting or a Strike.

A **Setting** is a readable, writable property of one resource, found again from a stable identity.
Undoing it is *compare, then restore*. A **Strike** is a one-way event: it has no undo, says so, and
proves that it happened. Both are frozen dataclasses whose fields are that identity and nothing
else, all JSON values: the journal stores them, and any later process can rebuild them.

Neither decides anything: the engine applies them, the guard counts them, the planner prints them.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, Self, runtime_checkable

from chaosgrade.aws import Aws, Call
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import Json


@dataclass(frozen=True, slots=True)
class Effect:
    """Whether a change is visible in the world, and by which observation."""

    proven: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Resource:
    """What a change touches, as the blast radius counts it.

    Args:
        kind: the resource type, such as "ec2:instance".
        id: its id.
        zone: its Availability Zone; None when it has none.
    """

    kind: str
    id: str
    zone: str | None = None


@dataclass(frozen=True, slots=True)
class Live:
    """What a setting is at this moment.

    Args:
        value: comparable to what was written.
        handles: names that AWS gives anew with each change and that the next call needs, such as
            the id of an association.
        settled: False while AWS is still on its way to `value`.
    """

    value: Json
    handles: Mapping[str, str] = field(default_factory=dict)
    settled: bool = True


type Reading = Live | ChaosgradeError
"""What a setting is, or why that is not known; `ResourceGone` when it does not exist any more."""


@runtime_checkable
class Setting(Protocol):
    """A property of one resource. Implementations are frozen dataclasses of JSON fields."""

    kind: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    """IAM actions that `read_all` needs, such as "elasticloadbalancing:DescribeTargetHealth"."""
    writes: ClassVar[tuple[str, ...]]
    """IAM actions that `calls` needs, forward and back."""

    @property
    def resource(self) -> Resource:
        """The resource that is touched."""
        ...

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        """The live values of many settings, in as few calls as the API allows.

        A setting that is missing from the answer is gone.

        Raises:
            AwsError: none of them could be read.
        """
        ...

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        """The calls that set `value` where `live` is. Makes none itself.

        Without the handles that it needs, `live` gives calls with a `Lookup`: for a person.
        """
        ...

    def summary(self, value: Json) -> str:
        """One clause for a person: what setting `value` means."""
        ...


@runtime_checkable
class Divisible(Protocol):
    """A Setting whose value has parts, so that others may change some and leave us the rest."""

    def without_ours(self, before: Json, wanted: Json, now: Json) -> Json:
        """The value `now` with what we have changed, from `before` to `wanted`, put back."""
        ...


@runtime_checkable
class Strike(Protocol):
    """A one-way event on one resource. Implementations are frozen dataclasses of JSON fields."""

    kind: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    writes: ClassVar[tuple[str, ...]]

    @property
    def resource(self) -> Resource:
        """The resource that is struck."""
        ...

    def calls(self) -> tuple[Call, ...]:
        """The calls that strike."""
        ...

    def effect(self, aws: Aws) -> Effect:
        """Look whether it has happened.

        Raises:
            AwsError: it could not be looked at.
        """
        ...

    def summary(self) -> str:
        """One clause for a person: what happens."""
        ...


@runtime_checkable
class Lasting(Protocol):
    """A Strike that a process of this machine carries out for a while, and not AWS by itself.

    The process must end by itself in bounded time, and when this one dies, however that happens.
    """

    def begin(self, aws: Aws, clock: Clock) -> None:
        """Start the process.

        Raises:
            ChaosgradeError: it does not work.
        """
        ...

    def end(self) -> str:
        """Stop it, if it is under way; why it had stopped before its time, "" if it had not."""
        ...

    def by_hand(self) -> str:
        """A shell command with which a person does the same."""
        ...


@dataclass(frozen=True, slots=True)
class Change:
    """A Setting with the value that it is to take, or a Strike (whose `wanted` is None).

    Args:
        subject: what is changed.
        wanted: the value that a Setting is to take.
        presumed: the value that it has before, for a plan that may not look: some settings can
            only be read with calls that are no mere reads.
    """

    subject: Setting | Strike
    wanted: Json = None
    presumed: Json = None

    @property
    def reversible(self) -> bool:
        """Whether there is an undo."""
        return isinstance(self.subject, Setting)

    @property
    def summary(self) -> str:
        """One clause for a person."""
        if isinstance(self.subject, Setting):
            return self.subject.summary(self.wanted)
        return self.subject.summary()

    def calls(self, live: Live) -> tuple[Call, ...]:
        """The calls that make the change where `live` is; a Strike does not ask."""
        if isinstance(self.subject, Setting):
            return self.subject.calls(self.wanted, live)
        return self.subject.calls()


def address(subject: Setting | Strike) -> Mapping[str, Json]:
    """The identity of a subject: its fields, as the journal stores them."""
    return dataclasses.asdict(subject)  # type: ignore[call-overload,no-any-return]  # Protocols of dataclasses cannot say so
