"""DB clusters as moto keeps them: what the stage reads, writes and replaces.

An Aurora PostgreSQL cluster has the DB instances that are created in it; a Multi-AZ DB cluster
(engine postgres) comes with three. moto flips a flag at a failover. Sources: Amazon RDS API
Reference; Amazon Aurora User Guide, "Amazon RDS event categories and event messages for Aurora" and
"Viewing DB cluster status".
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from moto.rds.exceptions import (
    DBClusterNotFoundError,
    InvalidDBClusterStateFault,
    InvalidParameterCombination,
    InvalidParameterValue,
    RDSClientError,
)
from moto.rds.models import DBCluster, RDSBackend

from chaosgrade.stage.moto_db_instances import (
    AVAILABLE,
    ENGINE,
    ENGINE_VERSION,
    PORT,
    available_instance,
    found_instance,
    know_events,
    note,
    subnets_of,
    zones_of,
)
from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.world import Database, DatabaseHooks, Place

AURORA, MULTI_AZ = "aurora-postgresql", ENGINE
_FAILING_OVER = "failing-over"
_MULTI_AZ_MEMBERS = 3
_MOST_MEMBERS = 16

_EVENTS = {
    "RDS-EVENT-0069": (
        "failover",
        "Cluster failover failed, check the health of your cluster instances and try again.",
    ),
    "RDS-EVENT-0070": ("failover", "Promoting previous primary again"),
    "RDS-EVENT-0071": ("failover", "Completed failover to DB instance"),
    "RDS-EVENT-0072": ("failover", "Started same AZ failover to DB instance"),
    "RDS-EVENT-0073": ("failover", "Started cross AZ failover to DB instance"),
    "RDS-EVENT-0170": ("creation", "DB cluster created"),
}
_NOT_PLAYED = (
    "global_cluster_identifier", "manage_master_user_password", "replication_source_identifier",
)  # fmt: skip
_OF_THE_CLUSTER = ("db_name", "master_username", "master_user_password", "multi_az")


def databases(backend: Any) -> Iterator[Database]:
    """Every DB cluster; its writer comes first."""
    for cluster in backend.clusters.values():
        tags = {tag["Key"]: tag["Value"] for tag in cluster.tags}
        subnets = subnets_of(backend, _group(backend, cluster))
        members = sorted(cluster.members, key=lambda each: not each.is_cluster_writer)
        yield Database(
            id=f"cluster:{cluster.db_cluster_identifier}",
            endpoint=cluster.endpoint,
            reader_endpoint=cluster.reader_endpoint,
            port=int(cluster.port),
            places=tuple(
                Place(
                    member.db_instance_identifier,
                    member.availability_zone,
                    subnets[member.availability_zone],
                    member.address,
                    member.promotion_tier,
                )
                for member in members
            ),
            user=cluster.master_username,
            password=cluster._master_user_password,
            name=cluster.database_name,
            asynchronous=tags.get("Replication") == "asynchronous",
            source=None,
        )


class ClusterRecord:
    """What the played AWS says of a DB cluster; its servers are its DB instances.

    Args:
        cluster: of moto's.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster
        self._members = {m.db_instance_identifier: m for m in cluster.members}

    def available(self, server: str, *, again: bool) -> None:
        """The writer takes connections."""
        cluster = self._cluster
        if cluster.status == _FAILING_OVER:
            note(cluster, "RDS-EVENT-0070", server)
        self._write(server)
        self._back(server, restarted=again)
        cluster.status = AVAILABLE

    def failing_over(self, to: str) -> None:
        """A reader is about to take over."""
        old, new = self._cluster.writer, self._members.get(to)
        self._cluster.status = _FAILING_OVER
        same = old and new and old.availability_zone == new.availability_zone
        note(self._cluster, "RDS-EVENT-0072" if same else "RDS-EVENT-0073", to)
        if old:
            old.status = "rebooting"

    def failed_over(self, server: str) -> None:
        """The writer is this one now."""
        self._write(server)
        note(self._cluster, "RDS-EVENT-0071", server)
        self._cluster.status = AVAILABLE

    def follows(self, server: str) -> None:
        """A reader has everything and can be read from."""
        member = self._members.get(server)
        self._back(server, restarted=bool(member and member.status == "rebooting"))

    def failed(self) -> None:
        """The stage could not do what it had to."""
        if self._cluster.status == _FAILING_OVER:
            note(self._cluster, "RDS-EVENT-0069")
        self._cluster.status = "failed"

    def _write(self, server: str) -> None:
        for id_, member in self._members.items():
            member.is_cluster_writer = id_ == server

    def _back(self, server: str, *, restarted: bool) -> None:
        if member := self._members.get(server):
            member.status = AVAILABLE
            if restarted:
                note(member, "RDS-EVENT-0006")


def install(hooks: DatabaseHooks) -> None:
    """Replace moto's methods, in this process, for good; after those of DB instances."""
    know_events(_EVENTS)
    DBCluster.event_source_type = "db-cluster"  # type: ignore[attr-defined]  # moto notes none
    # moto calls a cluster available, and some member its writer, as soon as anybody asks.
    replace(DBCluster, "status", None)
    replace(DBCluster, "designate_writer", lambda cluster: None)
    _create()
    _members()
    _delete()
    _fail_over(hooks)


def _create() -> None:
    create: Any = RDSBackend.create_db_cluster

    @functools.wraps(create)
    def create_db_cluster(backend: Any, kwargs: Mapping[str, Any]) -> Any:
        asked = {key: value for key, value in kwargs.items() if value is not None}
        id_, engine = asked["db_cluster_identifier"], asked.get("engine")
        backend._validate_db_identifier(id_)
        if id_ in backend.clusters:
            raise RDSClientError("DBClusterAlreadyExistsFault", "DB Cluster already exists")
        if engine not in (AURORA, MULTI_AZ):
            raise InvalidParameterValue(
                f"the stage plays DB clusters of engines {AURORA} and {MULTI_AZ}, not {engine}"
            )
        for option in _NOT_PLAYED:
            if asked.get(option):
                raise InvalidParameterValue(f"the stage does not play {option} of a DB cluster")
        if asked.get("engine_mode", "provisioned") != "provisioned":
            raise InvalidParameterValue(f"the stage does not play {asked['engine_mode']} clusters")
        for needed in ("master_username", "master_user_password"):
            if not asked.get(needed):
                raise InvalidParameterValue(f"the stage needs {needed} to create a DB cluster")
        of_class = asked.get("db_cluster_instance_class")
        if (engine == MULTI_AZ) != bool(of_class):
            raise InvalidParameterCombination(
                f"DBClusterInstanceClass is for Multi-AZ DB clusters, of engine {MULTI_AZ}, alone,"
                " and needed for them"
            )
        name = asked.get("db_subnet_group_name")
        group = backend.describe_db_subnet_groups(name)[0] if name else None
        zones, least = list(subnets_of(backend, group)), _MULTI_AZ_MEMBERS if of_class else 2
        if len(zones) < least:
            raise RDSClientError(
                "DBSubnetGroupDoesNotCoverEnoughAZs",
                f"the DB cluster needs subnets in {least} zones, got {', '.join(zones)}",
            )
        cluster = create(
            backend,
            {
                "engine_version": ENGINE_VERSION,
                "port": PORT,
                "availability_zones": zones,
                **asked,
            },
        )
        note(cluster, "RDS-EVENT-0170")
        cluster.status = AVAILABLE  # it waits for DB instances
        if of_class:
            cluster.status = "creating"
            for number in range(1, _MULTI_AZ_MEMBERS + 1):
                backend.create_db_instance(
                    {
                        "db_instance_identifier": f"{id_}-instance-{number}",
                        "db_cluster_identifier": id_,
                        "db_instance_class": of_class,
                        "engine": engine,
                    }
                )
        return cluster

    replace(RDSBackend, "create_db_cluster", create_db_cluster)


def _members() -> None:
    create: Any = RDSBackend.create_db_instance

    @functools.wraps(create)
    def create_db_instance(backend: Any, db_kwargs: Mapping[str, Any]) -> Any:
        if not db_kwargs.get("db_cluster_identifier"):
            return create(backend, db_kwargs)
        cluster = _found(backend, db_kwargs["db_cluster_identifier"])
        for option in _OF_THE_CLUSTER:
            if db_kwargs.get(option):
                raise InvalidParameterCombination(
                    "The requested DB Instance will be a member of a DB Cluster. "
                    f"Set {option} for the DB Cluster."
                )
        most = _MULTI_AZ_MEMBERS if cluster.engine == MULTI_AZ else _MOST_MEMBERS
        if len(cluster.members) >= most:
            raise RDSClientError(
                "InstanceQuotaExceeded", f"this DB cluster has at most {most} DB instances"
            )
        group, wanted = _group(backend, cluster), db_kwargs.get("availability_zone")
        zones = zones_of(backend, group, wanted)
        taken = [member.availability_zone for member in cluster.members]
        member = create(
            backend,
            {
                **db_kwargs,
                "db_cluster_identifier": cluster.db_cluster_identifier,
                "db_subnet_group_name": group.name if group else None,
                "port": cluster.port,
                # The zone with the fewest, of equal ones the first of the DB subnet group.
                "availability_zone": wanted or min(zones, key=taken.count),
            },
        )
        member.status, member.secondary_availability_zone = "creating", None
        return member

    replace(RDSBackend, "create_db_instance", create_db_instance)
    replicate: Any = RDSBackend.create_db_instance_read_replica

    @functools.wraps(replicate)
    def create_db_instance_read_replica(backend: Any, db_kwargs: Mapping[str, Any]) -> Any:
        source = found_instance(backend, db_kwargs["source_db_instance_identifier"])
        if source.db_cluster_identifier:
            raise InvalidParameterCombination(
                "A DB cluster gets a reader by CreateDBInstance with DBClusterIdentifier."
            )
        return replicate(backend, db_kwargs)

    replace(RDSBackend, "create_db_instance_read_replica", create_db_instance_read_replica)


def _delete() -> None:
    delete_instance: Any = RDSBackend.delete_db_instance

    @functools.wraps(delete_instance)
    def delete_db_instance(backend: Any, db_instance_identifier: str, **kwargs: Any) -> Any:
        instance = found_instance(backend, db_instance_identifier)
        if instance.db_cluster_identifier and instance.engine == MULTI_AZ:
            raise InvalidDBClusterStateFault(
                f"{db_instance_identifier} belongs to a Multi-AZ DB cluster, delete that"
            )
        return delete_instance(backend, db_instance_identifier, **kwargs)

    replace(RDSBackend, "delete_db_instance", delete_db_instance)
    delete: Any = RDSBackend.delete_db_cluster

    @functools.wraps(delete)
    def delete_db_cluster(backend: Any, cluster_identifier: str, *args: Any, **kwargs: Any) -> Any:
        cluster = _found(backend, cluster_identifier)
        if cluster.engine == MULTI_AZ and not cluster.deletion_protection:
            for member in cluster.members:
                delete_instance(backend, member.db_instance_identifier)
        return delete(backend, cluster.db_cluster_identifier, *args, **kwargs)

    replace(RDSBackend, "delete_db_cluster", delete_db_cluster)


def _fail_over(hooks: DatabaseHooks) -> None:
    def failover_db_cluster(
        backend: Any,
        db_cluster_identifier: str,
        target_db_instance_identifier: str | None = None,
        **kwargs: Any,
    ) -> Any:
        cluster = _found(backend, db_cluster_identifier)
        id_ = cluster.db_cluster_identifier
        target = (target_db_instance_identifier or "").lower() or None
        if cluster.status != AVAILABLE:
            raise InvalidDBClusterStateFault(
                f"DbCluster {id_} is in {cluster.status} state but expected it to be available."
            )
        readers = [member for member in cluster.members if not member.is_cluster_writer]
        if target and target not in [reader.db_instance_identifier for reader in readers]:
            raise InvalidParameterValue(f"{target} is no reader of the DB cluster {id_}")
        if target:
            available_instance(backend, target)
        if not any(reader.status == AVAILABLE for reader in readers):
            raise InvalidDBClusterStateFault(
                f"Database cluster:{id_} should have at least two database instances in valid"
                " states for failover"
            )
        cluster.status = _FAILING_OVER
        hooks.fail_over(f"cluster:{id_}", target)
        return cluster

    replace(RDSBackend, "failover_db_cluster", failover_db_cluster)


def _found(backend: Any, id_: str) -> Any:
    """A DB cluster.

    Raises:
        DBClusterNotFoundError: there is none.
    """
    if id_ not in backend.clusters:
        raise DBClusterNotFoundError(id_)
    return backend.clusters[id_]


def _group(backend: Any, cluster: Any) -> Any | None:
    """The DB subnet group of a cluster; moto calls it default when none was given."""
    return backend.subnet_groups.get(cluster.db_subnet_group_name)
