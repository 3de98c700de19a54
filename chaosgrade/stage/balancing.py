"""Elastic Load Balancing of the stage: what the balancer process is to do, and what it has seen.

Source of states and reasons: Elastic Load Balancing API Reference, "TargetHealth".
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade.stage.timing import BALANCER_NOTICES_STATE_S
from chaosgrade.stage.world import TargetHealth

type Key = tuple[str, str, int]
"""Target group ARN, target id, port."""

_REGISTERING = TargetHealth(
    "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
)
_DRAINING = TargetHealth(
    "draining", "Target.DeregistrationInProgress", "Target deregistration is in progress"
)
_NOT_REGISTERED = TargetHealth(
    "unused", "Target.NotRegistered", "Target is not registered to the target group"
)
_INVALID_STATE = TargetHealth(
    "unused", "Target.InvalidState", "Target is in the stopped or terminated state"
)
_STATES = ("healthy", "unhealthy", "initial")
"""Of what nodes find, the first decides."""
_NOT_IN_USE = TargetHealth(
    "unused",
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)


@dataclass(frozen=True, slots=True)
class HostCount:
    """What one node of a load balancer thinks of the targets in a zone.

    Args:
        balancer, target_group: their ARNs.
        zone: of the targets; "" for all zones together.
    """

    balancer: str
    target_group: str
    zone: str
    healthy: int
    unhealthy: int


class Balancing:
    """Keeps the balancer process configured and tells the health of targets.

    Args:
        scale: AWS seconds per real second.
        send: gives an order to the balancer process.
        gone_since: when an instance left the running state, in AWS seconds; None while it runs.
    """

    def __init__(
        self,
        scale: float,
        send: Callable[[Mapping[str, Any]], None],
        gone_since: Callable[[str], float | None],
    ) -> None:
        self._scale = scale
        self._send = send
        self._gone_since = gone_since
        self._lock = threading.Lock()
        """Of what is found and drained, which is told on another thread than it is reset on."""
        self._configured: Mapping[str, Any] = {"balancers": [], "target_groups": []}
        self._registered: set[Key] = set()
        self._health: dict[Key, dict[str, TargetHealth]] = {}
        """What each node has found of targets in use, by the node's address."""
        self._draining: dict[Key, frozenset[str]] = {}
        """The nodes that still drain a target."""
        self._listening: set[tuple[str, str]] = set()
        self._unheard: frozenset[str] = frozenset()
        self.errors: list[str] = []

    def reconcile(
        self,
        balancers: Iterable[Mapping[str, Any]],
        groups: Iterable[Mapping[str, Any]],
        place: Callable[[str], Mapping[str, str]],
        now: float,
    ) -> None:
        """Send the wanted state, if it is another than the last.

        Args:
            balancers, groups: as AWS describes them.
            place: {"host", "zone"} of a target id.
            now: AWS seconds.
        """
        groups = list(groups)
        self._registered = _keys(groups)
        wanted = {
            "op": "configure",
            "time_scale": self._scale,
            "balancers": list(balancers),
            "target_groups": [
                {
                    **group,
                    "targets": [
                        {**target, **place(target["id"])}
                        for target in group["targets"]
                        if not self._noticed_gone(target["id"], now)
                    ],
                }
                for group in groups
            ],
        }
        if wanted == self._configured:
            return
        former, present = (
            _keys(self._configured["target_groups"]),
            _keys(wanted["target_groups"]),  # type: ignore[arg-type]  # a list, said above
        )
        nodes = self._nodes
        with self._lock:
            self._draining = {
                key: left & nodes(wanted, key[0])
                for key, left in (
                    *self._draining.items(),
                    *((key, nodes(self._configured, key[0])) for key in former - present),
                )
                if key not in present and left & nodes(wanted, key[0])
            }
            self._health = {
                key: self._health.get(key, {}) if key in former else {} for key in present
            }
        self._configured = wanted
        self._send(wanted)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in what the balancer says; runs on another thread."""
        match event["event"]:
            case "health":
                found = TargetHealth(event["state"], event["reason"], event["description"])
                with self._lock:
                    if (known := self._health.get(_key(event))) is not None:
                        self._health[_key(event)] = {**known, event["node"]: found}
            case "drained":
                key = _key(event)
                with self._lock:
                    left = self._draining.get(key, frozenset()) - {event["node"]}
                    if left:
                        self._draining[key] = left
                    else:
                        self._draining.pop(key, None)
            case "listening":
                self._listening.add((event["name"], event["host"]))
            case "error":
                self.errors.append(
                    f"balancer {event['name']} cannot listen: {event['detail']}; "
                    "choose another listener port in the template"
                )

    def target_health(self, arn: str, target: str, port: int, now: float) -> TargetHealth:
        """What DescribeTargetHealth says of a target."""
        key = (arn, target, port)
        if key not in self._registered:
            return _DRAINING if key in self._draining else _NOT_REGISTERED
        if self._noticed_gone(target, now):
            return _INVALID_STATE
        if all(balancer["target_group"] != arn for balancer in self._configured["balancers"]):
            return _NOT_IN_USE
        return self._together(self._health.get(key, {}))

    def unheard(self, nodes: Iterable[str]) -> None:
        """From now on nodes at these addresses are cut off: nobody hears what they find."""
        self._unheard = frozenset(nodes)

    def can_serve(self, balancer: Mapping[str, Any], node: Mapping[str, str]) -> bool:
        """Whether a node is heard of and has a healthy target that it may use.

        Args:
            balancer, node: as `MotoWorld.balancers` yields them.
        """
        arn, host = balancer["target_group"], node["host"]
        if host in self._unheard:
            return False
        targets = next(
            (g["targets"] for g in self._configured["target_groups"] if g["arn"] == arn), ()
        )
        return any(
            self._health.get((arn, t["id"], t["port"]), {}).get(host, _REGISTERING).state
            == "healthy"
            for t in targets
            if balancer["cross_zone"] or t["zone"] == node["zone"]
        )

    def host_counts(self) -> Iterator[HostCount]:
        """What each node that is heard of counts, in each zone and over all of them."""
        groups = {group["arn"]: group for group in self._configured["target_groups"]}
        nodes = {
            (balancer["arn"], balancer["target_group"], node["host"])
            for balancer in self._configured["balancers"]
            for node in balancer["nodes"]
            if node["host"] not in self._unheard
        }
        for balancer, arn, node in nodes:
            seen: Counter[tuple[str, str]] = Counter()
            zones = {""}
            for target in groups.get(arn, {}).get("targets", ()):
                found = self._health.get((arn, target["id"], target["port"]), {})
                for zone in ("", target["zone"]):
                    seen[zone, found.get(node, _REGISTERING).state] += 1
                zones.add(target["zone"])
            if seen:
                for zone in zones:
                    yield HostCount(
                        balancer, arn, zone, seen[zone, "healthy"], seen[zone, "unhealthy"]
                    )

    def _together(self, found: Mapping[str, TargetHealth]) -> TargetHealth:
        """What several nodes together say. Assumption: one that reaches a target is believed, for
        one that comes back from a cut would condemn every target that it could not reach; AWS
        documents that each node checks by itself, not what DescribeTargetHealth makes of it."""
        heard = [health for node, health in found.items() if node not in self._unheard]
        return min(heard, key=lambda health: _STATES.index(health.state), default=_REGISTERING)

    @staticmethod
    def _nodes(order: Mapping[str, Any], arn: str) -> frozenset[str]:
        """Addresses of the nodes that use a target group."""
        return frozenset(
            node["host"]
            for balancer in order["balancers"]
            if balancer["target_group"] == arn
            for node in balancer["nodes"]
        )

    def draining(self, arn: str) -> list[tuple[str, int]]:
        """(id, port) of the targets of a group that are being drained."""
        gone = set(self._draining.copy()) - self._registered
        return sorted((target, port) for group, target, port in gone if group == arn)

    def drains(self, target: str) -> bool:
        """Whether any group still drains a target."""
        return any(key[1] == target for key in self._draining.copy())

    def refuses(self, arn: str, target: str) -> bool:
        """Whether a group has found a target unhealthy."""
        return any(
            self._together(found).state == "unhealthy"
            for (group, id_, _), found in self._health.copy().items()
            if (group, id_) == (arn, target)
        )

    def ready(self, now: float) -> bool:
        """Whether every listener is open and every registered target healthy."""
        doors = {(b["name"], n["host"]) for b in self._configured["balancers"] for n in b["nodes"]}
        checked = [
            (key, node)
            for key in self._registered
            for node in self._nodes(self._configured, key[0])
        ]
        return (
            doors <= self._listening
            and all(self.target_health(*key, now).state == "healthy" for key in self._registered)
            and all(node in self._health.get(key, {}) for key, node in checked)
        )

    def _noticed_gone(self, target: str, now: float) -> bool:
        since = self._gone_since(target)
        return since is not None and now - since >= BALANCER_NOTICES_STATE_S


def _key(event: Mapping[str, Any]) -> Key:
    return event["target_group"], event["id"], event["port"]


def _keys(groups: Iterable[Mapping[str, Any]]) -> set[Key]:
    return {
        (group["arn"], target["id"], target["port"])
        for group in groups
        for target in group["targets"]
    }
