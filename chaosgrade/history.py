"""One trial as its evidence tells it: requests, target health and the observed window, in order.

The shared reading of evidence records that figures and pictures are computed from. Nothing is
judged here. Times are Unix seconds of the run's clock, as measured.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from chaosgrade.evidence import Record

# A hole this long in the intended times means that traffic was not offered: no figure holds there.
_HOLE_S = 0.5


class Request(NamedTuple):
    """One request as a customer counts it, retries included.

    `at` is the intended time; `ok` means an answer below 400 within the customer's patience;
    `latency_ms` counts from `at`; `seq` is the record that holds it.
    """

    at: float
    customer: int
    ok: bool
    latency_ms: float
    attempts: int
    seq: int


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
        fault_at: when the first change was sent; None when no fault was injected.
        window_end: when the observed window ended, or would have; None without a fault.
        time_scale: AWS seconds per measured second.
        stage: whether the trial ran on the stage.
        fault_seq: sequence number of `fault.start`.
    """

    requests: tuple[Request, ...]
    health: tuple[Health, ...]
    fault_at: float | None
    window_end: float | None
    time_scale: float
    stage: bool
    fault_seq: int | None

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
        if self.fault_at is None or self.window_end is None:
            return "no fault was injected"
        times = [request.at for request in self.observed()]
        if not times:
            return "no traffic was offered in the observed window"
        gaps = sorted(after - before for before, after in pairwise(times))
        spacing = gaps[len(gaps) // 2] if gaps else 0.0
        edges = [self.fault_at, *times, self.window_end]
        for before, after in pairwise(edges):
            if after - before > _HOLE_S + 3 * spacing:
                return (
                    f"no traffic was offered for {after - before:.2f} s, from"
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
    scale = float(environment.get("time_scale", 1.0))
    return History(
        requests=tuple(sorted(_requests(records))),
        health=tuple(_health(records)),
        fault_at=fault.at if fault else None,
        window_end=_window_end(records, fault, start, scale) if fault else None,
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


def _requests(records: Sequence[Record]) -> list[Request]:
    return [
        Request(record["start"] + offset_ms / 1e3, customer, outcome == "ok", late_ms, tries,
                record.seq)
        for record in records
        if record.kind == "traffic"
        for offset_ms, customer, outcome, late_ms, tries in record["requests"]
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
