"""One replication group of the stage: its servers, which one is primary, what failures lead to.

Replication is asynchronous: what a primary has acknowledged and not yet sent is lost with it. The
replica with the least lag is promoted; the failed node is replaced by one that keeps its name and
address. Sources: Amazon ElastiCache User Guide, "Minimizing downtime in ElastiCache by using
Multi-AZ with Valkey and Redis OSS" and "DNS names and underlying IP".
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from chaosgrade.errors import UsageError
from chaosgrade.stage.database_network import Network
from chaosgrade.stage.lines import Events
from chaosgrade.stage.valkey_server import Server

_POLL_S = 0.01
_FOLLOWING_TIMEOUT_S = 15.0


class ManagedCache:
    """A replication group.

    Args:
        order: the order that made it.
        folder: for its servers.
        network: what they are on.
        events: where events go.
    """

    def __init__(
        self, order: dict[str, Any], folder: Path, network: Network, events: Events
    ) -> None:
        self.name = str(order["group"])
        self._detection_s = float(order["detection_s"])
        self._fails_over = bool(order["fails_over"])
        self._network = network
        self._events = events
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        folder.mkdir(mode=0o700)
        port = int(order["port"])
        self._servers = [
            Server(place["node"], place["host"], port, folder / str(n), network, self._exited)
            for n, place in enumerate(order["servers"])
        ]
        self._primary = self._servers[0]
        self._cut: object | None = None
        """Of the network, while the primary is behind one; each is another object."""

    # -- orders

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something to it, after what is under way; failures become events."""

        async def guarded() -> None:
            async with self._lock:
                try:
                    await work()
                except (UsageError, OSError, TimeoutError) as error:
                    said = " ".join(str(error).split()) or type(error).__name__
                    self._emit("error", detail=said)

        self._keep(asyncio.create_task(guarded()))

    async def create(self) -> None:
        """Start its servers, and wait until the replicas follow."""
        await asyncio.gather(*(server.start() for server in self._servers))
        for server in self._replicas():
            await server.follow(self._primary)
        for server in self._replicas():
            await self._wait_until_following(server)
        self._emit("available", node=self._primary.node)

    async def fail_over(self) -> None:
        """End the primary; once that is noticed, a replica takes over."""
        if self._isolated(self._primary):
            self._primary.fence()
        else:
            await self._primary.kill()
        await self._miss(self._primary)

    def face_network(self) -> None:
        """Have its state of now hold at once, and draw conclusions if it stays like that."""
        for server in self._servers:
            server.face_network()
        if not self._isolated(self._primary):
            self._cut = None
            self.begin(self._recover_replicas)
        elif self._cut is None:
            self._cut = object()
            self._keep(asyncio.create_task(self._detect(self._cut)))

    async def delete(self) -> None:
        """End and forget it."""
        for task in list(self._tasks):
            task.cancel()
        for server in self._servers:
            await server.kill()

    # -- failures

    def _exited(self, server: Server) -> None:
        self.begin(lambda: self._miss(server))

    async def _miss(self, server: Server) -> None:
        """A server does not answer any more."""
        if server.running:
            return  # it was started again while this waited for its turn
        self._emit("down", node=server.node)
        await asyncio.sleep(self._detection_s)
        if server is self._primary:
            await self._replace_primary()
        else:
            await self._recover_replicas()

    async def _detect(self, cut: object) -> None:
        while self._cut is cut:
            await asyncio.sleep(self._detection_s)
            self.begin(partial(self._conclude, cut))

    async def _conclude(self, cut: object) -> None:
        """The primary has been out of reach for a while, unless that was healed in between."""
        if self._cut is cut and self._isolated(self._primary) and await self._successor():
            self._primary.fence()
            self._emit("down", node=self._primary.node)
            await self._replace_primary()

    async def _replace_primary(self) -> None:
        new = await self._successor()
        if new is None:
            # What it held is gone: nobody else has it, or may take over.
            await self._primary.kill()
            await self._primary.start()
            self._emit("available", node=self._primary.node)
            return
        former, self._primary = self._primary, new
        await new.promote()
        self._cut = None
        self._emit("failed_over", node=new.node, former=former.node)
        for server in self._replicas():
            if server.running:
                await server.follow(new)
        await self._recover_replicas()

    async def _successor(self) -> Server | None:
        """The replica with the least lag, of those that can be reached."""
        if not self._fails_over:
            return None
        offsets: dict[Server, int] = {}
        for server in self._replicas():
            if server.running and not self._isolated(server):
                with suppress(OSError, TimeoutError):  # it does not answer
                    offsets[server] = (await server.replication()).offset
        return max(offsets, key=offsets.__getitem__, default=None)

    async def _recover_replicas(self) -> None:
        """Start what does not run any more, as replicas, as far as the network lets them be."""
        for server in self._replicas():
            if not server.running and not self._isolated(server) and self._primary.running:
                self._emit("recovering", node=server.node)
                await server.kill()  # it may have been fenced
                await server.start()
                await server.follow(self._primary)
                await self._wait_until_following(server)
                self._emit("recovered", node=server.node)

    async def _wait_until_following(self, server: Server) -> None:
        """Not if the network comes between it and the primary; it follows by itself afterwards.

        Raises:
            TimeoutError: it does not.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _FOLLOWING_TIMEOUT_S
        while self._together(server) and not await self._follows(server):
            if loop.time() > deadline:
                raise TimeoutError(f"{server.node} does not follow {self._primary.node}")
            await asyncio.sleep(_POLL_S)

    # -- the rest

    def _replicas(self) -> list[Server]:
        return [server for server in self._servers if server is not self._primary]

    def _isolated(self, server: Server) -> bool:
        """Whether nobody reaches its subnet, monitoring included."""
        return self._network.links.isolates(server.host, server.port)

    async def _follows(self, server: Server) -> bool:
        return server.host in (await self._primary.replication()).followers

    def _together(self, replica: Server) -> bool:
        primary = self._primary
        return self._network.links.connects(replica.host, primary.host, primary.port)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _emit(self, event: str, **fields: object) -> None:
        self._events.emit(event, group=self.name, **fields)
