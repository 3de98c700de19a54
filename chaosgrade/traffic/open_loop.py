"""A process that offers requests on a schedule: what the observers' workers have in common.

The loop is open: request i is sent at start + i / rate whatever the answers do, and its latency
counts from that intended moment. What this process itself could not send in time is left out, and
is a hole in the evidence. A client that waits for answers before it sends stops asking
while the system stalls and so hides the stall (Gil Tene, "How NOT to Measure Latency", 2013: the
coordinated omission; wrk2 and HdrHistogram are the reference). A process of its own keeps the
schedule safe from whatever else the run does with the interpreter.

A worker reads its orders as one JSON line on standard input and writes JSON lines on standard
output, always without waiting for a slow reader. It sends no more at a line `{"op": "stop"}`, at
the end of standard input (the parent is gone) and always after `deadline_s`.
"""

import asyncio
import contextlib
import errno
import gc
import importlib
import json
import math
import resource
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from hdrh.histogram import HdrHistogram

from chaosgrade.errors import UsageError
from chaosgrade.history import hole_s
from chaosgrade.lifeline import die_with_parent
from chaosgrade.traffic.worker_spec import WorkerSpec

HOUR_US = 3_600_000_000

_BATCH_S = 0.1
_TICK_S = 0.001  # shorter timers make libuv spin, longer ones make requests late
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionError)

type Write = Callable[[Mapping[str, object]], None]


class Schedule:
    """Begins request after request, each when it is due, or hardly later, or not at all.

    Args:
        rate: requests per second.
        deadline_s: no request is due later than this after the start.
        start: monotonic seconds of the first request.
        send: makes the request with this index, which is due at these monotonic seconds.
    """

    def __init__(
        self,
        rate: float,
        deadline_s: float,
        start: float,
        send: Callable[[int, float], Coroutine[object, object, None]],
    ) -> None:
        self.start = start
        self.lateness = HdrHistogram(1, HOUR_US, 3)
        self._rate = rate
        self._next = 0
        self._last = math.floor(deadline_s * rate)
        self._send_one = send
        self._loop = asyncio.get_running_loop()
        self._in_flight: set[asyncio.Task[None]] = set()

    async def offer(self, stop: asyncio.Event) -> None:
        """Send everything that is due until `stop` or the deadline, then wait for what is out."""
        timer: asyncio.TimerHandle | None = None

        def send_due() -> None:
            nonlocal timer
            while self._is_due():
                if stop.is_set():
                    return
                self._send(self._next)
                self._next += 1
            if self._next == self._last:
                stop.set()
                return
            wait = self._due(self._next) - time.monotonic()
            timer = self._loop.call_later(max(_TICK_S, wait), send_due)

        send_due()
        await stop.wait()
        if timer is not None:
            timer.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    def summary(self) -> dict[str, object]:
        """How many requests were sent, and how much later than due."""
        late = self.lateness
        return {
            "offered": late.get_total_count(),
            "sent_late_ms": {
                "p50": late.get_value_at_percentile(50) / 1e3,
                "p99": late.get_value_at_percentile(99) / 1e3,
                "max": late.get_max_value() / 1e3,
            },
        }

    def _is_due(self) -> bool:
        """Whether the next request is due, after those that were missed: sent when this process was
        held up for so long that it is a hole, they would tell of a past that they have not met."""
        now = time.monotonic()
        if now - self._due(self._next) > hole_s(1 / self._rate):
            self._next = min(self._last, math.floor((now - self.start) * self._rate))
        return self._next < self._last and self._due(self._next) <= now

    def _due(self, index: int) -> float:
        return self.start + index / self._rate

    def _send(self, index: int) -> None:
        due = self._due(index)
        self.lateness.record_value(max(1, round((time.monotonic() - due) * 1e6)))
        # Eagerly: on a kept-alive connection the request is written before this returns.
        task = asyncio.Task(self._send_one(index, due), loop=self._loop, eager_start=True)
        if not task.done():
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)


def outcome_of(error: Exception) -> str:
    """The word for a request that got no whole answer."""
    number = getattr(error, "errno", None)  # aiohttp's own errors carry the system's number
    if isinstance(error, TimeoutError) or number == errno.ETIMEDOUT:
        return "timeout"
    if number == errno.ECONNREFUSED:
        return "refused"
    if isinstance(error, _CUT) or number in (errno.ECONNRESET, errno.EPIPE):
        return "reset"
    return f"error_{type(error).__name__}"


def http_session(name_server: str) -> aiohttp.ClientSession:
    """The connections of one customer: to a balancer of layer 4 they are what is balanced, and to
    one with a node in each zone, its name's answer is.

    Args:
        name_server: "address:port" of the DNS server to ask; "" asks as the system does.
    """
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(
            limit=0,  # hung requests must not hold up others
            resolver=_CustomersResolver(name_server) if name_server else None,
            use_dns_cache=not name_server,  # the resolver's own heeds the TTL of each answer
        ),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
        cookie_jar=aiohttp.CookieJar(unsafe=True),  # a sticky session is a customer's own
        headers={"User-Agent": "chaosgrade"},
    )
    # aiohttp repeats a request by itself when a kept-alive connection turns out dead. That
    # attempt failed, and attempts are counted here.
    session._retry_connection = False
    return session


class _CustomersResolver(AbstractResolver):
    """Asks one DNS server, and keeps to the first address that it gives, as most programs do."""

    def __init__(self, name_server: str) -> None:
        # With the stage, where alone names need a server of their own, comes what this imports.
        from chaosgrade.stage.workload.resolver import Resolver

        self._resolver = Resolver(name_server)

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        known = self._resolver.kept(host)
        try:
            address = known or await asyncio.to_thread(self._resolver.resolve, host)
        except (LookupError, TimeoutError) as error:
            raise OSError(errno.EHOSTUNREACH, str(error)) from error
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=0, flags=_NUMERIC
            )
        ]

    async def close(self) -> None:
        return


@contextlib.asynccontextmanager
async def flushing(flush: Callable[[], None]) -> AsyncIterator[None]:
    """Call `flush` about every 100 ms within the block, and once at its end."""

    async def often() -> None:
        while True:
            await asyncio.sleep(_BATCH_S)
            flush()

    gc.freeze()  # what the imports left is never looked at again: shorter pauses
    task = asyncio.create_task(often())
    try:
        yield
    finally:
        task.cancel()
    flush()


def run_worker[S: WorkerSpec](
    read: Callable[[bytes], S],
    work: Callable[[S, asyncio.Event, Write], Coroutine[object, object, None]],
) -> int:
    """Be a worker: the body of its `main`; the exit code is 2 when its spec makes no sense.

    Args:
        read: the spec that a line holds.
        work: does it; is given the spec, what is set when nothing more is to be sent, and what
            writes one line.
    """
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve(read, work))
    except UsageError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


async def _serve[S: WorkerSpec](
    read: Callable[[bytes], S],
    work: Callable[[S, asyncio.Event, Write], Coroutine[object, object, None]],
) -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    line = await commands.readline()
    if not line:
        return
    spec = read(line)
    _allow_sockets(spec.sockets)
    # The last resort, if the loop itself hangs: an alarm that nobody catches ends the process.
    signal.alarm(math.ceil(spec.deadline_s + spec.ending_s) + 10)
    hung_up, stop = asyncio.Event(), asyncio.Event()
    out, _ = await loop.connect_write_pipe(lambda: _Listener(hung_up), sys.stdout)

    def write(line: Mapping[str, object]) -> None:
        out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")

    listening = asyncio.create_task(_listen(commands, stop))
    working = asyncio.create_task(work(spec, stop, write))
    gone = asyncio.create_task(hung_up.wait())
    # When nobody reads any more, what is still in flight is of no use to anyone.
    await asyncio.wait((working, gone), return_when=asyncio.FIRST_COMPLETED)
    listening.cancel()
    if working.done():
        working.result()
        out.close()
        await gone


async def _listen(commands: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while line := await commands.readline():
        if json.loads(line).get("op") == "stop":
            break
    stop.set()


class _Listener(asyncio.BaseProtocol):
    """Tells when everything written has left, or the reader has."""

    def __init__(self, hung_up: asyncio.Event) -> None:
        self._hung_up = hung_up

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up.set()


def _allow_sockets(needed: int) -> None:
    """Raise this process's limit of open files to `needed`.

    Raises:
        UsageError: the system's hard limit is lower, so a hanging system could not be measured.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and needed > hard:
        raise UsageError(
            f"rate x timeout needs up to {needed} open connections, the limit of open files is"
            f" {hard}: lower rate or timeout_s, or raise `ulimit -Hn`"
        )
    if soft != resource.RLIM_INFINITY and needed > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:  # an extra: asyncio's own loop is slower, and the lateness will tell
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory
