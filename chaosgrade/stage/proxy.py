"""An HTTP/1.1 proxy, one request at a time per connection, as an application load balancer is.

Source of the status codes: Elastic Load Balancing, User Guide for Application Load Balancers,
"Troubleshoot": 502 when the target closes or answers nonsense, 503 without registered targets,
504 when it does not answer in time.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol, cast

CONNECT_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
_MAX_HEAD = 65536
_MAX_BODY = 1 << 20
_IDEMPOTENT = (b"GET", b"HEAD", b"OPTIONS", b"PUT", b"DELETE")
_NO_BODY = (204, 304)


class Target(Protocol):
    """Where a request can go."""

    host: str
    port: int
    idle: "list[Upstream]"
    open: "set[Connection]"


class Connection(Protocol):
    """An open connection to a target."""

    def abort(self) -> None:
        """Drop it at once."""
        ...


class Malformed(Exception):
    """A message that is not HTTP, or larger than this proxy takes."""


class Message:
    """Cuts one HTTP message out of a stream of bytes; tells when it is whole.

    Args:
        is_response: how its first line reads.
        without_body: an answer to HEAD.
    """

    def __init__(self, *, is_response: bool, without_body: bool = False) -> None:
        self.first_line = b""
        self.whole = False
        self.until_close = False
        self.keep_alive = True
        self._is_response = is_response
        self._without_body = without_body
        self._head = b""
        self._remaining: int | None = None
        self._chunked = False
        self._chunks = b""

    @property
    def begun(self) -> bool:
        """Whether the head has been read."""
        return bool(self.first_line)

    @property
    def touched(self) -> bool:
        """Whether a single byte of it has been read."""
        return bool(self._head)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in bytes; returns (those to pass on, those that belong to the next message).

        Raises:
            Malformed: this is not HTTP.
        """
        passed = b""
        if not self.begun:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                if len(self._head) > _MAX_HEAD:
                    raise Malformed("a head of more than 64 KiB")
                return b"", b""
            head, data = self._head[: end + 4], self._head[end + 4 :]
            self._parse(head)
            passed = head
        if self.until_close:
            return passed + data, b""
        if self._chunked:
            body, rest = self._cut_chunks(data)
            return passed + body, rest
        remaining = self._remaining or 0
        body, rest = data[:remaining], data[remaining:]
        self._remaining = remaining - len(body)
        self.whole = self._remaining == 0
        return passed + body, rest

    def _parse(self, head: bytes) -> None:
        self.first_line, _, fields = head.partition(b"\r\n")
        lowered = fields.lower()
        try:
            if self._is_response:
                status = int(self.first_line.split(b" ", 2)[1])
                if not self.first_line.startswith(b"HTTP/1."):
                    raise Malformed("no HTTP/1 answer")
            else:
                status = 0
                _, _, version = self.first_line.split(b" ")
                if not version.startswith(b"HTTP/1."):
                    raise Malformed("no HTTP/1 request")
            length = _field(lowered, b"content-length")
            self._remaining = int(length) if length is not None else None
        except (IndexError, ValueError):
            raise Malformed(f"no HTTP: {self.first_line[:60]!r}") from None
        self._chunked = b"chunked" in (_field(lowered, b"transfer-encoding") or b"")
        connection = _field(lowered, b"connection") or b""
        self.keep_alive = b"close" not in connection and b"HTTP/1.0" not in self.first_line
        bodyless = self._without_body or status in _NO_BODY
        if bodyless:
            self._remaining, self._chunked = 0, False
        elif self._remaining is None and not self._chunked:
            if self._is_response:
                self.until_close, self.keep_alive = True, False
            else:
                self._remaining = 0

    def _cut_chunks(self, data: bytes) -> tuple[bytes, bytes]:
        """Pass chunks on as they are; find the end of the last one."""
        passed = b""
        self._chunks += data
        while True:
            line, found, rest = self._chunks.partition(b"\r\n")
            if not found:
                if len(line) > 64:
                    raise Malformed("no chunk size")
                return passed, b""
            try:
                size = int(line.split(b";")[0], 16)
            except ValueError:
                raise Malformed("no chunk size") from None
            whole = len(line) + 2 + size + 2
            if len(self._chunks) < whole:
                return passed, b""
            passed += self._chunks[:whole]
            self._chunks = self._chunks[whole:]
            if size == 0:
                self.whole = True
                rest, self._chunks = self._chunks, b""
                return passed, rest


def _field(lowered: bytes, name: bytes) -> bytes | None:
    for line in lowered.split(b"\r\n"):
        key, colon, value = line.partition(b":")
        if colon and key.strip() == name:
            return value.strip()
    return None


class Upstream(asyncio.Protocol):
    """One connection to a target, kept for the next request when the target allows it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.used = False
        self._client: Downstream | None = None
        self._message: Message | None = None
        self._lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.target.open.add(self)

    def ask(self, client: "Downstream", request: bytes, *, head_only: bool) -> bool:
        """Send a request; False when the connection is closed already."""
        if self._lost or self._transport.is_closing():
            return False
        self._client = client
        self._message = Message(is_response=True, without_body=head_only)
        self._transport.write(request)
        return True

    def abort(self) -> None:
        """Drop the connection and what is under way on it."""
        self._client = None
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        client, message = self._client, self._message
        if client is None or message is None:
            self._transport.abort()  # nobody asked
            return
        try:
            passed, rest = message.feed(data)
        except Malformed:
            self._client = None
            self._transport.abort()
            client.answer_failed(begun=False, untouched=False)
            return
        if passed:
            client.pass_on(passed)
        if message.whole:
            self._client, self._message = None, None
            reusable = message.keep_alive and not rest
            if reusable:
                self.used = True
                self.target.idle.append(self)
            else:
                self._transport.close()
            client.answer_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self._lost = True
        self.target.open.discard(self)
        if self in self.target.idle:
            self.target.idle.remove(self)
        client, message = self._client, self._message
        self._client = None
        if client is None or message is None:
            return
        if message.until_close and error is None:
            client.answer_complete(close=True)
        else:
            client.answer_failed(begun=message.begun, untouched=self.used and not message.touched)


class Downstream(asyncio.Protocol):
    """One connection of a client.

    Args:
        choose: the target of the next request; None when there is none.
    """

    def __init__(self, choose: Callable[[], Target | None]) -> None:
        self._choose = choose
        self._buffer = b""
        self._request = Message(is_response=False)
        self._raw = b""
        self._busy = False
        self._retried = False
        self._upstream: Upstream | None = None
        self._work: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if not self._busy:
            self._read()

    def _read(self) -> None:
        data, self._buffer = self._buffer, b""
        try:
            passed, self._buffer = self._request.feed(data)
        except Malformed:
            self._refuse(b"400 Bad Request", close=True)
            return
        self._raw += passed
        if len(self._raw) > _MAX_BODY + _MAX_HEAD:
            self._refuse(b"413 Payload Too Large", close=True)
        elif self._request.whole:
            self._busy, self._retried = True, False
            self._send()

    def _send(self) -> None:
        target = self._choose()
        if target is None:
            self._refuse(b"503 Service Unavailable")
            return
        while target.idle and not self._retried:
            if self._ask(target.idle.pop()):
                return
        self._work = self._loop.create_task(self._connect(target))

    async def _connect(self, target: Target) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, upstream = await self._loop.create_connection(
                    lambda: Upstream(target), target.host, target.port
                )
        except TimeoutError:
            self._refuse(b"504 Gateway Time-out")
            return
        except OSError:
            self._refuse(b"502 Bad Gateway")
            return
        if not self._ask(upstream):
            self._refuse(b"502 Bad Gateway")

    def _ask(self, upstream: Upstream) -> bool:
        head_only = self._request.first_line.startswith(b"HEAD ")
        if not upstream.ask(self, self._raw, head_only=head_only):
            return False
        self._upstream = upstream
        self._timer = self._loop.call_later(IDLE_TIMEOUT_S, self._too_late)
        return True

    def _too_late(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None
        self._refuse(b"504 Gateway Time-out")

    def pass_on(self, data: bytes) -> None:
        """Bytes of the answer."""
        self._transport.write(data)

    def answer_complete(self, *, close: bool = False) -> None:
        """The answer is whole."""
        keep = self._request.keep_alive and not close
        self._next()
        if not keep:
            self._transport.close()
        elif self._buffer:
            self._read()

    def answer_failed(self, *, begun: bool, untouched: bool) -> None:
        """The target broke off.

        Args:
            begun: part of the answer has been passed on: all that is left is to break off as well.
            untouched: a kept connection was closed before any answer: the target never saw the
                request, or may see it twice if it is idempotent.
        """
        if begun:
            self._cancel_timer()
            self._transport.abort()
        elif untouched and not self._retried and self._request.first_line.startswith(_IDEMPOTENT):
            self._retried = True
            self._cancel_timer()
            self._upstream = None
            self._send()
        else:
            self._refuse(b"502 Bad Gateway")

    def _refuse(self, status: bytes, *, close: bool = False) -> None:
        keep = self._request.keep_alive and not close
        end = b"" if keep else b"Connection: close\r\n"
        self._transport.write(
            b"HTTP/1.1 " + status + b"\r\nServer: awselb/2.0\r\nContent-Length: 0\r\n" + end + b"\r\n"
        )
        self._next()
        if not keep:
            self._transport.close()
        elif self._buffer:
            self._read()

    def _next(self) -> None:
        self._cancel_timer()
        self._request, self._raw, self._busy = Message(is_response=False), b"", False
        self._upstream, self._work = None, None

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def connection_lost(self, error: Exception | None) -> None:
        self._cancel_timer()
        if self._upstream is not None:
            self._upstream.abort()
        if self._work is not None:
            self._work.cancel()


class Splice(asyncio.Protocol):
    """One connection of a client to a network load balancer: bytes both ways, to one target."""

    def __init__(self, choose: Callable[[], Target | None], peer: "Splice | None" = None) -> None:
        self._choose = choose
        self._peer = peer
        self._early = b""
        self._work: asyncio.Task[None] | None = None
        self._target: Target | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._peer is None:
            self._work = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        target = self._choose()
        if target is None:
            self._transport.abort()
            return
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                _, peer = await asyncio.get_running_loop().create_connection(
                    lambda: Splice(self._choose, self), target.host, target.port
                )
        except (OSError, TimeoutError):
            self._transport.abort()  # a network load balancer answers with a reset
            return
        self._peer = peer
        self._target = target
        target.open.add(self)
        if self._early:
            peer._transport.write(self._early)

    def abort(self) -> None:
        """Drop both sides."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._peer is not None:
            self._peer._transport.write(data)
        else:
            self._early += data

    def connection_lost(self, error: Exception | None) -> None:
        if self._work is not None:
            self._work.cancel()
        if self._target is not None:
            self._target.open.discard(self)
        if self._peer is not None and not self._peer._transport.is_closing():
            self._peer._transport.close()
