"""Changes of network ACLs: what makes a subnet go dark.

A network ACL is stateless, so cutting with it stops established connections at once, as a network
that fails would; traffic inside one subnet is not filtered. A custom ACL denies everything, in and
out, until rules are added: creating one is enough. Source: Amazon VPC User Guide, "Control subnet
traffic with network access control lists".
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any, ClassVar, Self

from chaosgrade.aws import Aws, Call, Lookup
from chaosgrade.changes.model import Live, Reading, Resource
from chaosgrade.evidence import Json

PREFIX = "chaosgrade:"
NAME_TAG = PREFIX + "acl"
"""Which blocking ACL it is: the tag finds it again whatever id AWS has given it."""

_FILTER_VALUES = 200
_READS = ("ec2:DescribeNetworkAcls",)


@dataclass(frozen=True, slots=True)
class BlockingAcl:
    """A network ACL of ours, which denies everything, and its tags; null while it is not there.

    Args:
        vpc_id: where.
        name: its tag `chaosgrade:acl`, unlike any other's.
    """

    vpc_id: str
    name: str

    kind: ClassVar[str] = "ec2:blocking-acl"
    reads: ClassVar[tuple[str, ...]] = _READS
    writes: ClassVar[tuple[str, ...]] = (
        "ec2:CreateNetworkAcl",
        "ec2:CreateTags",
        "ec2:DeleteNetworkAcl",
    )

    @property
    def resource(self) -> Resource:
        return Resource("ec2:network-acl", f"{self.vpc_id}/{self.name}")

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        acls = list(_acls(aws, f"tag:{NAME_TAG}", [setting.name for setting in settings]))
        found: dict[Self, Reading] = {}
        for setting in settings:
            # More than one when a reply was lost and the call was made again.
            ours = [a for a in acls if (a["VpcId"], name_of(a)) == (setting.vpc_id, setting.name)]
            tags: Json = (
                {k: v for k, v in tags_of(ours[0]).items() if k.startswith(PREFIX)}
                if ours
                else None
            )
            found[setting] = Live(tags, {"ids": " ".join(sorted(a["NetworkAclId"] for a in ours))})
        return found

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        if isinstance(value, dict):
            tags = {"Name": "chaosgrade: denies everything", **value}
            specification = {
                "ResourceType": "network-acl",
                "Tags": [{"Key": key, "Value": text} for key, text in tags.items()],
            }
            parameters = {"VpcId": self.vpc_id, "TagSpecifications": [specification]}
            return (Call("ec2", "CreateNetworkAcl", parameters),)
        known: list[str | Lookup] = list(live.handles.get("ids", "").split())
        ids = known or [blocking_acl_id(self.name)]
        return tuple(Call("ec2", "DeleteNetworkAcl", {"NetworkAclId": id_}) for id_ in ids)

    def summary(self, value: Json) -> str:
        verb = "create" if value else "delete"
        return f"{verb} a network ACL that denies everything in {self.vpc_id}"


@dataclass(frozen=True, slots=True)
class SubnetAcl:
    """The network ACL of a subnet, by its id, or by "chaosgrade:" and its name if it is ours.

    The association is addressed by the subnet: ReplaceNetworkAclAssociation gives it a new id.
    """

    vpc_id: str
    subnet_id: str
    zone: str

    kind: ClassVar[str] = "ec2:subnet-acl"
    reads: ClassVar[tuple[str, ...]] = _READS
    writes: ClassVar[tuple[str, ...]] = ("ec2:ReplaceNetworkAclAssociation",)

    @property
    def resource(self) -> Resource:
        return Resource("ec2:subnet", self.subnet_id, self.zone)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        ids: dict[str, dict[str, str]] = {}
        of_subnet: dict[str, tuple[str, str]] = {}
        for acl in _acls(aws, "vpc-id", [setting.vpc_id for setting in settings]):
            name = name_of(acl)
            if name:
                ids.setdefault(acl["VpcId"], {})[PREFIX + name] = acl["NetworkAclId"]
            for association in acl["Associations"]:
                value = PREFIX + name if name else acl["NetworkAclId"]
                of_subnet[association["SubnetId"]] = (
                    value,
                    association["NetworkAclAssociationId"],
                )
        return {
            setting: Live(value, {"association": association, **ids.get(setting.vpc_id, {})})
            for setting in settings
            for value, association in [of_subnet.get(setting.subnet_id, ("", ""))]
            if value
        }

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        acl: str | Lookup = str(value)
        if str(value).startswith(PREFIX):
            acl = live.handles.get(str(value)) or blocking_acl_id(str(value).removeprefix(PREFIX))
        association = live.handles.get("association") or self._association()
        parameters = {"AssociationId": association, "NetworkAclId": acl}
        return (Call("ec2", "ReplaceNetworkAclAssociation", parameters),)

    def summary(self, value: Json) -> str:
        if str(value).startswith(PREFIX):
            return f"cut {self.subnet_id} in {self.zone} off"
        return f"give {self.subnet_id} in {self.zone} its network ACL {value}"

    def _association(self) -> Lookup:
        by_subnet = [{"Name": "association.subnet-id", "Values": [self.subnet_id]}]
        return Lookup(
            Call("ec2", "DescribeNetworkAcls", {"Filters": by_subnet}),
            f"NetworkAcls[0].Associations[?SubnetId=='{self.subnet_id}']"
            ".NetworkAclAssociationId | [0]",
        )


def blocking_acl_id(name: str) -> Lookup:
    """How a person finds the id of a blocking ACL."""
    by_name = [{"Name": f"tag:{NAME_TAG}", "Values": [name]}]
    return Lookup(
        Call("ec2", "DescribeNetworkAcls", {"Filters": by_name}), "NetworkAcls[0].NetworkAclId"
    )


def tags_of(resource: Mapping[str, Any]) -> dict[str, str]:
    """The tags of anything that EC2 describes."""
    return {tag["Key"]: tag["Value"] for tag in resource.get("Tags", ())}


def name_of(acl: Mapping[str, Any]) -> str:
    """The name of a blocking ACL; "" for anybody else's."""
    return tags_of(acl).get(NAME_TAG, "")


def _acls(aws: Aws, key: str, values: Sequence[str]) -> Iterator[dict[str, Any]]:
    for some in batched(dict.fromkeys(values), _FILTER_VALUES):
        filters = [{"Name": key, "Values": list(some)}]
        yield from aws.pages(
            Call("ec2", "DescribeNetworkAcls", {"Filters": filters}), "NetworkAcls"
        )
