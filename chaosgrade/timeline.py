"""What customers felt over time: the data of a picture, for reports and the live view.

Times are measured seconds relative to the fault's start; `Timeline.aws_s` turns one into AWS time.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from chaosgrade.evidence import Record
from chaosgrade.failover import milestones
from chaosgrade.history import Health, History, Request, Write, read_history

BIN_S = 0.25

_EVENT_KINDS = {
    "fault.start": "fault",
    "change.applied": "applied",
    "change.undone": "undone",
    "problem": "problem",
}


@dataclass(frozen=True, slots=True)
class Bin:
    """Requests intended in [start_s, start_s + bin_s).

    Args:
        start_s: measured seconds after the fault's start; negative before it.
        offered, succeeded: requests, as customers count them.
        latency_p99_ms: of the successful ones, from their intended time; None without any.
        healthy: healthy targets at the bin's end; None when not yet observed.
        ordered, acknowledged: orders of the ledger.
        by_zone: how many of the successful ones each Availability Zone served; "" is unknown.
    """

    start_s: float
    offered: int
    succeeded: int
    latency_p99_ms: float | None
    healthy: int | None
    ordered: int = 0
    acknowledged: int = 0
    by_zone: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened to the system, by our hand or because of it.

    Args:
        at_s: measured seconds after the fault's start.
        kind: "fault", "applied", "undone", "problem" or "milestone" (of a failover).
        text: one line, such as the change's summary.
        seq: the evidence record.
    """

    at_s: float
    kind: str
    text: str
    seq: int


@dataclass(frozen=True, slots=True)
class Timeline:
    """One trial over time.

    Args:
        bins: contiguous, in order; empty without traffic.
        events: in order.
        bin_s: width of a bin, in measured seconds.
        window_end_s: end of the observed window, in measured seconds after the fault's start;
            None without a fault. Bins may go on behind it, when the change is being undone.
        faulted: whether a fault was injected; if not, second 0 is the first record's time.
        time_scale: AWS seconds per measured second; 1 away from the stage.
        projected: whether AWS times are projected from the stage.
    """

    bins: tuple[Bin, ...]
    events: tuple[Event, ...]
    bin_s: float
    window_end_s: float | None
    faulted: bool
    time_scale: float
    projected: bool

    def aws_s(self, measured_s: float) -> float:
        """Measured seconds as AWS seconds, projected on the stage."""
        return measured_s * self.time_scale


def timeline(records: Sequence[Record], bin_s: float = BIN_S) -> Timeline:
    """The timeline of one trial's records, which may still be growing."""
    history = read_history(records)
    origin = history.fault_at
    if origin is None:
        origin = records[0].at if records else 0.0
    end = history.window_end
    return Timeline(
        bins=tuple(_bins(history, origin, bin_s)),
        events=tuple(_events(records, history, origin)),
        bin_s=bin_s,
        window_end_s=None if end is None else end - origin,
        faulted=history.fault_at is not None,
        time_scale=history.time_scale,
        projected=history.stage,
    )


def _bins(history: History, origin: float, bin_s: float) -> list[Bin]:
    held: dict[int, list[Request]] = {}
    for request in history.requests:
        held.setdefault(math.floor((request.at - origin) / bin_s), []).append(request)
    if not held:
        return []
    orders: dict[int, list[Write]] = {}
    for write in history.writes:
        orders.setdefault(math.floor((write.at - origin) / bin_s), []).append(write)
    return [
        _bin(
            index * bin_s,
            held.get(index, []),
            orders.get(index, []),
            _healthy(history.health, origin + (index + 1) * bin_s),
        )
        for index in range(min(held), max(held) + 1)
    ]


def _bin(
    start_s: float, requests: Sequence[Request], writes: Sequence[Write], healthy: int | None
) -> Bin:
    latencies = sorted(request.latency_ms for request in requests if request.ok)
    return Bin(
        start_s=start_s,
        offered=len(requests),
        succeeded=len(latencies),
        latency_p99_ms=latencies[math.ceil(0.99 * len(latencies)) - 1] if latencies else None,
        healthy=healthy,
        ordered=len(writes),
        acknowledged=sum(write.ok for write in writes),
        by_zone=Counter(request.zone for request in requests if request.ok),
    )


def _healthy(health: Sequence[Health], at: float) -> int | None:
    known = [change for change in health if change.at <= at]
    return len(known[-1].healthy) if known else None


def _events(records: Sequence[Record], history: History, origin: float) -> list[Event]:
    ours = [
        Event(record.at - origin, _EVENT_KINDS[record.kind], _text(record), record.seq)
        for record in records
        if record.kind in _EVENT_KINDS
    ]
    theirs = [Event(at - origin, "milestone", text, seq) for at, text, seq in milestones(history)]
    return sorted([*ours, *theirs], key=lambda event: event.at_s)


def _text(record: Record) -> str:
    if record.kind == "fault.start":
        return "fault injected"
    if record.kind == "problem":
        return f"{record['source']}: {record['detail']}"
    return str(record["summary"])
