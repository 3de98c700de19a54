"""Amazon ElastiCache of the stage: caches do what the played AWS says, and it tells of them."""

import sys
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaosgrade.stage.children import Start
from chaosgrade.stage.server_child import ServerChild
from chaosgrade.stage.timing import CACHE_DNS_TTL_S, CACHE_FAILOVER_S, AwsTime
from chaosgrade.stage.world import CacheGroup

if TYPE_CHECKING:
    from chaosgrade.stage.moto_caches import MotoCaches

_ONE_NODE = "0001"
"""What ElastiCache calls the node of a cluster that has one, as every cluster of Valkey."""


@dataclass(slots=True)
class _Known:
    """What has been heard of a replication group.

    Args:
        hosts: {node: address of its server}.
        primary: a node; "" until the group has been available.
        down: nodes whose servers do not run.
    """

    group: CacheGroup
    hosts: Mapping[str, str]
    primary: str = ""
    down: set[str] = field(default_factory=set)


class CacheReconciler:
    """All replication groups of a stage.

    Args:
        start: starts a process of the stage.
        time: how long AWS's waits take.
        address: gives an address in a subnet.
        publish: takes {name: {"addresses", "ttl_s" in AWS seconds}} of all endpoints.
    """

    def __init__(
        self,
        start: Start,
        time: AwsTime,
        address: Callable[[str], str],
        publish: Callable[[Mapping[str, Mapping[str, Any]]], None],
    ) -> None:
        self._time = time
        self._address = address
        self._publish = publish
        self._events: deque[Mapping[str, Any]] = deque()
        self.process = ServerChild(start, "chaosgrade.stage.caches", self._events.append)
        self._known: dict[str, _Known] = {}
        self.errors: list[str] = []

    def ready(self, world: "MotoCaches") -> bool:
        """Whether every replication group has been available."""
        return all(g.id in self._known and self._known[g.id].primary for g in world.all())

    def reconcile(self, world: "MotoCaches") -> None:
        """Take in what has happened, create and delete what is due; on the stage's main thread."""
        while self._events:
            self._take_in(self._events.popleft(), world)
        wanted = {group.id: group for group in world.all()}
        for id_ in self._known.keys() - wanted.keys():
            del self._known[id_]
            self.process.send({"op": "delete", "group": id_})
        for id_ in wanted.keys() - self._known.keys():
            self._create(wanted[id_])
        self._publish(
            {
                name: {"addresses": addresses, "ttl_s": CACHE_DNS_TTL_S}
                for known in self._known.values()
                if known.primary
                for name, addresses in _names(known).items()
            }
        )

    def fail_over(self, id_: str) -> None:
        """Have a replica of a replication group take over."""
        self.process.send({"op": "fail_over", "group": id_})

    def _create(self, group: CacheGroup) -> None:
        hosts = {node.id: self._address(node.subnet) for node in group.nodes}
        self._known[group.id] = _Known(group, hosts)
        self.process.send(
            {
                "op": "create",
                "group": group.id,
                "servers": [{"node": node, "host": host} for node, host in hosts.items()],
                "port": group.port,
                "detection_s": self._time.real(CACHE_FAILOVER_S),
                "fails_over": group.fails_over,
            }
        )

    def _take_in(self, event: Mapping[str, Any], world: "MotoCaches") -> None:
        id_, node = event.get("group", ""), event.get("node", "")
        known = self._known.get(id_)
        if known is None:
            return  # it was deleted, or the process is ready
        match event["event"]:
            case "available":
                known.primary = node
                known.down.discard(node)
                for each in known.hosts.keys() - known.down:
                    world.set_node_status(id_, each, "available")
                world.set_status(id_, "available")
            case "down":
                known.down.add(node)
                world.set_node_status(id_, node, "modifying")
                world.set_status(id_, "modifying")
            case "failed_over":
                known.primary = node
                world.set_primary(id_, node)
                message = f"Failover from primary node {event['former']} to replica node {node}"
                world.note_of_node(node, f"{message} completed")
                world.note_of_group(id_, f"{message} completed")
            case "recovering":
                world.note_of_node(node, f"Recovering cache nodes {_ONE_NODE}")
            case "recovered":
                known.down.discard(node)
                world.note_of_node(node, f"Finished recovery for cache nodes {_ONE_NODE}")
                world.set_node_status(id_, node, "available")
                if not known.down:
                    world.set_status(id_, "available")
            case "error":
                self.errors.append(f"replication group {id_}: {event['detail']}")
                world.set_status(id_, "create-failed")
                print(f"chaosgrade: {self.errors[-1]}", file=sys.stderr, flush=True)


def _names(known: _Known) -> dict[str, list[str]]:
    """{DNS name: addresses}. A node that is down keeps both: its replacement has them too."""
    group = known.group
    replicas = [n.id for n in group.nodes if n.id not in {known.primary, *known.down}]
    return {
        group.primary_endpoint: [known.hosts[known.primary]],
        group.reader_endpoint: [known.hosts[node] for node in replicas or [known.primary]],
        **{node.endpoint: [known.hosts[node.id]] for node in group.nodes},
    }
