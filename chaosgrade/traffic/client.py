"""The worker process of the traffic probe: sends on schedule, writes what came back.

`python -m chaosgrade.traffic.client` reads one `TrafficSpec` as a JSON line and writes, see
`open_loop`, about every 100 ms:

    {"start": unix s, "zones": [zone, ...],
     "requests": [[offset_ms, customer, outcome, latency_ms, attempts, index in zones], ...]}
    {"end": unix s, "offered": n, "sent_late_ms": {"p50": ., "p99": ., "max": .}, "hdr": base64}

A request that failed, or whose answer named no zone, has no index; `zones` are those of its line.
It ends after what was in flight has been answered or has timed out.
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from random import Random

import aiohttp
from hdrh.histogram import HdrHistogram

from chaosgrade.traffic.open_loop import (
    HOUR_US,
    Schedule,
    Write,
    flushing,
    http_session,
    outcome_of,
    run_worker,
)
from chaosgrade.traffic.spec import TrafficSpec

# Characters: what is longer is no name of a zone, and must not fill the evidence.
_ZONE_AT_MOST = 64

type Row = list[float | int | str]


class Client:
    """Sends the requests of one schedule and keeps those that are finished.

    Args:
        spec: the schedule.
        sessions: where requests go out, one for each customer.
        start: monotonic seconds of the first request.
    """

    def __init__(
        self, spec: TrafficSpec, sessions: Sequence[aiohttp.ClientSession], start: float
    ) -> None:
        self.latencies = HdrHistogram(1, HOUR_US, 3, b64_wrap=True)
        self.schedule = Schedule(spec.rate, spec.deadline_s, start, self._request)
        self._spec = spec
        self._sessions = sessions
        self._random = Random(spec.seed)
        self._turn: list[int] = []
        self._rows: list[Row] = []
        self._zones: dict[str, int] = {}
        self._policy = spec.retry

    def take(self) -> tuple[list[Row], list[str]]:
        """The rows since the last call, and the zones that they point to."""
        rows, self._rows = self._rows, []
        zones, self._zones = self._zones, {}
        return rows, list(zones)

    def _next_customer(self) -> int:
        # Shuffled anew each round: a fixed order would pair each customer with the same target of
        # a round-robin balancer, and "customers affected" would measure that.
        if not self._turn:
            first, count = self._spec.first_customer, self._spec.customers
            self._turn = self._random.sample(range(first, first + count), count)
        return self._turn.pop()

    async def _request(self, index: int, due: float) -> None:
        customer = self._next_customer()
        attempts = 0
        zone = ""

        async def attempt() -> str:
            nonlocal attempts, zone
            attempts += 1
            outcome, zone = await self._attempt(customer)
            return outcome

        if self._spec.attempts == 1:
            outcome = await attempt()
        else:
            outcome = await self._policy.call(attempt, retry_if=is_transient, random=self._random)
        latency = time.monotonic() - due
        if outcome == "ok":
            self.latencies.record_value(max(1, round(latency * 1e6)))
        offset_ms = round((due - self.schedule.start) * 1e3, 1)
        row: Row = [offset_ms, customer, outcome, round(latency * 1e3, 2), attempts]
        if zone:
            row.append(self._zones.setdefault(zone, len(self._zones)))
        self._rows.append(row)

    async def _attempt(self, customer: int) -> tuple[str, str]:
        """The outcome, and the zone that served; "" when none did, or none is known."""
        try:
            # Not aiohttp's own timeout: it rounds those above five seconds to whole seconds.
            async with (
                asyncio.timeout(self._spec.timeout_s),
                self._sessions[customer - self._spec.first_customer].request(
                    self._spec.method,
                    self._spec.url,
                    headers={self._spec.customer_header: str(customer)},
                    allow_redirects=False,
                ) as answer,
            ):
                await answer.read()
                if answer.status >= 400:
                    return f"http_{answer.status}", ""
                return "ok", answer.headers.get(self._spec.zone_header, "")[:_ZONE_AT_MOST]
        except Exception as error:  # whatever a request dies of is what the customer got
            return outcome_of(error), ""


def is_transient(outcome: str) -> bool:
    """Whether another try can help: everything but success and what the client did wrong."""
    return outcome != "ok" and (not outcome.startswith("http_4") or outcome == "http_429")


async def _offer(spec: TrafficSpec, stop: asyncio.Event, write: Write) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(http_session(spec.name_server))
            for _ in range(spec.customers)
        ]
        client = Client(spec, sessions, start=time.monotonic() + 0.01)
        unix = spec.wall - spec.monotonic
        start = round(client.schedule.start + unix, 6)

        def flush() -> None:
            rows, zones = client.take()
            if rows:
                write({"start": start, "zones": zones, "requests": rows})

        async with flushing(flush):
            await client.schedule.offer(stop)
        write(
            {
                "end": round(time.monotonic() + unix, 6),
                **client.schedule.summary(),
                "hdr": client.latencies.encode().decode("ascii"),
            }
        )


def main() -> int:
    """Run one schedule."""
    return run_worker(TrafficSpec.from_line, _offer)


if __name__ == "__main__":
    sys.exit(main())
