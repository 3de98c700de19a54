"""One DB instance of the stage: its servers, who of them is the primary, and what failures lead to.

A Multi-AZ instance has a standby that every commit waits for, as long as it keeps up; only such a
standby is promoted, so that no acknowledged write is lost. Sources: Amazon RDS User Guide,
"Configuring and managing a Multi-AZ deployment"; PostgreSQL, "Log-Shipping Standby Servers".
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from chaosgrade.errors import UsageError
from chaosgrade.stage.database_network import Network
from chaosgrade.stage.lines import Events
from chaosgrade.stage.postgres import Replication, Server
from chaosgrade.stage.replication_link import ReplicationLink

_ALWAYS_THERE = "postgres"
_STANDBY, _REPLICA = "standby", "replica"
_SYNCHRONOUS = {"synchronous_standby_names": _STANDBY}
_STANDBY_STATE: LiteralString = """
    SELECT state || ' ' || sync_state FROM pg_stat_replication
    WHERE application_name = 'standby' AND flush_lsn >= %s
"""
_POLL_S = 0.01
_STREAMING_TIMEOUT_S = 30.0


class ManagedDatabase:
    """A DB instance, or a read replica of one.

    Args:
        order: the order that made it.
        folder: for its servers.
        network: what its servers are on.
        events: where events go.
    """

    def __init__(
        self, order: dict[str, Any], folder: Path, network: Network, events: Events
    ) -> None:
        self.name = str(order["database"])
        self.synchronous = order.get("replication", "synchronous") == "synchronous"
        self._order = order
        self._folder = folder
        self._network = network
        self._events = events
        self._lock = asyncio.Lock()
        self._tasks: set[asyncio.Task[None]] = set()
        self._links: list[ReplicationLink] = []
        self._standby_link: ReplicationLink | None = None
        self._source: ReplicationLink | None = None
        folder.mkdir(mode=0o700)
        port = int(order["port"])
        servers = [
            Server(place["zone"], place["host"], port, folder / str(number), network, self._exited)
            for number, place in enumerate(order["servers"])
        ]
        self._primary = servers[0]
        self._standby = servers[1] if len(servers) > 1 else None
        self._standby_keeps_up = False
        self._cut: object | None = None
        """Of the network, while there is one that matters; each is another object."""

    # -- orders

    def begin(self, work: Callable[[], Awaitable[None]]) -> None:
        """Do something to it, after what is under way; failures become events."""

        async def guarded() -> None:
            async with self._lock:
                try:
                    await work()
                except (UsageError, psycopg.Error, OSError, TimeoutError) as error:
                    self._emit("error", detail=" ".join(str(error).split()))

        self._keep(asyncio.create_task(guarded()))

    async def create(self, cluster: Path) -> None:
        """Start it from an empty cluster, with the customer's user and database."""
        order = self._order
        await self._primary.copy_from(cluster)
        self._primary.follow(None)
        if self._standby is not None:
            # A copy of a cluster that no server runs on is as good as a base backup.
            await self._standby.copy_from(cluster)
            self._standby.follow(await self._standby_source(self._standby))
            await asyncio.gather(self._primary.start(), self._standby.start())
        else:
            await self._primary.start()
        user = sql.Identifier(order["user"])
        create_user = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
        await self._primary.execute(create_user.format(user, sql.Literal(order["password"])))
        if order["name"] and order["name"] != _ALWAYS_THERE:
            create_database = sql.SQL("CREATE DATABASE {} OWNER {}")
            name = sql.Identifier(order["name"])
            await self._primary.execute(create_database.format(name, user))
        if self._standby is not None:
            await self._let_standby_keep_up(self._standby)
        self._available()

    async def replicate(self, source: "ManagedDatabase", lag_s: float) -> None:
        """Start as an asynchronous read replica."""
        link = await source.link(self._folder / "link", self._primary.host, lag_s)
        self._source = link
        await self._primary.back_up_from(source._primary)
        self._primary.follow(link.as_source(_REPLICA, readable=True))
        await self._primary.start()
        self._available()

    async def promote(self) -> None:
        """A read replica becomes a database of its own."""
        await self._primary.promote()
        if self._source is not None:
            await self._source.close()
            self._source = None
        self._primary.configure({})
        self._available()

    async def restart(self, down_s: float) -> None:
        """Restart in place: down for `down_s` measured seconds and the start itself."""
        await self._primary.stop()
        self._emit("down", zone=self._primary.zone)
        await asyncio.sleep(down_s)
        await self._bring_back()

    async def fail_over(self, down_s: float) -> None:
        """End the primary; after `down_s` measured seconds the standby takes over."""
        if self._isolated(self._primary):
            self._primary.fence()  # whoever connects goes on hanging
        else:
            await self._primary.kill()
        self._cut_links()
        self._emit("down", zone=self._primary.zone)
        await self._recover(down_s)

    def face_network(self) -> None:
        """Have its state of now hold at once, and draw conclusions if it stays like that."""
        for server in self._servers():
            server.face_network()
        self._direct_links()
        if not self._isolated(self._primary) and (self._standby is None or self._together()):
            self._cut = None
            self.begin(self._catch_up)
            return
        if self._cut is None:
            self._cut = object()
            self._keep(asyncio.create_task(self._detect(self._cut)))

    async def delete(self) -> None:
        """End and forget it."""
        for task in list(self._tasks):
            task.cancel()
        if self._source is not None:
            await self._source.close()
        for link in self._links:
            await link.close()
        for server in self._servers():
            await server.kill()
            server.delete()

    # -- failures

    def _exited(self, server: Server) -> None:
        self.begin(lambda: self._miss(server))

    async def _miss(self, server: Server) -> None:
        """A server does not answer any more."""
        if server.running:
            return  # it was started again while this waited for its turn
        detection_s = float(self._order["detection_s"])
        if server is self._primary:
            self._cut_links()
            self._emit("down", zone=server.zone)
            await asyncio.sleep(detection_s)
            await self._recover(0.0)
        elif server is self._standby:
            self._standby_keeps_up = False
            await asyncio.sleep(detection_s)  # commits wait meanwhile
            self._primary.configure({})
            await self._rejoin()

    async def _detect(self, cut: object) -> None:
        while self._cut is cut:
            await asyncio.sleep(float(self._order["detection_s"]))
            self.begin(partial(self._conclude, cut))

    async def _conclude(self, cut: object) -> None:
        """A cut of the network has lasted for a while, unless it was healed in between."""
        if self._cut is not cut:
            return
        if self._isolated(self._primary):
            if self._has_successor():
                self._primary.fence()
                await self._recover(0.0)
        elif self._standby_keeps_up and not self._together():
            self._standby_keeps_up = False
            self._primary.configure({})  # commits have waited until now

    async def _catch_up(self) -> None:
        if not self._standby_keeps_up:
            await self._rejoin()

    async def _recover(self, down_s: float) -> None:
        """The primary is down: have a server take its place, or itself come back."""
        old, new = self._primary, self._standby
        if new is not None and self._has_successor():
            self._emit("failing_over", zone=old.zone)
            self._standby_keeps_up = False
            await asyncio.sleep(down_s)
            if new.running:
                await self._promote_standby(old, new)
                await self._rejoin()
                return
            down_s = 0.0
        await asyncio.sleep(down_s)
        await self._bring_back()

    def _has_successor(self) -> bool:
        """Whether a server runs that has all that was acknowledged, and can be reached."""
        standby = self._standby
        return (
            standby is not None
            and self._standby_keeps_up
            and standby.running
            and not self._isolated(standby)
        )

    def _isolated(self, server: Server) -> bool:
        """Whether nobody reaches its subnet, monitoring included."""
        return self._network.links.isolates(server.host, server.port)

    def _together(self) -> bool:
        """Whether the standby reaches the primary."""
        standby, primary = self._standby, self._primary
        return standby is not None and self._network.links.connects(
            standby.host, primary.host, primary.port
        )

    async def _promote_standby(self, old: Server, new: Server) -> None:
        new.configure({})
        await new.promote()
        self._primary, self._standby = new, old
        self._cut_links()
        self._direct_links()
        self._emit("failed_over", zone=new.zone, host=new.host)

    async def _bring_back(self) -> None:
        """Start the primary where it was, with all that it had acknowledged."""
        await self._primary.kill()  # it may have been fenced
        await self._primary.start()
        self._available()
        await self._catch_up()

    async def _rejoin(self) -> None:
        """Make a standby that is behind or was the primary a copy of the primary of today."""
        server = self._standby
        if server is None or not self._primary.running or not self._together():
            return
        await server.kill()
        self._primary.configure({})
        await server.back_up_from(self._primary)
        server.follow(await self._standby_source(server))
        await server.start()
        await self._let_standby_keep_up(server)
        if self._standby_keeps_up:
            self._emit("standby", zone=server.zone)

    # -- replication

    async def link(self, folder: Path, follower: str, lag_s: float) -> ReplicationLink:
        """A link from the primary, whichever server that is, to the address of a follower."""
        made = ReplicationLink(folder, self._primary.socket, follower, lag_s)
        await made.start()
        self._links.append(made)
        self._direct_links()
        return made

    def _cut_links(self) -> None:
        for link in self._links:
            link.cut()

    def _direct_links(self) -> None:
        """Have links lead to the primary of now, as far as the network lets them."""
        primary = self._primary
        if self._standby_link is not None and self._standby is not None:
            self._standby_link.follower = self._standby.host
        for link in self._links:
            link.source = primary.socket
            link.passes = self._network.links.connects(link.follower, primary.host, primary.port)

    async def _standby_source(self, standby: Server) -> Replication:
        if self._standby_link is None:
            lag_s = 0.0 if self.synchronous else float(self._order["lag_s"])
            folder = self._folder / "standby-link"
            self._standby_link = await self.link(folder, standby.host, lag_s)
        return self._standby_link.as_source(_STANDBY, readable=False)

    async def _let_standby_keep_up(self, standby: Server) -> None:
        """Wait until it has what was written up to now, and have commits wait for it from now on if
        it is synchronous; not if the network comes between them.

        Raises:
            TimeoutError: it does not stream.
        """
        written = await self._primary.ask("SELECT pg_current_wal_flush_lsn()::text")
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STREAMING_TIMEOUT_S
        if self.synchronous:
            self._primary.configure(_SYNCHRONOUS)
        wanted = "sync" if self.synchronous else "async"
        while await self._primary.ask(_STANDBY_STATE, written) != f"streaming {wanted}":
            if not self._together():
                self._primary.configure({})
                return
            if loop.time() > deadline:
                self._primary.configure({})
                raise TimeoutError(f"the standby in {standby.zone} does not stream")
            await asyncio.sleep(_POLL_S)
        self._standby_keeps_up = True

    # -- the rest

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _servers(self) -> Iterator[Server]:
        yield self._primary
        if self._standby is not None:
            yield self._standby

    def _available(self) -> None:
        primary = self._primary
        self._emit("available", zone=primary.zone, host=primary.host)

    def _emit(self, event: str, **fields: object) -> None:
        self._events.emit(event, database=self.name, **fields)
