"""How the shop, and its customers, turn a name into an address: they ask the stage's DNS
server and heed the TTL.

The host's own resolver knows nothing of the stage's names. A client that never asks again is a
known fault (Amazon RDS User Guide, "Setting the JVM TTL for DNS name lookups"): after a failover it
stays with the old address.
"""

import socket
import time
from collections.abc import Callable

from dnslib import QTYPE, RCODE, DNSError, DNSRecord

from chaosgrade.stage.dns import EXACT_TTL

_TIMEOUT_S = 1.0
_TRIES = 3
_LONGEST_ANSWER = 4096


class Resolver:
    """Looks names up, and keeps what it has found for its TTL.

    Args:
        server: "address:port" of the DNS server, as the stage's description gives it.
        cache_forever: never ask twice for a name.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        server: str,
        *,
        cache_forever: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        host, _, port = server.rpartition(":")
        self._server = (host, int(port))
        self._cache_forever = cache_forever
        self._clock = clock
        self._kept: dict[str, tuple[str, float]] = {}

    def resolve(self, name: str) -> str:
        """The IPv4 address of a name.

        Raises:
            LookupError: the name has none.
            TimeoutError: the server does not answer within some seconds.
        """
        if address := self.kept(name):
            return address
        asked_at = self._clock()
        address, ttl_s = self._look_up(name)
        self._kept[name] = (address, asked_at + ttl_s)
        return address

    def kept(self, name: str) -> str:
        """The address of a name that may be used without asking; empty if there is none."""
        address, until = self._kept.get(name, ("", 0.0))
        return address if self._cache_forever or self._clock() < until else ""

    def _look_up(self, name: str) -> tuple[str, float]:
        reply = self._ask(DNSRecord.question(name))
        if reply.header.rcode != RCODE.NOERROR:
            raise LookupError(f"{name}: {RCODE.get(reply.header.rcode)}")
        for record in reply.rr:
            if record.rtype == QTYPE.A:
                return str(record.rdata), _exact_ttl(reply) or float(record.ttl)
        raise LookupError(f"{name} has no IPv4 address")

    def _ask(self, question: DNSRecord) -> DNSRecord:
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(_TIMEOUT_S)
            client.connect(self._server)
            for _ in range(_TRIES):
                try:
                    client.send(question.pack())
                    reply = DNSRecord.parse(client.recv(_LONGEST_ANSWER))
                except (TimeoutError, ConnectionRefusedError, DNSError):
                    continue
                if reply.header.id == question.header.id:
                    return reply
        host, port = self._server
        raise TimeoutError(f"the DNS server at {host}:{port} does not answer")


def _exact_ttl(reply: DNSRecord) -> float | None:
    for record in reply.ar:
        text = str(record.rdata).strip('"')
        if record.rtype == QTYPE.TXT and text.startswith(EXACT_TTL):
            return float(text.removeprefix(EXACT_TTL)) / 1000
    return None
