"""Target groups of the stage's balancers: who is in service, who is next, who is being drained.

Source: Elastic Load Balancing, User Guide for Application Load Balancers, "Target groups" and
"Edit target group attributes" (deregistration delay, slow start).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosgrade.stage import health_checks
from chaosgrade.stage.checker import Check, look
from chaosgrade.stage.health_checks import HEALTHY, Health
from chaosgrade.stage.lines import Events
from chaosgrade.stage.proxy import Connection, Upstream
from chaosgrade.stage.splice import Splice

_LEAST_WEIGHT = 0.01


@dataclass(slots=True, eq=False)
class RegisteredTarget:
    """One target as a node sees it: where it is, how it is, and the connections to it.

    Args:
        id: as AWS calls it.
        host, port: where it is.
        zone: its Availability Zone; "" when it is not known.
        source: the address that the node connects from.
    """

    id: str
    host: str
    port: int
    zone: str
    source: str
    health: Health = field(default_factory=Health)
    draining: bool = False
    slow_since: float | None = None
    """Loop time at which its slow start began; None when it takes its full share."""
    turn: float = 0.0
    """How far it is behind its share of requests."""
    idle: list[Upstream] = field(default_factory=list)
    open: set[Connection] = field(default_factory=set)
    checks: asyncio.Task[None] | None = None

    def drop_connections(self, *, spliced: bool) -> None:
        """Close what is open to it.

        Args:
            spliced: also what a network load balancer passes on.
        """
        for connection in list(self.open):
            if spliced or not isinstance(connection, Splice):
                connection.abort()

    def stop_checks(self) -> None:
        """Look at it no more."""
        if self.checks is not None:
            self.checks.cancel()


class TargetGroup:
    """Routes among its targets and checks them, as one node of a balancer does.

    Args:
        arn: its identity.
        node: the node's address.
        events: where changes of health go.
    """

    def __init__(self, arn: str, node: str, events: Events) -> None:
        self.arn = arn
        self.node = node
        self._events = events
        self._loop = asyncio.get_running_loop()
        self._targets: dict[tuple[str, int], RegisteredTarget] = {}
        self._draining: dict[RegisteredTarget, asyncio.TimerHandle] = {}
        self._check: Check
        self._slow_start_s = 0.0
        self._ends_connections = False

    def configure(self, fields: Mapping[str, Any], scale: float) -> None:
        """Take over the wanted state; targets that stay keep their health."""
        self._check = Check.of(fields["health_check"], scale)
        self._slow_start_s = fields["slow_start_s"] / scale
        self._ends_connections = fields["ends_connections"]
        delay_s = fields["deregistration_delay_s"] / scale
        wanted = {
            (target["id"], target["port"]): (target["host"], target["zone"])
            for target in fields["targets"]
        }
        for key, target in list(self._targets.items()):
            if wanted.get(key) != (target.host, target.zone):
                self._drain(self._targets.pop(key), delay_s)
        for (id_, port), (host, zone) in wanted.items():
            if (id_, port) not in self._targets:
                self._register(RegisteredTarget(id_, host, port, zone, self.node))

    def close(self) -> None:
        """Let go of all targets at once: a group that is deleted waits for none."""
        for target in self._targets.values():
            self._drain(target, 0.0)
        self._targets.clear()
        for target, timer in list(self._draining.items()):
            timer.cancel()
            self._drained(target)

    def choose(self, zone: str | None = None) -> RegisteredTarget | None:
        """The target of the next request, by weighted round robin; None when none is registered.

        Healthy targets, or all of them when none is: the balancer fails open.

        Args:
            zone: use only targets of this zone; None for all.
        """
        registered = [t for t in self._targets.values() if zone in (None, t.zone)]
        pool = [t for t in registered if t.health.state == HEALTHY] or registered
        if not pool:
            return None
        total, chosen = 0.0, pool[0]
        for target in pool:
            weight = 1.0 if target.slow_since is None else self._ramp(target)
            total += weight
            target.turn += weight
            if target.turn > chosen.turn:
                chosen = target
        chosen.turn -= total
        return chosen

    def _ramp(self, target: RegisteredTarget) -> float:
        """The share of a target in slow start: linear in time."""
        since = self._loop.time() - (target.slow_since or 0.0)
        if since >= self._slow_start_s:
            target.slow_since = None
            return 1.0
        return max(_LEAST_WEIGHT, since / self._slow_start_s)

    def _register(self, target: RegisteredTarget) -> None:
        self._targets[target.id, target.port] = target
        self._tell(target)
        target.checks = self._loop.create_task(self._watch(target))

    def _drain(self, target: RegisteredTarget, delay_s: float) -> None:
        """No new requests; those under way have the delay to finish."""
        target.draining = True
        target.stop_checks()
        for upstream in list(target.idle):
            upstream.leave()
        self._draining[target] = self._loop.call_later(delay_s, self._drained, target)

    def _drained(self, target: RegisteredTarget) -> None:
        del self._draining[target]
        target.drop_connections(spliced=self._ends_connections)
        # It may have been registered again meanwhile, and even deregistered once more.
        if all(
            (other.id, other.port) != (target.id, target.port)
            for other in (*self._targets.values(), *self._draining)
        ):
            self._events.emit(
                "drained",
                target_group=self.arn,
                node=self.node,
                id=target.id,
                port=target.port,
            )

    async def _watch(self, target: RegisteredTarget) -> None:
        due = self._loop.time()
        # The first check is at once; those of many targets are spread over the interval after it.
        wait_s = self._check.interval_s * health_checks.phase(target.id)
        while True:
            result = await look(self._check, target.host, target.port, self.node)
            self._found(target, health_checks.after(
                target.health, result,
                healthy=self._check.healthy, unhealthy=self._check.unhealthy,
            ))  # fmt: skip
            due = max(due + wait_s, self._loop.time())  # late: no burst to catch up
            await asyncio.sleep(due - self._loop.time())
            wait_s = self._check.interval_s

    def _found(self, target: RegisteredTarget, health: Health) -> None:
        was, target.health = target.health, health
        if (was.state, was.reason, was.description) == (
            health.state, health.reason, health.description,
        ):  # fmt: skip
            return
        if health.state == HEALTHY:
            target.turn = 0.0
            target.slow_since = self._loop.time() if self._starts_slowly(target) else None
        elif was.state == HEALTHY:
            # A network load balancer ends the connections to a target that becomes unhealthy
            # (target_health_state.unhealthy.connection_termination.enabled, on by default).
            for connection in list(target.open):
                if isinstance(connection, Splice):
                    connection.abort()
        self._tell(target)

    def _starts_slowly(self, target: RegisteredTarget) -> bool:
        """Only beside another that takes its full share: somebody has to carry the load."""
        return self._slow_start_s > 0 and any(
            other.health.state == HEALTHY and other.slow_since is None
            for other in self._targets.values()
            if other is not target
        )

    def _tell(self, target: RegisteredTarget) -> None:
        self._events.emit(
            "health",
            target_group=self.arn,
            node=self.node,
            id=target.id,
            port=target.port,
            state=target.health.state,
            reason=target.health.reason,
            description=target.health.description,
        )
