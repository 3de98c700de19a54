"""What Amazon RDS says of a database, and where its endpoint leads."""

import functools
import socket
from collections.abc import Callable
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, ResourceGone
from chaosgrade.changes.database import described_cluster, described_instance, writer_of
from chaosgrade.errors import TargetNotFound
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["database_status"]

READS: tuple[str, ...] = ("rds:DescribeDBClusters", "rds:DescribeDBInstances")
"""IAM actions that this probe and its observer need."""


def database_status(
    identifier: str, configuration: Configuration = None, secrets: Secrets = None
) -> str:
    """Status of a DB instance or a DB cluster, such as "available".

    Arguments:
        identifier: of the DB instance or the DB cluster.

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
        return str(_reader(session.aws, identifier)()["status"])


def observe(session: Session, *, identifier: str) -> Poll:
    """An observer that records `database` whenever status, zone or the endpoint's address change.

    Args:
        session: the run.
        identifier: of a DB instance or a DB cluster; its zone is that of the writer.
    """
    name_server = session.aws.environment.name_server
    read = functools.cache(lambda: _reader(session.aws, identifier))

    def look() -> dict[str, Any]:
        seen = read()()
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


def _reader(aws: Aws, identifier: str) -> Callable[[], dict[str, Any]]:
    """What gives identifier, status, zone and endpoint; which of the two it is, is asked once.

    Raises:
        TargetNotFound: there is neither.
    """
    for read in (_instance(aws, identifier), _cluster(aws, identifier)):
        try:
            read()
        except ResourceGone:
            continue
        return read
    raise TargetNotFound(
        f"there is no DB instance or cluster {identifier}; check the name and the Region"
    )


def _instance(aws: Aws, identifier: str) -> Callable[[], dict[str, Any]]:
    def read() -> dict[str, Any]:
        instance = described_instance(aws, identifier)
        return {
            "identifier": identifier,
            "status": instance["DBInstanceStatus"],
            "zone": instance.get("AvailabilityZone", ""),
            "endpoint": instance.get("Endpoint", {}).get("Address", ""),
        }

    return read


def _cluster(aws: Aws, identifier: str) -> Callable[[], dict[str, Any]]:
    @functools.cache
    def zone(writer: str) -> str:  # a DB instance of a cluster stays where it is
        return str(described_instance(aws, writer).get("AvailabilityZone", ""))

    def read() -> dict[str, Any]:
        cluster = described_cluster(aws, identifier)
        writer = writer_of(cluster)
        return {
            "identifier": identifier,
            "status": cluster["Status"],
            "zone": zone(writer) if writer else "",
            "endpoint": cluster.get("Endpoint", ""),
        }

    return read
