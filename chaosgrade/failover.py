"""What a failover was made of, in the order in which it happened: for pictures and reports."""

from collections.abc import Iterable

from chaosgrade.history import History
from chaosgrade.write_figures import outages_of_writes

type Milestone = tuple[float, str, int]
"""Unix seconds, what happened, and the record that tells it."""

_AVAILABLE = "available"


def milestones(history: History) -> list[Milestone]:
    """First failed order and first one after it, the endpoint's new address, the status available
    again; those that the evidence of a trial holds, in order. None without a fault."""
    if history.fault_at is None:
        return []
    return sorted([*_of_writes(history), *_of_database(history, history.fault_at)])


def _of_writes(history: History) -> Iterable[Milestone]:
    outages = outages_of_writes(history)
    if outages:
        yield outages[0].start, "first failed write", outages[0].evidence[0]
        if not outages[-1].open:
            yield outages[-1].end, "writes again", outages[-1].evidence[-1]


def _of_database(history: History, fault_at: float) -> Iterable[Milestone]:
    before = [seen for seen in history.databases if seen.at <= fault_at]
    if not before:
        return
    address, busy = before[-1].address, False
    for seen in history.databases:
        if seen.at <= fault_at:
            continue
        if seen.address and seen.address != address:
            yield seen.at, "endpoint moved", seen.seq
            address = seen.address
        if busy and seen.status == _AVAILABLE:
            yield seen.at, "available again", seen.seq
        busy = seen.status != _AVAILABLE
