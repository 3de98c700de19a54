"""Amazon RDS of the stage: databases do what the played AWS says, and it says what they did."""

import sys
from collections import deque
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from chaosgrade.stage.server_child import ServerChild
from chaosgrade.stage.timing import (
    DATABASE_FAILOVER_S,
    DATABASE_RESTART_S,
    DNS_TTL_S,
    REPLICATION_LAG_S,
    AwsTime,
)
from chaosgrade.stage.world import Database

if TYPE_CHECKING:
    from chaosgrade.stage.moto_databases import MotoDatabases


class DatabaseReconciler:
    """All DB instances of a stage.

    Args:
        time: how long AWS's waits take.
        address: gives an address in a subnet.
        publish: takes {name: {"addresses", "ttl_s" in AWS seconds}} of all endpoints.
    """

    def __init__(
        self,
        time: AwsTime,
        address: Callable[[str], str],
        publish: Callable[[Mapping[str, Mapping[str, Any]]], None],
    ) -> None:
        self._time = time
        self._address = address
        self._publish = publish
        self._events: deque[Mapping[str, Any]] = deque()
        self.process = ServerChild("chaosgrade.stage.databases", self._events.append)
        self._made: dict[str, Database] = {}
        self._hosts: dict[str, str] = {}
        """Where the primary of a DB instance is; one that is not available yet has none."""
        self.errors: list[str] = []

    def ready(self, world: "MotoDatabases") -> bool:
        """Whether every DB instance has been available."""
        return all(database.id in self._hosts for database in world.all())

    def reconcile(self, world: "MotoDatabases") -> None:
        """Take in what has happened, create and delete what is due; on the stage's main thread."""
        while self._events:
            self._take_in(self._events.popleft(), world)
        wanted = {database.id: database for database in world.all()}
        for id_ in self._made.keys() - wanted.keys():
            del self._made[id_]
            self._hosts.pop(id_, None)
            self._send({"op": "delete", "database": id_})
        for id_, database in wanted.items():
            if id_ not in self._made and (not database.source or database.source in self._hosts):
                self._made[id_] = database
                self._send(self._birth(database))
        self._publish_all(wanted)

    def reboot(self, id_: str, force: bool) -> None:
        """Restart a DB instance in place, or have its standby take over."""
        down_s = self._time.real(DATABASE_FAILOVER_S if force else DATABASE_RESTART_S)
        operation = "fail_over" if force else "restart"
        self._send({"op": operation, "database": id_, "down_s": down_s})

    def promote(self, id_: str) -> None:
        """Make a read replica a database of its own."""
        self._send({"op": "promote", "database": id_})

    def _birth(self, database: Database) -> dict[str, object]:
        order: dict[str, object] = {
            "op": "create",
            "database": database.id,
            "servers": [
                {"zone": zone, "host": self._address(subnet)} for zone, subnet in database.places
            ],
            "port": database.port,
            "detection_s": self._time.real(DATABASE_FAILOVER_S),
            "lag_s": REPLICATION_LAG_S,
        }
        if database.source:
            return {**order, "op": "replicate", "source": database.source}
        return {
            **order,
            "user": database.user,
            "password": database.password,
            "name": database.name,
            "replication": "asynchronous" if database.asynchronous else "synchronous",
        }

    def _take_in(self, event: Mapping[str, Any], world: "MotoDatabases") -> None:
        id_ = event.get("database", "")
        match event["event"]:
            case "available":
                if id_ in self._hosts:
                    world.note(id_, "RDS-EVENT-0006")
                self._hosts[id_] = event["host"]
                world.set_status(id_, "available")
            case "failing_over":
                world.note(id_, "RDS-EVENT-0013")
            case "failed_over":
                self._hosts[id_] = event["host"]
                world.set_zone(id_, event["zone"])
                world.note(id_, "RDS-EVENT-0006")
                world.note(id_, "RDS-EVENT-0049")
                world.set_status(id_, "available")
            case "error":
                self.errors.append(f"database {id_}: {event['detail']}")
                world.set_status(id_, "failed")
                print(f"chaosgrade: {self.errors[-1]}", file=sys.stderr, flush=True)

    def _publish_all(self, wanted: Mapping[str, Database]) -> None:
        self._publish(
            {
                database.endpoint: {"addresses": [self._hosts[id_]], "ttl_s": DNS_TTL_S}
                for id_, database in wanted.items()
                if id_ in self._hosts
            }
        )

    def _send(self, order: Mapping[str, object]) -> None:
        self.process.send(order)
