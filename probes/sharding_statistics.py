"""What an assignment looks like beside one that is as random as shuffle sharding asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import comb
from random import Random
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from chaosgrade.errors import UsageError
from chaosgrade.overlaps import membership, pair_overlaps
from chaosgrade.policies.shard_mathematics import overlap_distribution
from chaosgrade.policies.shuffle_sharding import ShuffleSharding
from chaosgrade.policies.zone_lattice import ZoneLattice
from chaosgrade.probes.sharding_assignment import Assignment

_COMPARED = 20_000  # customers whose pairs are counted: 200 million pairs
_TESTED = 500  # customers whose overlaps are tested against random ones
_DRAWN = 199  # random assignments that they are tested against
_EXAMINED = 500  # customers for whom it is asked who covers them
_LEAST_EXPECTED = 5.0  # pairs in a class of the test, as the chi-square test wants it
_MOST_UNIONS = 4_000_000  # of others' shards, that are tried for one customer


@dataclass(frozen=True, slots=True)
class Reference:
    """What the same workers and customers would look like under shuffle sharding.

    Args:
        overlap: the chance that two customers share exactly j workers, for j from 0 to the shard.
        positions_of: shards of named customers under a seed, as positions of workers.
        parts: the columns of workers that are drawn from alike, and how many are drawn of them.
    """

    overlap: tuple[float, ...]
    positions_of: Callable[[Sequence[str], int], NDArray[np.int32]]
    parts: tuple[tuple[list[int], int], ...]


def reference_of(assignment: Assignment, zones: Mapping[str, Sequence[str]] | None) -> Reference:
    """What to compare an assignment with.

    Args:
        assignment: whose workers and shard.
        zones: the workers of each zone, where a shard has as many of each.

    Raises:
        UsageError: the zones are not those of the workers, or somebody has more of one zone.
    """
    n, k = len(assignment.workers), assignment.shard
    if zones is None:
        exact = tuple(float(chance) for chance in overlap_distribution(n, k))
        return Reference(
            exact,
            lambda names, seed: ShuffleSharding(assignment.workers, k, seed=seed).positions_of(
                names
            ),
            ((list(range(n)), k),),
        )
    column = {name: number for number, name in enumerate(assignment.workers)}
    if sorted(column) != sorted(name for names in zones.values() for name in names):
        raise UsageError(f"zones must name each of the {n} workers once")
    per_zone, rest = divmod(k, len(zones))
    parts = tuple(([column[name] for name in names], per_zone) for names in zones.values())
    for zone, (columns, _) in zip(zones, parts, strict=True):
        of_zone = assignment.members[:, columns].sum(axis=1)
        if rest or (of_zone != per_zone).any():
            odd = assignment.customers[int((of_zone != per_zone).argmax())]
            raise UsageError(
                f"customer {odd!r} has {of_zone[assignment.customers.index(odd)]} of {k} workers "
                f"in zone {zone}: zones are for shards with as many of each"
            )
    lattice = ZoneLattice(zones, per_zone)
    return Reference(
        tuple(float(chance) for chance in lattice.overlap_distribution()),
        lambda names, seed: ZoneLattice(zones, per_zone, seed=seed).positions_of(names),
        parts,
    )


def overlaps(assignment: Assignment, reference: Reference) -> dict[str, Any]:
    """How many workers pairs of customers share; see `shuffle_sharding.assignment`."""
    chosen = _drawn(len(assignment.customers), _COMPARED)
    among = pair_overlaps(assignment.members[chosen])
    most, pair = among.most, [assignment.customers[chosen[row]] for row in among.pair]
    if twins := _twins(assignment):
        most, pair = assignment.shard, twins[0][:2]
    pairs = int(among.counts.sum())
    return {
        "customers_compared": len(chosen),
        "pairs": pairs,
        "shared": [
            {
                "workers": j,
                "pairs": int(count),
                "share": count / pairs if pairs else None,
                "expected": reference.overlap[j],
            }
            for j, count in enumerate(among.counts.tolist())
        ],
        **_beside_random(assignment, reference),
        "most_shared": most if pairs else None,
        "worst_pair": pair if pairs else None,
    }


def loads(assignment: Assignment, reference: Reference) -> dict[str, Any]:
    """How many customers each worker serves; see `shuffle_sharding.assignment`."""
    load = assignment.members.sum(axis=0)
    mean = float(load.mean())
    customers = len(assignment.customers)
    statistic, freedom = 0.0, 0
    for columns, k in reference.parts:
        n = len(columns)
        if k == n:
            continue  # everybody has them all
        # A shard has no worker twice, which makes loads vary less than a multinomial's.
        variance = customers * k * (n - k) / (n * (n - 1))
        statistic += float(((load[columns] - customers * k / n) ** 2).sum()) / variance
        freedom += n - 1
    return {
        "mean": mean,
        "most": int(load.max()),
        "least": int(load.min()),
        "max_to_mean": float(load.max()) / mean,
        # With less than a customer for each worker any assignment is as uneven as any other.
        "p_value": float(stats.chi2.sf(statistic, freedom)) if freedom and mean >= 1 else None,
        "busiest": assignment.workers[int(load.argmax())],
        "idle": int((load == 0).sum()),
    }


def covers(assignment: Assignment, by: int) -> dict[str, Any]:
    """How few others cover a customer; see `shuffle_sharding.assignment`."""
    if by < 1:
        raise UsageError(f"by must be at least 1, got {by}")
    twins = _twins(assignment)
    examined = _drawn(len(assignment.customers), _EXAMINED)
    tried = [_least_cover(assignment.members, row, by) for row in examined]
    found = [least for least in tried if least != 0]
    return {
        "covered_by_one": sum(len(names) for names in twins),
        "pair": list(twins[0][:2]) if twins else None,
        "customers_examined": len(found),
        "by": by,
        "covered": sum(least is not None for least in found) / len(found) if found else None,
        "least_cover": {str(m): found.count(m) for m in range(1, by + 1)},
        "given_up": len(tried) - len(found),
    }


def _drawn(customers: int, most: int) -> list[int]:
    """All customers, or a sample that is the same every time."""
    if customers <= most:
        return list(range(customers))
    return sorted(Random(0).sample(range(customers), most))


def _twins(assignment: Assignment) -> list[list[str]]:
    """Groups of customers with the same workers."""
    alike: dict[frozenset[str], list[str]] = {}
    for customer, shard in assignment.shards.items():
        alike.setdefault(shard, []).append(customer)
    return [names for names in alike.values() if len(names) > 1]


def _beside_random(assignment: Assignment, reference: Reference) -> dict[str, float | None]:
    """How far the overlaps are from those of random assignments; None where too few pairs can tell.

    Pairs that have a customer in common are not independent of each other, so that both figures
    are compared with those of random assignments instead of a table.
    """
    chosen = _drawn(len(assignment.customers), _TESTED)
    expected = comb(len(chosen), 2) * np.array(reference.overlap)
    classes = _classes(expected)
    if classes.max(initial=0) == 0:
        return {"p_value": None, "excess_sd": None}
    pooled = np.bincount(classes, expected)
    squares = np.arange(assignment.shard + 1) ** 2

    def figures(members: NDArray[np.bool_]) -> tuple[float, float]:
        """The chi-square statistic, and the sum of squared overlaps."""
        counts = pair_overlaps(members).counts
        deviation = (np.bincount(classes, counts) - pooled) ** 2 / pooled
        return float(deviation.sum()), float(counts @ squares)

    own = figures(assignment.members[chosen])
    names = [str(number) for number in range(len(chosen))]
    drawn = []
    for seed in range(_DRAWN):
        positions = reference.positions_of(names, seed).astype(np.int64)
        drawn.append(figures(membership(positions, len(assignment.workers))))
    deviations, sums = np.array(drawn).T
    return {
        "p_value": float(1 + (deviations >= own[0]).sum()) / (1 + _DRAWN),
        "excess_sd": float((own[1] - sums.mean()) / sums.std(ddof=1)) if sums.std() else None,
    }


def _classes(expected: NDArray[np.float64]) -> NDArray[np.int64]:
    """Neighbouring overlaps in one class until each class expects enough pairs."""
    classes = np.zeros(len(expected), dtype=np.int64)
    number, held = 0, 0.0
    for j, pairs in enumerate(expected):
        if held >= _LEAST_EXPECTED and expected[j:].sum() >= _LEAST_EXPECTED:
            number, held = number + 1, 0.0
        classes[j] = number
        held += pairs
    return classes


def _least_cover(members: NDArray[np.bool_], row: int, by: int) -> int | None:
    """How few others have all workers of a customer; None: more than `by`; 0: too many to try."""
    shard = np.flatnonzero(members[row])
    if len(shard) > 62:
        return 0
    bits = np.int64(1) << np.arange(len(shard), dtype=np.int64)
    parts = members[:, shard] @ bits
    parts = np.unique(np.delete(parts, row))
    full = int(bits.sum())
    unions = np.zeros(1, dtype=np.int64)
    for others in range(1, by + 1):
        if len(unions) * len(parts) > _MOST_UNIONS:
            return 0
        unions = np.unique(unions[:, None] | parts[None, :])
        if unions.size and unions[-1] == full:
            return others
    return None
