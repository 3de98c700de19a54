"""The shop's HTTP server: one request of a connection after another, bodies of known length."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import cast
from urllib.parse import parse_qsl, unquote, urlsplit

_MAX_HEAD = _MAX_BODY = 65536


@dataclass(frozen=True, slots=True)
class Request:
    """What a handler is given.

    Args:
        query: {name: value}, the last of each name.
        headers: {name in lower case: value}.
        body: as it came.
        name: what the path has after its last "/".
    """

    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    name: str = ""


type Handler = Callable[[Request], Awaitable[bytes]]
"""Answers a request with a whole response."""

type Handlers = Mapping[tuple[str, str], Handler]
"""{(method, path): who answers}, see `Routes`."""

type Routes = Mapping[tuple[str, str], bytes | Handler]
"""{(method, path): the whole response, or who makes it}; "/things/*" is the path of every thing."""


def response(status: HTTPStatus, body: bytes, *headers: str) -> bytes:
    """A whole response."""
    lines = (f"HTTP/1.1 {status.value} {status.phrase}", f"Content-Length: {len(body)}", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


def json_response(status: HTTPStatus, document: object, *headers: str) -> bytes:
    """A whole response with a JSON document."""
    body = json.dumps(document).encode()
    return response(status, body, "Content-Type: application/json", *headers)


_NOT_FOUND = response(HTTPStatus.NOT_FOUND, b"not found")


class Connection(asyncio.Protocol):
    """One connection, kept alive.

    Args:
        routes: who answers what.
    """

    def __init__(self, routes: Routes) -> None:
        self._routes = routes
        self._buffer = b""
        self._answering: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._go_on()
        if len(self._buffer) > _MAX_HEAD + _MAX_BODY:
            self._transport.close()

    def _go_on(self) -> None:
        while self._answering is None and not self._transport.is_closing():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if len(head) > _MAX_HEAD:
                self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE)
                break
            if not end:
                break
            length = _body_length(head)
            if isinstance(length, HTTPStatus):
                self._refuse(length)
                break
            if len(rest) < length:
                break
            self._buffer = rest[length:]
            self._answer(head, rest[:length])

    def _answer(self, head: bytes, body: bytes) -> None:
        method, _, rest = head.partition(b" ")
        target = rest.partition(b" ")[0]
        path = target.partition(b"?")[0].decode("latin-1")
        close = b"\r\nconnection: close" in head.lower()
        parent, _, name = path.rpartition("/")
        if all(at != path for _, at in self._routes):
            path = f"{parent}/*"
        route = self._routes.get((method.decode("latin-1"), path))
        if route is None:
            allowed = sorted(known for known, at in self._routes if at == path)
            self._write(_not_allowed(allowed) if allowed else _NOT_FOUND, close=close)
        elif isinstance(route, bytes):
            self._write(route, close=close)
        else:
            query = dict(parse_qsl(urlsplit(target.decode("latin-1")).query))
            request = Request(query, _headers(head), body, unquote(name))
            self._answering = asyncio.create_task(self._handle(route, request, close=close))

    async def _handle(self, handler: Handler, request: Request, *, close: bool) -> None:
        try:
            answer = await handler(request)
        except Exception:  # a handler's own mistake: its customer is told, others are served
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR)
            raise
        finally:
            self._answering = None
        self._write(answer, close=close)
        self._go_on()

    def _write(self, answer: bytes, *, close: bool) -> None:
        if not self._transport.is_closing():
            self._transport.write(answer)
        if close:
            self._transport.close()

    def _refuse(self, status: HTTPStatus) -> None:
        """Where the next request would begin is not known."""
        self._write(response(status, b"", "Connection: close"), close=True)


async def serve(host: str, port: int, routes: Routes, on_listening: Callable[[], None]) -> None:
    """Answer requests until killed.

    Args:
        on_listening: called once the port is open.
    """
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(routes), host, port, backlog=512, reuse_port=True
    )
    on_listening()
    async with server:
        await server.serve_forever()


def _not_allowed(allowed: list[str]) -> bytes:
    return response(HTTPStatus.METHOD_NOT_ALLOWED, b"", f"Allow: {', '.join(allowed)}")


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode("latin-1").split("\r\n")[1:]
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, _, value in pairs}


def _body_length(head: bytes) -> int | HTTPStatus:
    """Of the body, or why the request cannot be read."""
    lower = head.lower()
    if b"\r\ntransfer-encoding:" in lower:
        return HTTPStatus.LENGTH_REQUIRED
    if b"\r\ncontent-length:" not in lower:
        return 0
    digits = _headers(head)["content-length"]
    if not (digits.isascii() and digits.isdecimal()):
        return HTTPStatus.BAD_REQUEST
    length = int(digits)
    return length if length <= _MAX_BODY else HTTPStatus.REQUEST_ENTITY_TOO_LARGE
