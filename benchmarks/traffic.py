"""How well the traffic probe keeps its schedule and measures outages, beside a naive sender.

`python benchmarks/traffic.py [--quick] [--json]` starts local servers whose outages are known
exactly, and reports

- lateness: how long after its due time each request reached the server, as the server has it (all
  processes of a machine share `time.monotonic`), at 1,000 requests/s for 20 s;
- the same for a naive sender: aiohttp and the same event loop, a task for each request and
  `asyncio.sleep(1 / rate)` in between, as load scripts are commonly written;
- each outage's measured against its true start and end.

The exit code is 1 when fewer than 99% of requests are within 5 ms of schedule, or a boundary is
off by more than 30 ms.
"""

import argparse
import asyncio
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from chaosgrade.clock import Clock
from chaosgrade.evidence import Record
from chaosgrade.history import read_history
from chaosgrade.outages import Baseline, find_outages
from chaosgrade.traffic.spec import TrafficSpec
from chaosgrade.traffic.worker import TrafficWorker

WITHIN_MS = 5.0
SHARE_WITHIN = 0.99
BOUNDARY_MS = 30.0
TIMEOUT_S = 0.5

# Seconds after the server's start: the worker needs half a second to begin, then a second is calm.
OUTAGES = (("503", 2.0, 1.0), ("reset", 4.0, 0.7), ("silent", 6.0, 0.4), ("frozen", 8.0, 1.5))
OUTAGES_END_S = 11.0


class Server:
    """The server process and what it tells."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdout is None:
            raise AssertionError("a pipe")
        self._process = process
        said = json.loads(process.stdout.readline())
        self.url = f"http://127.0.0.1:{said['port']}/"
        self.zero: float = said["monotonic"]

    def arrivals(self) -> list[float]:
        """End it; monotonic seconds at which requests arrived."""
        out, _ = self._process.communicate(timeout=30)
        arrivals: list[float] = json.loads(out)["arrivals"]
        return arrivals


@contextmanager
def serving(*outages: tuple[str, float, float, int]) -> Iterator[Server]:
    """A server with outages [mode, after_s, for_s, every]."""
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("traffic_server.py")), json.dumps(outages)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield Server(process)
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Schedule:
    """How a sender kept its schedule. Lateness is between due and arrival at the server."""

    sender: str
    offered: int
    due: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    share_within_5_ms: float
    cpu_s: float


@dataclass(frozen=True)
class Boundary:
    """One outage: true and measured, in seconds after the server's start."""

    kind: str
    true_start_s: float
    true_end_s: float
    start_s: float
    end_s: float

    @property
    def error_ms(self) -> float:
        """The larger of both boundaries' errors."""
        errors = (self.start_s - self.true_start_s, self.end_s - self.true_end_s)
        return max(abs(error) for error in errors) * 1e3


def offer(url: str, rate: float, seconds: float) -> tuple[list[dict[str, Any]], Clock]:
    """All batches of the probe's worker, sent for `seconds`."""
    clock = Clock()
    batches: list[dict[str, Any]] = []
    deaths: list[str] = []
    spec = TrafficSpec(
        url=url,
        rate=rate,
        customers=20,
        timeout_s=TIMEOUT_S,
        wall=clock.wall,
        monotonic=clock.monotonic,
        deadline_s=seconds,
    )

    def receive(batch: Mapping[str, Any]) -> None:
        batches.append(dict(batch))

    worker = TrafficWorker(spec, receive, deaths.append)
    worker.start()
    worker.wait(seconds + 30)
    if deaths or worker.summary is None:
        raise SystemExit(f"no result: {deaths or 'the worker did not end'}")
    return batches, clock


def schedule_of_probe(rate: float, seconds: float) -> Schedule:
    """The probe's lateness."""
    with serving() as server:
        before = _children_cpu_s()
        batches, clock = offer(server.url, rate, seconds)
        cpu_s = _children_cpu_s() - before
        start = float(batches[0]["start"]) - clock.wall + clock.monotonic
        return _schedule("chaosgrade", server.arrivals(), start, rate, seconds, cpu_s)


def schedule_of_naive(rate: float, seconds: float) -> Schedule:
    """The naive sender's lateness; it runs in a process of its own, as the probe does."""
    with serving() as server:
        before = _children_cpu_s()
        said = subprocess.run(
            [sys.executable, __file__, "--naive", server.url, str(rate), str(seconds)],
            stdout=subprocess.PIPE,
            check=True,
        )
        cpu_s = _children_cpu_s() - before
        start = float(said.stdout)
        return _schedule("naive aiohttp", server.arrivals(), start, rate, seconds, cpu_s)


def _schedule(
    sender: str, arrivals: list[float], start: float, rate: float, seconds: float, cpu_s: float
) -> Schedule:
    due = round(rate * seconds)
    late = sorted((at - start - index / rate) * 1e3 for index, at in enumerate(sorted(arrivals)))
    # What never came is late as well: shares are of what was due.
    return Schedule(
        sender=sender,
        offered=len(late),
        due=due,
        p50_ms=round(late[len(late) // 2], 3),
        p99_ms=round(late[int(0.99 * len(late))], 3),
        max_ms=round(late[-1], 3),
        share_within_5_ms=round(sum(one <= WITHIN_MS for one in late) / due, 5),
        cpu_s=round(cpu_s, 2),
    )


def _children_cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


async def naive(url: str, rate: float, seconds: float) -> float:
    """Send as load scripts commonly do; monotonic seconds of the first request."""
    import aiohttp

    async def send(session: aiohttp.ClientSession) -> None:
        async with session.get(url) as answer:
            await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        start = time.monotonic()
        tasks = set()
        while time.monotonic() < start + seconds:
            tasks.add(asyncio.create_task(send(session)))
            await asyncio.sleep(1 / rate)
        await asyncio.gather(*tasks)
    return start


def measured_outages(rate: float) -> list[Boundary]:
    """One run through an outage of each kind."""
    with serving(*((kind, after, for_s, 1) for kind, after, for_s in OUTAGES)) as server:
        left_s = server.zero + OUTAGES_END_S - time.monotonic()
        batches, clock = offer(server.url, rate, left_s)
        unix = clock.wall - clock.monotonic
        records = [Record(seq, 0.0, "traffic", batch) for seq, batch in enumerate(batches)]
        found = find_outages(
            read_history(records).requests,
            end=server.zero + unix + OUTAGES_END_S,
            stretch_s=0.4,
            baseline=Baseline(failed=0, offered=round(rate)),
        )
        if len(found) != len(OUTAGES):
            raise SystemExit(f"{len(OUTAGES)} outages took place, {len(found)} were measured")
        return [
            Boundary(
                kind,
                after,
                # A frozen server answers when it thaws: who was due within the timeout before
                # that is served late, but served.
                after + for_s - (TIMEOUT_S if kind == "frozen" else 0.0),
                round(outage.start - unix - server.zero, 4),
                round(outage.end - unix - server.zero, 4),
            )
            for (kind, after, for_s), outage in zip(OUTAGES, found, strict=True)
        ]


def report(console: Console, schedules: list[Schedule], outages: list[Boundary]) -> None:
    """Both tables for a person."""
    table = Table(title="Lateness: from due to arrival at the server, in ms")
    for name in ("sender", "requests", "p50", "p99", "max", "within 5 ms", "CPU s"):
        table.add_column(name, justify="left" if name == "sender" else "right")
    for one in schedules:
        figures = (f"{one.p50_ms:.2f}", f"{one.p99_ms:.2f}", f"{one.max_ms:.2f}")
        share = f"{one.share_within_5_ms:.2%}"
        table.add_row(one.sender, f"{one.offered}/{one.due}", *figures, share, f"{one.cpu_s:.1f}")
    console.print(table)
    table = Table(title="Outages: true and measured, in s after the server's start")
    for name in ("kind", "true", "measured", "error ms"):
        table.add_column(name, justify="left" if name == "kind" else "right")
    for outage in outages:
        table.add_row(
            outage.kind,
            f"{outage.true_start_s:.3f} to {outage.true_end_s:.3f}",
            f"{outage.start_s:.3f} to {outage.end_s:.3f}",
            f"{outage.error_ms:.1f}",
        )
    console.print(table)


def main() -> int:
    """Measure and report; see the module's text."""
    parser = argparse.ArgumentParser(description="accuracy of the traffic probe")
    parser.add_argument(
        "--quick", action="store_true", help="3 s at 200/s instead of 20 s at 1,000/s"
    )
    parser.add_argument("--json", action="store_true", help="one JSON document")
    parser.add_argument("--naive", nargs=3, metavar=("URL", "RATE", "SECONDS"), help="internal")
    options = parser.parse_args()
    if options.naive:
        from uvloop import new_event_loop

        url, rate, seconds = options.naive
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            print(runner.run(naive(url, float(rate), float(seconds))))
        return 0
    rate, seconds = (200.0, 3.0) if options.quick else (1000.0, 20.0)
    schedules = [schedule_of_probe(rate, seconds), schedule_of_naive(rate, seconds)]
    outages = measured_outages(rate)
    holds = schedules[0].share_within_5_ms >= SHARE_WITHIN and all(
        outage.error_ms <= BOUNDARY_MS for outage in outages
    )
    if options.json:
        document = {
            "machine": {"cores": os.cpu_count(), "python": sys.version.split()[0]},
            "rate": rate,
            "seconds": seconds,
            "schedule": [asdict(one) for one in schedules],
            "outages": [{**asdict(one), "error_ms": round(one.error_ms, 2)} for one in outages],
            "holds": holds,
        }
        print(json.dumps(document))
    else:
        report(Console(), schedules, outages)
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
