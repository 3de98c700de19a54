"""The router between the stage's subnets: a bridge for each zone, a cable for each host.

As in an Amazon VPC, all traffic passes the router, that within a subnet included; only what goes
from one subnet to another is ever dropped. A host that is unplugged answers nothing: the router
knows where it was and does not ask for it, so that nobody is told that it is unreachable.
"""

import os
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network

from pyroute2 import IPRoute, NetlinkError

from chaosgrade.stage import namespaces
from chaosgrade.stage.links import Links
from chaosgrade.stage.network_acls import OUTSIDE

_TCP = 6
_NO_SUCH_LINK = 19  # ENODEV
_PRIORITY = 100
_FIRST_TABLE = 1000
"""Of the routing tables that hosts with several cables have, one for each."""

type Rule = tuple[str, str, str, int]
"""Source network, destination network, whose port ("sport_range" or "dport_range"), port."""


class Router:
    """Rules the network namespace that its constructor is called in, on the same thread.

    Args:
        services: addresses in no subnet, of what the stage serves.

    Raises:
        NetlinkError: this machine does not allow it.
    """

    def __init__(self, services: Iterable[str]) -> None:
        self._netlink = IPRoute()
        (loopback,) = self._netlink.link_lookup(ifname="lo")
        for address in services:
            self._netlink.addr("add", index=loopback, address=address, prefixlen=32)
        self._bridges: dict[str, int] = {}
        self._zones: dict[IPv4Network, str] = {}
        self._plugged: dict[str, int] = {}
        """{host: a descriptor of its network namespace}, which outlives the processes in it."""
        self._rules: set[Rule] = set()

    def add_subnet(self, network: IPv4Network, zone: str) -> None:
        """Route a subnet to the bridge of its zone."""
        self._zones[network] = zone
        if zone not in self._bridges:
            self._bridges[zone] = self._new_bridge(len(self._bridges))
        self._netlink.addr(
            "add",
            index=self._bridges[zone],
            address=str(_gateway(network)),
            prefixlen=network.prefixlen,
        )

    def plug_in(self, host: str, network: int) -> None:
        """Connect a host.

        Args:
            host: its address.
            network: a descriptor of its network namespace, which is kept.

        Raises:
            KeyError: the address is in no subnet.
            NetlinkError, OSError: this machine does not allow it.
        """
        self.unplug(host)
        subnet = self._subnet(host)
        bridge = self._bridges[self._zones[subnet]]
        ours, theirs = _names(host)
        self._netlink.link(
            "add", ifname=ours, kind="veth", peer={"ifname": theirs, "net_ns_fd": network}
        )
        (link,) = self._netlink.link_lookup(ifname=ours)
        self._netlink.link("set", index=link, master=bridge, state="up")
        gateway, gateway_mac = str(_gateway(subnet)), self._mac(bridge)
        mac = namespaces.inside(network, lambda: _configure(theirs, host, gateway, gateway_mac))
        self._netlink.neigh("replace", dst=host, lladdr=mac, ifindex=bridge, state="permanent")
        self._plugged[host] = network

    def unplug(self, host: str) -> None:
        """Have a host answer nothing any more, whatever still runs on it."""
        network = self._plugged.pop(host, None)
        if network is None:
            return
        os.close(network)
        found = self._netlink.link_lookup(ifname=_names(host)[0])
        if found:
            try:
                self._netlink.link("del", index=found[0])
            except NetlinkError as error:
                if error.code != _NO_SUCH_LINK:  # it went with its namespace
                    raise

    def cut(self, links: Links) -> None:
        """Drop what is cut from now on, and only that."""
        wanted = set(_rules(links))
        for command, rules in (("add", wanted - self._rules), ("del", self._rules - wanted)):
            for source, destination, side, port in rules:
                from_, to = IPv4Network(source), IPv4Network(destination)
                self._netlink.rule(
                    command,
                    priority=_PRIORITY,
                    action="blackhole",
                    src=str(from_.network_address),
                    src_len=from_.prefixlen,
                    dst=str(to.network_address),
                    dst_len=to.prefixlen,
                    ip_proto=_TCP,
                    **{side: f"{port}:{port}"},
                )
        self._rules = wanted

    def _new_bridge(self, number: int) -> int:
        name = f"zone{number}"
        # With an address of its own: it would change with every cable otherwise.
        self._netlink.link(
            "add", ifname=name, kind="bridge", address=f"02:00:00:00:00:{number:02x}"
        )
        (bridge,) = self._netlink.link_lookup(ifname=name)
        self._netlink.link("set", index=bridge, state="up")
        return int(bridge)

    def _mac(self, link: int) -> str:
        return str(self._netlink.get_links(link)[0].get("address"))

    def _subnet(self, host: str) -> IPv4Network:
        address = IPv4Address(host)
        return next(network for network in self._zones if address in network)


def _configure(name: str, host: str, gateway: str, gateway_mac: str) -> str:
    """On the host: everything goes to the gateway; returns the MAC address of the cable's end.

    What is sent from one of several addresses leaves by that one's cable.
    """
    with IPRoute() as netlink:
        namespaces.answer_on_every_link()
        namespaces.bring_up_loopback()
        (link,) = netlink.link_lookup(ifname=name)
        netlink.link("set", index=link, state="up")
        netlink.addr("add", index=link, address=host, prefixlen=32)
        # Not "add": who was waiting for this host has asked for it by now, and is known by that.
        netlink.neigh("replace", dst=gateway, lladdr=gateway_mac, ifindex=link, state="permanent")
        table = _FIRST_TABLE + int(link)
        route = {"dst": "default", "gateway": gateway, "oif": link, "flags": ["onlink"]}
        netlink.route("add", table=table, **route)
        netlink.route("add", priority=table, **route)
        netlink.rule("add", src=host, src_len=32, table=table)
        return str(netlink.get_links(link)[0].get("address"))


def _gateway(subnet: IPv4Network) -> IPv4Address:
    """Amazon VPC reserves the second address of a subnet for its router."""
    return subnet[1]


def _names(host: str) -> tuple[str, str]:
    """Of the router's and of the host's end of a cable."""
    number = f"{int(IPv4Address(host)):08x}"
    return f"to{number}", f"eth{number}"


def _rules(links: Links) -> Iterator[Rule]:
    networks = {"": OUTSIDE, **links.subnets}
    for source, destination, port in links.cut:
        if source in networks and destination in networks:
            here, there = str(networks[source]), str(networks[destination])
            yield here, there, "dport_range", port
            yield there, here, "sport_range", port
