"""DB instances as moto keeps them: what the stage reads, writes and replaces.

moto calls every database available at once; a reboot, a failover or a promotion changes nothing.
Here a DB instance is available when PostgreSQL says so, and where PostgreSQL says so.
"""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from moto.backends import get_backend
from moto.core.responses import ActionResult
from moto.rds.exceptions import (
    DBInstanceNotFoundError,
    InvalidDBInstanceStateError,
    InvalidParameterCombination,
    InvalidParameterValue,
    RDSClientError,
)
from moto.rds.models import DBInstance, Event, RDSBackend
from moto.rds.responses import RDSResponse

from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.world import ACCOUNT, Database, DatabaseHooks, Place

ENGINE, ENGINE_VERSION, PORT = "postgres", "18.6", 5432
AVAILABLE = "available"

_EVENTS = {
    "RDS-EVENT-0006": ("availability", "DB instance restarted"),
    "RDS-EVENT-0013": ("failover", "Multi-AZ instance failover started"),
    "RDS-EVENT-0049": ("failover", "Multi-AZ instance failover completed"),
}
"""{id: (category, message)}, as the Amazon RDS User Guide's "Amazon RDS event categories and event
messages" lists them. DescribeEvents gives category and message, not the id."""


def databases(backend: Any) -> Iterator[Database]:
    """Every DB instance that is in no DB cluster; those that others replicate come first."""
    instances = [i for i in backend.databases.values() if i.db_cluster_identifier is None]
    for instance in sorted(instances, key=lambda each: each.is_replica):
        tags = {tag["Key"]: tag["Value"] for tag in instance.tags}
        zones = [instance.availability_zone]
        if instance.multi_az:
            zones.append(instance.secondary_availability_zone)
        where = subnets_of(backend, _group(instance))
        source = instance.source_db_instance_identifier if instance.is_replica else None
        yield Database(
            id=f"db:{instance.db_instance_identifier}",
            endpoint=instance.address,
            reader_endpoint=None,
            port=int(instance.port),
            places=tuple(Place(zone, zone, where[zone]) for zone in zones),
            user=instance.master_username,
            password=instance._master_user_password,
            name=instance.db_name,
            asynchronous=tags.get("Replication") == "asynchronous",
            source=f"db:{source}" if source else None,
        )


class InstanceRecord:
    """What the played AWS says of a DB instance; its servers are called as their zones.

    Args:
        instance: of moto's.
    """

    def __init__(self, instance: Any) -> None:
        self._instance = instance

    def available(self, server: str, *, again: bool) -> None:
        """The primary takes connections."""
        if again:
            note(self._instance, "RDS-EVENT-0006")
        self._instance.status = AVAILABLE

    def failing_over(self, to: str) -> None:
        """The standby is about to take over."""
        note(self._instance, "RDS-EVENT-0013")

    def failed_over(self, server: str) -> None:
        """The primary is there now, the standby where the primary was."""
        instance = self._instance
        if instance.multi_az and instance.availability_zone != server:
            instance.secondary_availability_zone = instance.availability_zone
            instance.availability_zone = server
        note(instance, "RDS-EVENT-0006")
        note(instance, "RDS-EVENT-0049")
        instance.status = AVAILABLE

    def follows(self, server: str) -> None:
        """The standby has everything, of which RDS says nothing."""

    def failed(self) -> None:
        """The stage could not do what it had to."""
        self._instance.status = "failed"


def note(resource: Any, event: str, name: str = "") -> None:
    """Add to what DescribeEvents answers.

    Args:
        resource: of moto's.
        event: a key of moto's `Event.EVENT_MAP`.
        name: of a DB instance, with which the message ends.
    """
    made = Event(event, resource)
    if name:
        made.message = f"{made.message}: {name}"
    resource.backend.events.append(made)


def know_events(events: Mapping[str, tuple[str, str]]) -> None:
    """Teach moto events: {id: (category, message)}."""
    for id_, (category, message) in events.items():
        Event.EVENT_MAP[id_] = {"Categories": [category], "Message": message}


def install(hooks: DatabaseHooks) -> None:
    """Replace moto's methods, in this process, for good."""
    DBInstance.default_engine_versions[ENGINE] = ENGINE_VERSION
    know_events(_EVENTS)
    _create()
    _reboot(hooks)
    _promote_and_delete(hooks)


def _create() -> None:
    from_template: Any = DBInstance.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]  # a class method

    def create_from_cloudformation_json(
        cls: Any, resource_name: str, cloudformation_json: Any, *args: Any, **kwargs: Any
    ) -> Any:
        cloudformation_json["Properties"].setdefault("Port", PORT)  # moto's default is MySQL's
        return from_template(cls, resource_name, cloudformation_json, *args, **kwargs)

    replace(
        DBInstance, "create_from_cloudformation_json", classmethod(create_from_cloudformation_json)
    )
    create: Any = RDSBackend.create_db_instance

    @functools.wraps(create)
    def create_db_instance(backend: Any, db_kwargs: dict[str, Any]) -> Any:
        if db_kwargs.get("db_cluster_identifier"):
            return create(backend, db_kwargs)  # see moto_db_clusters
        if db_kwargs.get("engine") != ENGINE:
            raise InvalidParameterValue(
                f"the stage plays engine {ENGINE}, not {db_kwargs.get('engine')}"
            )
        for needed in ("master_username", "master_user_password"):
            if not db_kwargs.get(needed):
                raise InvalidParameterValue(f"the stage needs {needed} to create a DB instance")
        multi_az = str(db_kwargs.get("multi_az") or False).lower() == "true"
        if multi_az and db_kwargs.get("availability_zone"):
            raise InvalidParameterCombination(
                "Requesting a specific availability zone is not valid for Multi-AZ instances."
            )
        name = db_kwargs.get("db_subnet_group_name")
        group = backend.describe_db_subnet_groups(name)[0] if name else None
        first, *others = zones = zones_of(backend, group, db_kwargs.get("availability_zone"))
        if multi_az and not others:
            raise RDSClientError(
                "DBSubnetGroupDoesNotCoverEnoughAZs",
                f"a Multi-AZ DB instance needs subnets in two zones, got {', '.join(zones)}",
            )
        placed = {**db_kwargs, "multi_az": multi_az, "availability_zone": first}
        instance = create(backend, placed)
        instance.secondary_availability_zone = others[0] if multi_az else None
        instance.status = "creating"
        return instance

    replace(RDSBackend, "create_db_instance", create_db_instance)
    replicate: Any = RDSBackend.create_db_instance_read_replica

    @functools.wraps(replicate)
    def create_db_instance_read_replica(backend: Any, db_kwargs: dict[str, Any]) -> Any:
        source = found_instance(backend, db_kwargs["source_db_instance_identifier"])
        if db_kwargs["db_instance_identifier"] in backend.databases:
            raise RDSClientError("DBInstanceAlreadyExists", "DB instance already exists")
        wanted = db_kwargs.get("availability_zone")
        zones = zones_of(backend, _group(source), wanted)
        taken = (source.availability_zone, source.secondary_availability_zone)
        replica = replicate(backend, db_kwargs)
        replica.tags = db_kwargs.get("tags") or []
        replica.multi_az, replica.secondary_availability_zone = False, None
        replica.availability_zone = wanted or next(
            (zone for zone in zones if zone not in taken), zones[-1]
        )
        replica.status = "creating"
        return replica

    replace(RDSBackend, "create_db_instance_read_replica", create_db_instance_read_replica)


def subnets_of(backend: Any, group: Any | None) -> dict[str, str]:
    """{zone: subnet id} of where a DB instance may be, in the order of its DB subnet group."""
    if group:
        places = [
            (subnet["SubnetAvailabilityZone"]["Name"], subnet["SubnetIdentifier"])
            for subnet in group.subnets
        ]
    else:
        subnets = get_backend("ec2")[ACCOUNT][backend.region_name].describe_subnets()
        default = [subnet for subnet in subnets if str(subnet.default_for_az).lower() == "true"]
        places = sorted((subnet.availability_zone, subnet.id) for subnet in default)
    found: dict[str, str] = {}
    for zone, subnet in places:
        found.setdefault(zone, subnet)
    return found


def _group(instance: Any) -> Any | None:
    """The DB subnet group of a DB instance; without one moto gives it no such attribute."""
    return getattr(instance, "db_subnet_group", None)


def zones_of(backend: Any, group: Any | None, wanted: str | None) -> list[str]:
    """Zones that a DB instance may be in; the one that was asked for comes first.

    Raises:
        InvalidParameterValue: that one is none of them.
    """
    zones = list(subnets_of(backend, group))
    if wanted and wanted not in zones:
        raise InvalidParameterValue(f"the DB subnet group has no subnet in {wanted}")
    return sorted(zones, key=lambda zone: zone != wanted)


def _reboot(hooks: DatabaseHooks) -> None:
    def reboot_db_instance(response: Any) -> Any:
        force = bool(response.params.get("ForceFailover"))
        instance = available_instance(response.backend, response.params["DBInstanceIdentifier"])
        id_ = instance.db_instance_identifier
        if force and not instance.multi_az:
            raise InvalidParameterCombination(
                "Cannot perform a force failover since the instance is not configured for MultiAZ."
            )
        instance.status = "rebooting"
        if force:
            hooks.fail_over(f"db:{id_}", None)
        elif cluster := instance.db_cluster_identifier:
            hooks.restart(f"cluster:{cluster}", id_)
        else:
            hooks.restart(f"db:{id_}", None)
        return ActionResult({"DBInstance": instance})

    replace(RDSResponse, "reboot_db_instance", reboot_db_instance)


def _promote_and_delete(hooks: DatabaseHooks) -> None:
    def promote_read_replica(backend: Any, db_kwargs: dict[str, Any]) -> Any:
        instance = available_instance(backend, db_kwargs["db_instance_identifier"])
        if not instance.is_replica:
            raise RDSClientError(
                "InvalidDBInstanceState",
                f"DB Instance {instance.db_instance_identifier} is not a read replica.",
            )
        found_instance(backend, instance.source_db_instance_identifier).remove_replica(instance)
        instance.is_replica, instance.source_db_instance_identifier = False, None
        instance.update(**db_kwargs)
        instance.status = "modifying"
        hooks.promote(f"db:{instance.db_instance_identifier}")
        return instance

    replace(RDSBackend, "promote_read_replica", promote_read_replica)
    delete: Any = RDSBackend.delete_db_instance

    @functools.wraps(delete)
    def delete_db_instance(backend: Any, db_instance_identifier: str, **kwargs: Any) -> Any:
        # AWS promotes the replicas of a DB instance that is deleted.
        for replica in list(found_instance(backend, db_instance_identifier).replicas):
            promote_read_replica(backend, {"db_instance_identifier": replica})
        return delete(backend, db_instance_identifier, **kwargs)

    replace(RDSBackend, "delete_db_instance", delete_db_instance)


def found_instance(backend: Any, id_: str) -> Any:
    """A DB instance.

    Raises:
        DBInstanceNotFoundError: there is none.
    """
    if id_ not in backend.databases:
        raise DBInstanceNotFoundError(id_)
    return backend.databases[id_]


def available_instance(backend: Any, id_: str) -> Any:
    """A DB instance in status available.

    Raises:
        DBInstanceNotFoundError, InvalidDBInstanceStateError: as AWS answers.
    """
    instance = found_instance(backend, id_)
    if instance.status != AVAILABLE:
        raise InvalidDBInstanceStateError(id_, "stop")
    return instance
