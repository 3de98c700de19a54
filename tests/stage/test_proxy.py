"""The proxy of HTTP requests: when it gives up, and that it keeps the pace of a slow client."""

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from chaosgrade.stage.fabric import Loopback
from chaosgrade.stage.http_message import Message
from chaosgrade.stage.proxy import Connection, Downstream, Timeouts, Upstream
from chaosgrade.stage.request_counts import RequestCounts
from tests.stage.children import free_address

_SHORT = Timeouts(connect_s=0.1, idle_s=0.2)
_GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(eq=False)
class _Target:
    host: str
    port: int
    source: str = "127.0.0.1"
    draining: bool = False
    idle: list[Upstream] = field(default_factory=list)
    open: set[Connection] = field(default_factory=set)


@asynccontextmanager
async def _proxy(target: _Target, timeouts: Timeouts = _SHORT) -> AsyncIterator[Streams]:
    """A client that is connected to `target` through a proxy."""
    clients: set[Connection] = set()
    host, port = free_address()
    server = await asyncio.get_running_loop().create_server(
        lambda: Downstream(lambda: target, clients, RequestCounts(), timeouts), host, port
    )
    reader, writer = await asyncio.open_connection(host, port)
    try:
        yield reader, writer
    finally:
        writer.close()
        server.close()


@asynccontextmanager
async def _served(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[_Target]:
    host, port = free_address()
    server = await asyncio.start_server(serve, host, port)
    try:
        yield _Target(host, port)
    finally:
        server.close()


async def test_a_target_that_does_not_accept_in_time_is_504() -> None:
    """A machine that is gone: the connection is never made."""
    fabric, address = Loopback(), free_address()
    fabric.vanish(*address)
    async with _proxy(_Target(*address)) as (reader, writer):
        writer.write(_GET)
        assert await reader.readline() == b"HTTP/1.1 504 Gateway Time-out\r\n"
    fabric.attach(*address)


async def test_a_target_that_does_not_answer_in_time_is_504() -> None:
    """A paused process: the connection is made, and nothing comes."""

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with _served(silent) as target, _proxy(target) as (reader, writer):
        writer.write(_GET)
        assert await reader.readline() == b"HTTP/1.1 504 Gateway Time-out\r\n"
        assert not target.open


async def test_a_target_that_refuses_is_502() -> None:
    """At once."""
    async with _proxy(_Target(*free_address())) as (reader, writer):
        writer.write(_GET)
        assert await reader.readline() == b"HTTP/1.1 502 Bad Gateway\r\n"


async def test_an_idle_client_is_let_go() -> None:
    """After the idle timeout, without an answer."""
    async with _proxy(_Target(*free_address())) as (reader, writer):
        writer.write(b"GET / HT")
        assert await reader.read() == b""


async def test_an_answer_that_keeps_moving_takes_its_time() -> None:
    """The idle timeout counts from the last byte, not from the request."""
    pieces = 8

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % pieces)
        for _ in range(pieces):
            await asyncio.sleep(_SHORT.idle_s / 4)  # the pace of the answer is what is tested
            writer.write(b"x")
        writer.close()

    async with _served(trickle) as target, _proxy(target) as (reader, writer):
        writer.write(_GET)
        await reader.readuntil(b"\r\n\r\n")
        assert await reader.readexactly(pieces) == b"x" * pieces


async def test_a_client_that_waits_to_send_its_body_is_told_to_go_on() -> None:
    """The proxy answers "100 Continue" itself; the target gets the whole request."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Expect" not in head
        body = await reader.readexactly(4)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n" + body)

    async with _served(echo) as target, _proxy(target) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n")
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"body")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(4) == b"body"


async def test_a_connection_serves_one_request_after_another() -> None:
    """Clients and targets keep theirs, also when requests are sent ahead."""
    connections = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while not reader.at_eof():
            await reader.readuntil(b"\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    async with _served(serve) as target, _proxy(target) as (reader, writer):
        writer.write(_GET * 5)
        for _ in range(5):
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
        assert connections == 1
        assert len(target.idle) == 1


async def test_a_slow_client_slows_the_target_down() -> None:
    """What it does not take is not heaped up in between."""
    size = 64 << 20
    sent = 0

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            writer.write(bytes(1 << 20))
            await writer.drain()
            sent += 1 << 20

    async with _served(flood) as target, _proxy(target, Timeouts()) as (reader, writer):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        writer.write(_GET)
        await reader.readuntil(b"\r\n\r\n")
        before = -1
        while sent != before:  # until the target is held up
            before = sent
            await asyncio.sleep(0.05)
        assert sent < size // 2
        received = 0
        while received < size:
            received += len(await reader.read(1 << 20))


def test_what_belongs_to_the_next_message_is_left_over() -> None:
    """A stream may hold the end of one message and the beginning of the next."""
    message = Message(is_response=True)
    answer = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
    assert message.feed(answer + b"HTTP") == (answer, b"HTTP")
    assert message.whole


def test_an_interim_answer_is_not_the_answer() -> None:
    """ "100 Continue" is for one hop, whatever the pieces in which it comes."""
    message = Message(is_response=True)
    passed = b""
    for byte in b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n":
        passed += message.feed(bytes([byte]))[0]
    assert (passed, message.whole) == (b"HTTP/1.1 204 No Content\r\n\r\n", True)
