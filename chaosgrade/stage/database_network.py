"""The network that the database servers of a stage are on, and how they are made to feel it.

Servers live in a user namespace, from which some kernels do not let packet filters be attached:
the process that has stayed outside does it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from chaosgrade import lifeline
from chaosgrade.stage import process_tree
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.links import Links


class Network:
    """What of it is cut now.

    Args:
        fabric: that servers join.
        outside: has `impose` run outside of the namespaces, and returns when it is done.
    """

    def __init__(self, fabric: Fabric, outside: Callable[[Mapping[str, Any]], None]) -> None:
        self.links = Links()
        self._fabric = fabric
        self._outside = outside

    def be_born(self, host: str) -> None:
        """In a new process of ours, before it becomes the server at an address."""
        lifeline.die_with_parent()
        self._fabric.join(host)

    def hold_for(self, pid: int, port: int) -> None:
        """Have what is cut hold for the sockets of a server.

        Args:
            pid: its first process, a child of this process.
            port: that it listens on.

        Raises:
            OSError: its sockets may not be borrowed, or filtered.
        """
        # The first process first: who is let in later has the filter from it.
        processes = process_tree.listed(pid)
        self._outside({"links": self.links.order(), "processes": processes, "port": port})


def impose(fabric: Fabric, request: Mapping[str, Any]) -> None:
    """What is to be done outside.

    Raises:
        OSError: it is not allowed.
    """
    links = Links.of(request["links"])
    for pid in request["processes"]:
        fabric.impose(links, pid, {request["port"]})
