"""The caches of the stage: `python -m chaosgrade.stage.caches` runs Valkey for each.

Orders come as JSON lines on standard input, events go out on standard output; times are measured
seconds, `servers` are [{"node", "host"}, …], the primary first:

    {"op": "create", "group", "servers", "port", "detection_s", "fails_over": true | false}
    {"op": "fail_over" | "delete", "group"}    {"op": "links", …}, see links.Links.of

    {"event": "ready"}    {"event": "error", "group", "detail"}
    {"event": "available" | "down" | "recovering" | "recovered", "group", "node"}
    {"event": "failed_over", "group", "node", "former"}

`detection_s` is how long a server must be down until that is acted upon. A crashed server refuses
connections; one whose subnet is cut off answers nothing. `available` says that the group is whole,
or its primary back, empty. At the end of standard input everything is killed.
"""

from pathlib import Path
from typing import Any

from chaosgrade.stage import isolated_servers
from chaosgrade.stage.database_network import Network
from chaosgrade.stage.lines import Events
from chaosgrade.stage.links import Links
from chaosgrade.stage.managed_cache import ManagedCache


class Caches:
    """All replication groups of a stage.

    Args:
        folder: for their sockets and logs.
        network: what they are on.
        events: where events go.
    """

    def __init__(self, folder: Path, network: Network, events: Events) -> None:
        self._folder = folder
        self._network = network
        self._events = events
        self._groups: dict[str, ManagedCache] = {}
        self._made = 0

    async def obey(self, order: dict[str, Any]) -> None:
        """Carry out an order, or begin to."""
        match order["op"]:
            case "create":
                self._made += 1
                folder = self._folder / str(self._made)
                group = ManagedCache(order, folder, self._network, self._events)
                self._groups[group.name] = group
                group.begin(group.create)
            case "fail_over":
                group = self._groups[order["group"]]
                group.begin(group.fail_over)
            case "delete":
                await self._groups.pop(order["group"]).delete()
            case "links":
                self._network.links = Links.of(order)
                for group in self._groups.values():
                    group.face_network()
            case unknown:
                raise ValueError(f"no order {unknown}")

    async def delete_all(self) -> None:
        """End and forget every group."""
        for group in self._groups.values():
            await group.delete()


def main() -> None:
    """Run as a child of the stage."""
    isolated_servers.run("stage-caches", Caches)


if __name__ == "__main__":
    main()
