"""Target groups of the stage's balancers: who is in service, who is next, who is being drained."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self

from chaosgrade.stage import health_checks
from chaosgrade.stage.health_checks import HEALTHY, Health, Result
from chaosgrade.stage.lines import Events
from chaosgrade.stage.proxy import Connection, Upstream



@dataclass(frozen=True, slots=True)
class Check:
    """How targets are checked; seconds are measured ones, divided by the time scale already."""

    protocol: str
    port: int | None
    path: str
    interval_s: float
    timeout_s: float
    healthy: int
    unhealthy: int
    matcher: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], scale: float) -> Self:
        """From an order's fields, in AWS seconds."""
        return cls(
            protocol=fields["protocol"],
            port=fields["port"],
            path=fields["path"] or "/",
            interval_s=fields["interval_s"] / scale,
            timeout_s=fields["timeout_s"] / scale,
            healthy=fields["healthy"],
            unhealthy=fields["unhealthy"],
            matcher=fields["matcher"] or "200",
        )


@dataclass(slots=True, eq=False)
class RegisteredTarget:
    """One target: where it is, how it is, and the connections to it."""

    id: str
    host: str
    port: int
    zone: str
    health: Health = field(default_factory=Health)
    healthy_since: float = 0.0
    draining: bool = False
    idle: list[Upstream] = field(default_factory=list)
    open: set[Connection] = field(default_factory=set)
    turn: float = 0.0
    checks: asyncio.Task[None] | None = None

    def drop_connections(self) -> None:
        """Close whatever is open to it."""
        for connection in list(self.open):
            connection.abort()


class TargetGroup:
    """Routes among its targets and checks them.

    Args:
        arn: its identity.
        events: where changes of health go.
    """

    def __init__(self, arn: str, events: Events) -> None:
        self.arn = arn
        self._events = events
        self._targets: dict[tuple[str, int], RegisteredTarget] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._check: Check
        self._slow_start_s = 0.0
        self._delay_s = 0.0

    def configure(self, fields: Mapping[str, Any], scale: float) -> None:
        """Take over the wanted state; targets that stay keep their health."""
        self._check = Check.of(fields["health_check"], scale)
        self._slow_start_s = fields["slow_start_s"] / scale
        self._delay_s = fields["deregistration_delay_s"] / scale
        wanted = {(target["id"], target["port"]): target for target in fields["targets"]}
        for key in self._targets.keys() - wanted.keys():
            self._deregister(key)
        for key, target in wanted.items():
            known = self._targets.get(key)
            if known is not None and known.draining:
                # Registered again while it was being drained: a new target.
                self._forget(key)
                known = None
            if known is None:
                self._register(key, target)

    def close(self) -> None:
        """Forget all targets at once."""
        for key in list(self._targets):
            self._forget(key)

    def choose(self) -> RegisteredTarget | None:
        """The target of the next request, by weighted round robin; None when there is none.

        Healthy targets, or all of them when none is: the balancer fails open.
        """
        registered = [t for t in self._targets.values() if not t.draining]
        pool = [t for t in registered if t.health.state == HEALTHY] or registered
        if not pool:
            return None
        now = asyncio.get_running_loop().time()
        weights = [self._weight(target, now) for target in pool]
        for target, weight in zip(pool, weights, strict=True):
            target.turn += weight
        chosen = max(pool, key=lambda target: target.turn)
        chosen.turn -= sum(weights)
        return chosen

    def _weight(self, target: RegisteredTarget, now: float) -> float:
        if not self._slow_start_s or target.health.state != HEALTHY:
            return 1.0
        return min(1.0, max(0.05, (now - target.healthy_since) / self._slow_start_s))

    def _register(self, key: tuple[str, int], fields: Mapping[str, Any]) -> None:
        target = RegisteredTarget(fields["id"], fields["host"], fields["port"], fields["zone"] or "")
        self._targets[key] = target
        self._tell(target)
        target.checks = asyncio.get_running_loop().create_task(self._watch(target))

    def _deregister(self, key: tuple[str, int]) -> None:
        target = self._targets[key]
        if target.draining:
            return
        target.draining = True
        if target.checks is not None:
            target.checks.cancel()
        drain = asyncio.get_running_loop().create_task(self._drain(key, target))
        self._background.add(drain)
        drain.add_done_callback(self._background.discard)

    async def _drain(self, key: tuple[str, int], target: RegisteredTarget) -> None:
        for upstream in list(target.idle):
            upstream.abort()
        await asyncio.sleep(self._delay_s)
        if self._targets.get(key) is target:
            self._forget(key)
            self._events.emit("drained", target_group=self.arn, id=target.id, port=target.port)

    def _forget(self, key: tuple[str, int]) -> None:
        target = self._targets.pop(key)
        if target.checks is not None:
            target.checks.cancel()
        target.drop_connections()

    async def _watch(self, target: RegisteredTarget) -> None:
        loop = asyncio.get_running_loop()
        due = loop.time()
        while True:
            result = await self._look(target)
            was = target.health
            target.health = health_checks.after(
                was, result, healthy=self._check.healthy, unhealthy=self._check.unhealthy
            )
            if target.health.state == HEALTHY != was.state:
                target.healthy_since = loop.time()
                target.turn = 0.0
            if (was.state, was.reason) != (target.health.state, target.health.reason):
                self._tell(target)
            due += self._check.interval_s
            if due < loop.time():
                due = loop.time()  # late: no burst of checks to catch up
            await asyncio.sleep(due - loop.time())

    async def _look(self, target: RegisteredTarget) -> Result:
        check = self._check
        writer: asyncio.StreamWriter | None = None
        try:
            async with asyncio.timeout(check.timeout_s):
                reader, writer = await asyncio.open_connection(
                    target.host, check.port or target.port
                )
                if check.protocol == "TCP":
                    return Result()
                writer.write(
                    f"GET {check.path} HTTP/1.1\r\nHost: {target.host}\r\n"
                    "User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n".encode()
                )
                line = await reader.readline()
            status = int(line.split(b" ", 2)[1])
        except TimeoutError:
            return Result(health_checks.TIMEOUT, "Request timed out")
        except (OSError, ValueError, IndexError):
            return Result(health_checks.FAILED, "Health checks failed")
        finally:
            if writer is not None:
                with suppress(OSError):
                    writer.transport.abort()
        if health_checks.matches(status, check.matcher):
            return Result()
        return Result(
            health_checks.MISMATCH, f"Health checks failed with these codes: [{status}]"
        )

    def _tell(self, target: RegisteredTarget) -> None:
        self._events.emit(
            "health",
            target_group=self.arn,
            id=target.id,
            port=target.port,
            state=target.health.state,
            reason=target.health.reason,
            description=target.health.description,
        )


