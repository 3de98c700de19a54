"""Changes as data: everything that chaosgrade does to AWS is a Setting or a Strike.

A **Setting** is a readable, writable property of one resource, found again from a stable identity.
Undoing it is *compare, then restore*. A **Strike** is a one-way event: it has no undo, says so, and
proves that it happened. Both are frozen dataclasses whose fields are that identity and nothing
else, all JSON values: the journal stores them, and any later process can rebuild them.

Neither decides anything: the engine applies them, the guard counts them, the planner prints them.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

from chaosgrade.aws import Aws, Call
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


@runtime_checkable
class Setting(Protocol):
    """A property of one resource. Implementations are frozen dataclasses of JSON fields."""

    kind: ClassVar[str]
    reads: ClassVar[tuple[str, ...]]
    """IAM actions that `read` needs, such as "elasticloadbalancing:DescribeTargetHealth"."""
    writes: ClassVar[tuple[str, ...]]
    """IAM actions that `calls` needs."""

    @property
    def resource(self) -> Resource:
        """The resource that is touched."""
        ...

    def read(self, aws: Aws) -> Json:
        """The live value.

        Raises:
            ResourceGone: the resource does not exist any more.
            AwsError: it could not be read.
        """
        ...

    def calls(self, aws: Aws, value: Json) -> tuple[Call, ...]:
        """The calls that set `value`; may look up handles that AWS replaces, never writes."""
        ...

    def summary(self, value: Json) -> str:
        """One clause for a person: what setting `value` means."""
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

    def calls(self, aws: Aws) -> tuple[Call, ...]:
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


@dataclass(frozen=True, slots=True)
class Change:
    """A Setting with the value that it is to take, or a Strike (whose `wanted` is None)."""

    subject: Setting | Strike
    wanted: Json = None

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

    def calls(self, aws: Aws) -> tuple[Call, ...]:
        """The calls that make the change."""
        if isinstance(self.subject, Setting):
            return self.subject.calls(aws, self.wanted)
        return self.subject.calls(aws)

    def effect(self, aws: Aws) -> Effect:
        """Whether the change is visible: a Setting is read back, a Strike has its own probe."""
        if isinstance(self.subject, Setting):
            live = self.subject.read(aws)
            return Effect(live == self.wanted, f"reads back as {live!r}")
        return self.subject.effect(aws)


def address(subject: Setting | Strike) -> Mapping[str, Json]:
    """The identity of a subject: its fields, as the journal stores them."""
    return dataclasses.asdict(subject)  # type: ignore[call-overload,no-any-return]  # Protocols of dataclasses cannot say so
