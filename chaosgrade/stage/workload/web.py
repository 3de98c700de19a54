"""The shop's web tier: a stateless HTTP server.

`GET /` says which instance answered; `GET /health` is what the load balancer asks.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import cast

_MAX_HEAD = 65536


def _response(status: str, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


class Web(asyncio.Protocol):
    """One connection, kept alive. Requests have no body."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        instance, zone = environment["INSTANCE_ID"], environment["AVAILABILITY_ZONE"]
        page = json.dumps({"shop": "open", "instance": instance, "zone": zone}).encode()
        self._pages = {
            b"/": _response("200 OK", page, "Content-Type: application/json",
                            f"X-Instance: {instance}", f"X-Zone: {zone}"),
            b"/health": _response("200 OK", b"ok", "Content-Type: text/plain"),
        }  # fmt: skip
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while True:
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                break
            self._buffer = rest
            self._answer(head)
        if len(self._buffer) > _MAX_HEAD:
            self._transport.close()

    def _answer(self, head: bytes) -> None:
        method, _, rest = head.partition(b" ")
        path = rest.partition(b" ")[0].partition(b"?")[0]
        if method not in (b"GET", b"HEAD"):
            # What follows may be a body: without reading it there is no next request.
            self._transport.write(_response("405 Method Not Allowed", b"", "Connection: close"))
            self._transport.close()
            return
        page = self._pages.get(path) or _response("404 Not Found", b"")
        if method == b"HEAD":
            page = page[: page.index(b"\r\n\r\n") + 4]
        self._transport.write(page)


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed.

    Args:
        environment: INSTANCE_ID and AVAILABILITY_ZONE.
        on_listening: called once the port is open.
    """
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Web(environment), host, port, backlog=512)
    on_listening()
    await server.serve_forever()
