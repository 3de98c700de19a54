"""What the network ACLs of the played AWS let through, without clock or network.

A network ACL filters what enters and what leaves a subnet, not what stays within it; it keeps no
state, so that an answer needs a rule of its own. Rules are tried by rising number and the first
that matches decides; without one the traffic is denied. Source: Amazon VPC User Guide, "Control
subnet traffic with network access control lists".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network

OUTSIDE = IPv4Network("198.51.100.0/24")
"""Stands for customers on the Internet: the network that RFC 5737 reserves for documentation."""

CHANGING = (
    "CreateNetworkAclEntry", "DeleteNetworkAclEntry", "ReplaceNetworkAclAssociation",
    "ReplaceNetworkAclEntry",
)  # fmt: skip
"""Operations of Amazon EC2 after which other connections may be denied."""

_ALL, _TCP = "-1", "6"
_EPHEMERAL = (32768, 46884, 60999)
"""First, middle and last of the ports that Linux gives to clients: answers must reach them all."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One entry of a network ACL.

    Args:
        number: its place.
        egress: whether it is about what leaves.
        allow: what it says.
        protocol: an IANA number, "-1" for all.
        network: the other side.
        ports: the destination's, both included; None for all.
    """

    number: int
    egress: bool
    allow: bool
    protocol: str
    network: IPv4Network
    ports: tuple[int, int] | None = None

    def matches(self, peer: IPv4Network, port: int) -> bool:
        """Whether TCP to this port, from or to all of a network, is its affair."""
        low, high = self.ports or (0, 65535)
        return (
            self.protocol in (_ALL, _TCP) and peer.subnet_of(self.network) and low <= port <= high
        )


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet with the rules of its network ACL.

    Args:
        id: as AWS calls it.
        network: its CIDR block.
        rules: of its network ACL.
    """

    id: str
    network: IPv4Network
    rules: Sequence[Rule]

    def lets(self, *, egress: bool, peer: IPv4Network, port: int) -> bool:
        """Whether TCP to `port` may leave to, or enter from, a network."""
        ours = sorted((r for r in self.rules if r.egress == egress), key=lambda r: r.number)
        return next((rule.allow for rule in ours if rule.matches(peer, port)), False)


def connects(source: Subnet | None, destination: Subnet | None, port: int) -> bool:
    """Whether a TCP connection to `port` can be made and answered; None is outside of every VPC."""
    if source is destination:
        return True
    there = destination.network if destination else OUTSIDE
    here = source.network if source else OUTSIDE
    return (
        (source is None or source.lets(egress=True, peer=there, port=port))
        and (destination is None or destination.lets(egress=False, peer=here, port=port))
        and all(
            (destination is None or destination.lets(egress=True, peer=here, port=back))
            and (source is None or source.lets(egress=False, peer=there, port=back))
            for back in _EPHEMERAL
        )
    )


def cuts(subnets: Iterable[Subnet], ports: Iterable[int]) -> set[tuple[str, str, int]]:
    """(source, destination, port) of all connections that are denied; "" is outside."""
    places = [None, *subnets]
    return {
        (source.id if source else "", destination.id if destination else "", port)
        for port in ports
        for source in places
        for destination in places
        if not connects(source, destination, port)
    }
