"""Names of the stage: which nodes of a balancer they lead to, and how they are answered."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from dnslib import QTYPE, RCODE, DNSRecord

from chaosgrade.stage import dns
from chaosgrade.stage.balancer_names import BalancerNames
from chaosgrade.stage.dns import Addresses
from chaosgrade.stage.timing import NODE_LEAVES_DNS_S
from chaosgrade.stage.workload.resolver import Resolver
from tests.stage.children import DNS, child, wait_until

NAME = "web-1.us-east-1.elb.localhost"
RECORDS = {NAME: Addresses(("127.9.0.1", "127.9.0.2"), 3.25)}


class Nodes:
    """Two nodes of a balancer, and which of them can serve."""

    def __init__(self) -> None:
        self.serve = {"a", "b"}
        self._names = BalancerNames(lambda balancer, node: node["host"] in self.serve)

    def at(self, now: float) -> list[str]:
        """Where the name leads."""
        balancer = {"dns_name": NAME, "nodes": [{"host": "a"}, {"host": "b"}]}
        addresses: Any = self._names.records([balancer], now)[NAME]["addresses"]
        return list(addresses)


def test_a_node_that_cannot_serve_leaves_dns_after_a_while_and_comes_back_after_one() -> None:
    nodes = Nodes()
    assert nodes.at(0) == ["a", "b"]
    nodes.serve = {"b"}
    assert nodes.at(1) == ["a", "b"]
    assert nodes.at(1 + NODE_LEAVES_DNS_S - 0.1) == ["a", "b"]
    assert nodes.at(1 + NODE_LEAVES_DNS_S) == ["b"]
    nodes.serve = {"a", "b"}
    assert nodes.at(100) == ["b"]
    assert nodes.at(100 + NODE_LEAVES_DNS_S) == ["a", "b"]


def test_a_short_lapse_changes_nothing() -> None:
    nodes = Nodes()
    nodes.serve = {"b"}
    nodes.at(0)
    nodes.serve = {"a", "b"}
    nodes.at(NODE_LEAVES_DNS_S - 1)
    nodes.serve = {"b"}
    assert nodes.at(NODE_LEAVES_DNS_S + 1) == ["a", "b"]


def test_when_no_node_can_serve_all_stay() -> None:
    nodes = Nodes()
    nodes.serve = set()
    nodes.at(0)
    assert nodes.at(NODE_LEAVES_DNS_S) == ["a", "b"]


def answered(question: DNSRecord) -> DNSRecord:
    reply = dns.answer(bytes(question.pack()), RECORDS)
    assert reply is not None
    return DNSRecord.parse(reply)


def test_every_address_is_answered_in_changing_order_for_its_ttl() -> None:
    replies = [answered(DNSRecord.question(NAME.upper())) for _ in range(50)]
    orders = {tuple(str(r.rdata) for r in reply.rr if r.rtype == QTYPE.A) for reply in replies}
    assert orders == {("127.9.0.1", "127.9.0.2"), ("127.9.0.2", "127.9.0.1")}
    assert {r.ttl for reply in replies for r in reply.rr} == {3}


def test_what_is_unknown_or_nonsense_is_answered_as_such() -> None:
    assert answered(DNSRecord.question("nobody.localhost")).header.rcode == RCODE.NXDOMAIN
    assert answered(DNSRecord.question(NAME, "AAAA")).rr == []
    assert dns.answer(b"\x00\x01nonsense", RECORDS) is None


@contextmanager
def name_server(asked: list[str]) -> Iterator[str]:
    """A DNS server that notes each name that it is asked for."""
    with socket.socket(type=socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                request, client = server.recvfrom(512)
                if request == b"end":
                    return
                asked.append(str(DNSRecord.parse(request).q.qname).rstrip("."))
                server.sendto(dns.answer(request, RECORDS) or b"", client)

        thread = threading.Thread(target=serve)
        thread.start()
        host, port = server.getsockname()
        try:
            yield f"{host}:{port}"
        finally:
            server.sendto(b"end", (host, port))
            thread.join(5)


def test_a_resolver_asks_again_when_the_exact_ttl_is_over() -> None:
    asked: list[str] = []
    now = 100.0
    with name_server(asked) as place:
        resolver = Resolver(place, clock=lambda: now)
        first = resolver.resolve(NAME)
        assert first in ("127.9.0.1", "127.9.0.2")
        now += 3.2
        assert resolver.resolve(NAME) == first
        assert len(asked) == 1
        now += 0.1
        resolver.resolve(NAME)
        assert len(asked) == 2
        with pytest.raises(LookupError, match="NXDOMAIN"):
            resolver.resolve("nobody.localhost")


def test_a_resolver_that_ignores_the_ttl_never_asks_again() -> None:
    asked: list[str] = []
    now = 100.0
    with name_server(asked) as place:
        resolver = Resolver(place, cache_forever=True, clock=lambda: now)
        first = resolver.resolve(NAME)
        now += 1e6
        assert resolver.resolve(NAME) == first
    assert len(asked) == 1


def test_a_server_that_is_not_there_is_said_to_be() -> None:
    with pytest.raises(TimeoutError, match=r"127\.0\.0\.1:9 does not answer"):
        Resolver("127.0.0.1:9").resolve(NAME)


def test_customers_and_instances_are_told_the_addresses_that_they_reach() -> None:
    """A node has two: split horizon. Another name leads everybody to the same place."""
    names = BalancerNames(lambda balancer, node: True)
    nodes = {"dns_name": NAME, "nodes": [{"host": "10.9.8.10"}, {"host": "10.9.16.10"}]}
    found = names.records([nodes], 0.0)[NAME]
    with child(DNS) as server:
        server.send(op="listen", host="127.0.0.1", within="127.0.0.2")
        at = server.wait_for("listening")
        server.send(
            op="records", records={NAME: found, "db": {"addresses": ["10.9.8.7"], "ttl_s": 1}}
        )
        outside = f"127.0.0.1:{at['port']}"
        within = f"127.0.0.2:{at['port_within']}"
        wait_until(lambda: _found(outside, NAME) in ("127.9.8.10", "127.9.16.10"), "told outside")
        wait_until(lambda: _found(within, NAME) in ("10.9.8.10", "10.9.16.10"), "told within")
        assert _found(outside, "db") == _found(within, "db") == "10.9.8.7"


def _found(server: str, name: str) -> str:
    try:
        return Resolver(server).resolve(name)
    except LookupError:
        return ""
