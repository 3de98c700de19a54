"""Amazon RDS of the stage: databases do what the played AWS says, and it says what they did."""

import math
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from chaosgrade.stage.children import Start
from chaosgrade.stage.server_child import ServerChild
from chaosgrade.stage.timing import (
    CLUSTER_FAILOVER_S,
    DATABASE_FAILOVER_S,
    DATABASE_KEEPALIVE_IDLE_S,
    DATABASE_KEEPALIVE_INTERVAL_S,
    DATABASE_RESTART_S,
    DNS_TTL_S,
    REPLICATION_LAG_S,
    AwsTime,
)
from chaosgrade.stage.world import Database, Place

if TYPE_CHECKING:
    from chaosgrade.stage.moto_databases import MotoDatabases


@dataclass(slots=True)
class _Played:
    """A database as its servers are.

    Args:
        database: what the played AWS says of it.
        hosts: {name: address} of its servers.
        primary: name of the one that takes writes; "" until the first is available.
        followers: names of those that have everything.
    """

    database: Database
    hosts: dict[str, str] = field(default_factory=dict)
    primary: str = ""
    followers: set[str] = field(default_factory=set)

    def names(self) -> Iterator[tuple[str, list[str]]]:
        """DNS names and where they lead."""
        database = self.database
        if self.primary not in self.hosts:
            return
        yield database.endpoint, [self.hosts[self.primary]]
        if database.reader_endpoint:
            readers = sorted(self.followers) or [self.primary]
            yield database.reader_endpoint, [self.hosts[name] for name in readers]
        for place in database.places:
            if place.endpoint and place.name in self.hosts:
                yield place.endpoint, [self.hosts[place.name]]


class DatabaseReconciler:
    """All databases of a stage.

    Args:
        start: starts a process of the stage.
        time: how long AWS's waits take.
        address: gives an address in a subnet.
        publish: takes {name: {"addresses", "ttl_s" in AWS seconds}} of all endpoints.
    """

    def __init__(
        self,
        start: Start,
        time: AwsTime,
        address: Callable[[str], str],
        publish: Callable[[Mapping[str, Mapping[str, Any]]], None],
    ) -> None:
        self._start = start
        self._time = time
        self._address = address
        self._publish = publish
        self._events: deque[Mapping[str, Any]] = deque()
        self.process = ServerChild(start, "chaosgrade.stage.databases", self._events.append)
        self._played: dict[str, _Played] = {}
        self.errors: list[str] = []

    def ready(self, world: "MotoDatabases") -> bool:
        """Whether every database that has a server has been available."""
        return all(
            database.id in self._played and self._played[database.id].primary
            for database in world.all()
            if database.places
        )

    def reconcile(self, world: "MotoDatabases") -> None:
        """Take in what has happened, create and delete what is due; on the stage's main thread."""
        while self._events:
            self._take_in(self._events.popleft(), world)
        wanted = {database.id: database for database in world.all()}
        for id_ in self._played.keys() - wanted.keys():
            del self._played[id_]
            self._send({"op": "delete", "database": id_})
        for id_, database in wanted.items():
            if played := self._played.get(id_):
                self._staff(played, database)
            elif database.places and self._has_source(database):
                self._played[id_] = made = _Played(database)
                self._send(self._birth(made))
        self._publish_all()

    def restart(self, id_: str, server: str | None) -> None:
        """Restart a server of a database in place; the primary if none is named."""
        down_s = self._time.real(DATABASE_RESTART_S)
        self._send({"op": "restart", "database": id_, "server": server, "down_s": down_s})

    def fail_over(self, id_: str, to: str | None) -> None:
        """Have a follower take over; the named one if there is a name."""
        down_s = self._failover_s(self._played[id_].database)
        self._send({"op": "fail_over", "database": id_, "to": to, "down_s": down_s})

    def promote(self, id_: str) -> None:
        """Make a read replica a database of its own."""
        self._send({"op": "promote", "database": id_})

    def _has_source(self, database: Database) -> bool:
        source = database.source
        return not source or (source in self._played and bool(self._played[source].primary))

    def _staff(self, played: _Played, database: Database) -> None:
        """Have the servers of a database come and go."""
        wanted = {place.name: place for place in database.places}
        for name in [name for name in played.hosts if name not in wanted]:
            del played.hosts[name]
            played.followers.discard(name)
            self._send({"op": "leave", "database": database.id, "server": name})
        for name, place in wanted.items():
            if name not in played.hosts:
                server = self._server(played, place)
                self._send({"op": "join", "database": database.id, "server": server})
        played.database = database

    def _server(self, played: _Played, place: Place) -> dict[str, object]:
        host = played.hosts[place.name] = self._address(place.subnet)
        return {"name": place.name, "zone": place.zone, "host": host, "tier": place.tier}

    def _birth(self, played: _Played) -> dict[str, object]:
        database = played.database
        detection_s = self._failover_s(database)
        order: dict[str, object] = {
            "op": "create",
            "database": database.id,
            "servers": [self._server(played, place) for place in database.places],
            "port": database.port,
            "detection_s": detection_s,
            "lag_s": REPLICATION_LAG_S,
            "keepalive_idle_s": math.ceil(self._time.real(DATABASE_KEEPALIVE_IDLE_S)),
            "keepalive_interval_s": math.ceil(self._time.real(DATABASE_KEEPALIVE_INTERVAL_S)),
        }
        if database.source:
            return {**order, "op": "replicate", "source": database.source}
        readable = database.reader_endpoint is not None
        return {
            **order,
            # The storage of a cluster takes writes without any of its readers.
            "patience_s": 0.0 if readable else detection_s,
            "readable": readable,
            "user": database.user,
            "password": database.password,
            "name": database.name,
            "replication": "asynchronous" if database.asynchronous else "synchronous",
        }

    def _failover_s(self, database: Database) -> float:
        of_cluster = database.reader_endpoint is not None
        return self._time.real(CLUSTER_FAILOVER_S if of_cluster else DATABASE_FAILOVER_S)

    def _take_in(self, event: Mapping[str, Any], world: "MotoDatabases") -> None:
        if event["event"] == "ready":
            return
        id_ = str(event["database"])
        played, record = self._played.get(id_), world.record(id_)
        if played is None or record is None:
            return  # deleted meanwhile
        server = str(event.get("server", ""))
        match event["event"]:
            case "available":
                record.available(server, again=bool(played.primary))
                played.primary = server
            case "failing_over":
                record.failing_over(event["to"])
            case "failed_over":
                record.failed_over(server)
                played.primary = server
                played.followers.discard(server)
            case "standby" if server in played.hosts:
                record.follows(server)
                played.followers.add(server)
            case "down":
                played.followers.discard(server)
            case "error":
                self.errors.append(f"database {played.database.identifier}: {event['detail']}")
                record.failed()
                print(f"chaosgrade: {self.errors[-1]}", file=sys.stderr, flush=True)

    def _publish_all(self) -> None:
        self._publish(
            {
                name: {"addresses": addresses, "ttl_s": DNS_TTL_S}
                for played in self._played.values()
                for name, addresses in played.names()
            }
        )

    def _send(self, order: Mapping[str, object]) -> None:
        self.process.send(order)
