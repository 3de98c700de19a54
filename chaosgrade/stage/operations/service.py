"""What the stage does with an operation of AWS's API, and how that is written down."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum


class Kind(StrEnum):
    """How true an operation is on the stage."""

    REAL = "real"
    """It acts on processes, connections, packets or servers, or tells what was measured there."""
    EMULATED = "emulated"
    """The stage's own code follows AWS's rules; what it decides happens for real."""
    STORED = "stored only"
    """It is kept and can be read back; nothing of the stage follows from it."""
    UNSUPPORTED = "unsupported"
    """It fails with `NotImplemented`."""


@dataclass(frozen=True, slots=True)
class Operation:
    """What the stage does with one operation.

    Args:
        text: what happens, or why nothing does; Markdown, for the documentation.
    """

    kind: Kind
    text: str = ""


class NotPlayed(NotImplementedError):
    """An operation is played, but not with what a call asks for; the message says with what."""


def real(text: str) -> Operation:
    """An operation that is `Kind.REAL`."""
    return Operation(Kind.REAL, text)


def emulated(text: str) -> Operation:
    """An operation that is `Kind.EMULATED`."""
    return Operation(Kind.EMULATED, text)


def each(text: Operation, names: str) -> dict[str, Operation]:
    """The same of several operations, whose names are separated by blanks."""
    return dict.fromkeys(names.split(), text)


def because(reason: str, names: str) -> dict[str, str]:
    """One reason for refusing several operations, whose names are separated by blanks."""
    return dict.fromkeys(names.split(), reason)


@dataclass(frozen=True, slots=True)
class Service:
    """A service of AWS and all that the stage knows of it; what is not here is unsupported.

    Args:
        name: as boto3 has it.
        title: for people.
        signing_name: the name that requests are signed for.
        played: {operation: what happens}.
        refused: {operation: why}: those that moto would keep without consequences, or whose absence
            somebody may wonder about. The reason goes on from "the stage does not play X: ".
        stored: operations that moto keeps, separated by blanks.
    """

    name: str
    title: str
    signing_name: str
    played: Mapping[str, Operation] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    stored: str = ""

    def __post_init__(self) -> None:
        names = [*self.played, *self.refused, *self.stored.split()]
        if doubled := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"{self.name}: {', '.join(sorted(doubled))} is there more than once")

    @property
    def operations(self) -> dict[str, Operation]:
        """Every operation that is not merely unknown."""
        return {
            **self.played,
            **{name: Operation(Kind.UNSUPPORTED, why) for name, why in self.refused.items()},
            **dict.fromkeys(self.stored.split(), Operation(Kind.STORED)),
        }
