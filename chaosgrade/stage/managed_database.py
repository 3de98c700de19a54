"""One database of the stage: its servers, who of them is the primary, and what failures lead to.

A Multi-AZ DB instance and a DB cluster are the same thing: a primary, and followers that every
commit waits for as long as they keep up; only such a follower is promoted, so that no acknowledged
write is lost. They differ in whether followers can be read from meanwhile and in how long commits
wait for one that is gone. Sources: Amazon RDS User Guide, "Configuring and managing a Multi-AZ
deployment"; Amazon Aurora User Guide, "High availability for Amazon Aurora"; PostgreSQL,
"Log-Shipping Standby Servers".
"""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, LiteralString

import psycopg
from psycopg import sql

from chaosgrade.errors import UsageError
from chaosgrade.stage.database_network import Network
from chaosgrade.stage.lines import Events
from chaosgrade.stage.postgres import Keepalive, Replication, Server
from chaosgrade.stage.replication_link import ReplicationLink

_ALWAYS_THERE = "postgres"
_REPLICA = "replica"
_FOLLOWER_STATE: LiteralString = """
    SELECT state || ' ' || sync_state FROM pg_stat_replication
    WHERE application_name = %s AND flush_lsn >= %s
"""
_POLL_S = 0.01
_STREAMING_TIMEOUT_S = 30.0


class ManagedDatabase:
    """A DB instance, a read replica of one, or a DB cluster.

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
        self._feeds: dict[Server, ReplicationLink] = {}
        """The link through which each server follows, whenever it does."""
        self._source: ReplicationLink | None = None
        folder.mkdir(mode=0o700)
        self._numbers = itertools.count()
        self._tiers: dict[Server, int] = {}
        self._primary, *self._followers = (self._place(place) for place in order["servers"])
        self._keeping_up: set[Server] = set()
        """Followers that have all that is acknowledged, because commits wait for them."""
        self._deserted = False
        self._cuts: dict[Server, object] = {}
        """Servers that the network keeps from their part; each time is another object."""

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
        # A copy of a cluster that no server runs on is as good as a base backup.
        await asyncio.gather(*(server.copy_from(cluster) for server in self._servers()))
        self._primary.follow(None)
        for server in self._followers:
            server.follow(await self._feed(server))
        await asyncio.gather(*(server.start() for server in self._servers()))
        user = sql.Identifier(order["user"])
        create_user = sql.SQL("CREATE ROLE {} LOGIN CREATEDB CREATEROLE PASSWORD {}")
        await self._primary.execute(create_user.format(user, sql.Literal(order["password"])))
        if order["name"] and order["name"] != _ALWAYS_THERE:
            create_database = sql.SQL("CREATE DATABASE {} OWNER {}")
            name = sql.Identifier(order["name"])
            await self._primary.execute(create_database.format(name, user))
        for server in self._followers:
            await self._let_keep_up(server)
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

    async def join(self, place: Mapping[str, Any]) -> None:
        """A server more: it follows, or it is the primary if all others have left."""
        server = self._place(place)
        if not self._deserted:
            self._followers.append(server)
            await self._catch_up()
            return
        last, self._primary = self._primary, server
        await server.copy_from(last.data)
        await self._forget(last)
        server.follow(None)
        await server.start()
        self._deserted = False
        self._direct_links()
        self._available()

    async def leave(self, name: str) -> None:
        """A server less; another one takes the primary's place, and the last one's data stays.

        Raises:
            UsageError: none has what it takes.
        """
        server = self._named(name)
        if server is self._primary and not self._followers:
            await server.stop()
            self._deserted = True
            return
        if server is self._primary:
            await self._catch_up()
            successor = self._successor()
            if successor is None:
                raise UsageError(f"no server can take the place of {name}")
            self._emit("failing_over", server, to=successor.name)
            await server.stop()
            await self._promote(server, successor)
        self._followers.remove(server)
        self._let_go(server)
        await self._forget(server)
        await self._catch_up()

    async def restart(self, down_s: float, name: str | None = None) -> None:
        """Restart a server in place: down for `down_s` measured seconds and the start itself.

        Args:
            name: of the server; the primary if there is none.
        """
        server = self._named(name) if name else self._primary
        if server is not self._primary:
            self._let_go(server)
        await server.stop()
        self._emit("down", server)
        await asyncio.sleep(down_s)
        if server is self._primary:
            await self._bring_back()
        else:
            await self._catch_up()

    async def fail_over(self, down_s: float, to: str | None = None) -> None:
        """End the primary; after `down_s` measured seconds a follower takes over.

        Args:
            to: name of the one that does, if it can.
        """
        if self._isolated(self._primary):
            self._primary.fence()  # whoever connects goes on hanging
        else:
            await self._primary.kill()
        self._cut_links()
        self._emit("down", self._primary)
        await self._recover(down_s, to)

    def face_network(self) -> None:
        """Have its state of now hold at once, and draw conclusions if it stays like that."""
        for server in self._servers():
            server.face_network()
        self._direct_links()
        self._look_for_cuts()
        self.begin(self._catch_up)

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
        if server is self._primary:
            self._cut_links()
            self._emit("down", server)
            await asyncio.sleep(float(self._order["detection_s"]))
            await self._recover(0.0)
        elif server in self._followers:
            self._emit("down", server)
            await asyncio.sleep(self._patience_s)  # commits wait meanwhile
            self._let_go(server)
            await self._catch_up()

    def _look_for_cuts(self) -> None:
        for server in self._servers():
            if not (self._isolated(server) if server is self._primary else self._apart(server)):
                self._cuts.pop(server, None)
            elif server not in self._cuts:
                self._cuts[server] = cut = object()
                self._keep(asyncio.create_task(self._detect(server, cut)))

    async def _detect(self, server: Server, cut: object) -> None:
        detection_s = float(self._order["detection_s"])
        wait_s = detection_s if server is self._primary else self._patience_s
        while self._cuts.get(server) is cut:
            await asyncio.sleep(wait_s)
            self.begin(partial(self._conclude, server, cut))
            wait_s = detection_s

    async def _conclude(self, server: Server, cut: object) -> None:
        """A cut of the network has lasted for a while, unless it was healed in between."""
        if self._cuts.get(server) is not cut:
            return
        if server is self._primary:
            if self._successor():
                self._primary.fence()
                await self._recover(0.0)
        elif server in self._keeping_up and not self._isolated(self._primary):
            self._let_go(server)  # commits have waited until now
            self._emit("down", server)

    async def _recover(self, down_s: float, to: str | None = None) -> None:
        """The primary is down: have a server take its place, or itself come back."""
        if successor := self._successor(to):
            self._emit("failing_over", self._primary, to=successor.name)
            await asyncio.sleep(down_s)
            down_s = 0.0
            if successor := self._successor(successor.name):
                await self._promote(self._primary, successor)
                await self._catch_up()
                return
        await asyncio.sleep(down_s)
        await self._bring_back()

    def _successor(self, name: str | None = None) -> Server | None:
        """A server that runs, has all that was acknowledged and can be reached: the one of this
        name, or else the one of the lowest tier."""
        able = [
            server
            for server in self._followers
            if server in self._keeping_up and server.running and not self._isolated(server)
        ]
        return min(able, key=lambda s: (s.name != name, self._tiers[s]), default=None)

    def _isolated(self, server: Server) -> bool:
        """Whether nobody reaches its subnet, monitoring included."""
        return self._network.links.isolates(server.host, server.port)

    def _apart(self, follower: Server) -> bool:
        """Whether a follower does not reach the primary."""
        primary = self._primary
        return not self._network.links.connects(follower.host, primary.host, primary.port)

    async def _promote(self, old: Server, new: Server) -> None:
        new.configure({})
        await new.promote()
        self._followers[self._followers.index(new)], self._primary = old, new
        # The others may have got what the new primary has not: they begin anew.
        self._keeping_up.clear()
        self._cut_links()
        self._direct_links()
        self._look_for_cuts()
        self._emit("failed_over", new)

    async def _bring_back(self) -> None:
        """Start the primary where it was, with all that it had acknowledged."""
        await self._primary.kill()  # it may have been fenced
        await self._primary.start()
        self._available()
        await self._catch_up()

    async def _catch_up(self) -> None:
        """Make followers that are behind, or were the primary, copies of the primary of today."""
        for server in self._followers:
            if server in self._keeping_up or not self._primary.running or self._apart(server):
                continue
            if server.running:
                self._emit("down", server)
            await server.kill()
            await server.back_up_from(self._primary)
            server.follow(await self._feed(server))
            await server.start()
            await self._let_keep_up(server)

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
        for link in self._links:
            link.source = primary.socket
            link.passes = self._network.links.connects(link.follower, primary.host, primary.port)

    async def _feed(self, follower: Server) -> Replication:
        if follower not in self._feeds:
            lag_s = 0.0 if self.synchronous else float(self._order["lag_s"])
            folder = follower.folder.with_suffix(".link")
            self._feeds[follower] = await self.link(folder, follower.host, lag_s)
        readable = bool(self._order["readable"])
        return self._feeds[follower].as_source(follower.name, readable=readable)

    async def _let_keep_up(self, server: Server) -> None:
        """Wait until it has what was written up to now, and have commits wait for it from now on if
        replication is synchronous; not if the network comes between them.

        Raises:
            TimeoutError: it does not stream.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + _STREAMING_TIMEOUT_S
        self._wait_for({*self._keeping_up, server})
        wanted = f"streaming {'sync' if self.synchronous else 'async'}"
        # Twice: what was acknowledged before commits waited has to be there too.
        for _ in range(2):
            written = await self._primary.ask("SELECT pg_current_wal_flush_lsn()::text")
            while await self._primary.ask(_FOLLOWER_STATE, server.name, written) != wanted:
                if self._apart(server):
                    self._wait_for(self._keeping_up)
                    return
                if loop.time() > deadline:
                    self._wait_for(self._keeping_up)
                    raise TimeoutError(f"the server {server.name} in {server.zone} does not stream")
                await asyncio.sleep(_POLL_S)
        self._keeping_up.add(server)
        self._emit("standby", server)

    def _let_go(self, server: Server) -> None:
        """Have commits not wait for a follower any more."""
        self._keeping_up.discard(server)
        self._wait_for(self._keeping_up)

    def _wait_for(self, followers: Iterable[Server]) -> None:
        """Have commits wait for these followers, if replication is synchronous."""
        names = sorted(f'"{server.name}"' for server in followers)
        waits = self.synchronous and names
        value = f"FIRST {len(names)} ({', '.join(names)})"
        self._primary.configure({"synchronous_standby_names": value} if waits else {})

    # -- the rest

    @property
    def _patience_s(self) -> float:
        """How long commits wait for a follower that is gone."""
        return float(self._order["patience_s"])

    def _place(self, place: Mapping[str, Any]) -> Server:
        folder = self._folder / str(next(self._numbers))
        order = self._order
        keepalive = Keepalive(int(order["keepalive_idle_s"]), int(order["keepalive_interval_s"]))
        server = Server(
            place["name"], place["zone"], place["host"], int(order["port"]), folder,
            self._network, keepalive, self._exited,
        )  # fmt: skip
        self._tiers[server] = int(place.get("tier", 0))
        return server

    async def _forget(self, server: Server) -> None:
        """End it, with its data and the link that it followed through."""
        self._cuts.pop(server, None)
        if link := self._feeds.pop(server, None):
            self._links.remove(link)
            await link.close()
        await server.kill()
        server.delete()

    def _named(self, name: str) -> Server:
        return next(server for server in self._servers() if server.name == name)

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _servers(self) -> list[Server]:
        return [self._primary, *self._followers]

    def _available(self) -> None:
        self._emit("available", self._primary)

    def _emit(self, event: str, server: Server | None = None, **fields: object) -> None:
        if server is not None:
            fields |= {"server": server.name, "zone": server.zone, "host": server.host}
        self._events.emit(event, database=self.name, **fields)
