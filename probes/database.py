"""What Amazon RDS says of a DB instance, and where its endpoint leads."""

import socket
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, ResourceGone
from chaosgrade.changes.database import described_instance
from chaosgrade.errors import TargetNotFound
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["database_status"]

READS: tuple[str, ...] = ("rds:DescribeDBInstances",)
"""IAM actions that this probe and its observer need."""


def database_status(
    identifier: str, configuration: Configuration = None, secrets: Secrets = None
) -> str:
    """Status of a DB instance, such as "available".

    Arguments:
        identifier: of the DB instance.

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

    Source: Amazon RDS API Reference, DescribeDBInstances.
    """
    with activity(configuration) as session:
        return str(_read(session.aws, identifier)["status"])


def observe(session: Session, *, identifier: str) -> Poll:
    """An observer that records `database` whenever status, zone or the endpoint's address change.

    Args:
        session: the run.
        identifier: of a DB instance.
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
    """Identifier, status, zone and endpoint."""
    try:
        instance = described_instance(aws, identifier)
    except ResourceGone:
        raise TargetNotFound(
            f"there is no DB instance {identifier}; check the name and the Region"
        ) from None
    return {
        "identifier": identifier,
        "status": instance["DBInstanceStatus"],
        "zone": instance.get("AvailabilityZone", ""),
        "endpoint": instance.get("Endpoint", {}).get("Address", ""),
    }
