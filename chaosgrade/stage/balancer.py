"""The load balancers of the stage: `python -m chaosgrade.stage.balancer`.

A process of its own, so that neither the control plane nor the load generator delays requests. Its
arguments are those of its fabric, see `fabric.of`. Orders come as JSON lines on standard input,
each the whole wanted state in AWS seconds:

    {"op": "configure", "time_scale",
     "balancers": [{"name", "arn", "port", "protocol", "target_group", "cross_zone",
                    "idle_timeout_s", "access_logs": {"bucket", "prefix"} or null,
                    "nodes": [{"subnet", "zone", "host"}]}],
     "target_groups": [{"arn", "name", "health_check": {…}, "deregistration_delay_s",
                        "ends_connections", "slow_start_s",
                        "targets": [{"id", "host", "port", "zone"}]}]}

and the state of the network, in the words of `links.Links.of`. Events go out on standard output:

    {"event": "ready"}    {"event": "listening", "name", "host", "port"}
    {"event": "error", "name", "detail"}
    {"event": "drained", "target_group", "node", "id", "port"}
    {"event": "health", "target_group", "node", "id", "port", "state", "reason", "description"}

and each AWS minute, if there is anything to tell, what its nodes have counted:

    {"event": "requests", "second", "balancer", "zone", "target_group", "sums", "response_times"}
    {"event": "flows", "second", "balancer", "zone", "active": [flows at each look]}

and every five AWS minutes the access logs of each node that has something to log:

    {"event": "access_log", "bucket", "key", "content": base64}

`second` is when the minute began, in AWS seconds since 1970; "zone" is that of the node, and "" for
all of a balancer's together.

`idle_timeout_s` alone is measured: latencies of requests are not scaled.

Protocol HTTP is an application load balancer, TCP a network load balancer. It has a node in each of
its zones, at an address of its own: nodes check and choose targets each for itself.
"""

import asyncio
import base64
import gc
import math
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosgrade import lifeline
from chaosgrade.stage import event_loop, fabric
from chaosgrade.stage.access_log import PUBLISHED_EVERY_S, AccessLog, Exchange
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.lines import Events, LineBuffer, Stdin
from chaosgrade.stage.links import Links
from chaosgrade.stage.proxy import Connection, Downstream, Timeouts
from chaosgrade.stage.request_counts import RequestCounts
from chaosgrade.stage.splice import Splice
from chaosgrade.stage.target_groups import RegisteredTarget, TargetGroup
from chaosgrade.stage.timing import SAMPLE_S


@dataclass(frozen=True, slots=True)
class _Route:
    """What stands behind an address."""

    name: str
    balancer: str
    protocol: str
    target_group: str
    zone: str | None
    """Of the targets that it uses; None for all."""
    node_zone: str
    timeouts: Timeouts


@dataclass(slots=True)
class _Door:
    """An address that is listened on, and who has come in."""

    route: _Route
    server: asyncio.Server | None = None
    clients: set[Connection] = field(default_factory=set)


@dataclass(frozen=True, slots=True)
class _DoorLog:
    """What has come in at a door goes to its node's log."""

    door: _Door
    log: AccessLog

    @property
    def wanted(self) -> bool:
        return bool(self.log.bucket)

    def add(self, exchange: Exchange) -> None:
        self.log.add(exchange, self.door.route.target_group, time.time())


class Balancer:
    """All listeners and target groups of a stage.

    Args:
        fabric: what its nodes are on.
        events: where events go.
    """

    def __init__(self, fabric: Fabric, events: Events) -> None:
        self._fabric = fabric
        self._events = events
        self._joined: set[str] = set()
        self._groups: dict[tuple[str, str], TargetGroup] = {}
        """As a node sees them: by ARN and the node's address."""
        self._links = Links()
        self._doors: dict[tuple[str, int], _Door] = {}
        self._counts: defaultdict[tuple[str, str, str], RequestCounts] = defaultdict(RequestCounts)
        """By balancer, the node's zone and target group."""
        self._flows: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
        """What was seen at each look of this minute, by balancer and zone."""
        self._logs: dict[tuple[str, str], AccessLog] = {}
        """By balancer and the node's address."""
        self._scale = 1.0
        self._reports: asyncio.Task[None] | None = None

    async def configure(self, order: Mapping[str, Any]) -> None:
        """Take over the wanted state; what has not changed goes on undisturbed."""
        scale = self._scale = float(order["time_scale"])
        groups = {
            (fields["arn"], node["host"]): fields
            for fields in order["target_groups"]
            for balancer in order["balancers"]
            if balancer["target_group"] == fields["arn"]
            for node in balancer["nodes"]
        }
        for key in self._groups.keys() - groups.keys():
            self._groups.pop(key).close()
        for host in {host for _, host in groups} - self._joined:
            self._fabric.join_too(host)
            self._joined.add(host)
        for key, fields in groups.items():
            if key not in self._groups:
                self._groups[key] = TargetGroup(*key, self._events)
            self._groups[key].configure(fields, scale)
        routes = {
            (node["host"], int(b["port"])): _Route(
                b["name"],
                b["arn"],
                b["protocol"],
                b["target_group"],
                None if b["cross_zone"] else node["zone"],
                node["zone"],
                Timeouts(idle_s=float(b["idle_timeout_s"])),
            )
            for b in order["balancers"]
            for node in b["nodes"]
        }
        self._keep_logs(order["balancers"])
        for address in self._doors.keys() - routes.keys():
            _close(self._doors.pop(address))
        for address, route in routes.items():
            await self._open(address, route)
        if self._links.cut:
            self._impose()
        if self._reports is None:
            self._reports = asyncio.get_running_loop().create_task(self._report())

    def connect(self, links: Links) -> None:
        """Take over the state of the network."""
        self._links = links
        self._impose()

    def _impose(self) -> None:
        self._fabric.impose(self._links, os.getpid(), {port for _, port in self._doors})

    def _keep_logs(self, balancers: Iterable[Mapping[str, Any]]) -> None:
        """Have nodes log where they are to; what they have not published still is."""
        wanted = {
            (b["arn"], node["host"]): b.get("access_logs") for b in balancers for node in b["nodes"]
        }
        for key, place in wanted.items():
            log = self._logs.get(key)
            if log is None:
                log = self._logs[key] = AccessLog(*key)
            log.bucket = place["bucket"] if place else ""
            log.prefix = place["prefix"] if place else ""

    async def _open(self, address: tuple[str, int], route: _Route) -> None:
        host, port = address
        door = self._doors.get(address)
        if door is None:
            door = _Door(route)
            try:
                door.server = await asyncio.get_running_loop().create_server(
                    lambda: self._enter(address, door), host, port, backlog=1024
                )
            except OSError as error:
                self._events.emit("error", name=route.name, detail=error.strerror or str(error))
                return
            self._doors[address] = door
        elif door.route.name == route.name:
            door.route = route
            return
        door.route = route
        self._events.emit("listening", name=route.name, host=host, port=port)

    def _enter(self, address: tuple[str, int], door: _Door) -> asyncio.Protocol:
        def choose() -> RegisteredTarget | None:
            group = self._groups.get((door.route.target_group, address[0]))
            return group.choose(door.route.zone) if group else None

        route = door.route
        counts = self._counts[route.balancer, route.node_zone, route.target_group]
        if route.protocol == "TCP":
            counts.connected()
            return Splice(choose, door.clients)
        log = _DoorLog(door, self._logs[route.balancer, address[0]])
        return Downstream(choose, door.clients, counts, route.timeouts, log)

    async def _report(self) -> None:
        """Look at the flows from time to time, and tell of each AWS minute at its end."""
        look = math.floor(time.time() * self._scale / SAMPLE_S)
        minute = look * SAMPLE_S // 60
        published = look * SAMPLE_S // PUBLISHED_EVERY_S
        while True:
            look = max(look, math.floor(time.time() * self._scale / SAMPLE_S)) + 1
            await asyncio.sleep(look * SAMPLE_S / self._scale - time.time())
            self._look_at_flows()
            if look * SAMPLE_S // 60 > minute:
                minute = look * SAMPLE_S // 60
                self._tell((minute - 1) * 60)
            if look * SAMPLE_S // PUBLISHED_EVERY_S > published:
                published = look * SAMPLE_S // PUBLISHED_EVERY_S
                self._publish()

    def _publish(self) -> None:
        """Hand over the files of access logs that are due."""
        for log in self._logs.values():
            bucket = log.bucket
            if bucket and (file := log.take(time.time())):
                key, content = file
                text = base64.b64encode(content).decode("ascii")
                self._events.emit("access_log", bucket=bucket, key=key, content=text)

    def _look_at_flows(self) -> None:
        active: defaultdict[tuple[str, str], int] = defaultdict(int)
        for door in self._doors.values():
            if door.route.protocol == "TCP":
                for zone in ("", door.route.node_zone):
                    active[door.route.balancer, zone] += len(door.clients)
        for key, flows in active.items():
            self._flows[key].append(flows)

    def _tell(self, second: int) -> None:
        for (balancer, zone, target_group), counts in self._counts.items():
            if counted := counts.take():
                self._events.emit(
                    "requests",
                    second=second,
                    balancer=balancer,
                    zone=zone,
                    target_group=target_group,
                    **counted,
                )
        for (balancer, zone), active in self._flows.items():
            self._events.emit("flows", second=second, balancer=balancer, zone=zone, active=active)
        self._flows.clear()


def _close(door: _Door) -> None:
    """A load balancer that is deleted drops its clients."""
    if door.server is not None:
        door.server.close()
    for client in list(door.clients):
        client.abort()


async def serve(fabric: Fabric) -> None:
    """Take orders until the end of standard input."""
    events = Events()
    balancer = Balancer(fabric, events)
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), Stdin()
    )
    events.emit("ready")
    buffer = LineBuffer()
    while chunk := await orders.read(1 << 16):
        for order in buffer.feed(chunk):
            if order["op"] == "links":
                balancer.connect(Links.of(order))
            else:
                await balancer.configure(order)


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-balancer")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    gc.freeze()  # the collector need not look at what is imported
    event_loop.run(serve(fabric.of(sys.argv[1:])))


if __name__ == "__main__":
    main()
