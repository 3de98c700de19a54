"""The way from customers into the network of namespaces: `python -m chaosgrade.stage.gateway`.

Customers are in the network namespace that the stage was started in, and find the node of a load
balancer at a loopback address; in the stage's network they come from `network_acls.OUTSIDE`. Its
arguments are those of its fabric, see `fabric.of`. Orders come as JSON lines on standard input,
events go out on standard output:

    {"op": "doors", "doors": [{"name", "host", "port"}, …]}
    {"op": "links", …}, see links.Links.of

    {"event": "ready"}    {"event": "listening" | "error", "name", "host", "port", "detail"}

What is said on an open connection the router drops like anything else. A customer who connects is
let in before the node is asked, though: where the way is cut, the door is shut instead, so that
connecting hangs.
"""

import asyncio
import gc
import select
import signal
import socket
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosgrade import lifeline
from chaosgrade.stage import event_loop, fabric
from chaosgrade.stage.addresses import outside
from chaosgrade.stage.fabric import Namespaces
from chaosgrade.stage.lines import Events, LineBuffer, Stdin
from chaosgrade.stage.links import Links
from chaosgrade.stage.network_acls import OUTSIDE
from chaosgrade.stage.proxy import Connection
from chaosgrade.stage.splice import Splice

_CUSTOMERS = str(OUTSIDE[10])
_BACKLOG = 1024
_FILLERS = 64
_HANDSHAKE_S = 0.005
"""More than a hundred times what a connection on loopback takes."""


@dataclass(frozen=True, slots=True)
class _Node:
    """Where a door leads."""

    host: str
    port: int
    source: str = _CUSTOMERS
    open: set[Connection] = field(default_factory=set)


class Door:
    """An address that customers connect to.

    Args:
        listener: listens there.
        node: where it leads.
    """

    def __init__(self, listener: socket.socket, node: _Node) -> None:
        self._listener = listener
        self._node = node
        self._clients: set[Connection] = set()
        self._server: asyncio.Server | None = None
        self._fillers: list[socket.socket] = []

    async def open(self) -> None:
        """Let customers in, those who have been waiting as well."""
        if self._server is not None:
            return
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self._listener.listen(_BACKLOG)
        self._server = await asyncio.get_running_loop().create_server(
            lambda: Splice(lambda: self._node, self._clients), sock=self._listener.dup()
        )

    def shut(self) -> None:
        """Connecting hangs: Linux drops the SYN of what cannot be queued (listen(2))."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._listener.listen(0)
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(self._listener.getsockname())
            self._fillers.append(filler)
            if not select.select([], [filler], [], _HANDSHAKE_S)[1]:
                break

    def remove(self) -> None:
        """Refuse customers from now on, and drop those who are in."""
        self.shut()
        for held in (*self._fillers, self._listener):
            held.close()
        for client in list(self._clients):
            client.abort()


class Gateway:
    """All doors of a stage.

    Args:
        network: what they lead into.
        events: where events go.
    """

    def __init__(self, network: Namespaces, events: Events) -> None:
        self._network = network
        self._events = events
        self._links = Links()
        self._doors: dict[tuple[str, int], Door] = {}

    async def set_doors(self, wanted: Iterable[Mapping[str, Any]]) -> None:
        """Have these doors and no others."""
        names = {(str(door["host"]), int(door["port"])): str(door["name"]) for door in wanted}
        for address in self._doors.keys() - names.keys():
            self._doors.pop(address).remove()
        for address in names.keys() - self._doors.keys():
            host, port = address
            told = {"name": names[address], "host": host, "port": port}
            try:
                listener = self._network.listen(outside(host), port)
            except OSError as error:
                self._events.emit("error", **told, detail=error.strerror or str(error))
                continue
            self._doors[address] = Door(listener, _Node(host, port))
            self._events.emit("listening", **told, detail="")
        await self.connect(self._links)

    async def connect(self, links: Links) -> None:
        """Take over the state of the network."""
        self._links = links
        for (host, port), door in self._doors.items():
            if links.connects(_CUSTOMERS, host, port):
                await door.open()
            else:
                door.shut()


async def serve(network: Namespaces) -> None:
    """Take orders until the end of standard input."""
    events = Events()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), Stdin()
    )
    network.join_too(_CUSTOMERS)
    gateway = Gateway(network, events)
    events.emit("ready")
    buffer = LineBuffer()
    while chunk := await orders.read(1 << 16):
        for order in buffer.feed(chunk):
            match order["op"]:
                case "doors":
                    await gateway.set_doors(order["doors"])
                case "links":
                    await gateway.connect(Links.of(order))
                case unknown:
                    raise ValueError(f"no order {unknown}")


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-gateway")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    network = fabric.of(sys.argv[1:])
    if not isinstance(network, Namespaces):
        raise SystemExit(
            "a loopback fabric needs no gateway: customers connect to nodes themselves"
        )
    gc.freeze()  # the collector need not look at what is imported
    event_loop.run(serve(network))


if __name__ == "__main__":
    main()
