"""The stage's network of namespaces, where its fabric is one: subnets are announced here."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Network

from chaosgrade.stage.children import Child
from chaosgrade.stage.fabric import Fabric, Namespaces


class NetworkService:
    """Owns the process of the router; on a loopback fabric there is none, and nothing to do.

    Args:
        fabric: the stage's.
        services: addresses on the fabric of what the stage itself serves.
    """

    def __init__(self, fabric: Fabric, services: Sequence[str]) -> None:
        self._child: Child | None = None
        if isinstance(fabric, Namespaces):
            with fabric.answering() as requests:
                descriptors = fabric.router, requests.fileno()
                self._child = Child(
                    "chaosgrade.stage.network",
                    lambda event: None,
                    [*map(str, descriptors), *services],
                    descriptors,
                )

    @property
    def alive(self) -> bool:
        """Whether the process runs, if there is need of one."""
        return self._child is None or self._child.alive

    def add_subnet(self, network: IPv4Network, zone: str) -> None:
        """Route a subnet; before anybody in it is started."""
        if self._child is not None:
            self._child.send({"op": "subnet", "network": str(network), "zone": zone})

    def connect(self, links: Mapping[str, object]) -> None:
        """Have the state of the network hold.

        Args:
            links: an order, see `links.Links.of`.
        """
        if self._child is not None:
            self._child.send(links)

    def close(self) -> None:
        """Tell the process to leave."""
        if self._child is not None:
            self._child.close()

    def stop(self) -> None:
        """Tell it to leave and wait for that."""
        if self._child is not None:
            self._child.stop()
