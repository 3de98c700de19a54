"""Changes of load balancers' target groups."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.filtering import filtered
from chaosgrade.changes.instance import existing
from chaosgrade.changes.model import Live, Reading, Resource
from chaosgrade.errors import AwsError
from chaosgrade.evidence import Json

REGISTERED, DEREGISTERED = "registered", "deregistered"


@dataclass(frozen=True, slots=True)
class TargetRegistration:
    """Whether a target is registered with a target group. A draining target is not.

    Args:
        target_group_arn, target_id, port: which.
        everywhere: whether it is of all Availability Zones, as an address outside the VPC is: it
            can only be registered as such.
        interface: id of the network interface whose address it is, "" for none. Without it the
            address may be somebody else's by now, and would get their neighbours' requests.

    Source: Elastic Load Balancing API Reference, RegisterTargets, DescribeTargetHealth and
    TargetDescription.
    """

    target_group_arn: str
    target_id: str
    port: int
    everywhere: bool = False
    interface: str = ""

    kind: ClassVar[str] = "elbv2:target-registration"
    reads: ClassVar[tuple[str, ...]] = (
        "ec2:DescribeInstances",
        "ec2:DescribeNetworkInterfaces",
        "elasticloadbalancing:DescribeTargetHealth",
    )
    writes: ClassVar[tuple[str, ...]] = (
        "elasticloadbalancing:RegisterTargets",
        "elasticloadbalancing:DeregisterTargets",
    )

    @property
    def resource(self) -> Resource:
        return Resource("elbv2:target", f"{self.target_group_arn}/{self.target_id}:{self.port}")

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        found: dict[Self, Reading] = {}
        for arn in dict.fromkeys(setting.target_group_arn for setting in settings):
            group = [setting for setting in settings if setting.target_group_arn == arn]
            try:
                registered = _registered(aws, arn)
            except AwsError as error:
                found |= dict.fromkeys(group, error)
                continue
            for setting in group:
                if registered & {(setting.target_id, setting.port), (setting.target_id, None)}:
                    found[setting] = Live(REGISTERED)
        missing = [setting for setting in settings if setting not in found]
        return found | _deregistered(aws, missing)

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        operation = "RegisterTargets" if value == REGISTERED else "DeregisterTargets"
        target: dict[str, Json] = {"Id": self.target_id, "Port": self.port}
        if self.everywhere:
            target["AvailabilityZone"] = "all"
        parameters = {"TargetGroupArn": self.target_group_arn, "Targets": [target]}
        return (Call("elbv2", operation, parameters),)

    def summary(self, value: Json) -> str:
        verb = "register" if value == REGISTERED else "deregister"
        group = self.target_group_arn.split("/")[-2]
        return f"{verb} {self.target_id}:{self.port} at target group {group}"


def _registered(aws: Aws, arn: str) -> set[tuple[str, int | None]]:
    """(id, port) of each target that is registered and not draining."""
    answer = aws.send(Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": arn}))
    return {
        (described["Target"]["Id"], described["Target"].get("Port"))
        for described in answer["TargetHealthDescriptions"]
        if described["TargetHealth"]["State"] != "draining"
    }


def _deregistered[S: TargetRegistration](aws: Aws, settings: Sequence[S]) -> dict[S, Reading]:
    """Those that are not registered; what does not exist can never be again."""
    instances = [s.target_id for s in settings if s.target_id.startswith("i-")]
    exist = existing(aws, instances)
    holders = interfaces(aws, "network-interface-id", [s.interface for s in settings])
    return {
        setting: Live(DEREGISTERED)
        for setting in settings
        if (setting.target_id in exist or setting.target_id not in instances)
        and (not setting.interface or holders.get(setting.target_id) == setting.interface)
    }


def interfaces(aws: Aws, key: str, values: Iterable[str], vpc: str = "") -> dict[str, str]:
    """{private address: id of its network interface}, of those that a filter of EC2 lets through.

    Args:
        aws: where.
        key, values: the filter; "" among the values counts for nothing.
        vpc: only in this VPC.
    """
    also = [{"Name": "vpc-id", "Values": [vpc]}] if vpc else []
    return {
        address["PrivateIpAddress"]: interface["NetworkInterfaceId"]
        for interface in filtered(
            aws, "DescribeNetworkInterfaces", "NetworkInterfaces", key, filter(None, values), also
        )
        for address in interface["PrivateIpAddresses"]
    }
