"""Amazon RDS as moto keeps it, for the part of the stage that plays it."""

from collections.abc import Iterator
from typing import Any, Protocol

from moto.backends import get_backend

from chaosgrade.stage import moto_db_clusters, moto_db_instances, moto_db_templates
from chaosgrade.stage.world import ACCOUNT, Database, DatabaseHooks


class Record(Protocol):
    """What the played AWS says of a database, told what its servers did."""

    def available(self, server: str, *, again: bool) -> None:
        """The primary takes connections."""

    def failing_over(self, to: str) -> None:
        """A follower is about to take over."""

    def failed_over(self, server: str) -> None:
        """This one is the primary now."""

    def follows(self, server: str) -> None:
        """A follower has everything."""

    def failed(self) -> None:
        """The stage could not do what it had to."""


class MotoDatabases:
    """The databases of the played AWS, in one account and Region."""

    def __init__(self, region: str) -> None:
        self._rds: Any = get_backend("rds")[ACCOUNT][region]

    def all(self) -> Iterator[Database]:
        """Every DB instance and DB cluster; those that others replicate come first."""
        yield from moto_db_instances.databases(self._rds)
        yield from moto_db_clusters.databases(self._rds)

    def record(self, id_: str) -> Record | None:
        """Of a database; None when it was deleted."""
        kind, _, name = id_.partition(":")
        if kind == "cluster":
            cluster = self._rds.clusters.get(name)
            return moto_db_clusters.ClusterRecord(cluster) if cluster else None
        instance = self._rds.databases.get(name)
        return moto_db_instances.InstanceRecord(instance) if instance else None


def install(hooks: DatabaseHooks) -> None:
    """Replace moto's methods, in this process, for good."""
    moto_db_instances.install(hooks)
    moto_db_clusters.install(hooks)
    moto_db_templates.install()
