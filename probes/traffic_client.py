"""The worker process of the traffic probe: sends on schedule, writes what came back.

`python -m chaosgrade.probes.traffic_client` reads one `TrafficSpec` as a JSON line on standard
input and writes JSON lines on standard output, about every 100 ms and always without waiting for a
slow reader:

    {"start": unix s, "requests": [[offset_ms, customer, outcome, latency_ms, attempts], ...]}
    {"end": unix s, "offered": n, "sent_late_ms": {"p50": ., "p99": ., "max": .}, "hdr": base64}

The loop is open: request i is sent at start + i / rate whatever the answers do, and its latency
counts from that intended moment. A client that waits for answers before it sends stops asking
while the system stalls and so hides the stall (Gil Tene, "How NOT to Measure Latency", 2013: the
coordinated omission; wrk2 and HdrHistogram are the reference). A process of its own keeps the
schedule safe from whatever else the run does with the interpreter.

It ends, after what is in flight has been answered or has timed out, at a line `{"op": "stop"}`, at
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
from collections.abc import Callable, Sequence
from random import Random

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from hdrh.histogram import HdrHistogram

from chaosgrade.errors import UsageError
from chaosgrade.lifeline import die_with_parent
from chaosgrade.policies.retry import RetryPolicy
from chaosgrade.probes.traffic_spec import TrafficSpec

_BATCH_S = 0.1
_TICK_S = 0.001  # shorter timers make libuv spin, longer ones make requests late
_HOUR_US = 3_600_000_000
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV
_CUT = (aiohttp.ServerDisconnectedError, aiohttp.ClientPayloadError, ConnectionError)

type Row = list[float | int | str]


class Client:
    """Sends the requests of one schedule and keeps the rows of those that are finished.

    Args:
        spec: the schedule.
        sessions: where requests go out, one for each customer.
        start: monotonic seconds of the first request.
    """

    def __init__(
        self, spec: TrafficSpec, sessions: Sequence[aiohttp.ClientSession], start: float
    ) -> None:
        self.offered = 0
        self.rows: list[Row] = []
        self.latencies = HdrHistogram(1, _HOUR_US, 3, b64_wrap=True)
        self.lateness = HdrHistogram(1, _HOUR_US, 3)
        self._spec = spec
        self._sessions = sessions
        self.start = start
        self._loop = asyncio.get_running_loop()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._random = Random(spec.seed)
        self._turn: list[int] = []
        self._policy = RetryPolicy(spec.attempts, spec.retry_base_s, spec.retry_cap_s)

    async def offer(self, stop: asyncio.Event) -> None:
        """Send everything that is due until `stop` or the deadline, then wait for what is out."""
        last = math.floor(self._spec.deadline_s * self._spec.rate)
        timer: asyncio.TimerHandle | None = None

        def send_due() -> None:
            nonlocal timer
            while self.offered < last and self._due(self.offered) <= time.monotonic():
                if stop.is_set():
                    return
                self._send(self.offered)
                self.offered += 1
            if self.offered == last:
                stop.set()
                return
            wait = self._due(self.offered) - time.monotonic()
            timer = self._loop.call_later(max(_TICK_S, wait), send_due)

        send_due()
        await stop.wait()
        if timer is not None:
            timer.cancel()
        if self._in_flight:
            await asyncio.wait(self._in_flight)

    def take(self) -> list[Row]:
        """The rows since the last call."""
        rows, self.rows = self.rows, []
        return rows

    def _due(self, index: int) -> float:
        return self.start + index / self._spec.rate

    def _send(self, index: int) -> None:
        # Eagerly: on a kept-alive connection the request is written before this returns.
        request = self._request(self._due(index), self._next_customer())
        task = asyncio.Task(request, loop=self._loop, eager_start=True)
        if not task.done():
            self._in_flight.add(task)
            task.add_done_callback(self._in_flight.discard)

    def _next_customer(self) -> int:
        # Shuffled anew each round: a fixed order would pair each customer with the same target of
        # a round-robin balancer, and "customers affected" would measure that.
        if not self._turn:
            self._turn = self._random.sample(range(self._spec.customers), self._spec.customers)
        return self._turn.pop()

    async def _request(self, due: float, customer: int) -> None:
        self.lateness.record_value(max(1, round((time.monotonic() - due) * 1e6)))
        attempts = 0

        async def attempt() -> str:
            nonlocal attempts
            attempts += 1
            return await self._attempt(customer)

        if self._spec.attempts == 1:
            outcome = await attempt()
        else:
            outcome = await self._policy.call(attempt, retry_if=is_transient, random=self._random)
        latency = time.monotonic() - due
        if outcome == "ok":
            self.latencies.record_value(max(1, round(latency * 1e6)))
        offset_ms = round((due - self.start) * 1e3, 1)
        self.rows.append([offset_ms, customer, outcome, round(latency * 1e3, 2), attempts])

    async def _attempt(self, customer: int) -> str:
        try:
            # Not aiohttp's own timeout: it rounds those above five seconds to whole seconds.
            async with (
                asyncio.timeout(self._spec.timeout_s),
                self._sessions[customer].request(
                    self._spec.method,
                    self._spec.url,
                    headers={"X-Chaosgrade-Customer": str(customer)},
                    allow_redirects=False,
                ) as answer,
            ):
                await answer.read()
                return "ok" if answer.status < 400 else f"http_{answer.status}"
        except Exception as error:  # whatever a request dies of is what the customer got
            return outcome_of(error)


def is_transient(outcome: str) -> bool:
    """Whether another try can help: everything but success and what the client did wrong."""
    return outcome != "ok" and (not outcome.startswith("http_4") or outcome == "http_429")


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


def allow_sockets(needed: int) -> None:
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


async def _serve() -> None:
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    line = await commands.readline()
    if not line:
        return
    spec = TrafficSpec.from_line(line)
    allow_sockets(spec.sockets)
    # The last resort, if the loop itself hangs: an alarm that nobody catches ends the process.
    signal.alarm(math.ceil(spec.deadline_s + spec.patience_s) + 10)
    hung_up = asyncio.Event()
    out, _ = await loop.connect_write_pipe(lambda: _Listener(hung_up), sys.stdout)
    offering = asyncio.create_task(_offer(spec, commands, out))
    gone = asyncio.create_task(hung_up.wait())
    # When nobody reads any more, what is still in flight is of no use to anyone.
    await asyncio.wait((offering, gone), return_when=asyncio.FIRST_COMPLETED)
    if offering.done():
        offering.result()
        out.close()
        await gone


async def _offer(
    spec: TrafficSpec, commands: asyncio.StreamReader, out: asyncio.WriteTransport
) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(_session(spec.name_server))
            for _ in range(spec.customers)
        ]
        gc.freeze()  # what the imports left is never looked at again: shorter pauses
        client = Client(spec, sessions, start=time.monotonic() + 0.01)
        unix = spec.wall - spec.monotonic
        start = round(client.start + unix, 6)

        def flush() -> None:
            if rows := client.take():
                _write(out, {"start": start, "requests": rows})

        stop = asyncio.Event()
        helpers = (
            asyncio.create_task(_listen(commands, stop)),
            asyncio.create_task(_every(_BATCH_S, flush)),
        )
        await client.offer(stop)
        for helper in helpers:
            helper.cancel()
        flush()
        _write(out, _summary(client, time.monotonic() + unix))


def _session(name_server: str) -> aiohttp.ClientSession:
    """The connections of one customer: to a balancer of layer 4 they are what is balanced, and to
    one with a node in each zone, its name's answer is."""
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


async def _listen(commands: asyncio.StreamReader, stop: asyncio.Event) -> None:
    while line := await commands.readline():
        if json.loads(line).get("op") == "stop":
            break
    stop.set()


async def _every(seconds: float, do: Callable[[], None]) -> None:
    while True:
        await asyncio.sleep(seconds)
        do()


def _summary(client: Client, now: float) -> dict[str, object]:
    late = client.lateness
    return {
        "end": round(now, 6),
        "offered": client.offered,
        "sent_late_ms": {
            "p50": late.get_value_at_percentile(50) / 1e3,
            "p99": late.get_value_at_percentile(99) / 1e3,
            "max": late.get_max_value() / 1e3,
        },
        "hdr": client.latencies.encode().decode("ascii"),
    }


def _write(out: asyncio.WriteTransport, line: dict[str, object]) -> None:
    out.write(json.dumps(line, separators=(",", ":")).encode() + b"\n")


class _Listener(asyncio.BaseProtocol):
    """Tells when everything written has left, or the reader has."""

    def __init__(self, hung_up: asyncio.Event) -> None:
        self._hung_up = hung_up

    def connection_lost(self, exc: Exception | None) -> None:
        self._hung_up.set()


def main() -> int:
    """Run one schedule; the exit code is 2 when its spec makes no sense."""
    die_with_parent()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which tells us
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(_serve())
    except UsageError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        uvloop = importlib.import_module("uvloop")
    except ImportError:  # an extra: asyncio's own loop is slower, and the lateness will tell
        return asyncio.new_event_loop
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


if __name__ == "__main__":
    sys.exit(main())
