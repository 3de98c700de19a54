"""One trial as its evidence tells it: requests, writes, health and the observed window, in order.

The shared reading of evidence records that figures and pictures are computed from. Nothing is
judged here. Times are Unix seconds of the run's clock, as measured.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, NamedTuple

from chaosgrade.evidence import Record

_HOLE_S = 0.5

# Too many requests; and of a load balancer: the client had left before the answer.
_NOT_SERVED = (429, 460)

SPOT_INTERRUPTION = "ec2:spot-interruption"
"""The type of change that ends one Spot Instance, see `chaosgrade.changes.spot`."""


def hole_s(spacing_s: float) -> float:
    """What is a hole in the intended times of requests that are usually `spacing_s` apart, in
    measured seconds: traffic was not offered, and no figure holds there."""
    return _HOLE_S + 3 * spacing_s


class Request(NamedTuple):
    """One request as a customer counts it, retries included.

    `at` is the intended time; `ok` means an answer below 400 within the customer's patience;
    `latency_ms` counts from `at`; `seq` is the record that holds it; `zone` is the Availability
    Zone that served it, "" when none did or none is known.
    """

    at: float
    customer: int
    ok: bool
    latency_ms: float
    attempts: int
    seq: int
    zone: str = ""


class Write(NamedTuple):
    """One order of the ledger.

    `at` is the intended time; `outcome` is "ok" when it was acknowledged; `latency_ms` counts from
    `at`; `seq` is the record that holds it.
    """

    at: float
    number: int
    outcome: str
    latency_ms: float
    seq: int

    @property
    def ok(self) -> bool:
        """Whether it was acknowledged."""
        return self.outcome == "ok"


class Notices(NamedTuple):
    """The Spot Instances that have got their interruption notice and not ended, from `at` on."""

    at: float
    marked: frozenset[str]
    seq: int


class Database(NamedTuple):
    """A DB instance from `at` on; `address` is its endpoint's, None without one."""

    at: float
    status: str
    zone: str
    address: str | None
    seq: int


class CallAttempt(NamedTuple):
    """One attempt of a call to a dependency.

    `at` is when it came and `took_ms` how long the answer took; `call` is the number of the call
    that it belongs to; `status` is an HTTP status, 0 for none; `seq` is the record that holds it.
    """

    at: float
    call: int
    took_ms: float
    status: int
    seq: int

    @property
    def ok(self) -> bool:
        """Whether it had an answer that no retry would better."""
        return 100 <= self.status < 500 and self.status not in _NOT_SERVED


class Health(NamedTuple):
    """The healthy targets of all observed target groups from `at` on."""

    at: float
    healthy: frozenset[str]
    seq: int


@dataclass(frozen=True, slots=True)
class History:
    """What one trial's records say.

    Args:
        requests: all requests, by intended time.
        health: healthy targets after each change, in order.
        writes: all orders of the ledger, by intended time.
        found: how often each order is there in the end, by its number; None when that was not read.
        unread: why it was not.
        found_seq: the record that holds it, or why not.
        notices: interruption notices of Spot Instances after each change, in order.
        struck: Spot Instances that the trial set out to interrupt.
        databases: a database after each change, in order.
        calls: attempts of calls to a dependency, by time.
        retries: how their clients back off, as `chaosgrade.retries.RetryBehaviour` has it; None
            when that was not looked at.
        retries_seq: the record that holds it.
        fault_at: when the first change was sent; None when no fault was injected.
        window_end: when the observed window ended, or would have; None without a fault.
        over_at: when the fault was over: its undo began, or it had been an event without an undo;
            None while it lasts.
        time_scale: AWS seconds per measured second.
        stage: whether the trial ran on the stage.
        fault_seq: sequence number of `fault.start`.
    """

    requests: tuple[Request, ...]
    health: tuple[Health, ...]
    writes: tuple[Write, ...]
    found: Mapping[int, int] | None
    unread: str
    found_seq: int | None
    notices: tuple[Notices, ...]
    struck: frozenset[str]
    databases: tuple[Database, ...]
    calls: tuple[CallAttempt, ...]
    retries: Mapping[str, Any] | None
    retries_seq: int | None
    fault_at: float | None
    window_end: float | None
    over_at: float | None
    time_scale: float
    stage: bool
    fault_seq: int | None

    @property
    def look_s(self) -> float:
        """How often AWS is asked, in measured seconds: a change is up to this older than its
        record."""
        return 0.2 if self.stage else 2.0

    def baseline(self) -> Sequence[Request]:
        """Requests that were over before the fault: one in flight then may have met it."""
        if self.fault_at is None:
            return self.requests
        before = self.requests[: self._index(self.fault_at)]
        return [r for r in before if r.at + r.latency_ms / 1e3 < self.fault_at]

    def observed(self) -> Sequence[Request]:
        """Requests intended in the window after the fault."""
        if self.fault_at is None or self.window_end is None:
            return ()
        return self.requests[self._index(self.fault_at) : self._index(self.window_end)]

    def hole(self) -> str:
        """Why the offered traffic does not cover the window; "" when it does."""
        return self._hole("traffic was offered", self.observed())

    def baseline_writes(self) -> Sequence[Write]:
        """Writes that were over before the fault."""
        fault_at = self.fault_at
        if fault_at is None:
            return self.writes
        return [w for w in self.writes if w.at + w.latency_ms / 1e3 < fault_at]

    def observed_writes(self) -> Sequence[Write]:
        """Writes intended in the window after the fault."""
        if self.fault_at is None or self.window_end is None:
            return ()
        return [w for w in self.writes if self.fault_at <= w.at < self.window_end]

    def hole_in_writes(self) -> str:
        """Why the ledger's writes do not cover the window; "" when they do."""
        return self._hole("orders were written", self.observed_writes())

    def _hole(self, what: str, offered: Sequence[Request] | Sequence[Write]) -> str:
        if self.fault_at is None or self.window_end is None:
            return "no fault was injected"
        times = [one.at for one in offered]
        if not times:
            return f"no {what} in the observed window"
        gaps = sorted(after - before for before, after in pairwise(times))
        spacing = gaps[len(gaps) // 2] if gaps else 0.0
        edges = [self.fault_at, *times, self.window_end]
        for before, after in pairwise(edges):
            if after - before > hole_s(spacing):
                return (
                    f"no {what} for {after - before:.2f} s, from"
                    f" {before - self.fault_at:.2f} s after the fault on"
                )
        return ""

    def _index(self, at: float) -> int:
        return bisect_left(self.requests, at, key=lambda request: request.at)


def read_history(records: Sequence[Record]) -> History:
    """The history that a trial's records tell; records of unknown kinds are ignored."""
    fault = next((record for record in records if record.kind == "fault.start"), None)
    start = next((record for record in records if record.kind == "run.start"), None)
    environment = start["environment"] if start else {}
    read = next((r for r in records if r.kind in ("ledger.found", "ledger.unread")), None)
    retries = next((record for record in records if record.kind == "retries"), None)
    scale = float(environment.get("time_scale", 1.0))
    return History(
        requests=tuple(sorted(_requests(records))),
        health=tuple(_health(records)),
        writes=tuple(sorted(_writes(records))),
        found=_found(read),
        unread=str(read["reason"]) if read and read.kind == "ledger.unread" else "",
        found_seq=read.seq if read else None,
        notices=tuple(
            Notices(record.at, frozenset(record["marked"]), record.seq)
            for record in records
            if record.kind == "spot_notices"
        ),
        struck=frozenset(
            str(record["resource"])
            for record in records
            if record.kind == "change.applied" and record.data.get("type") == SPOT_INTERRUPTION
        ),
        databases=tuple(_databases(records)),
        calls=tuple(sorted(_calls(records))),
        retries=retries.data if retries else None,
        retries_seq=retries.seq if retries else None,
        fault_at=fault.at if fault else None,
        window_end=_window_end(records, fault, start, scale) if fault else None,
        over_at=_over_at(records, fault),
        time_scale=scale,
        stage=environment.get("kind") == "stage",
        fault_seq=fault.seq if fault else None,
    )


def _window_end(
    records: Sequence[Record], fault: Record, start: Record | None, scale: float
) -> float | None:
    # Whatever is undone, or no longer watched, tells nothing about the fault any more.
    ends = [
        record.at
        for record in records
        if record.kind in ("observation.end", "change.undone", "run.end") and record.at >= fault.at
    ]
    if start is not None:
        ends.append(fault.at + float(start["window_s"]) / scale)
    return min(ends, default=None)


def _over_at(records: Sequence[Record], fault: Record | None) -> float | None:
    if fault is None:
        return None
    if not any(record.kind == "change.applied" and record["reversible"] for record in records):
        return fault.at
    return next((record.at for record in records if record.kind == "undo.start"), None)


def _writes(records: Sequence[Record]) -> list[Write]:
    return [
        Write(record["start"] + offset_ms / 1e3, number, outcome, latency_ms, record.seq)
        for record in records
        if record.kind == "ledger"
        for number, offset_ms, outcome, latency_ms in record["orders"]
    ]


def _found(read: Record | None) -> Mapping[int, int] | None:
    if read is None or read.kind != "ledger.found":
        return None
    return {n: times for first, last, times in read["orders"] for n in range(first, last + 1)}


def _databases(records: Sequence[Record]) -> list[Database]:
    return [
        Database(record.at, record["status"], record["zone"], record["address"], record.seq)
        for record in records
        if record.kind == "database"
    ]


def _calls(records: Sequence[Record]) -> list[CallAttempt]:
    return [
        CallAttempt(record["start"] + offset_ms / 1e3, call, took_ms, status, record.seq)
        for record in records
        if record.kind == "calls"
        for call, offset_ms, took_ms, status in record["calls"]
    ]


def _requests(records: Sequence[Record]) -> list[Request]:
    return [
        Request(record["start"] + offset_ms / 1e3, customer, outcome == "ok", late_ms, tries,
                record.seq, record["zones"][zone[0]] if zone else "")
        for record in records
        if record.kind == "traffic"
        for offset_ms, customer, outcome, late_ms, tries, *zone in record["requests"]
    ]  # fmt: skip


def _health(records: Sequence[Record]) -> list[Health]:
    groups: dict[str, frozenset[str]] = {}
    changes = []
    for record in records:
        if record.kind == "target_health":
            group = str(record["target_group"])
            groups[group] = frozenset(
                f"{group}/{name}"
                for name, target in record["targets"].items()
                if target["state"] == "healthy"
            )
            changes.append(Health(record.at, frozenset().union(*groups.values()), record.seq))
    return changes
