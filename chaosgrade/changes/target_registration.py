"""Changes of load balancers' target groups."""

from dataclasses import dataclass
from typing import ClassVar

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.model import Resource
from chaosgrade.evidence import Json

REGISTERED, DEREGISTERED = "registered", "deregistered"


@dataclass(frozen=True, slots=True)
class TargetRegistration:
    """Whether a target is registered with a target group. A draining target is not.

    Source: Elastic Load Balancing API Reference, RegisterTargets and DescribeTargetHealth.
    """

    target_group_arn: str
    target_id: str
    port: int

    kind: ClassVar[str] = "elbv2:target-registration"
    reads: ClassVar[tuple[str, ...]] = ("elasticloadbalancing:DescribeTargetHealth",)
    writes: ClassVar[tuple[str, ...]] = (
        "elasticloadbalancing:RegisterTargets",
        "elasticloadbalancing:DeregisterTargets",
    )

    @property
    def resource(self) -> Resource:
        return Resource("elbv2:target", f"{self.target_group_arn}/{self.target_id}:{self.port}")

    def read(self, aws: Aws) -> Json:
        answer = aws.send(
            Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": self.target_group_arn})
        )
        for described in answer["TargetHealthDescriptions"]:
            target = described["Target"]
            if target["Id"] == self.target_id and target.get("Port", self.port) == self.port:
                draining = described["TargetHealth"]["State"] == "draining"
                return DEREGISTERED if draining else REGISTERED
        return DEREGISTERED

    def calls(self, aws: Aws, value: Json) -> tuple[Call, ...]:
        operation = "RegisterTargets" if value == REGISTERED else "DeregisterTargets"
        return (
            Call(
                "elbv2",
                operation,
                {
                    "TargetGroupArn": self.target_group_arn,
                    "Targets": [{"Id": self.target_id, "Port": self.port}],
                },
            ),
        )

    def summary(self, value: Json) -> str:
        verb = "register" if value == REGISTERED else "deregister"
        group = self.target_group_arn.split("/")[-2]
        return f"{verb} {self.target_id}:{self.port} at target group {group}"
