"""Amazon ElastiCache as moto keeps it: what the stage reads of it, writes to it, replaces in it.

moto calls every replication group available at once, and knows neither TestFailover nor
DescribeEvents. Here a replication group is available when Valkey says so, and where it says so.
"""

from collections import deque
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from moto.backends import get_backend
from moto.core.responses import ActionResult
from moto.elasticache.exceptions import CacheClusterNotFound, ElastiCacheException
from moto.elasticache.responses import ElastiCacheResponse

from chaosgrade.stage import moto_cache_creation
from chaosgrade.stage.moto_patching import add, replace
from chaosgrade.stage.world import ACCOUNT, CacheGroup, CacheNode

AVAILABLE = "available"

_EVENTS_KEPT = 500
_EVENTS_TOLD = timedelta(hours=1)
_CLUSTER, _GROUP = "cache-cluster", "replication-group"

type FailOver = Callable[[str], None]
"""Has a replica of a replication group take over."""


class MotoCaches:
    """The replication groups of the played AWS, in one account and Region."""

    def __init__(self, region: str) -> None:
        self._elasticache: Any = get_backend("elasticache")[ACCOUNT][region]

    def all(self) -> Iterator[CacheGroup]:
        """Every replication group."""
        for group in self._elasticache.replication_groups.values():
            (shard,) = group.node_groups
            yield CacheGroup(
                id=group.replication_group_id,
                port=int(group.port),
                primary_endpoint=shard["primary_endpoint_address"],
                reader_endpoint=shard["reader_endpoint_address"],
                nodes=tuple(
                    CacheNode(m["cache_cluster_id"], m["read_endpoint"]["address"], m["subnet"])
                    for m in shard["node_group_members"]
                ),
                fails_over=group.automatic_failover == "enabled",
            )

    def set_status(self, id_: str, status: str) -> None:
        """What DescribeReplicationGroups says; of one that was deleted, nothing."""
        if group := self._elasticache.replication_groups.get(id_):
            group.status = group.node_groups[0]["status"] = status

    def set_primary(self, id_: str, node: str) -> None:
        """The role of each node."""
        if group := self._elasticache.replication_groups.get(id_):
            for member in group.node_groups[0]["node_group_members"]:
                is_primary = member["cache_cluster_id"] == node
                member["current_role"] = "primary" if is_primary else "replica"

    def set_node_status(self, id_: str, node: str, status: str) -> None:
        """What DescribeCacheClusters says of a node."""
        if group := self._elasticache.replication_groups.get(id_):
            for member in group.node_groups[0]["node_group_members"]:
                if member["cache_cluster_id"] == node:
                    member["status"] = status

    def note_of_group(self, id_: str, message: str) -> None:
        """Add to what DescribeEvents answers of a replication group."""
        _note(self._elasticache, _GROUP, id_, message)

    def note_of_node(self, node: str, message: str) -> None:
        """Add to what DescribeEvents answers of a node."""
        _note(self._elasticache, _CLUSTER, node, message)


def install(fail_over: FailOver) -> None:
    """Replace moto's methods, and add those that it has not, in this process, for good."""
    moto_cache_creation.install()
    _describe()
    _test_failover(fail_over)


# -- describing


def _describe() -> None:
    def describe_cache_clusters(response: Any) -> Any:
        """Nodes of replication groups: the stage has no others."""
        wanted = response._get_param("CacheClusterId")
        clusters = [
            _cluster(group, member)
            for group in response.elasticache_backend.replication_groups.values()
            for member in group.node_groups[0]["node_group_members"]
            if wanted in (None, member["cache_cluster_id"])
        ]
        if wanted and not clusters:
            raise CacheClusterNotFound(wanted)
        return ActionResult({"CacheClusters": clusters})

    replace(ElastiCacheResponse, "describe_cache_clusters", describe_cache_clusters)

    def describe_events(response: Any) -> Any:
        source, kind = response._get_param("SourceIdentifier"), response._get_param("SourceType")
        minutes = response._get_int_param("Duration")
        since = datetime.now(UTC) - (timedelta(minutes=minutes) if minutes else _EVENTS_TOLD)
        events = [
            event
            for event in _events(response.elasticache_backend)
            if source in (None, event["SourceIdentifier"])
            and kind in (None, event["SourceType"])
            and event["Date"] >= since
        ]
        return ActionResult({"Events": events})

    add(ElastiCacheResponse, "describe_events", describe_events)


def _cluster(group: Any, member: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "CacheClusterId": member["cache_cluster_id"],
        "CacheClusterStatus": member["status"],
        "CacheNodeType": group.cache_node_type,
        "CacheSubnetGroupName": group.cache_subnet_group_name,
        "Engine": group.engine,
        "EngineVersion": group.engine_version,
        "NumCacheNodes": 1,
        "PreferredAvailabilityZone": member["preferred_availability_zone"],
        "ReplicationGroupId": group.replication_group_id,
        "CacheNodes": [
            {
                "CacheNodeId": "0001",
                "CacheNodeStatus": member["status"],
                "CustomerAvailabilityZone": member["preferred_availability_zone"],
                "Endpoint": {
                    "Address": member["read_endpoint"]["address"],
                    "Port": int(group.port),
                },
            }
        ],
    }


def _events(backend: Any) -> deque[dict[str, Any]]:
    events: deque[dict[str, Any]] = backend.__dict__.setdefault(
        "stage_events", deque(maxlen=_EVENTS_KEPT)
    )
    return events


def _note(backend: Any, kind: str, source: str, message: str) -> None:
    _events(backend).append(
        {
            "SourceIdentifier": source,
            "SourceType": kind,
            "Message": message,
            "Date": datetime.now(UTC),
        }
    )


# -- failing over


def _test_failover(fail_over: FailOver) -> None:
    def test_failover(response: Any) -> Any:
        backend, id_ = response.elasticache_backend, response._get_param("ReplicationGroupId")
        (group,) = backend.describe_replication_groups(id_)
        shard = response._get_param("NodeGroupId")
        if shard != group.node_groups[0]["node_group_id"]:
            raise ElastiCacheException("NodeGroupNotFoundFault", f"Node group {shard} not found.")
        if group.automatic_failover != "enabled":
            raise _invalid_state(f"Replication group {id_} has no automatic failover.")
        if group.status != AVAILABLE:
            raise _invalid_state(f"Replication group {id_} is {group.status}.")
        group.status = group.node_groups[0]["status"] = "modifying"
        _note(backend, _GROUP, id_, f"Test Failover API called for node group {shard}")
        fail_over(id_)
        return ActionResult({"ReplicationGroup": group})

    add(ElastiCacheResponse, "test_failover", test_failover)


def _invalid_state(message: str) -> ElastiCacheException:
    return ElastiCacheException("InvalidReplicationGroupState", message)
