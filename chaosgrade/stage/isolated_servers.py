"""A child of the stage that keeps servers in namespaces of their own and takes orders for them."""

import asyncio
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from chaosgrade import lifeline
from chaosgrade.stage import event_loop, fabric, isolation
from chaosgrade.stage.database_network import Network, impose
from chaosgrade.stage.lines import Events, LineBuffer, Stdin


class Keeper(Protocol):
    """Keeps servers."""

    async def obey(self, order: dict[str, Any]) -> None:
        """Carry out an order, or begin to."""
        ...

    async def delete_all(self) -> None:
        """End and forget every server."""
        ...


type MakeKeeper = Callable[[Path, Network, Events], Keeper]
"""Given an empty folder, the network that the servers are on, and where events go."""


def run(name: str, make: MakeKeeper) -> None:
    """Emit "ready" and take orders, until the end of standard input; then end every server.

    Args:
        name: of the process.
        make: called on the event loop, once.
    """
    lifeline.name_process(name)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    chosen = fabric.of(sys.argv[1:])

    def work(folder: Path, outside: isolation.Outside) -> None:
        event_loop.run(_serve(make, folder, Network(chosen, outside)))

    try:
        isolation.run(work, partial(impose, chosen))
    except isolation.NoIsolation as error:
        print(f"chaosgrade: {error}", file=sys.stderr)
        sys.exit(2)


async def _serve(make: MakeKeeper, folder: Path, network: Network) -> None:
    events = Events()
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), Stdin()
    )
    keeper = make(folder, network, events)
    events.emit("ready")
    buffer = LineBuffer()
    while chunk := await orders.read(1 << 16):
        for order in buffer.feed(chunk):
            await keeper.obey(order)
    await keeper.delete_all()
