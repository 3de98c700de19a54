"""The HTTP server of the sample workload, over real connections."""

import asyncio
from http import HTTPStatus

import pytest

from chaosgrade.stage.workload.http_server import Connection, Request, response


async def exchange(*chunks: bytes) -> bytes:
    """What the server sends for these chunks, until it closes or the client has said all."""

    async def echo(request: Request) -> bytes:
        await asyncio.sleep(0)
        said = request.query.get("say", "") + request.headers.get("x-say", "")
        said += request.name if request.name != "echo" else ""
        return response(HTTPStatus.OK, said.encode() + request.body)

    async def broken(request: Request) -> bytes:
        raise RuntimeError("a mistake")

    routes = {
        ("GET", "/fixed"): response(HTTPStatus.OK, b"fixed"),
        ("GET", "/echo"): echo,
        ("POST", "/echo"): echo,
        ("GET", "/broken"): broken,
        ("GET", "/echo/*"): echo,
    }
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda *_: None)  # of the handler that is broken
    server = await loop.create_server(lambda: Connection(routes), "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for chunk in chunks:
            writer.write(chunk)
            await writer.drain()
            await asyncio.sleep(0.001)
        writer.write(b"GET /fixed HTTP/1.1\r\nConnection: close\r\n\r\n")
        said = await asyncio.wait_for(reader.read(), 5)
        writer.close()
    return said


def bodies(said: bytes) -> list[bytes]:
    """Of responses, one after another."""
    found = []
    while said:
        head, _, rest = said.partition(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        found.append(rest[:length])
        said = rest[length:]
    return found


async def test_requests_are_answered_in_their_order() -> None:
    """Bodies that come in pieces, several requests in one piece, waiting ones and others."""
    said = await exchange(
        b"POST /echo?say=one HTTP/1.1\r\nContent-Length: 4\r\n\r\n--",
        b"--GET /fixed HTTP/1.1\r\n\r\nGET /echo?say=two HTTP/1.1\r\nX-Say: three\r\n",
        b"\r\nGET /fixed HTTP/1.1\r\n\r\n",
    )
    assert bodies(said) == [b"one----", b"fixed", b"twothree", b"fixed", b"fixed"]


async def test_a_route_may_be_for_whatever_has_a_name() -> None:
    """One name, decoded, and no more than one; the query is no part of it."""
    said = await exchange(
        b"GET /echo/a%2Fb%20c?say=d HTTP/1.1\r\n\r\n",
        b"GET /echo/ HTTP/1.1\r\n\r\n",
        b"GET /echo/a/b HTTP/1.1\r\n\r\n",
        b"GET /fixed/a HTTP/1.1\r\n\r\n",
    )
    assert bodies(said) == [b"da/b c", b"", b"not found", b"not found", b"fixed"]


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /nothing HTTP/1.1\r\n\r\n", b"404"),
        (b"DELETE /echo/a HTTP/1.1\r\n\r\n", b"405"),
        (b"POST /fixed HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", b"405"),
    ],
)
async def test_a_wrong_request_leaves_the_connection_open(request_: bytes, status: bytes) -> None:
    """404 and 405 with what is allowed; the next request is answered."""
    said = await exchange(request_)
    assert said.startswith(b"HTTP/1.1 " + status)
    assert said.endswith(b"fixed")
    assert (b"Allow: GET\r\n" in said) == (status == b"405")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /broken HTTP/1.1\r\n\r\n", b"500"),
        (b"POST /echo HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b"411"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: -1\r\n\r\n", b"400"),
        (b"POST /echo HTTP/1.1\r\nContent-Length: 65537\r\n\r\n", b"413"),
        (b"GET /fixed HTTP/1.1\r\nX: " + b"x" * 70000 + b"\r\n\r\n", b"431"),
    ],
)
async def test_after_what_cannot_be_read_nothing_is(request_: bytes, status: bytes) -> None:
    """The status says why, and the connection is closed."""
    said = await exchange(request_)
    assert said.startswith(b"HTTP/1.1 " + status)
    assert b"Connection: close" in said
    assert b"fixed" not in said
