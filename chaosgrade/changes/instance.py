"""Changes of EC2 instances."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.filtering import filtered
from chaosgrade.changes.model import Effect, Live, Reading, Resource
from chaosgrade.evidence import Json

RUNNING, STOPPED = "running", "stopped"


_TOWARDS = {"pending": RUNNING, "running": RUNNING, "stopping": STOPPED, "stopped": STOPPED}
_OVER = ("shutting-down", "terminated")


@dataclass(frozen=True, slots=True)
class InstanceState:
    """Whether an instance runs or is stopped, at once and without asking its operating system.

    Source: Amazon EC2 User Guide, "Stop and start Amazon EC2 instances".
    """

    instance_id: str
    zone: str

    kind: ClassVar[str] = "ec2:instance-state"
    reads: ClassVar[tuple[str, ...]] = ("ec2:DescribeInstances",)
    writes: ClassVar[tuple[str, ...]] = ("ec2:StartInstances", "ec2:StopInstances")

    @property
    def resource(self) -> Resource:
        return Resource("ec2:instance", self.instance_id, self.zone)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        states = {
            instance["InstanceId"]: instance["State"]["Name"]
            for instance in described(aws, (setting.instance_id for setting in settings))
        }
        return {
            setting: Live(_TOWARDS[state], settled=state in (RUNNING, STOPPED))
            for setting in settings
            if (state := states.get(setting.instance_id, "terminated")) not in _OVER
        }

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        if value == STOPPED:
            # Forced: a host that loses power does not flush its disks.
            return (
                Call("ec2", "StopInstances", {"InstanceIds": [self.instance_id], "Force": True}),
            )
        return (Call("ec2", "StartInstances", {"InstanceIds": [self.instance_id]}),)

    def summary(self, value: Json) -> str:
        verb = "power off" if value == STOPPED else "start"
        return f"{verb} {self.instance_id} in {self.zone}"


@dataclass(frozen=True, slots=True)
class TerminateInstance:
    """Terminate one instance, as a failed host or an interrupted purchase would.

    Source: Amazon EC2 API Reference, TerminateInstances.
    """

    instance_id: str
    zone: str

    kind: ClassVar[str] = "ec2:terminate-instance"
    reads: ClassVar[tuple[str, ...]] = ("ec2:DescribeInstances",)
    writes: ClassVar[tuple[str, ...]] = ("ec2:TerminateInstances",)

    @property
    def resource(self) -> Resource:
        return Resource("ec2:instance", self.instance_id, self.zone)

    def calls(self) -> tuple[Call, ...]:
        return (Call("ec2", "TerminateInstances", {"InstanceIds": [self.instance_id]}),)

    def effect(self, aws: Aws) -> Effect:
        for instance in described(aws, [self.instance_id]):
            state = instance["State"]["Name"]
            return Effect(state == "terminated", f"{self.instance_id} is {state}")
        return Effect(True, f"{self.instance_id} does not exist any more")

    def summary(self) -> str:
        return f"terminate {self.instance_id} in {self.zone}"


def described(aws: Aws, ids: Iterable[str]) -> Iterator[dict[str, Any]]:
    """What EC2 tells of these instances; nothing of those that do not exist any more."""
    for reservation in filtered(aws, "DescribeInstances", "Reservations", "instance-id", ids):
        yield from reservation["Instances"]


def existing(aws: Aws, ids: Iterable[str]) -> set[str]:
    """Those of these instances that exist and are not being terminated."""
    return {i["InstanceId"] for i in described(aws, ids) if i["State"]["Name"] not in _OVER}
