"""The shop's web tier: a stateless HTTP server.

`GET /` says which instance answered; `GET /health` is what the load balancer asks. Shortly before
EC2 takes a Spot Instance back, `/health` fails and everything else is still served: the load
balancer sends its requests elsewhere.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from typing import cast

from chaosgrade.stage.workload.spot_notice import Metadata, wait_for_end

_MAX_HEAD = 65536


def _response(status: str, body: bytes, *headers: str) -> bytes:
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body


_LEAVING = _response("503 Service Unavailable", b"leaving", "Content-Type: text/plain")
_NOT_FOUND = _response("404 Not Found", b"not found")
_NOT_ALLOWED = _response("405 Method Not Allowed", b"", "Allow: GET", "Connection: close")


def pages(instance: str, zone: str) -> dict[bytes, bytes]:
    """{path: the whole response} of an instance."""
    home = json.dumps({"shop": "open", "instance": instance, "zone": zone}).encode()
    return {
        b"/": _response(
            "200 OK",
            home,
            "Content-Type: application/json",
            f"X-Instance: {instance}",
            f"X-Zone: {zone}",
        ),
        b"/health": _response("200 OK", b"ok", "Content-Type: text/plain"),
    }


class Web(asyncio.Protocol):
    """One connection, kept alive.

    Args:
        pages: {path: response}.
    """

    def __init__(self, pages: Mapping[bytes, bytes]) -> None:
        self._pages = pages
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._transport.is_closing():
            head, end, rest = self._buffer.partition(b"\r\n\r\n")
            if not end:
                break
            self._buffer = rest
            self._answer(head)
        if len(self._buffer) > _MAX_HEAD:
            self._transport.close()

    def _answer(self, head: bytes) -> None:
        method, _, rest = head.partition(b" ")
        if method != b"GET":
            # What follows may be a body: without reading it there is no next request.
            self._transport.write(_NOT_ALLOWED)
            self._transport.close()
            return
        path = rest.partition(b" ")[0].partition(b"?")[0]
        self._transport.write(self._pages.get(path, _NOT_FOUND))
        if b"\r\nconnection: close" in head.lower():
            self._transport.close()


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed.

    Args:
        environment: INSTANCE_ID and AVAILABILITY_ZONE; with NOTICE_POLL_S and DRAIN_S, in seconds,
            the interruption notice is heeded, as AWS_EC2_METADATA_SERVICE_ENDPOINT tells it.
        on_listening: called once the port is open.
    """
    answers = pages(environment["INSTANCE_ID"], environment["AVAILABILITY_ZONE"])
    server = await asyncio.get_running_loop().create_server(
        lambda: Web(answers), host, port, backlog=512, reuse_port=True
    )
    on_listening()
    if "NOTICE_POLL_S" in environment:
        metadata = Metadata(environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"], host)
        await wait_for_end(
            metadata,
            poll_s=float(environment["NOTICE_POLL_S"]),
            before_s=float(environment["DRAIN_S"]),
        )
        answers[b"/health"] = _LEAVING
    await server.serve_forever()
