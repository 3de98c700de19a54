"""Changes of EC2 instances."""

from dataclasses import dataclass
from typing import ClassVar

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.changes.model import Effect, Resource


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

    def calls(self, aws: Aws) -> tuple[Call, ...]:
        return (Call("ec2", "TerminateInstances", {"InstanceIds": [self.instance_id]}),)

    def effect(self, aws: Aws) -> Effect:
        try:
            answer = aws.send(Call("ec2", "DescribeInstances", {"InstanceIds": [self.instance_id]}))
        except ResourceGone:
            return Effect(True, f"{self.instance_id} does not exist any more")
        states = [i["State"]["Name"] for r in answer["Reservations"] for i in r["Instances"]]
        state = states[0] if states else "terminated"
        return Effect(state == "terminated", f"{self.instance_id} is {state}")

    def summary(self) -> str:
        return f"terminate {self.instance_id} in {self.zone}"
