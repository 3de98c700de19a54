"""The load balancers of the stage: `python -m chaosgrade.stage.balancer`.

A process of its own, so that neither the control plane nor the load generator delays requests.
Orders come as JSON lines on standard input, each the whole wanted state in AWS seconds:

    {"op": "configure", "time_scale",
     "balancers": [{"name", "host", "port", "protocol", "target_group"}],
     "target_groups": [{"arn", "name", "health_check": {…}, "deregistration_delay_s",
                        "slow_start_s", "targets": [{"id", "host", "port", "zone"}]}]}

Events go out on standard output:

    {"event": "ready"}    {"event": "listening", "name", "host", "port"}
    {"event": "error", "name", "detail"}    {"event": "drained", "target_group", "id", "port"}
    {"event": "health", "target_group", "id", "port", "state", "reason", "description"}

Protocol HTTP is an application load balancer, TCP a network load balancer.
"""

import asyncio
import signal
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from chaosgrade import lifeline
from chaosgrade.stage.lines import Events, LineBuffer
from chaosgrade.stage.proxy import Downstream, Splice
from chaosgrade.stage.target_groups import RegisteredTarget, TargetGroup


@dataclass(frozen=True, slots=True)
class _Listener:
    name: str
    host: str
    port: int
    protocol: str


class Balancer:
    """All listeners and target groups of a stage."""

    def __init__(self, events: Events) -> None:
        self._events = events
        self._groups: dict[str, TargetGroup] = {}
        self._routes: dict[_Listener, str] = {}
        self._servers: dict[_Listener, asyncio.Server] = {}

    async def configure(self, order: dict[str, Any]) -> None:
        """Take over the wanted state."""
        scale = float(order["time_scale"])
        wanted_groups = {fields["arn"]: fields for fields in order["target_groups"]}
        for arn in self._groups.keys() - wanted_groups.keys():
            self._groups.pop(arn).close()
        for arn, fields in wanted_groups.items():
            group = self._groups.setdefault(arn, TargetGroup(arn, self._events))
            group.configure(fields, scale)
        wanted = {
            _Listener(b["name"], b["host"], b["port"], b["protocol"]): b["target_group"]
            for b in order["balancers"]
        }
        self._routes = wanted
        for listener in self._servers.keys() - wanted.keys():
            self._servers.pop(listener).close()
        for listener in wanted.keys() - self._servers.keys():
            await self._listen(listener)

    async def _listen(self, listener: _Listener) -> None:
        connection: Callable[[], asyncio.Protocol]
        if listener.protocol == "HTTP":
            connection = lambda: Downstream(lambda: self._choose(listener))  # noqa: E731
        else:
            connection = lambda: Splice(lambda: self._choose(listener))  # noqa: E731
        try:
            self._servers[listener] = await asyncio.get_running_loop().create_server(
                connection, listener.host, listener.port, backlog=1024
            )
        except OSError as error:
            self._events.emit("error", name=listener.name, detail=str(error))
            return
        self._events.emit(
            "listening", name=listener.name, host=listener.host, port=listener.port
        )

    def _choose(self, listener: _Listener) -> RegisteredTarget | None:
        group = self._groups.get(self._routes.get(listener, ""))
        return group.choose() if group else None


async def serve() -> None:
    """Take orders until the end of standard input."""
    loop = asyncio.get_running_loop()
    events = Events()
    balancer = Balancer(events)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), _Stdin())
    events.emit("ready")
    buffer = LineBuffer()
    while chunk := await orders.read(1 << 16):
        for order in buffer.feed(chunk):
            await balancer.configure(order)


class _Stdin:
    """Standard input as asyncio wants it: unbuffered, and not closed by the interpreter."""

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        return


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-balancer")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    try:
        from uvloop import new_event_loop
    except ImportError:
        new_event_loop = asyncio.new_event_loop  # type: ignore[assignment]  # the same, slower
    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve())


if __name__ == "__main__":
    main()
