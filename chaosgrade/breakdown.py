"""Who served, and who was not served: a trial's requests by zone and by customer, for reports."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from chaosgrade.history import History, Request

WORST = 3
"""How many customers are named."""

ZONES_AT_MOST = 6
"""How many zones are named, those that served most. Source: AWS, "Regions and Availability Zones":
no Region has more."""


@dataclass(frozen=True, slots=True)
class ZoneServed:
    """One Availability Zone's part of the requests that succeeded.

    Args:
        zone: its name; "" for requests whose answer named none, or one of too many.
        before, after: its share before the fault, and in the window after it, 0 to 1; None when
            nothing succeeded then.
    """

    zone: str
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class CustomerFailed:
    """One customer's requests in the window after the fault."""

    customer: int
    failed: int
    offered: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """One trial's requests.

    Args:
        zones: by name, the unknown one last; empty when no answer named its zone.
        customers: how many were seen in the window.
        affected: how many of them had a request fail.
        worst: those of whose requests the greatest share failed, at most `WORST`, worst first.
    """

    zones: tuple[ZoneServed, ...]
    customers: int
    affected: int
    worst: tuple[CustomerFailed, ...]


def break_down(history: History) -> Breakdown:
    """The breakdown of one trial."""
    observed = history.observed()
    offered = Counter(request.customer for request in observed)
    failed = Counter(request.customer for request in observed if not request.ok)
    worst = sorted(failed, key=lambda one: (-failed[one] / offered[one], one))[:WORST]
    return Breakdown(
        zones=_zones(history.baseline(), observed),
        customers=len(offered),
        affected=len(failed),
        worst=tuple(CustomerFailed(one, failed[one], offered[one]) for one in worst),
    )


def _zones(baseline: Sequence[Request], observed: Sequence[Request]) -> tuple[ZoneServed, ...]:
    before = Counter(request.zone for request in baseline if request.ok)
    after = Counter(request.zone for request in observed if request.ok)
    both = before + after
    del both[""]
    named = sorted(zone for zone, _ in both.most_common(ZONES_AT_MOST))

    def share(served: Counter[str], zone: str) -> float | None:
        total = served.total()
        count = served[zone] if zone else total - sum(served[one] for one in named)
        return count / total if total else None

    zones = [ZoneServed(one, share(before, one), share(after, one)) for one in (*named, "")]
    if named and not (zones[-1].before or zones[-1].after):
        zones.pop()
    return tuple(zones) if named else ()
