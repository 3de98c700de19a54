"""How replication groups of the played AWS are created, by the API and by CloudFormation.

moto takes any engine and any zone, counts the nodes wrongly, and knows nothing of ElastiCache in
templates.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from moto.backends import get_backend
from moto.core.common_models import CloudFormationModel
from moto.elasticache.exceptions import (
    InvalidParameterCombinationException,
    InvalidParameterValueException,
)
from moto.elasticache.models import ElastiCacheBackend

from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.moto_stack_resource import StackResource
from chaosgrade.stage.world import ACCOUNT

ENGINE, ENGINE_VERSION = "valkey", "9.1"

_MOST_NODES = 6
_UNPLAYED = (
    "auth_token", "global_replication_group_id", "primary_cluster_id", "snapshot_arns",
    "snapshot_name", "transit_encryption_enabled", "user_group_ids",
)  # fmt: skip

_PARAMETERS = {
    "AtRestEncryptionEnabled": "at_rest_encryption_enabled",
    "AuthToken": "auth_token",
    "AutomaticFailoverEnabled": "automatic_failover_enabled",
    "CacheNodeType": "cache_node_type",
    "CacheSubnetGroupName": "cache_subnet_group_name",
    "Engine": "engine",
    "EngineVersion": "engine_version",
    "MultiAZEnabled": "multi_az_enabled",
    "NumCacheClusters": "num_cache_clusters",
    "NumNodeGroups": "num_node_groups",
    "Port": "port",
    "PreferredCacheClusterAZs": "preferred_cache_cluster_azs",
    "ReplicasPerNodeGroup": "replicas_per_node_group",
    "ReplicationGroupDescription": "replication_group_description",
    "SecurityGroupIds": "security_group_ids",
    "Tags": "tags",
    "TransitEncryptionEnabled": "transit_encryption_enabled",
}
"""{property in a template: moto's name of it}."""


def install() -> None:
    """Replace moto's methods, in this process, for good."""
    create: Any = ElastiCacheBackend.create_replication_group
    nothing = dict.fromkeys(list(inspect.signature(create).parameters)[1:])

    def create_replication_group(backend: Any, **given: Any) -> Any:
        _check(given)
        count = _node_count(given)
        zones = _zones(backend, given, count)
        made = create(
            backend,
            # moto counts the nodes by this one alone.
            **{**nothing, **given, "num_cache_clusters": count,
               "replicas_per_node_group": count - 1, "num_node_groups": 1,
               "preferred_cache_cluster_azs": [zone for zone, _ in zones],
               "engine_version": given.get("engine_version") or ENGINE_VERSION},
        )  # fmt: skip
        (shard,) = made.node_groups
        made.status = shard["status"] = "creating"
        shard["reader_endpoint"] = {
            "address": shard["reader_endpoint_address"], "port": made.port,
        }  # fmt: skip
        for member, (_, subnet) in zip(shard["node_group_members"], zones, strict=True):
            member["subnet"], member["status"] = subnet, "creating"
        return made

    replace(ElastiCacheBackend, "create_replication_group", create_replication_group)

    def delete_replication_group(
        backend: Any, replication_group_id: str, retain_primary_cluster: bool | None
    ) -> Any:
        (group,) = backend.describe_replication_groups(replication_group_id)
        del backend.replication_groups[replication_group_id]
        group.status = "deleting"
        return group

    replace(ElastiCacheBackend, "delete_replication_group", delete_replication_group)


def _check(given: Mapping[str, Any]) -> None:
    """Refuse what would be other than it says.

    Raises:
        InvalidParameterValueException: as the API answers it.
    """
    if (engine := given.get("engine")) != ENGINE:
        raise InvalidParameterValueException(f"the stage plays engine {ENGINE}, not {engine}")
    if (
        given.get("cluster_mode") in ("enabled", "compatible")
        or _number(given, "num_node_groups") > 1
    ):
        raise InvalidParameterValueException("the stage plays one shard, cluster mode disabled")
    for unplayed in _UNPLAYED:
        if str(given.get(unplayed) or False).lower() not in ("false", "[]"):
            raise InvalidParameterValueException(f"the stage does not play {unplayed}")


def _node_count(given: Mapping[str, Any]) -> int:
    """How many nodes.

    Raises:
        InvalidParameterValueException, InvalidParameterCombinationException: as the API does.
    """
    replicas = _number(given, "replicas_per_node_group")
    count = _number(given, "num_cache_clusters") or replicas + 1
    if not 1 <= count <= _MOST_NODES:
        raise InvalidParameterValueException(f"nodes must be from 1 to {_MOST_NODES}, got {count}")
    fails_over = _flag(given, "automatic_failover_enabled")
    if fails_over and count == 1:
        raise InvalidParameterCombinationException(
            "Automatic failover needs at least one read replica."
        )
    if _flag(given, "multi_az_enabled") and not fails_over:
        raise InvalidParameterCombinationException("Multi-AZ needs automatic failover.")
    return count


def _zones(backend: Any, given: Mapping[str, Any], count: int) -> list[tuple[str, str]]:
    """(zone, subnet) of each node: as it was asked for, or one zone of the group after another.

    Raises:
        InvalidParameterValueException: the cache subnet group has no subnet in such a zone.
        InvalidParameterCombinationException: Multi-AZ in one zone.
    """
    subnets = _subnets(backend, given.get("cache_subnet_group_name"))
    wanted = given.get("preferred_cache_cluster_azs") or list(subnets)
    found = []
    for number in range(count):
        zone = wanted[number % len(wanted)]
        if zone not in subnets:
            raise InvalidParameterValueException(
                f"the cache subnet group has no subnet in {zone}; it has {', '.join(subnets)}"
            )
        found.append((zone, subnets[zone]))
    if _flag(given, "multi_az_enabled") and len({zone for zone, _ in found}) == 1:
        raise InvalidParameterCombinationException("Multi-AZ needs subnets in two zones.")
    return found


def _subnets(backend: Any, group: str | None) -> dict[str, str]:
    """{zone: subnet id} of where nodes may be, in the order of the cache subnet group."""
    ec2 = get_backend("ec2")[ACCOUNT][backend.region_name]
    if group:
        ids: Sequence[str] = backend.describe_cache_subnet_groups(group)[0].subnet_ids
        places = [(ec2.get_subnet(id_).availability_zone, id_) for id_ in ids]
    else:
        default = [s for s in ec2.describe_subnets() if str(s.default_for_az).lower() == "true"]
        places = sorted((subnet.availability_zone, subnet.id) for subnet in default)
    found: dict[str, str] = {}
    for zone, subnet in places:
        found.setdefault(zone, subnet)
    return found


def _number(given: Mapping[str, Any], name: str) -> int:
    return int(given.get(name) or 0)


def _flag(given: Mapping[str, Any], name: str) -> bool:
    return str(given.get(name) or False).lower() == "true"  # CloudFormation hands over text


# -- CloudFormation, which finds these classes by their being subclasses


class _SubnetGroup(CloudFormationModel):
    @staticmethod
    def cloudformation_name_type() -> str:
        return "CacheSubnetGroupName"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ElastiCache::SubnetGroup"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return False

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> StackResource:
        properties = cloudformation_json["Properties"]
        group = get_backend("elasticache")[account_id][region_name].create_cache_subnet_group(
            cache_subnet_group_name=resource_name,
            cache_subnet_group_description=properties.get("Description", ""),
            subnet_ids=properties["SubnetIds"],
            tags=properties.get("Tags"),
        )
        return StackResource(group.cache_subnet_group_name)


class _Group(CloudFormationModel):
    @staticmethod
    def cloudformation_name_type() -> str:
        return "ReplicationGroupId"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::ElastiCache::ReplicationGroup"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr.partition(".")[0] in ("PrimaryEndPoint", "ReaderEndPoint")

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> StackResource:
        properties = cloudformation_json["Properties"]
        known = {
            _PARAMETERS[name]: value for name, value in properties.items() if name in _PARAMETERS
        }
        group = get_backend("elasticache")[account_id][region_name].create_replication_group(
            **known, replication_group_id=resource_name
        )
        (shard,) = group.node_groups
        return StackResource(
            group.replication_group_id,
            {
                "PrimaryEndPoint.Address": shard["primary_endpoint_address"],
                "PrimaryEndPoint.Port": str(group.port),
                "ReaderEndPoint.Address": shard["reader_endpoint_address"],
                "ReaderEndPoint.Port": str(group.port),
            },
        )
