"""A server that fails on purpose, and notes when each attempt arrives.

An attempt's time is taken when its first bytes are read, before they are understood. Who sent it is
told, in this order, by what the client repeats in each retry:

1. the header `X-Client` or the query parameter `client`: the client; its requests are told apart by
   method and URL;
2. `amz-sdk-invocation-id` (AWS SDKs), `x-ms-client-request-id`, `Idempotency-Key` or the trace of
   `traceparent`: the request; the client is the address and the User-Agent;
3. nothing: address, method and URL, see `senders.clients_of`. Give each client a URL of its own.
"""

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from aiohttp import web
from numpy.typing import NDArray

from chaosgrade.errors import UsageError
from chaosgrade.probes.arrivals import UNANSWERED, Arrivals
from chaosgrade.probes.aws_answers import Answer, Asked
from chaosgrade.probes.senders import Sender, clients_of

FAULTS = ("throttling", "reset", "hang")
"""Faults that are no plain HTTP status."""

MOST_ATTEMPTS = 1_000_000

_REQUEST_IDS = ("amz-sdk-invocation-id", "x-ms-client-request-id", "Idempotency-Key")
_TICK_S = 0.02
_BODY_READ = 64 * 1024


@dataclass(frozen=True, slots=True)
class Fault:
    """What happens to attempts.

    Args:
        kind: an HTTP status from 400 to 599 as text, or one of `FAULTS`.
        retry_after_s: what the answer asks to wait, in seconds; None for nothing.
        recover_after: failures of each request, after which it succeeds; None for no end.
        outage_s: how long everything fails; afterwards everything succeeds; None for no end.

    Raises:
        UsageError: a value that makes no sense.
    """

    kind: str = "503"
    retry_after_s: float | None = None
    recover_after: int | None = None
    outage_s: float | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAULTS and not (self.kind.isdecimal() and 400 <= int(self.kind) <= 599):
            raise UsageError(
                f"--fault must be a status from 400 to 599 or one of {', '.join(FAULTS)}, "
                f"got {self.kind!r}"
            )
        if self.retry_after_s is not None and not 0 <= self.retry_after_s < 86400:
            raise UsageError(f"--retry-after must be 0 to 86400 seconds, got {self.retry_after_s}")
        if self.recover_after is not None and self.recover_after < 0:
            raise UsageError(f"--recover-after must be at least 0, got {self.recover_after}")
        if self.retry_after_s is not None and self.kind in ("reset", "hang"):
            raise UsageError(f"--retry-after needs an answer: --fault {self.kind} gives none")


@dataclass(slots=True)
class _Attempt:
    """What is noted of one."""

    arrived: float
    sender: Sender
    client: str | None
    request: str | None
    ended: float = float("nan")
    status: int = UNANSWERED
    retry_after_s: float = float("nan")


class _Connection(web.RequestHandler):
    """Notes when the first bytes of each request arrive, and when the client has gone."""

    def __init__(self, manager: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(manager, loop=loop, keepalive_timeout=600.0)
        self.arrived: float | None = None
        self.gone = loop.create_future()

    def data_received(self, data: bytes) -> None:
        if self.arrived is None:
            self.arrived = asyncio.get_running_loop().time()
        super().data_received(data)

    def connection_lost(self, exc: BaseException | None) -> None:
        if not self.gone.done():
            self.gone.set_result(asyncio.get_running_loop().time())
        super().connection_lost(exc)


class RetryServer:
    """The server.

    Args:
        fault: what happens to attempts.
    """

    def __init__(self, fault: Fault) -> None:
        self._fault = fault
        self._attempts: list[_Attempt] = []
        self._failures: Counter[tuple[str, ...]] = Counter()
        self._manager: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self._began = 0.0
        self._over: asyncio.Future[None] | None = None
        self._late_s: list[float] = []
        self._watch: asyncio.Task[None] | None = None

    @property
    def attempts(self) -> int:
        """How many have arrived."""
        return len(self._attempts)

    async def start(self, host: str, port: int) -> str:
        """Listen; returns the URL.

        Raises:
            UsageError: the address cannot be listened on.
        """
        loop = asyncio.get_running_loop()
        manager = self._manager = web.Server(self._handle)
        self._over = loop.create_future()
        try:
            self._listening = await loop.create_server(
                lambda: _Connection(manager, loop), host, port, backlog=1024
            )
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"{host}:{port} cannot be listened on ({reason})") from None
        self._began = loop.time()
        self._watch = loop.create_task(self._watch_lateness())
        bound = self._listening.sockets[0].getsockname()
        name = f"[{bound[0]}]" if ":" in bound[0] else bound[0]
        return f"http://{name}:{bound[1]}"

    async def stop(self) -> Arrivals:
        """Stop listening, drop who is connected, and return what has arrived."""
        until = asyncio.get_running_loop().time()
        if self._watch is not None:
            self._watch.cancel()
        if self._over is not None and not self._over.done():
            self._over.set_result(None)
        if self._listening is not None:
            self._listening.close()
        if self._manager is not None:
            await self._manager.shutdown(0.1)
        return _arrivals(self._attempts, until, late_at_95(np.array(self._late_s)))

    async def _watch_lateness(self) -> None:
        """Note how late this machine's timers are: those of clients on it are as late."""
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _TICK_S
            await asyncio.sleep(_TICK_S)
            self._late_s.append(loop.time() - due)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = request.protocol
        loop = asyncio.get_running_loop()
        if not isinstance(connection, _Connection):
            raise TypeError("a connection of another server")
        arrived, connection.arrived = connection.arrived or loop.time(), None
        attempt = _attempt(arrived, request)
        if len(self._attempts) < MOST_ATTEMPTS:
            self._attempts.append(attempt)
        begins = b""
        if request.headers.get("Expect", "").lower() != "100-continue":
            async for chunk in request.content.iter_chunked(_BODY_READ):
                begins = begins or chunk
            connection.arrived = None  # what came meanwhile was the body
        answer = await self._answer(attempt, request, Asked.by(request.headers, begins))
        attempt.ended = loop.time()
        if answer is None:
            return web.Response(status=503)
        attempt.status = answer.status
        return web.Response(status=answer.status, body=answer.body, headers=answer.headers)

    async def _answer(
        self, attempt: _Attempt, request: web.BaseRequest, asked: Asked
    ) -> Answer | None:
        """What is answered; None when the connection is gone instead."""
        if not self._fails(attempt):
            return asked.satisfied()
        match self._fault.kind:
            case "reset":
                _reset(request)
                return None
            case "hang":
                connection = request.protocol
                if isinstance(connection, _Connection) and self._over is not None:
                    await asyncio.wait(
                        (connection.gone, self._over), return_when=asyncio.FIRST_COMPLETED
                    )
                return None
            case "throttling":
                answer = asked.throttled()
            case status:
                answer = Answer(int(status))
        if self._fault.retry_after_s is None:
            return answer
        attempt.retry_after_s = self._fault.retry_after_s
        return Answer(
            answer.status, answer.body, {**answer.headers, **_wait(attempt.retry_after_s)}
        )

    def _fails(self, attempt: _Attempt) -> bool:
        fault = self._fault
        if fault.outage_s is not None and attempt.arrived - self._began >= fault.outage_s:
            return False
        if fault.recover_after is None:
            return True
        sender = attempt.sender
        key = (attempt.client or sender.address, attempt.request or sender.target)
        self._failures[key] += 1
        if self._failures[key] <= fault.recover_after:
            return True
        del self._failures[key]  # the next request to come fails anew
        return False


def late_at_95(late_s: NDArray[np.float64]) -> float:
    """How late a timer is that is due at any moment (95th percentile), in seconds.

    One tick that was ten seconds late made every timer late that was due in the meantime.

    Args:
        late_s: by how much each tick was late.
    """
    late_s = np.maximum(late_s, 0.0)
    levels = np.append(np.sort(late_s)[::-1], 0.0)
    over_s = np.array([np.maximum(late_s - level, 0.0).sum() for level in levels])
    return float(np.interp(0.05 * (late_s.sum() + _TICK_S * len(late_s)), over_s, levels))


def _attempt(arrived: float, request: web.BaseRequest) -> _Attempt:
    peer = request.transport.get_extra_info("peername") if request.transport else None
    address, port = (peer or ("", 0))[:2]
    target = f"{request.method} {request.path_qs}"
    client, named = _names(request.headers, request.query)
    if named is not None and client is None:
        client = f"{address} {request.headers.get('User-Agent', '')}"
    if client is not None and named is None:
        named = target
    return _Attempt(arrived, Sender(str(address), int(port), target), client, named)


def _names(headers: Mapping[str, str], query: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The client and the request, where the client tells them."""
    client = headers.get("X-Client") or query.get("client") or None
    request = next((headers[name] for name in _REQUEST_IDS if headers.get(name)), None)
    trace = headers.get("traceparent", "").split("-")
    if request is None and len(trace) == 4:
        request = trace[1]
    return client, request


def _wait(seconds: float) -> dict[str, str]:
    """What asks to wait: the standard's header in whole seconds, and that of AWS in milliseconds.

    Source: RFC 9110, section 10.2.3; botocore's standard retry mode reads `x-amz-retry-after`.
    """
    whole = str(int(-(-seconds // 1)))
    return {"Retry-After": whole, "x-amz-retry-after": str(round(seconds * 1000))}


def _reset(request: web.BaseRequest) -> None:
    """End the connection with a TCP reset."""
    transport = request.transport
    if transport is None:
        return
    connection: socket.socket = transport.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def _arrivals(attempts: list[_Attempt], until: float, late_s: float) -> Arrivals:
    nameless = [attempt for attempt in attempts if attempt.client is None]
    told = clients_of([a.sender for a in nameless], np.array([a.arrived for a in nameless]))
    for attempt, client, request in zip(nameless, *told, strict=True):
        attempt.client, attempt.request = client, request
    clients: dict[str | None, int] = {}
    requests: dict[str | None, int] = {}
    left_out: tuple[str, ...] = ()
    if len(attempts) >= MOST_ATTEMPTS:
        left_out = (f"attempts after the first {MOST_ATTEMPTS} were not noted",)
    return Arrivals(
        client=np.array([clients.setdefault(a.client, len(clients)) for a in attempts], np.int64),
        request=np.array(
            [requests.setdefault(a.request, len(requests)) for a in attempts], np.int64
        ),
        time=np.array([a.arrived for a in attempts], np.float64),
        ended=np.array([a.ended for a in attempts], np.float64),
        status=np.array([a.status for a in attempts], np.int64),
        retry_after=np.array([a.retry_after_s for a in attempts], np.float64),
        until=until,
        late_s=late_s,
        left_out=left_out,
    )
