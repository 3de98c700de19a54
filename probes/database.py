"""What Amazon RDS says of a database, and where its endpoint leads."""

import socket
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.errors import TargetNotFound
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["database_status"]

READS: tuple[str, ...] = ("rds:DescribeDBClusters", "rds:DescribeDBInstances")
"""IAM actions that this probe and its observer need."""


def database_status(
    identifier: str, configuration: Configuration = None, secrets: Secrets = None
) -> str:
    """Status of a DB instance or of a DB cluster, such as "available".

    Arguments:
        identifier: of the DB instance or DB cluster.

    Example:
        ```yaml
        type: probe
        name: database-is-available
        tolerance: available
        provider:
          type: python
          module: chaosgrade.probes.database
          func: database_status
          arguments: {identifier: shop}
        ```

    Source: Amazon RDS API Reference, DescribeDBInstances and DescribeDBClusters.
    """
    with activity(configuration) as session:
        return str(_read(session.aws, identifier)["status"])


def observe(session: Session, *, identifier: str) -> Poll:
    """An observer that records `database` whenever status, zone or the endpoint's address change.

    Args:
        session: the run.
        identifier: of a DB instance or DB cluster.
    """
    name_server = session.aws.environment.name_server

    def look() -> dict[str, Any]:
        seen = _read(session.aws, identifier)
        return {**seen, "address": _address(seen.pop("endpoint"), name_server)}

    return Poll(session, "database", look)


def _address(name: str, name_server: str | None) -> str | None:
    """Where a name leads at this moment; None when it does not lead anywhere."""
    try:
        if name_server is None:
            return socket.gethostbyname(name) if name else None
        # With the stage, where alone names need a server of their own, comes what this imports.
        from chaosgrade.stage.workload.resolver import Resolver

        return Resolver(name_server).resolve(name)
    except (LookupError, OSError):
        return None


def _read(aws: Aws, identifier: str) -> dict[str, Any]:
    """Identifier, status, zone and endpoint; of a cluster the zone of its writer."""
    try:
        instances = _instances(aws, identifier)
    except ResourceGone:
        return _read_cluster(aws, identifier)
    return {
        "identifier": identifier,
        "status": instances[0]["DBInstanceStatus"],
        "zone": instances[0].get("AvailabilityZone", ""),
        "endpoint": instances[0].get("Endpoint", {}).get("Address", ""),
    }


def _read_cluster(aws: Aws, identifier: str) -> dict[str, Any]:
    call = Call("rds", "DescribeDBClusters", {"DBClusterIdentifier": identifier})
    try:
        cluster = aws.send(call)["DBClusters"][0]
    except ResourceGone:
        raise TargetNotFound(
            f"there is no DB instance or cluster {identifier}; check the name and the Region"
        ) from None
    writers = [
        m["DBInstanceIdentifier"] for m in cluster["DBClusterMembers"] if m["IsClusterWriter"]
    ]
    zone = _instances(aws, writers[0])[0].get("AvailabilityZone", "") if writers else ""
    return {
        "identifier": identifier,
        "status": cluster["Status"],
        "zone": zone,
        "endpoint": cluster.get("Endpoint", ""),
    }


def _instances(aws: Aws, identifier: str) -> list[dict[str, Any]]:
    call = Call("rds", "DescribeDBInstances", {"DBInstanceIdentifier": identifier})
    found: list[dict[str, Any]] = aws.send(call)["DBInstances"]
    return found
