"""Elastic Load Balancing of the stage: what the balancer process is to do, and what it has seen.

Source of states and reasons: Elastic Load Balancing API Reference, "TargetHealth".
"""

from collections.abc import Callable, Iterable, Mapping
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
_NOT_IN_USE = TargetHealth(
    "unused",
    "Target.NotInUse",
    "Target group is not configured to receive traffic from the load balancer",
)


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
        self._configured: Mapping[str, Any] = {"balancers": [], "target_groups": []}
        self._registered: set[Key] = set()
        self._health: dict[Key, TargetHealth] = {}
        self._draining: set[Key] = set()
        self._listening: set[str] = set()
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
        known = {group["arn"] for group in groups}
        self._draining = {key for key in self._draining | (former - present) if key[0] in known}
        for key in present - former:
            self._draining.discard(key)
            self._health[key] = _REGISTERING
        self._configured = wanted
        self._send(wanted)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in what the balancer says; runs on another thread, so by single assignments."""
        match event["event"]:
            case "health":
                self._health[_key(event)] = TargetHealth(
                    event["state"], event["reason"], event["description"]
                )
            case "drained":
                self._draining.discard(_key(event))
            case "listening":
                self._listening.add(event["name"])
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
        return self._health.get(key, _REGISTERING)

    def draining(self, arn: str) -> list[tuple[str, int]]:
        """(id, port) of the targets of a group that are being drained."""
        gone = set(self._draining) - self._registered
        return sorted((target, port) for group, target, port in gone if group == arn)

    def drains(self, target: str) -> bool:
        """Whether any group still drains a target."""
        return any(key[1] == target for key in self._draining.copy())

    def refuses(self, arn: str, target: str) -> bool:
        """Whether a group has found a target unhealthy."""
        return any(
            health.state == "unhealthy"
            for (group, id_, _), health in self._health.copy().items()
            if (group, id_) == (arn, target)
        )

    def ready(self, now: float) -> bool:
        """Whether every listener is open and every registered target healthy."""
        listening = {b["name"] for b in self._configured["balancers"]} <= self._listening
        return listening and all(
            self.target_health(*key, now).state == "healthy" for key in self._registered
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
