"""Changes of databases in Amazon RDS: failovers, which nothing undoes.

After one the standby is the primary; failing over once more would be another outage, no undo.
Source: Amazon RDS User Guide, "Failing over a Multi-AZ DB instance", and Amazon Aurora User Guide,
"High availability for Amazon Aurora".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.changes.model import Effect, Resource

INSTANCE, CLUSTER = "rds:db-instance", "rds:db-cluster"


@dataclass(frozen=True, slots=True)
class InstanceFailover:
    """A failover of one Multi-AZ DB instance to its standby, by a reboot that forces it.

    Proven by the primary's zone, which DescribeDBInstances gives: events carry no cause, so that
    one of an earlier failover would prove this one.

    Args:
        identifier: of the DB instance.
        primary_zone: where its primary is before.
    """

    identifier: str
    primary_zone: str

    kind: ClassVar[str] = "rds:instance-failover"
    reads: ClassVar[tuple[str, ...]] = ("rds:DescribeDBInstances",)
    writes: ClassVar[tuple[str, ...]] = ("rds:RebootDBInstance",)

    @property
    def resource(self) -> Resource:
        # Of no zone: neither the one that it leaves nor the one that it goes to is broken.
        return Resource(INSTANCE, self.identifier)

    def calls(self) -> tuple[Call, ...]:
        parameters = {"DBInstanceIdentifier": self.identifier, "ForceFailover": True}
        return (Call("rds", "RebootDBInstance", parameters),)

    def effect(self, aws: Aws) -> Effect:
        instance = described_instance(aws, self.identifier)
        zone, status = instance.get("AvailabilityZone"), instance["DBInstanceStatus"]
        return Effect(
            zone not in (None, self.primary_zone),
            f"the primary of {self.identifier} is in {zone}, it was in {self.primary_zone};"
            f" {status}",
        )

    def summary(self) -> str:
        return f"fail {self.identifier} over to its standby, away from {self.primary_zone}"


@dataclass(frozen=True, slots=True)
class ClusterFailover:
    """A failover of one DB cluster: another of its members becomes the writer.

    Args:
        identifier: of the DB cluster.
        writer: identifier of the DB instance that writes before.
    """

    identifier: str
    writer: str

    kind: ClassVar[str] = "rds:cluster-failover"
    reads: ClassVar[tuple[str, ...]] = ("rds:DescribeDBClusters",)
    writes: ClassVar[tuple[str, ...]] = ("rds:FailoverDBCluster",)

    @property
    def resource(self) -> Resource:
        return Resource(CLUSTER, self.identifier)

    def calls(self) -> tuple[Call, ...]:
        return (Call("rds", "FailoverDBCluster", {"DBClusterIdentifier": self.identifier}),)

    def effect(self, aws: Aws) -> Effect:
        writer = writer_of(described_cluster(aws, self.identifier))
        return Effect(
            writer not in ("", self.writer),
            f"{writer or 'nobody'} writes in {self.identifier}, it was {self.writer}",
        )

    def summary(self) -> str:
        return f"fail the DB cluster {self.identifier} over, away from {self.writer}"


def described_instance(aws: Aws, identifier: str) -> Mapping[str, Any]:
    """What RDS tells of a DB instance.

    Raises:
        ResourceGone: there is none.
    """
    call = Call("rds", "DescribeDBInstances", {"DBInstanceIdentifier": identifier})
    for instance in aws.send(call)["DBInstances"]:
        found: Mapping[str, Any] = instance
        return found
    raise ResourceGone(f"there is no DB instance {identifier}", code="DBInstanceNotFound")


def described_cluster(aws: Aws, identifier: str) -> Mapping[str, Any]:
    """What RDS tells of a DB cluster.

    Raises:
        ResourceGone: there is none.
    """
    call = Call("rds", "DescribeDBClusters", {"DBClusterIdentifier": identifier})
    for cluster in aws.send(call)["DBClusters"]:
        found: Mapping[str, Any] = cluster
        return found
    raise ResourceGone(f"there is no DB cluster {identifier}", code="DBClusterNotFoundFault")


def described_members(aws: Aws, identifier: str) -> list[Mapping[str, Any]]:
    """What RDS tells of the DB instances of a DB cluster."""
    filters = [{"Name": "db-cluster-id", "Values": [identifier]}]
    return list(aws.pages(Call("rds", "DescribeDBInstances", {"Filters": filters}), "DBInstances"))


def writer_of(cluster: Mapping[str, Any]) -> str:
    """The identifier of the DB instance that writes; "" while none does."""
    for member in cluster["DBClusterMembers"]:
        if member["IsClusterWriter"]:
            return str(member["DBInstanceIdentifier"])
    return ""
