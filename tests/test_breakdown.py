"""Requests by zone and by customer, from evidence where both are known."""

import pytest

from chaosgrade.breakdown import WORST, ZONES_AT_MOST, Breakdown, CustomerFailed, break_down
from chaosgrade.evidence import Record
from chaosgrade.history import read_history
from chaosgrade.report.wording import customers_line, zone_line
from chaosgrade.timeline import timeline
from tests.synthetic import CUSTOMERS, RATE, WINDOW, down, records


def of(evidence: list[Record]) -> Breakdown:
    return break_down(read_history(evidence))


def darkened(at: float, index: int) -> str:
    """Two zones in turn; from the fault on only the second."""
    return "b" if at >= 0 or index % 2 else "a"


def test_the_share_of_a_dark_zone_goes_to_the_others() -> None:
    """Half and half before the fault, all of the other in the window."""
    a, b = of(records(zone=darkened)).zones
    assert (a.zone, a.before, a.after) == ("a", pytest.approx(0.5, abs=0.01), 0)
    assert (b.zone, b.before, b.after) == ("b", pytest.approx(0.5, abs=0.01), 1)
    assert zone_line(b).endswith("→ 100%")


def test_only_what_was_served_has_a_zone() -> None:
    """Failed requests are no zone's; with nothing served there is no share."""
    (a,) = of(records(down(0.0, WINDOW + 1), zone=lambda *_: "a")).zones
    assert (a.before, a.after) == (1, None)
    assert zone_line(a) == "a 100% → —"


def test_evidence_without_zones_tells_none() -> None:
    """As it was written before there were any, and where no answer names its zone."""
    assert of(records()).zones == ()
    assert of(records(zone=lambda *_: "")).zones == ()
    assert {request.zone for request in read_history(records()).requests} == {""}


def test_some_answers_without_a_zone_are_told_apart() -> None:
    """Every fourth answer names none."""
    a, unknown = of(records(zone=lambda _, index: "a" if index % 4 else "")).zones
    assert a.after == pytest.approx(0.75)
    assert (unknown.zone, unknown.after) == ("", pytest.approx(0.25))
    assert zone_line(unknown).startswith("other or unknown")


def test_a_header_that_names_something_else_does_not_flood_the_report() -> None:
    """Twenty names: those that served most are named, the others are pooled."""
    zones = of(records(zone=lambda _, index: f"z{index % 20:02}")).zones
    assert len(zones) == ZONES_AT_MOST + 1
    assert sum(served.after or 0 for served in zones) == pytest.approx(1)


def test_a_timeline_tells_who_served_in_each_bin() -> None:
    """The zones of a bin add up to what succeeded in it."""
    drawn = timeline(records(down(1.0, 2.0), zone=darkened))
    assert all(sum(one.by_zone.values()) == one.succeeded for one in drawn.bins)
    after = [one for one in drawn.bins if one.start_s >= 0]
    assert {zone for one in after for zone in one.by_zone} == {"b"}


def test_the_customers_that_were_hit_hardest_are_named() -> None:
    """Customers take turns: the first five fail once, and the fifth once more."""
    lost = {(3.0 + n / RATE) for n in range(5)} | {3.0 + (4 + CUSTOMERS) / RATE}
    found = of(records(lambda at: "reset" if any(abs(at - s) < 1e-6 for s in lost) else "ok"))
    each = round(WINDOW * RATE / CUSTOMERS)
    assert (found.customers, found.affected) == (CUSTOMERS, 5)
    assert len(found.worst) == WORST
    assert found.worst[:2] == (CustomerFailed(4, 2, each), CustomerFailed(0, 1, each))
    line = customers_line(found)
    assert line.startswith("5 of 20 customers had a request fail; worst off: customer 4 with 2 of")


def test_customers_of_a_trial_without_failures_or_traffic() -> None:
    """Nobody is worst off; without a window there is nothing to say."""
    assert customers_line(of(records())) == "0 of 20 customers had a request fail"
    assert customers_line(of(records(fault=False))) == ""
