"""An HTTP/1.1 proxy, one request at a time per connection, as an application load balancer is.

Source of the status codes: Elastic Load Balancing, User Guide for Application Load Balancers,
"Troubleshoot your Application Load Balancers": 502 when the target refuses, resets or answers
nonsense, 503 without registered targets, 504 when it does not answer in time.
"""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, cast

from chaosgrade.stage import access_log
from chaosgrade.stage.access_log import Exchange
from chaosgrade.stage.http_message import MAX_HEAD, Malformed, Message
from chaosgrade.stage.request_counts import RequestCounts

_MAX_BODY = 1 << 20
"""Bytes of a request's body, which is read whole before it is sent on, so that it can be resent."""
_RACE_S = 0.1
"""A kept connection that closes this soon after a request was sent had been closed before. Longer,
and the target had the request: then its end is an error that the client must see."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """When a balancer gives up, in measured seconds: latencies of requests are not scaled.

    Args:
        connect_s: a target does not accept a connection.
        idle_s: nothing moves on a connection.
    """

    connect_s: float = 10.0
    idle_s: float = 60.0


ELB_TIMEOUTS = Timeouts()


class Connection(Protocol):
    """An open connection to a target or from a client."""

    def abort(self) -> None:
        """Drop it at once."""
        ...


class Target(Protocol):
    """Where a request can go."""

    host: str
    port: int
    source: str
    """The address to connect from."""
    draining: bool
    idle: "list[Upstream]"
    """Connections that wait for a request."""
    open: set[Connection]
    """All connections to it."""


class RequestLog(Protocol):
    """Where a node logs its requests."""

    @property
    def wanted(self) -> bool:
        """Whether anybody wants to know."""
        ...

    def add(self, exchange: Exchange) -> None:
        """A request is over."""
        ...


class Upstream(asyncio.Protocol):
    """One connection to a target, kept for the next request when the target allows it."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._transport: asyncio.Transport | None = None
        self._client: Downstream | None = None
        self._answer = Message(is_response=True)
        self._reused = False
        self._paused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.target.open.add(self)

    def ask(self, client: "Downstream", request: bytes, *, head_only: bool) -> bool:
        """Send a request; False when the connection is closed already."""
        if self._transport is None or self._transport.is_closing():
            return False
        self._client = client
        self._answer = Message(is_response=True, without_body=head_only)
        self._transport.write(request)
        return True

    def abort(self) -> None:
        """Drop the connection; who waits for an answer is told that it broke off."""
        if self._transport is not None:
            self._transport.abort()

    def leave(self) -> None:
        """Drop the connection: nobody waits any longer."""
        self._client = None
        self.abort()

    def pause(self, *, wanted: bool) -> None:
        """Stop or go on reading, at the pace of the client."""
        if self._transport is None or self._transport.is_closing():
            return
        self._paused = wanted
        if wanted:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        client = self._client
        if client is None:
            self.abort()  # nobody asked
            return
        answer = self._answer
        try:
            passed, rest = answer.feed(data)
        except Malformed:
            self._client = None
            self.abort()
            client.answer_failed(may_retry=False)
            return
        if passed:
            client.pass_on(passed, answer)
        if answer.whole:
            self._client = None
            if rest or not answer.keep_alive or self.target.draining:
                self.abort()
            else:
                self._reused = True
                if self._paused:
                    self.pause(wanted=False)
                self.target.idle.append(self)
            client.answer_complete()

    def connection_lost(self, error: Exception | None) -> None:
        self.target.open.discard(self)
        if self in self.target.idle:
            self.target.idle.remove(self)
        client, self._client = self._client, None
        if client is None:
            return
        if self._answer.ends_with_connection and error is None:
            client.answer_complete(close=True)
        else:
            client.answer_failed(may_retry=self._reused and not self._answer.begun)


class Downstream(asyncio.Protocol):
    """One connection of a client.

    Args:
        choose: the target of the next request; None when there is none.
        clients: where it is listed while it is open.
        counts: where its requests are counted.
        timeouts: when it gives up.
        log: takes the requests that are over.
    """

    def __init__(
        self,
        choose: Callable[[], Target | None],
        clients: set[Connection],
        counts: RequestCounts,
        timeouts: Timeouts = ELB_TIMEOUTS,
        log: RequestLog | None = None,
    ) -> None:
        self._timeouts = timeouts
        self._log = log
        self._exchange: Exchange | None = None
        self._counts = counts
        self._choose = choose
        self._clients = clients
        self._loop = asyncio.get_running_loop()
        self._forwarded = b""
        self._buffer = b""
        self._request = Message(is_response=False)
        self._raw = b""
        self._client = ""
        self._created_at = 0.0
        self._busy = False
        self._answering = False
        self._slow = False
        self._retried = False
        self._upstream: Upstream | None = None
        self._work: asyncio.Task[None] | None = None
        self._moved_at = self._sent_at = self._loop.time()
        self._watch = self._loop.call_later(self._timeouts.idle_s, self._idle)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._clients.add(self)
        client, client_port = transport.get_extra_info("peername")[:2]
        port = transport.get_extra_info("sockname")[1]
        self._client = f"{client}:{client_port}"
        self._forwarded = (
            f"X-Forwarded-For: {client}\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Port: {port}\r\n"
        ).encode()
        self._next()

    def abort(self) -> None:
        """Drop the connection."""
        self._transport.abort()

    def data_received(self, data: bytes) -> None:
        self._moved_at = self._loop.time()
        if not self._busy:
            self._read(data)
            return
        self._buffer += data
        if len(self._buffer) > MAX_HEAD:
            self._transport.pause_reading()  # one request at a time

    def _read(self, data: bytes) -> None:
        try:
            passed, self._buffer = self._request.feed(data)
        except Malformed:
            self._refuse(b"400 Bad Request", close=True)
            return
        if not self._raw:
            self._created_at = time.time()
        self._raw = self._raw + passed if self._raw else passed
        if self._request.whole:
            self._busy, self._retried = True, False
            self._begin()
            self._send()
        elif len(self._raw) > _MAX_BODY + MAX_HEAD:
            self._refuse(b"413 Request Entity Too Large", close=True)
        elif self._request.expects:
            self._request.expects = False
            self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def _begin(self) -> None:
        """The request is whole: it gets its trace id, and is told of when it is over."""
        self._raw, trace = access_log.traced(self._raw, self._created_at)
        if self._log is not None and self._log.wanted:
            self._exchange = Exchange(self._raw, trace, self._client, self._created_at)

    def _end(self) -> None:
        """The request is over."""
        if self._exchange is not None and self._log is not None:
            self._log.add(self._exchange)
        self._exchange = None

    def _send(self) -> None:
        target = self._choose()
        if target is None:
            self._refuse(b"503 Service Temporarily Unavailable")
            return
        if not self._retried:
            self._counts.chosen()
        while target.idle and not self._retried:
            if self._ask(target.idle.pop()):
                return
        self._work = self._loop.create_task(self._connect(target))

    async def _connect(self, target: Target) -> None:
        upstream = Upstream(target)
        asked = False
        try:
            async with asyncio.timeout(self._timeouts.connect_s):
                await self._loop.create_connection(
                    lambda: upstream, target.host, target.port, local_addr=(target.source, 0)
                )
            asked = self._ask(upstream)
            if not asked:
                self._refuse(b"502 Bad Gateway")
        except TimeoutError:
            self._counts.unreachable()
            self._refuse(b"504 Gateway Time-out")
        except OSError:
            self._counts.unreachable()
            self._refuse(b"502 Bad Gateway")
        finally:
            if not asked:  # also when the client has left meanwhile
                upstream.leave()

    def _ask(self, upstream: Upstream) -> bool:
        head_only = self._request.first_line.startswith(b"HEAD ")
        if not upstream.ask(self, self._raw, head_only=head_only):
            return False
        self._upstream = upstream
        self._moved_at = self._sent_at = self._loop.time()
        if self._exchange is not None:
            target = upstream.target
            self._exchange.target = f"{target.host}:{target.port}"
            self._exchange.waited_s = max(time.time() - self._created_at, 0.0)
        if self._slow:
            upstream.pause(wanted=True)
        return True

    def pass_on(self, data: bytes, answer: Message) -> None:
        """Bytes of the answer."""
        self._moved_at = self._loop.time()
        if not self._answering:
            self._answering = True
            self._counts.answered(answer.status, self._moved_at - self._sent_at)
            if self._exchange is not None:
                self._exchange.status = self._exchange.target_status = answer.status
                self._exchange.answered_s = self._moved_at - self._sent_at
        if self._exchange is not None:
            self._exchange.sent += len(data)
        self._transport.write(data)

    def answer_complete(self, *, close: bool = False) -> None:
        """The answer is whole."""
        self._done(keep=self._request.keep_alive and not close)

    def answer_failed(self, *, may_retry: bool) -> None:
        """The target broke off.

        Args:
            may_retry: it closed a kept connection before any answer. If the request had only just
                been sent, the two crossed on the way and the target never saw it; a safe one is
                sent once more.
        """
        self._upstream = None
        crossed = may_retry and self._loop.time() - self._sent_at < _RACE_S
        if self._answering:
            self._end()
            self._transport.abort()  # its beginning has been passed on: all that is left
        elif crossed and not self._retried and self._request.first_line.startswith(b"GET "):
            self._retried = True
            self._send()
        else:
            self._refuse(b"502 Bad Gateway")

    def _refuse(self, status: bytes, *, close: bool = False) -> None:
        self._counts.refused(int(status[:3]))
        keep = self._request.keep_alive and not close
        end = b"" if keep else b"Connection: close\r\n"
        head_only = self._request.first_line.startswith(b"HEAD ")
        body = b"" if head_only else status + b"\n"
        answer = (
            b"HTTP/1.1 %b\r\nServer: awselb/2.0\r\nContent-Type: text/plain\r\n"
            b"Content-Length: %d\r\n%b\r\n%b" % (status, len(status) + 1, end, body)
        )
        if self._exchange is not None:
            self._exchange.status, self._exchange.sent = int(status[:3]), len(answer)
        self._transport.write(answer)
        self._done(keep=keep)

    def _done(self, *, keep: bool) -> None:
        self._end()
        self._upstream = None  # it may serve another client by now
        if not keep:
            self._busy = True  # what still comes is not read
            self._transport.close()
            return
        data = self._buffer
        self._next()
        if data:
            self._transport.resume_reading()
            self._read(data)

    def _next(self) -> None:
        self._request = Message(is_response=False, extra=self._forwarded)
        self._raw = self._buffer = b""
        self._busy = self._answering = False
        self._upstream = self._work = None

    def _idle(self) -> None:
        """Nothing has moved for long, or it has and the watch starts again."""
        left = self._moved_at + self._timeouts.idle_s - self._loop.time()
        if left > 0:
            self._watch = self._loop.call_later(left, self._idle)
            return
        self._moved_at = self._loop.time()
        self._watch = self._loop.call_later(self._timeouts.idle_s, self._idle)
        if self._upstream is None or self._answering:
            self._transport.abort()
            return
        self._upstream.leave()
        self._refuse(b"504 Gateway Time-out")

    def pause_writing(self) -> None:
        self._slow = True
        if self._upstream is not None:
            self._upstream.pause(wanted=True)

    def resume_writing(self) -> None:
        self._slow = False
        if self._upstream is not None:
            self._upstream.pause(wanted=False)

    def connection_lost(self, error: Exception | None) -> None:
        self._clients.discard(self)
        self._watch.cancel()
        if self._exchange is not None and not self._answering:
            self._exchange.status = access_log.LEFT
        self._end()
        if self._work is not None:
            self._work.cancel()
        if self._upstream is not None:
            self._upstream.leave()
