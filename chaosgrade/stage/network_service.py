"""The stage's network of namespaces, where its fabric is one: its router, and its gateway."""

from collections.abc import Iterable, Mapping, Sequence
from ipaddress import IPv4Network
from typing import Any

from chaosgrade.stage.children import Child
from chaosgrade.stage.fabric import Fabric, Namespaces
from chaosgrade.stage.network_acls import OUTSIDE

type Door = tuple[str, str, int]
"""Name, address and port of a load balancer's node."""

_INTERNET = "internet"


class NetworkService:
    """Owns both processes; on a loopback fabric there are none, and nothing to do.

    Args:
        fabric: the stage's.
        services: addresses on the fabric of what the stage itself serves.
    """

    def __init__(self, fabric: Fabric, services: Sequence[str]) -> None:
        self._router: Child | None = None
        self._gateway: Child | None = None
        self._doors: frozenset[Door] = frozenset()
        self._open: set[Door] = set()
        self.errors: list[str] = []
        if isinstance(fabric, Namespaces):
            with fabric.answering() as requests:
                descriptors = fabric.router, requests.fileno()
                self._router = Child(
                    "chaosgrade.stage.network",
                    lambda event: None,
                    [*map(str, descriptors), *services],
                    descriptors,
                )
            self.add_subnet(OUTSIDE, _INTERNET)
            self._gateway = Child(
                "chaosgrade.stage.gateway",
                self._on_event,
                fabric.arguments(),
                fabric.descriptors(),
            )

    @property
    def alive(self) -> bool:
        """Whether the processes run, if there is need of any."""
        return all(child.alive for child in self._children())

    @property
    def ready(self) -> bool:
        """Whether customers can come in."""
        return self._gateway is None or self._doors <= self._open

    def add_subnet(self, network: IPv4Network, zone: str) -> None:
        """Route a subnet; before anybody in it is started."""
        if self._router is not None:
            self._router.send({"op": "subnet", "network": str(network), "zone": zone})

    def connect(self, links: Mapping[str, object]) -> None:
        """Have the state of the network hold.

        Args:
            links: an order, see `links.Links.of`.
        """
        for child in self._children():
            child.send(links)

    def set_doors(self, doors: Iterable[Door]) -> None:
        """Let customers in at these nodes and no others."""
        wanted = frozenset(doors)
        if wanted == self._doors or self._gateway is None:
            return
        self._doors = wanted
        named = [{"name": n, "host": host, "port": port} for n, host, port in sorted(wanted)]
        self._gateway.send({"op": "doors", "doors": named})

    def stop(self) -> None:
        """Tell the processes to leave, the gateway first, and wait for that."""
        for child in self._children():
            child.stop()

    def _children(self) -> list[Child]:
        return [child for child in (self._gateway, self._router) if child is not None]

    def _on_event(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "listening":
                self._open.add((event["name"], event["host"], event["port"]))
            case "error":
                self.errors.append(
                    f"balancer {event['name']} cannot listen: {event['detail']}; "
                    "choose another listener port in the template"
                )
