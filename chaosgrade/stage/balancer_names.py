"""What the names of load balancers lead to: the addresses of the nodes that can serve.

"If there are no healthy targets in an enabled Availability Zone, we remove the IP address for the
corresponding subnet from DNS so that requests cannot be routed to targets in that Availability
Zone"; if no zone has one, all stay. Source: Elastic Load Balancing, Network Load Balancers, "Target
group health". A node that Amazon Route 53 cannot reach leaves as well.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade.stage.addresses import outside
from chaosgrade.stage.timing import BALANCER_DNS_TTL_S, NODE_LEAVES_DNS_S

type Records = dict[str, dict[str, object]]
"""{name: {"addresses", "addresses_outside", "ttl_s"}}, as `chaosgrade.stage.dns` takes them."""


@dataclass(frozen=True, slots=True)
class _Node:
    name: str
    host: str


class BalancerNames:
    """Remembers how long each node has been unable to serve.

    Args:
        can_serve: whether a node of a balancer can, by the balancer and the node as
            `MotoWorld.balancers` yields them.
    """

    def __init__(self, can_serve: Callable[[Mapping[str, Any], Mapping[str, str]], bool]) -> None:
        self._can_serve = can_serve
        self._differs_since: dict[_Node, float] = {}
        self._left: set[_Node] = set()

    def records(
        self,
        balancers: Iterable[Mapping[str, Any]],
        now: float,
    ) -> Records:
        """What each name leads to.

        Args:
            balancers: their listeners; one with several serves if any of them does.
            now: AWS seconds.
        """
        serving: dict[_Node, bool] = {}
        for balancer in balancers:
            for node in balancer["nodes"]:
                key = _Node(balancer["dns_name"], node["host"])
                serving[key] = self._can_serve(balancer, node) or serving.get(key, False)
        self._left &= serving.keys()
        self._differs_since = {
            node: self._differs_since.get(node, now)
            for node, serves in serving.items()
            if serves == (node in self._left)
        }
        for node, since in list(self._differs_since.items()):
            if now - since >= NODE_LEAVES_DNS_S:
                self._left ^= {node}
                del self._differs_since[node]
        by_name: dict[str, list[_Node]] = {}
        for node in serving:
            by_name.setdefault(node.name, []).append(node)
        records: Records = {}
        for name, nodes in by_name.items():
            gone = self._left >= set(nodes)
            hosts = [node.host for node in nodes if gone or node not in self._left]
            records[name] = {
                "addresses": hosts,
                "addresses_outside": [outside(host) for host in hosts],
                "ttl_s": BALANCER_DNS_TTL_S,
            }
        return records
