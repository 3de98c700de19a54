"""Shards by weight: who moves when workers join, leave or get another weight."""

from collections import Counter

import pytest
from scipy import stats

from chaosgrade.errors import UsageError
from chaosgrade.policies.shard_mathematics import overlap_distribution
from chaosgrade.policies.weighted_sharding import WeightedSharding

CUSTOMERS = [f"customer-{number}" for number in range(4_000)]


def names(count: int) -> list[str]:
    return [f"w{number:04}" for number in range(count)]


WEIGHTS = {name: 1.0 + number % 3 for number, name in enumerate(names(30))}
WEIGHTED = WeightedSharding(WEIGHTS, 4, seed=9)
BEFORE = {customer: WEIGHTED.shard_of(customer) for customer in CUSTOMERS}


def test_shards_are_the_same_in_every_version() -> None:
    """As those without weights."""
    assert BEFORE["customer-1"] == ("w0009", "w0020", "w0029", "w0025")
    assert all(len({*shard}) == 4 for shard in BEFORE.values())


def test_one_that_leaves_moves_only_who_had_it() -> None:
    """Who had it keeps the three others."""
    after = WEIGHTED.left("w0004")
    for customer, shard in BEFORE.items():
        kept = tuple(name for name in shard if name != "w0004")
        assert after.shard_of(customer)[: len(kept)] == kept


def test_one_that_joins_takes_its_share_and_no_more() -> None:
    """A customer loses at most one worker, to the new one; about k/n of them do."""
    after = WeightedSharding(dict.fromkeys(names(30), 1.0), 4, seed=9)
    joined = after.joined("w9999")
    moved = 0
    for customer in CUSTOMERS:
        gone = {*after.shard_of(customer)} - {*joined.shard_of(customer)}
        new = {*joined.shard_of(customer)} - {*after.shard_of(customer)}
        assert len(gone) == len(new) <= 1
        assert new <= {"w9999"}
        moved += len(new)
    assert stats.binomtest(moved, len(CUSTOMERS), 4 / 31).pvalue > 1e-3


def test_a_heavier_one_only_attracts() -> None:
    """Nobody moves between two others."""
    heavier = WEIGHTED.joined("w0004", weight=5.0)
    for customer, shard in BEFORE.items():
        after = heavier.shard_of(customer)
        assert {*after} - {*shard} <= {"w0004"}
        assert "w0004" in after or {*after} == {*shard}


def test_the_first_worker_is_drawn_by_weight() -> None:
    """In proportion, exactly; the whole shard cannot be, as nobody has a worker twice."""
    first = Counter(shard[0] for shard in BEFORE.values())
    total = sum(WEIGHTS.values())
    expected = [len(CUSTOMERS) * weight / total for weight in WEIGHTS.values()]
    assert stats.chisquare([first[name] for name in WEIGHTS], expected).pvalue > 1e-3


def test_overlaps_are_those_of_chance() -> None:
    """With equal weights it is shuffle sharding: disjoint pairs, which are independent."""
    equal = WeightedSharding(dict.fromkeys(names(12), 1.0), 3)
    shards = [{*equal.shard_of(customer)} for customer in CUSTOMERS]
    shared = Counter(len(a & b) for a, b in zip(shards[::2], shards[1::2], strict=True))
    expected = [float(p) * len(CUSTOMERS) / 2 for p in overlap_distribution(12, 3)]
    assert stats.chisquare([shared[j] for j in range(4)], expected).pvalue > 1e-3


@pytest.mark.parametrize("weight", [0.0, -1.0, float("inf"), float("nan")])
def test_a_weight_that_is_none_is_named(weight: float) -> None:
    """With its worker."""
    with pytest.raises(UsageError, match=f"'w0001' must be above 0, got {weight}"):
        WEIGHTED.joined("w0001", weight)


def test_who_cannot_leave_is_named() -> None:
    """Unknown, or needed."""
    with pytest.raises(UsageError, match="no worker 'x'"):
        WEIGHTED.left("x")
    with pytest.raises(UsageError, match="1 workers, got 2"):
        WeightedSharding({"a": 1.0, "b": 1.0}, 2).left("a")
