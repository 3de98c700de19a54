"""The stage's DNS server: `python -m chaosgrade.stage.dns` answers for the names that AWS gives.

Its arguments are those of its fabric, see `fabric.of`. Orders come as JSON lines on standard input,
events go out on standard output; times are measured seconds:

    {"op": "listen", "host", "within"}    for customers at `host`, for instances at `within`
    {"op": "records", "records": {NAME: {"addresses", "addresses_outside", "ttl_s"}, …}}

    {"event": "ready"}    {"event": "listening", "host", "port", "port_within"}

Records are in place of the last ones. Where a name has `addresses_outside`, customers are told
those, as with split-horizon DNS: a load balancer's node has an address within the stage's network
and one outside.

Over UDP, IPv4 addresses only (RFC 1035). A TTL in DNS is whole seconds, a stage's is shorter: the
answer's TTL is rounded down, so that nobody keeps it for too long, and an additional TXT record
`ttl_ms=N` tells the stage's own resolver the rest.
"""

import asyncio
import gc
import random
import signal
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from dnslib import QTYPE, RCODE, RR, TXT, A, DNSError, DNSRecord

from chaosgrade import lifeline
from chaosgrade.stage import event_loop, fabric
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.lines import Events, LineBuffer, Stdin

EXACT_TTL = "ttl_ms="
"""What the text of the additional record begins with."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """What a name leads to.

    Args:
        addresses: IPv4.
        ttl_s: measured seconds that they may be kept.
    """

    addresses: tuple[str, ...]
    ttl_s: float


def answer(request: bytes, records: Mapping[str, Addresses]) -> bytes | None:
    """The answer to a DNS message; None to what is none.

    Args:
        records: {name in lower case, without the last dot: where it leads}.
    """
    try:
        question = DNSRecord.parse(request)
    except DNSError:
        return None
    reply = question.reply()
    if not question.questions:
        reply.header.rcode = RCODE.FORMERR
        return bytes(reply.pack())
    name = question.q.qname
    found = records.get(str(name).rstrip(".").lower())
    if found is None:
        reply.header.rcode = RCODE.NXDOMAIN
    elif question.q.qtype in (QTYPE.A, QTYPE.ANY):
        ttl_s = int(found.ttl_s)
        # In another order each time: clients take the first, and so spread over all.
        for address in random.sample(found.addresses, len(found.addresses)):
            reply.add_answer(RR(name, QTYPE.A, rdata=A(address), ttl=ttl_s))
        exact = TXT(f"{EXACT_TTL}{found.ttl_s * 1000:.0f}")
        reply.add_ar(RR(name, QTYPE.TXT, rdata=exact, ttl=ttl_s))
    return bytes(reply.pack())


class NameServer(asyncio.DatagramProtocol):
    """Answers every datagram.

    Args:
        records: as `answer` takes them; what is changed in it holds at once.
    """

    def __init__(self, records: Mapping[str, Addresses]) -> None:
        self._records = records

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str | Any, int]) -> None:
        reply = answer(data, self._records)
        if reply is not None:
            self._transport.sendto(reply, addr)


async def serve(fabric: Fabric) -> None:
    """Take orders until the end of standard input."""
    events, loop = Events(), asyncio.get_running_loop()
    records: dict[str, Addresses] = {}
    records_outside: dict[str, Addresses] = {}
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), Stdin())
    events.emit("ready")
    buffer = LineBuffer()
    while chunk := await orders.read(1 << 16):
        for order in buffer.feed(chunk):
            match order["op"]:
                case "listen":
                    here = _bound(order["host"])
                    within = fabric.within(partial(_bound, order["within"]))
                    for held, known in ((here, records_outside), (within, records)):
                        await loop.create_datagram_endpoint(partial(NameServer, known), sock=held)
                    host, port = here.getsockname()
                    port_within = within.getsockname()[1]
                    events.emit("listening", host=host, port=port, port_within=port_within)
                case "records":
                    records.clear()
                    records_outside.clear()
                    for name, record in order["records"].items():
                        addresses, ttl_s = record["addresses"], float(record["ttl_s"])
                        outside = record.get("addresses_outside", addresses)
                        records[name.lower()] = Addresses(tuple(addresses), ttl_s)
                        records_outside[name.lower()] = Addresses(tuple(outside), ttl_s)
                case unknown:
                    raise ValueError(f"no order {unknown}")


def _bound(host: str) -> socket.socket:
    held = socket.socket(type=socket.SOCK_DGRAM)
    held.bind((host, 0))
    return held


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-dns")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    gc.freeze()  # the collector need not look at what is imported
    event_loop.run(serve(fabric.of(sys.argv[1:])))


if __name__ == "__main__":
    main()
