"""Which connections between the stage's subnets are cut, and how a process is made to feel it.

On the loopback fabric each subnet has a network of its own, such as 127.60.3.0/24, from which its
instances and balancer nodes connect and on which they listen: whoever connects from elsewhere is
outside.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Self

from chaosgrade.stage import packet_filter
from chaosgrade.stage.addresses import outside

_OUTSIDE = ""


@dataclass(frozen=True, slots=True)
class Links:
    """The state of the network.

    Args:
        subnets: {id: its network on the stage}.
        cut: (source subnet, destination subnet, port) of what does not connect; "" is outside.
    """

    subnets: Mapping[str, IPv4Network] = field(default_factory=dict)
    cut: frozenset[tuple[str, str, int]] = frozenset()

    @classmethod
    def of(cls, order: Mapping[str, Any]) -> Self:
        """From an order {"op": "links", "subnets": {id: network}, "cut": [[from, to, port], …]}."""
        return cls(
            {id_: IPv4Network(network) for id_, network in order["subnets"].items()},
            frozenset((source, destination, port) for source, destination, port in order["cut"]),
        )

    def order(self) -> dict[str, Any]:
        """What `of` reads."""
        return {
            "op": "links",
            "subnets": {id_: str(network) for id_, network in self.subnets.items()},
            "cut": sorted([*link] for link in self.cut),
        }

    def outside(self) -> "Links":
        """The same by the addresses that customers use."""
        return Links(
            {
                id_: IPv4Network((outside(str(network.network_address)), network.prefixlen))
                for id_, network in self.subnets.items()
            },
            self.cut,
        )

    def connects(self, source: str, destination: str, port: int) -> bool:
        """Whether a connection from one address to a port of another can be made."""
        return (self._subnet(source), self._subnet(destination), port) not in self.cut

    def isolates(self, address: str, port: int) -> bool:
        """Whether nobody beyond an address's own subnet can connect to this port of it."""
        here = self._subnet(address)
        others = {*self.subnets, _OUTSIDE} - {here}
        return here != _OUTSIDE and all((there, here, port) in self.cut for there in others)

    def impose(self, pid: int, served: Iterable[int]) -> None:
        """Have the kernel drop what is cut, on every TCP socket of a process.

        Args:
            pid: the process.
            served: ports that it listens on.

        Raises:
            OSError: its sockets may not be borrowed.
        """
        ports = set(served)
        for held in packet_filter.sockets_of(pid):
            address, port = held.getsockname()
            if packet_filter.listens(held):
                here = self._subnet(address)
                verdicts = [
                    (network, (there, here, port) not in self.cut)
                    for there, network in self.subnets.items()
                ]
                packet_filter.attach(held, verdicts, others=(_OUTSIDE, here, port) not in self.cut)
                continue
            with suppress(OSError):  # not connected
                peer, peer_port = held.getpeername()
                passes = (
                    self.connects(peer, address, port)
                    if port in ports
                    else self.connects(address, peer, peer_port)
                )
                packet_filter.attach(held, (), others=passes)

    def _subnet(self, address: str) -> str:
        here = IPv4Address(address)
        return next((id_ for id_, network in self.subnets.items() if here in network), _OUTSIDE)
