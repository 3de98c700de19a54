"""Many shards of which any two share at most m workers, for few workers: by search in a circle.

Workers stand in a circle. A shard that is turned by one place after the other gives as many as n
shards, its orbit; so whole orbits are chosen that agree with each other, a few hundred instead of
thousands of shards. That often reaches what is possible at all: for 20 workers, shards of 4 and an
overlap of 2 it finds a Steiner quadruple system, all 285.

Source: E. S. Kramer and D. M. Mesner, "t-designs on hypergraphs", Discrete Mathematics 15 (1976),
for prescribing the symmetry; the search is a tabu search.
"""

from functools import lru_cache
from itertools import combinations
from math import comb
from random import Random

import numpy as np
from numpy.typing import NDArray

from chaosgrade.policies.transversal_designs import Shards

_MOST_WORKERS = 64  # a shard is the bits of one number
_MOST_SHARDS = 20_000  # that contain one given worker: what the search can hold
_STEPS = 4_000
_TABU = (3, 10)  # steps for which an orbit that was pushed out stays out


@lru_cache(maxsize=8)
def cyclic_design(n: int, k: int, overlap: int) -> Shards:
    """The most shards that the search finds, sorted; none where it would take too long.

    It always finds the same ones. The array is not to be written to.

    Args:
        n: how many workers.
        k: the size of a shard.
        overlap: from 0 to k-1.
    """
    if n > _MOST_WORKERS or comb(n - 1, k - 1) > _MOST_SHARDS:
        return np.empty((0, k), dtype=np.int64)
    orbits = _orbits(n, k, overlap)
    if not orbits:
        return np.empty((0, k), dtype=np.int64)
    sizes = np.array([len(orbit) for orbit in orbits])
    chosen = _best(sizes, _conflicts(orbits, overlap))
    shards = sorted(mask for number in chosen for mask in orbits[number])
    return np.array([[place for place in range(n) if mask >> place & 1] for mask in shards])


def _orbits(n: int, k: int, overlap: int) -> list[list[int]]:
    """The orbits whose shards share at most `overlap` workers, as bits of numbers."""
    full = (1 << n) - 1
    seen: set[int] = set()
    found = []
    for others in combinations(range(1, n), k - 1):  # each orbit has a shard with worker 0
        mask = 1 | sum(1 << place for place in others)
        if mask in seen:
            continue
        orbit = {(mask << turn | mask >> n - turn) & full for turn in range(n)}
        seen |= orbit
        if all((mask & other).bit_count() <= overlap for other in orbit if other != mask):
            found.append(sorted(orbit))
    return found


def _conflicts(orbits: list[list[int]], overlap: int) -> NDArray[np.int64]:
    """At (i, j) 1 when some shard of orbit i shares more than `overlap` workers with one of j."""
    one_of_each = np.array([orbit[0] for orbit in orbits], dtype=np.uint64)
    conflicts = np.zeros((len(orbits), len(orbits)), dtype=np.int64)
    for i, orbit in enumerate(orbits):
        shared = np.bitwise_count(np.array(orbit, dtype=np.uint64)[:, None] & one_of_each)
        conflicts[i] = shared.max(axis=0) > overlap
        conflicts[i, i] = 0
    return conflicts


def _best(sizes: NDArray[np.int64], conflicts: NDArray[np.int64]) -> list[int]:
    """Orbits that agree with each other, with as many shards as were found."""
    random = Random(0)  # the same every time
    inside = np.zeros(len(sizes), dtype=bool)
    cost = np.zeros(len(sizes), dtype=np.int64)  # shards that have to go when an orbit comes
    free_at = np.zeros(len(sizes), dtype=np.int64)
    best: list[int] = []
    most = 0
    for step in range(_STEPS):
        allowed = ~inside & (free_at <= step)
        if not allowed.any():
            break
        gain = np.where(allowed, sizes - cost, np.iinfo(np.int64).min)
        chosen = random.choice(np.flatnonzero(gain == gain.max()).tolist())
        out = np.flatnonzero(inside & (conflicts[chosen] > 0))
        inside[out] = False
        free_at[out] = step + random.randint(*_TABU)
        inside[chosen] = True
        cost += sizes[chosen] * conflicts[chosen] - sizes[out] @ conflicts[out]
        total = int(sizes[inside].sum())
        if total > most:
            most, best = total, np.flatnonzero(inside).tolist()
    return best
