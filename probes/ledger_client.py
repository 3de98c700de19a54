"""The worker process of the ledger: writes orders on schedule, then reads back what is there.

`python -m chaosgrade.probes.ledger_client` reads one `LedgerSpec` as a JSON line and writes, see
`open_loop`, about every 100 ms:

    {"start": unix s, "orders": [[number, offset_ms, outcome, latency_ms], ...]}

When it is told to stop, and every order has been answered or has timed out, one of

    {"found": [[first number, last number, how often each is there], ...]}
    {"unread": why it could not be read}

and as the last line `{"end": unix s, "offered": n, "sent_late_ms": {"p50", "p99", "max"}}`.

An order is written once: what a customer would do about one without an answer is not known here.
"""

import asyncio
import contextlib
import json
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

import aiohttp

from chaosgrade.probes.ledger_spec import LedgerSpec
from chaosgrade.traffic.open_loop import (
    Schedule,
    Write,
    flushing,
    http_session,
    outcome_of,
    run_worker,
)

_PAUSE_S = 0.5
"""Between two readings, which must agree: an order without an answer may still be on its way."""

type Row = list[float | int | str]


class Unreadable(Exception):
    """A page of the listing could not be had, or is none."""


class Client:
    """Writes the orders of one ledger and keeps the rows of those that are finished.

    Args:
        spec: the ledger.
        sessions: where orders go out, one for each customer.
        start: monotonic seconds of the first order.
    """

    def __init__(
        self, spec: LedgerSpec, sessions: Sequence[aiohttp.ClientSession], start: float
    ) -> None:
        self.rows: list[Row] = []
        self.schedule = Schedule(spec.rate, spec.deadline_s, start, self._order)
        self._spec = spec
        self._sessions = sessions

    def take(self) -> list[Row]:
        """The rows since the last call."""
        rows, self.rows = self.rows, []
        return rows

    async def _order(self, number: int, due: float) -> None:
        outcome = await self._write(number)
        latency_ms = round((time.monotonic() - due) * 1e3, 2)
        self.rows.append([number, round((due - self.schedule.start) * 1e3, 1), outcome, latency_ms])

    async def _write(self, number: int) -> str:
        spec = self._spec
        try:
            async with (
                asyncio.timeout(spec.timeout_s),
                self._sessions[number % spec.customers].request(
                    spec.method,
                    spec.url + spec.path,
                    data=spec.order(number),
                    headers={"Content-Type": "application/json"},
                    allow_redirects=False,
                ) as answer,
            ):
                await answer.read()
                return "ok" if 200 <= answer.status < 300 else f"http_{answer.status}"
        except Exception as error:  # whatever an order dies of is what the customer got
            return outcome_of(error)


async def read_back(spec: LedgerSpec, session: aiohttp.ClientSession) -> Counter[int]:
    """How often each order is there, once two readings agree.

    Raises:
        Unreadable: no whole listing could be had within `read_within_s`.
    """
    before: Counter[int] | None = None
    reason = "no answer"
    try:
        async with asyncio.timeout(spec.read_within_s):
            while True:
                try:
                    found = await _read_all(spec, session)
                except Unreadable as error:
                    reason, found = str(error), None
                if found is not None and found == before:
                    return found
                before = found if found is not None else before
                await asyncio.sleep(_PAUSE_S)
    except TimeoutError:
        if before is not None:
            reason = "two readings never agreed"
        raise Unreadable(f"{reason}, for {spec.read_within_s:g} s") from None


async def _read_all(spec: LedgerSpec, session: aiohttp.ClientSession) -> Counter[int]:
    found: Counter[int] = Counter()
    after: object = 0
    seen: set[object] = set()
    while after is not None:
        if after in seen:
            raise Unreadable(f"the page after {after!r} leads to itself")
        seen.add(after)
        page = await _page(spec, session, after)
        try:
            found.update(spec.number_of(order[spec.id_field]) for order in page[spec.items])
            after = page[spec.next_field]
        except (KeyError, TypeError, ValueError) as error:
            raise Unreadable(f"no listing of orders: {type(error).__name__}: {error}") from None
    return found


async def _page(spec: LedgerSpec, session: aiohttp.ClientSession, after: object) -> dict[str, Any]:
    try:
        async with (
            asyncio.timeout(spec.timeout_s),
            session.get(spec.page(after), allow_redirects=False) as answer,
        ):
            text = await answer.read()
            if answer.status != 200:
                raise Unreadable(f"the listing is answered with {answer.status}")
            page: dict[str, Any] = json.loads(text)
            return page
    except Unreadable:
        raise
    except ValueError:
        raise Unreadable("the listing is no JSON") from None
    except Exception as error:  # whatever it is, nothing was read
        raise Unreadable(f"the listing is not answered: {outcome_of(error)}") from None


def runs_of(found: Counter[int]) -> list[list[int]]:
    """[[first, last, times], …] of consecutive numbers that are there equally often."""
    runs: list[list[int]] = []
    for number in sorted(found):
        if runs and runs[-1][1] == number - 1 and runs[-1][2] == found[number]:
            runs[-1][1] = number
        else:
            runs.append([number, number, found[number]])
    return runs


async def _keep(spec: LedgerSpec, stop: asyncio.Event, write: Write) -> None:
    async with contextlib.AsyncExitStack() as stack:
        sessions = [
            await stack.enter_async_context(http_session(spec.name_server))
            for _ in range(spec.customers)
        ]
        client = Client(spec, sessions, start=time.monotonic() + 0.01)
        unix = spec.wall - spec.monotonic
        start = round(client.schedule.start + unix, 6)

        def flush() -> None:
            if rows := client.take():
                write({"start": start, "orders": rows})

        async with flushing(flush):
            await client.schedule.offer(stop)
        # A session of its own: what hung before is of no concern to it.
        reader = await stack.enter_async_context(http_session(spec.name_server))
        try:
            write({"found": runs_of(await read_back(spec, reader))})
        except Unreadable as error:
            write({"unread": str(error)})
        write({"end": round(time.monotonic() + unix, 6), **client.schedule.summary()})


def main() -> int:
    """Keep one ledger."""
    return run_worker(LedgerSpec.from_line, _keep)


if __name__ == "__main__":
    sys.exit(main())
