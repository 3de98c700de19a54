"""The databases of the stage: `python -m chaosgrade.stage.databases` runs PostgreSQL for each.

Its arguments are those of its fabric, see `fabric.of`. Orders come as JSON lines on standard input,
events go out on standard output; times are measured seconds, `servers` are
[{"name", "zone", "host", "tier"}, …], the primary first:

    {"op": "create", "database", "servers", "port", "user", "password", "name", "detection_s",
     "patience_s", "replication": "synchronous" | "asynchronous", "lag_s", "readable",
     "keepalive_idle_s", "keepalive_interval_s"}
    {"op": "replicate", "database", "servers", "port", "source", "lag_s", "detection_s",
     "keepalive_idle_s", "keepalive_interval_s"}
    {"op": "join", "database", "server": one as above}
    {"op": "leave", "database", "server": name}
    {"op": "restart", "database", "server": name or null, "down_s"}
    {"op": "fail_over", "database", "to": name or null, "down_s"}
    {"op": "promote" | "delete", "database"}    {"op": "links", …}, see links.Links.of

    {"event": "ready"}
    {"event": "available" | "failed_over" | "down" | "standby", "database", "server": name, "zone",
     "host"}
    {"event": "failing_over", "database", "server": name, "zone", "host", "to": name}
    {"event": "error", "database", "detail"}

`detection_s` is how long a primary must be down until that is acted upon, `patience_s` how long
commits wait for another server that is; a client that is silent for `keepalive_idle_s`, whole
seconds, is asked for a sign of life, and left if it gives none to two questions. A crashed server
refuses connections; one whose subnet is cut off answers nothing. `standby` says that a server
follows and has everything; it can be read from if followers are `readable`. Of followers the one of
the lowest tier is promoted first. An asynchronous standby is promoted as if it were synchronous:
what it has not yet got is lost, though it was acknowledged. At the end of standard input everything
is killed, its data is gone.
"""

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

from chaosgrade.stage import isolated_servers
from chaosgrade.stage.database_network import Network
from chaosgrade.stage.lines import Events
from chaosgrade.stage.links import Links
from chaosgrade.stage.managed_database import ManagedDatabase
from chaosgrade.stage.postgres import make_cluster


class Databases:
    """All databases of a stage.

    Args:
        folder: for their data.
        network: what they are on.
        events: where events go.
    """

    def __init__(self, folder: Path, network: Network, events: Events) -> None:
        self._folder = folder
        self._events = events
        self._network = network
        self._databases: dict[str, ManagedDatabase] = {}
        self._made = 0
        # While the stage still thinks about its template: every database begins as a copy of it.
        self._cluster = asyncio.create_task(make_cluster(folder / "cluster"))

    async def obey(self, order: dict[str, Any]) -> None:
        """Carry out an order, or begin to."""
        match order["op"]:
            case "create":
                database = self._add(order)
                database.begin(partial(self._create, database))
            case "replicate":
                source = self._databases[order["source"]]
                database = self._add(order)
                database.begin(partial(database.replicate, source, float(order["lag_s"])))
            case "promote":
                database = self._databases[order["database"]]
                database.begin(database.promote)
            case "join":
                database = self._databases[order["database"]]
                database.begin(partial(database.join, order["server"]))
            case "leave":
                database = self._databases[order["database"]]
                database.begin(partial(database.leave, order["server"]))
            case "restart":
                database = self._databases[order["database"]]
                server = order.get("server")
                database.begin(partial(database.restart, float(order["down_s"]), server))
            case "fail_over":
                database = self._databases[order["database"]]
                to = order.get("to")
                database.begin(partial(database.fail_over, float(order["down_s"]), to))
            case "delete":
                await self._databases.pop(order["database"]).delete()
            case "links":
                self._network.links = Links.of(order)
                for database in self._databases.values():
                    database.face_network()
            case unknown:
                raise ValueError(f"no order {unknown}")

    async def delete_all(self) -> None:
        """End and forget every database."""
        self._cluster.cancel()
        for database in self._databases.values():
            await database.delete()

    def _add(self, order: dict[str, Any]) -> ManagedDatabase:
        self._made += 1
        folder = self._folder / str(self._made)
        database = ManagedDatabase(order, folder, self._network, self._events)
        self._databases[database.name] = database
        return database

    async def _create(self, database: ManagedDatabase) -> None:
        await asyncio.shield(self._cluster)
        await database.create(self._folder / "cluster")


def main() -> None:
    """Run as a child of the stage."""
    isolated_servers.run("stage-databases", Databases)


if __name__ == "__main__":
    main()
