"""Blast radius by arithmetic: published figures, brute force, and what must add up."""

from fractions import Fraction
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosgrade.errors import UsageError
from chaosgrade.policies.shard_mathematics import (
    check_overlap,
    convolved,
    customers_affected,
    failed_in_shard,
    full_loss,
    fully_out,
    most_shards,
    overlap_distribution,
    poisoned_in_shard,
    request_failure,
    shards,
    workers_poisoned,
)
from chaosgrade.policies.shuffle_sharding import ShuffleSharding

sizes = st.integers(1, 12).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n)))


def percent(chances: tuple[Fraction, ...], digits: int) -> list[str]:
    return [f"{float(chance * 100):.{digits}g}" for chance in chances]


def test_the_published_overlaps_come_out_to_the_digit() -> None:
    """8 workers and shards of 2 are AWS's own example."""
    assert shards(8, 2) == 28
    assert percent(overlap_distribution(8, 2), 4) == ["53.57", "42.86", "3.571"]
    assert shards(100, 5) == 75_287_520
    assert percent(overlap_distribution(100, 5), 5) == [
        "76.959", "21.143", "1.8385", "0.059306", "0.00063091", "1.3282e-06",
    ]  # fmt: skip
    assert shards(2048, 4) == 730_862_190_080
    assert f"{float(overlap_distribution(2048, 4)[4]):.4g}" == "1.368e-12"


def test_another_worker_on_each_try_is_worth_a_factor_of_fifty() -> None:
    """Five of 100 workers have failed, three tries within a shard of five."""
    lost = failed_in_shard(100, 5, 5)
    assert f"{float(request_failure(lost, 3)):.1e}" == "6.2e-05"
    assert f"{float(request_failure(lost, 3, distinct=False)):.1e}" == "3.0e-03"


@pytest.mark.parametrize(
    ("n", "k", "poisonous", "loss"),
    [(8, 2, 3, ".30999"), (20, 4, 5, ".18531"), (100, 5, 10, ".00921")],
)
def test_full_loss_is_what_a_simulation_finds(n: int, k: int, poisonous: int, loss: str) -> None:
    """The formula to five digits, and within four standard errors of 20,000 draws."""
    exact = full_loss(n, k, poisonous)
    assert f"{float(exact):.5f}".removeprefix("0") == loss
    trials = 20_000
    sharding = ShuffleSharding([f"w{number:03}" for number in range(n)], k)
    drawn = sharding.positions_of([f"c{number}" for number in range(trials * poisonous)])
    gone = np.zeros((trials, n), dtype=bool)
    np.put_along_axis(gone, drawn.reshape(trials, -1).astype(np.int64), True, axis=1)
    lost = gone[:, :k].all(axis=1).sum()
    error = (float(exact) * (1 - float(exact)) / trials) ** 0.5
    assert lost / trials == pytest.approx(float(exact), abs=4 * error)


@pytest.mark.parametrize(("n", "k", "poisonous"), [(4, 2, 2), (5, 2, 3), (5, 3, 2), (4, 1, 3)])
def test_poison_agrees_with_counting_every_case(n: int, k: int, poisonous: int) -> None:
    """Every choice of shards for the poisonous, one by one."""
    every = list(product(combinations(range(n), k), repeat=poisonous))
    for j, chance in enumerate(poisoned_in_shard(n, k, poisonous)):
        cases = sum(len({*range(k)} & {w for shard in one for w in shard}) == j for one in every)
        assert chance == Fraction(cases, len(every))
    for u, chance in enumerate(workers_poisoned(n, k, poisonous)):
        cases = sum(len({w for shard in one for w in shard}) == u for one in every)
        assert chance == Fraction(cases, len(every))


@pytest.mark.parametrize(("n", "k", "failed"), [(5, 2, 3), (6, 3, 2), (4, 4, 4), (5, 3, 0)])
def test_failures_agree_with_counting_every_case(n: int, k: int, failed: int) -> None:
    """Every set of failed workers, one by one."""
    every = list(combinations(range(n), failed))
    for j, chance in enumerate(failed_in_shard(n, k, failed)):
        cases = sum(sum(w < k for w in one) == j for one in every)
        assert chance == Fraction(cases, len(every))


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 12), st.integers(1, 14))
def test_what_must_add_up_adds_up(size: tuple[int, int], failed: int, tries: int) -> None:
    """Chances sum to 1, more tries never hurt, and distinct ones are never worse."""
    n, k = size
    lost = failed_in_shard(n, k, min(failed, n))
    assert sum(lost) == 1
    assert fully_out(n, k, min(failed, n)) == lost[-1]
    assert request_failure(lost, tries + 1) <= request_failure(lost, tries)
    assert request_failure(lost, tries) <= request_failure(lost, tries, distinct=False)
    assert request_failure(lost, tries) <= customers_affected(lost, tries)
    assert request_failure(lost, k) == lost[-1]
    assert sum(poisoned_in_shard(n, k, failed)) == 1
    assert poisoned_in_shard(n, k, 1) == overlap_distribution(n, k)


@settings(max_examples=40, deadline=None)
@given(sizes, st.integers(0, 12), st.integers(1, 12))
def test_distinct_tries_fail_as_the_short_formula_says(
    size: tuple[int, int], failed: int, tries: int
) -> None:
    """C(f, r) / C(n, r), whatever the shard, as long as it has so many workers."""
    n, k = size
    failed, tries = min(failed, n), min(tries, k)
    assert request_failure(failed_in_shard(n, k, failed), tries) == fully_out(n, tries, failed)


def test_who_suffers_depends_on_how_a_client_tries_again() -> None:
    """With two distinct tries of two, only who lost both; with repeats, whoever lost one."""
    lost = poisoned_in_shard(8, 2, 1)
    assert customers_affected(lost, 2) == Fraction(1, 28)
    assert customers_affected(lost, 2, distinct=False) == Fraction(13, 28)
    assert customers_affected(lost, 1) == Fraction(13, 28)


def test_overlaps_in_zones_add_up() -> None:
    """One of two workers in each of two zones: both are shared a quarter of the time."""
    one = overlap_distribution(2, 1)
    assert convolved(one, one) == (Fraction(1, 4), Fraction(1, 2), Fraction(1, 4))


@pytest.mark.parametrize(
    ("n", "k", "overlap", "most"),
    [(8, 2, 1, 28), (20, 4, 2, 285), (100, 5, 1, 480), (7, 3, 1, 7), (10, 5, 0, 2), (4, 3, 2, 4)],
)
def test_no_assignment_is_larger_than_johnsons_bound(
    n: int, k: int, overlap: int, most: int
) -> None:
    """The figures of the literature."""
    assert most_shards(n, k, overlap) == most


@pytest.mark.parametrize(
    ("n", "k", "overlap", "named"),
    [
        (8, 9, 1, "from 1 to the 8 workers, got 9"),
        (8, 0, 1, "got 0"),
        (8, 2, 2, "below the shard of 2, got 2"),
        (8, 2, -1, "from 0, got -1"),
        (5, 4, 2, "from 3, got 2"),
    ],
)
def test_an_impossible_bound_is_named(n: int, k: int, overlap: int, named: str) -> None:
    """With the value, and why."""
    with pytest.raises(UsageError, match=named):
        check_overlap(n, k, overlap)


def test_what_cannot_be_counted_is_named() -> None:
    """Too many failures, no try."""
    with pytest.raises(UsageError, match="to the 8 workers, got 9"):
        failed_in_shard(8, 2, 9)
    with pytest.raises(UsageError, match="got -1"):
        full_loss(8, 2, -1)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        request_failure(overlap_distribution(8, 2), 0)
    with pytest.raises(UsageError, match="at least 1, got 0"):
        customers_affected(overlap_distribution(8, 2), 0)
