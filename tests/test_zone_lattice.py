"""Shards with as many workers of each zone."""

from collections import Counter

import numpy as np
import pytest
from scipy import stats

from chaosgrade.errors import UsageError
from chaosgrade.overlaps import membership
from chaosgrade.policies.zone_lattice import ZoneLattice

CUSTOMERS = [f"customer-{number}" for number in range(4_000)]


def names(count: int) -> list[str]:
    return [f"w{number:04}" for number in range(count)]


ZONES = {"a": ["a1", "a2", "a3", "a4"], "b": ["b1", "b2", "b3"], "c": ["c1", "c2", "c3"]}
LATTICE = ZoneLattice(ZONES, 2, seed=4)


def test_each_customer_has_as_many_of_each_zone() -> None:
    """And neighbours in the shard are of different zones, so that a second try is elsewhere."""
    for customer in CUSTOMERS[:300]:
        shard = LATTICE.shard_of(customer)
        assert Counter(name[0] for name in shard) == {"a": 2, "b": 2, "c": 2}
        assert {name[0] for name in shard[:3]} == {"a", "b", "c"}


def test_the_first_worker_is_of_any_zone() -> None:
    """First tries are spread over zones."""
    first = Counter(LATTICE.shard_of(customer)[0][0] for customer in CUSTOMERS)
    assert stats.chisquare(list(first.values())).pvalue > 1e-3


def test_one_by_one_and_all_at_once_agree() -> None:
    """Row by row."""
    rows = LATTICE.positions_of(CUSTOMERS[:100])
    for customer, row in zip(CUSTOMERS, rows.tolist(), strict=False):
        shard = tuple(LATTICE.workers[place] for place in row)
        assert shard == LATTICE.shard_of(customer)


def test_workers_of_one_zone_move_nobody_in_another() -> None:
    """A zone that grows concerns it"""
    grown = ZoneLattice({**ZONES, "a": [*ZONES["a"], "a5"]}, 2, seed=4)
    for customer in CUSTOMERS[:200]:
        kept = [[w for w in one.shard_of(customer) if w[0] != "a"] for one in (LATTICE, grown)]
        assert kept[0] == kept[1]


def test_overlaps_are_as_computed() -> None:
    """By a chi-square test over disjoint pairs, which are independent."""
    rows = LATTICE.positions_of([f"c{number}" for number in range(6_000)])
    members = membership(rows.astype(np.int64), 10)
    shared = np.bincount((members[::2] & members[1::2]).sum(axis=1), minlength=7)
    expected = [float(p) * 3_000 for p in LATTICE.overlap_distribution()]
    possible = [j for j, count in enumerate(expected) if count]
    assert sum(shared) == sum(shared[j] for j in possible)
    seen = [shared[j] for j in possible]
    assert stats.chisquare(seen, [expected[j] for j in possible]).pvalue > 1e-3


def test_a_zone_that_is_too_small_is_named() -> None:
    """With its size."""
    with pytest.raises(UsageError, match=r"zone b: shard must be .* the 1 workers, got 2"):
        ZoneLattice({"a": ["a1", "a2"], "b": ["b1"]}, 2)
    with pytest.raises(UsageError, match="'x' twice"):
        ZoneLattice({"a": ["x"], "b": ["x"]}, 1)
    with pytest.raises(UsageError, match="got none"):
        ZoneLattice({}, 1)
