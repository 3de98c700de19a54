"""Whose workers are whose without a table: the same everywhere, uniform, with few moves."""

import json
import subprocess
import sys
from collections import Counter
from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from xxhash import xxh3_64_intdigest, xxh3_128_intdigest

from chaosgrade.errors import UsageError
from chaosgrade.overlaps import membership, pair_overlaps
from chaosgrade.policies.shard_mathematics import overlap_distribution
from chaosgrade.policies.shuffle_sharding import ShuffleSharding

CUSTOMERS = [f"customer-{number}" for number in range(4_000)]


def names(count: int) -> list[str]:
    return [f"w{number:04}" for number in range(count)]


VECTORS = [
    # workers, shard, seed, customer, the positions drawn
    (8, 2, 0, "", [5, 4]),
    (8, 2, 0, "a", [6, 4]),
    (8, 2, 0, "customer-1", [3, 1]),
    (8, 2, 7, "customer-1", [1, 6]),
    (8, 2, 0, "Zoë", [4, 2]),
    (8, 2, 0, "x" * 300, [6, 2]),
    (100, 5, 0, "", [70, 59, 7, 84, 45]),
    (100, 5, 0, "a", [82, 62, 0, 59, 71]),
    (100, 5, 0, "customer-1", [42, 22, 84, 4, 91]),
    (100, 5, 0, "Zoë", [61, 31, 8, 67, 19]),
    (2048, 4, 2**64 - 1, "customer-1", [1055, 428, 513, 359]),
    (2048, 4, 2**64 - 1, "x" * 300, [188, 933, 99, 1263]),
    (5, 5, 1, "a", [3, 2, 4, 0, 1]),
]


@pytest.mark.parametrize(("workers", "shard", "seed", "customer", "drawn"), VECTORS)
def test_shards_are_the_same_in_every_version(
    workers: int, shard: int, seed: int, customer: str, drawn: list[int]
) -> None:
    """If one of these changes, every customer moves on the day of the upgrade."""
    sharding = ShuffleSharding(names(workers), shard, seed=seed)
    assert sharding.shard_of(customer) == tuple(names(workers)[place] for place in drawn)
    assert sharding.positions_of([customer]).tolist() == [drawn]


def test_shards_are_the_same_in_every_process() -> None:
    """Python's own hash differs from process to process, and the order of a set with it."""
    code = (
        "import json; from chaosgrade.policies.shuffle_sharding import ShuffleSharding as S;"
        "print(json.dumps([S({f'w{n}' for n in range(20)}, 3, seed=5).shard_of(f'c{n}')"
        " for n in range(50)]))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    here = ShuffleSharding([f"w{n}" for n in range(20)], 3, seed=5)
    assert [json.loads(one) for one in said] == [[[*here.shard_of(f"c{n}")] for n in range(50)]]


def as_described(workers: int, shard: int, seed: int, customer: str) -> list[int]:
    """The recipe of the module's docstring, followed to the letter."""
    words: list[int] = []
    block = 0
    while len(words) < shard:
        own = xxh3_64_intdigest(block.to_bytes(8, "little"), seed)
        digest = xxh3_128_intdigest(customer.encode(), own)
        words += [digest >> shift & 0xFFFFFFFF for shift in (96, 64, 32, 0)]
        block += 1
    left = list(range(workers))
    found = []
    for i in range(shard):
        place = words[i] * (workers - i) >> 32
        found.append(left[place])
        left[place] = left[-1]
        left.pop()
    return found


@settings(max_examples=40, deadline=None)
@given(
    st.integers(1, 40).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    st.integers(0, 2**64 - 1),
    st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=5),
)
def test_one_by_one_and_all_at_once_follow_the_recipe(
    size: tuple[int, int], seed: int, customers: list[str]
) -> None:
    """Whoever renders it in another language has the recipe to go by."""
    workers, shard = size
    sharding = ShuffleSharding(names(workers), shard, seed=seed)
    expected = [as_described(workers, shard, seed, customer) for customer in customers]
    assert sharding.positions_of(customers).tolist() == expected
    assert [sharding.shard_of(customer) for customer in customers] == [
        tuple(sharding.workers[place] for place in places) for places in expected
    ]


@pytest.mark.parametrize(("workers", "shard"), [(8, 2), (6, 3), (7, 6)])
def test_every_shard_is_as_likely_as_any(workers: int, shard: int) -> None:
    """A chi-square test over all subsets, and over all orders in which they are drawn."""
    drawn = ShuffleSharding(names(workers), shard).positions_of(
        [f"c{number}" for number in range(30_000)]
    )
    subsets = Counter(tuple(sorted(row)) for row in drawn.tolist())
    assert len(subsets) == len(list(combinations(range(workers), shard)))
    assert stats.chisquare(list(subsets.values())).pvalue > 1e-3
    if shard < 4:
        orders = Counter(map(tuple, drawn.tolist()))
        assert len(orders) == len(list(permutations(range(workers), shard)))
        assert stats.chisquare(list(orders.values())).pvalue > 1e-3


def test_seeds_are_assignments_of_their_own() -> None:
    """Knowing one says nothing about the next: two share no more workers than by chance."""
    one, other = (ShuffleSharding(names(20), 5, seed=seed) for seed in (1, 2))
    shared = Counter(len({*one.shard_of(c)} & {*other.shard_of(c)}) for c in CUSTOMERS)
    expected = [float(p) * len(CUSTOMERS) for p in overlap_distribution(20, 5)]
    seen = [shared[j] for j in range(4)] + [shared[4] + shared[5]]
    assert stats.chisquare(seen, [*expected[:4], expected[4] + expected[5]]).pvalue > 1e-3


def test_a_larger_shard_moves_nobody() -> None:
    """It adds a worker to each."""
    small, large = (ShuffleSharding(names(30), shard, seed=3) for shard in (4, 9))
    for customer in CUSTOMERS[:200]:
        assert large.shard_of(customer)[:4] == small.shard_of(customer)


def test_one_customer_needs_no_numpy() -> None:
    """It is called on the path of a request, in processes that have no other use for it."""
    code = (
        "import sys; from chaosgrade.policies.shuffle_sharding import ShuffleSharding;"
        "from chaosgrade.policies.shard_client import ShardClient;"
        "ShuffleSharding(['a', 'b'], 1).shard_of('c'); print('numpy' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("workers", "shard", "seed", "named"),
    [
        ([], 1, 0, "got none"),
        (["a", "b", "a"], 1, 0, "'a' twice"),
        (["a", "b"], 3, 0, "from 1 to the 2 workers, got 3"),
        (["a", "b"], 0, 0, "got 0"),
        (["a", "b"], True, 0, "got True"),
        (["a", "b"], 1, -1, "2^64-1, got -1"),
        (["a", "b"], 1, 2**64, "got 18446744073709551616"),
    ],
)
def test_what_makes_no_sense_is_named(
    workers: list[str], shard: int, seed: int, named: str
) -> None:
    """One line with the value."""
    with pytest.raises(UsageError) as caught:
        ShuffleSharding(workers, shard, seed=seed)
    assert named in str(caught.value)


def test_pairs_are_counted_as_one_by_one() -> None:
    """Also where customers come in several blocks of rows."""
    rows = ShuffleSharding(names(9), 3).positions_of(CUSTOMERS[:1_200]).astype(np.int64)
    found = pair_overlaps(membership(rows, 9))
    shards = [{*row} for row in rows[:300].tolist()]
    few = pair_overlaps(membership(rows[:300], 9))
    counted = Counter(len(a & b) for a, b in combinations(shards, 2))
    assert few.counts.tolist() == [counted[j] for j in range(4)]
    assert found.counts.sum() == 1_200 * 1_199 // 2
    one, other = found.pair
    assert one != other
    assert len({*rows[one].tolist()} & {*rows[other].tolist()}) == found.most == 3
