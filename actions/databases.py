"""Actions on databases in Amazon RDS."""

from collections.abc import Mapping
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.subnets import Subnet, cut_off, told
from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.changes.database import (
    ClusterFailover,
    InstanceFailover,
    described_cluster,
    described_instance,
    described_members,
    writer_of,
)
from chaosgrade.changes.model import Change
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.session import Session, activity

__all__ = ["black_hole_database", "fail_over_database"]

_OF_RDS = "RDSNetworkInterface"
"""The description of a network interface that RDS has made."""

_WITHOUT_STANDBY = ("refuse", "black-hole")


def fail_over_database(
    identifier: str,
    without_standby: str = "refuse",
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Have the standby of a database take over. Irreversible: afterwards it is the primary.

    A Multi-AZ DB instance is rebooted with a forced failover, a DB cluster is failed over.

    Arguments:
        identifier: of the DB instance or the DB cluster.
        without_standby: what happens to a DB instance that is not Multi-AZ, or a DB cluster
            without a reader: "refuse" is an error; "black-hole" does what the loss of its zone
            would, see `black_hole_database`.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: fail-the-database-over
        provider:
          type: python
          module: chaosgrade.actions.databases
          func: fail_over_database
          arguments: {identifier: shop}
        ```

    Source: Amazon RDS API Reference, RebootDBInstance and FailoverDBCluster.
    """
    with activity(configuration) as session:
        if without_standby not in _WITHOUT_STANDBY:
            raise UsageError(
                f"without_standby must be {' or '.join(_WITHOUT_STANDBY)}, got {without_standby!r}"
            )
        found = _found(session.aws, identifier)
        members = found.get("DBClusterMembers")
        if members is None and (cluster := found.get("DBClusterIdentifier")):
            raise UsageError(
                f"{identifier} is a member of the DB cluster {cluster}: a cluster fails over as a"
                f" whole, give {cluster}"
            )
        if members and len(members) > 1:
            writer = writer_of(found)
            if not writer:  # whoever writes next would prove a failover that was not ours
                raise TargetNotFound(
                    f"nobody writes in the DB cluster {identifier} at this moment: it may be "
                    "failing over; try again when it is available"
                )
            return _strike(session, ClusterFailover(identifier, writer))
        if found.get("MultiAZ") and members is None:
            return _strike(session, InstanceFailover(identifier, found["AvailabilityZone"]))
        if without_standby == "refuse":
            raise UsageError(
                f"{identifier} is not Multi-AZ: it has no standby to fail over to"
                if members is None
                else f"the DB cluster {identifier} has no reader to fail over to"
            )
        return cut_off(session, _own_subnets(session.aws, identifier, found))


def black_hole_database(
    identifier: str, configuration: Configuration = None, secrets: Secrets = None
) -> list[dict[str, Any]]:
    """Have a database answer nothing any more: the subnets of all its servers go dark.

    Each subnet is given a network ACL that denies everything; established connections stop at once.
    Undone by giving each subnet its former network ACL. The DB subnet group must hold nothing but
    databases in these zones, or the outage would not be the database's alone.

    Arguments:
        identifier: of the DB instance or the DB cluster.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: black-hole-the-database
        provider:
          type: python
          module: chaosgrade.actions.databases
          func: black_hole_database
          arguments: {identifier: shop}
        ```

    Source: Amazon RDS User Guide, "Working with a DB instance in a VPC"; Amazon EC2 API Reference,
    ReplaceNetworkAclAssociation.
    """
    with activity(configuration) as session:
        found = _found(session.aws, identifier)
        return cut_off(session, _own_subnets(session.aws, identifier, found))


def _found(aws: Aws, identifier: str) -> Mapping[str, Any]:
    """The DB instance of this name, or else the DB cluster, which has DBClusterMembers.

    Raises:
        TargetNotFound: neither is there.
    """
    for describe in (described_instance, described_cluster):
        try:
            return describe(aws, identifier)
        except ResourceGone:
            continue
    raise TargetNotFound(
        f"there is no DB instance or cluster {identifier}; check the name and the Region"
    )


def _strike(session: Session, strike: InstanceFailover | ClusterFailover) -> list[dict[str, Any]]:
    return [
        told(
            done.id,
            strike.identifier,
            getattr(strike, "primary_zone", None),
            done.change.summary,
            done.effect.proven,
            done.effect.detail,
        )
        for done in session.executor.apply([Change(strike)])
    ]


def _own_subnets(aws: Aws, identifier: str, found: Mapping[str, Any]) -> list[Subnet]:
    """The subnets that the servers of a database can be in.

    Raises:
        TargetNotFound: there is none.
        UsageError: something else is in them too.
    """
    servers = described_members(aws, identifier) if "DBClusterMembers" in found else [found]
    zones = {
        str(server[key])
        for server in servers
        for key in ("AvailabilityZone", "SecondaryAvailabilityZone")
        if server.get(key)
    }
    own = {
        Subnet(subnet["SubnetIdentifier"], group["VpcId"], zone)
        for group in (server["DBSubnetGroup"] for server in servers)
        for subnet in group["Subnets"]
        if (zone := subnet["SubnetAvailabilityZone"]["Name"]) in zones
    }
    subnets = sorted(own, key=lambda subnet: subnet.id)
    if not subnets:
        raise TargetNotFound(
            f"the DB subnet group of {identifier} has no subnet in"
            f" {', '.join(sorted(zones)) or 'any zone: it has no DB instance'}"
        )
    filters = [{"Name": "subnet-id", "Values": [subnet.id for subnet in subnets]}]
    call = Call("ec2", "DescribeNetworkInterfaces", {"Filters": filters, "MaxResults": 1000})
    for interface in aws.pages(call, "NetworkInterfaces"):
        if interface.get("Description") != _OF_RDS:
            holder = interface.get("Attachment", {}).get("InstanceId") or interface.get(
                "Description"
            )
            raise UsageError(
                f"{interface['SubnetId']} of {identifier} also holds "
                f"{interface['NetworkInterfaceId']} ({holder or 'in use by nobody'}): the outage "
                "would not be the database's alone; give databases subnets of their own"
            )
    return subnets
