"""The ways to spread customers over workers that the laboratory compares.

Each says exactly, as far as mathematics can, how much of a customer's shard a failure takes, and
draws assignments for the simulation.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chaosgrade.errors import UsageError
from chaosgrade.overlaps import membership, pair_overlaps
from chaosgrade.policies.bounded_overlap import BoundedOverlap, NoShardLeft
from chaosgrade.policies.shard_mathematics import (
    check_overlap,
    convolved,
    failed_in_shard,
    most_shards,
    overlap_distribution,
    poisoned_in_shard,
)
from chaosgrade.policies.shuffle_sharding import ShuffleSharding
from chaosgrade.policies.zone_lattice import ZoneLattice

type Chances = Sequence[Fraction]
"""The chance of each number of workers, from 0 to all of a shard."""


@dataclass(frozen=True)
class Fleet:
    """What is spread over what.

    Args:
        workers: n; number i is in zone i modulo `zones`.
        shard: k, workers of each customer where there is sharding.
        customers: how many.
        zones: how many zones.
    """

    workers: int
    shard: int
    customers: int
    zones: int = 1

    @cached_property
    def customer_names(self) -> list[str]:
        """Their names."""
        return [f"customer-{number}" for number in range(self.customers)]

    @cached_property
    def worker_names(self) -> list[str]:
        """Their names, which sort as their numbers do."""
        digits = len(str(self.workers - 1))
        return [f"worker-{number:0{digits}}" for number in range(self.workers)]

    def in_zone(self, zone: int) -> list[int]:
        """The numbers of a zone's workers."""
        return list(range(zone, self.workers, self.zones))


class LabSharding(Protocol):
    """One way of sharding.

    Attributes:
        name: as `--sharding` has it.
        size: workers of each customer.
    """

    name: str
    size: int

    def draw(self, seed: int) -> NDArray[np.int64] | None:
        """Shards of shape (customers, size), as numbers of workers; None: everybody has all."""
        ...

    def overlap(self) -> Chances:
        """How many workers two customers share."""
        ...

    def failed(self, workers: int) -> Chances:
        """How many of a customer's workers are among as many that fail at random."""
        ...

    def zone_lost(self) -> Chances:
        """How many of a customer's workers are in a zone chosen at random."""
        ...

    def poisoned(self, customers: int) -> Chances | None:
        """How many of a customer's workers as many others take down, each its whole shard.

        None where mathematics does not say.
        """
        ...


class _NoSharding:
    """Everybody is served by all workers."""

    name = "none"

    def __init__(self, fleet: Fleet) -> None:
        self.size = fleet.workers
        self._fleet = fleet

    def draw(self, seed: int) -> None:
        return None

    def overlap(self) -> Chances:
        return _certain(self.size, self.size)

    def failed(self, workers: int) -> Chances:
        return _certain(workers, self.size)

    def zone_lost(self) -> Chances:
        zones = range(self._fleet.zones)
        return _mean([_certain(len(self._fleet.in_zone(zone)), self.size) for zone in zones])

    def poisoned(self, customers: int) -> Chances:
        return _certain(self.size if customers else 0, self.size)


class _Sharded:
    """Everybody has k workers, which are as likely to fail as any."""

    def __init__(self, fleet: Fleet) -> None:
        self.size = fleet.shard
        self._fleet = fleet

    def failed(self, workers: int) -> Chances:
        return failed_in_shard(self._fleet.workers, self.size, workers)

    def zone_lost(self) -> Chances:
        zones = range(self._fleet.zones)
        return _mean([self.failed(len(self._fleet.in_zone(zone))) for zone in zones])


class _Plain(_Sharded):
    """Workers in fixed groups of k, each customer in one; workers left over serve nobody."""

    name = "plain"

    def __init__(self, fleet: Fleet) -> None:
        super().__init__(fleet)
        self._groups = fleet.workers // fleet.shard

    def draw(self, seed: int) -> NDArray[np.int64]:
        groups = [str(number) for number in range(self._groups)]
        chosen = ShuffleSharding(groups, 1, seed=seed)
        first = np.array([int(name) for name in chosen.workers]) * self.size
        drawn = first[chosen.positions_of(self._fleet.customer_names)]
        return np.asarray(drawn + np.arange(self.size), dtype=np.int64)

    def overlap(self) -> Chances:
        return _either(Fraction(1, self._groups), self.size)

    def zone_lost(self) -> Chances:
        zones = [set(self._fleet.in_zone(zone)) for zone in range(self._fleet.zones)]
        groups = [
            range(number * self.size, (number + 1) * self.size) for number in range(self._groups)
        ]
        return _mean(
            [
                _certain(len(zone.intersection(group)), self.size)
                for zone in zones
                for group in groups
            ]
        )

    def poisoned(self, customers: int) -> Chances:
        return _either(1 - Fraction(self._groups - 1, self._groups) ** customers, self.size)


class _Shuffle(_Sharded):
    """Each customer has k workers of its own choice."""

    name = "shuffle"

    def draw(self, seed: int) -> NDArray[np.int64]:
        sharding = ShuffleSharding(self._fleet.worker_names, self.size, seed=seed)
        return sharding.positions_of(self._fleet.customer_names).astype(np.int64)

    def overlap(self) -> Chances:
        return overlap_distribution(self._fleet.workers, self.size)

    def poisoned(self, customers: int) -> Chances:
        return poisoned_in_shard(self._fleet.workers, self.size, customers)


class _Lattice(_Sharded):
    """Each customer has as many workers of its own choice in each zone."""

    name = "lattice"

    def __init__(self, fleet: Fleet) -> None:
        if fleet.zones == 1 or fleet.shard % fleet.zones:
            raise UsageError(
                f"--sharding lattice needs --zones of which --shard {fleet.shard} is a multiple, "
                f"got {fleet.zones}"
            )
        super().__init__(fleet)
        self._per_zone = fleet.shard // fleet.zones
        self._zone_sizes = [len(fleet.in_zone(zone)) for zone in range(fleet.zones)]

    def draw(self, seed: int) -> NDArray[np.int64]:
        names = self._fleet.worker_names
        zones = {
            f"zone-{zone}": [names[number] for number in self._fleet.in_zone(zone)]
            for zone in range(self._fleet.zones)
        }
        lattice = ZoneLattice(zones, self._per_zone, seed=seed)
        return lattice.positions_of(self._fleet.customer_names).astype(np.int64)

    def overlap(self) -> Chances:
        return convolved(*(overlap_distribution(n, self._per_zone) for n in self._zone_sizes))

    def zone_lost(self) -> Chances:
        return _certain(self._per_zone, self.size)

    def poisoned(self, customers: int) -> Chances:
        parts = (poisoned_in_shard(n, self._per_zone, customers) for n in self._zone_sizes)
        return convolved(*parts)


class _Stateful(_Sharded):
    """Each customer has k workers, and no two share more than a bound."""

    def __init__(self, fleet: Fleet, overlap: int) -> None:
        check_overlap(fleet.workers, fleet.shard, overlap)
        most = most_shards(fleet.workers, fleet.shard, overlap)
        if fleet.customers > most:
            raise UsageError(
                f"--customers {fleet.customers} are more than the {most} shards of {fleet.shard} "
                f"of {fleet.workers} workers that can share at most {overlap} with each other"
            )
        super().__init__(fleet)
        self.name = f"stateful:overlap={overlap}"
        self._most = overlap

    @cached_property
    def _shards(self) -> NDArray[np.int64]:
        found = BoundedOverlap(self._fleet.worker_names, self.size, self._most)
        try:
            for customer in self._fleet.customer_names:
                found.assign(customer)
        except NoShardLeft as error:
            customers = self._fleet.customers
            raise UsageError(f"--customers {customers} are too many: {error}") from None
        number = {name: number for number, name in enumerate(self._fleet.worker_names)}
        return np.array([[number[name] for name in shard] for shard in found.shards.values()])

    def draw(self, seed: int) -> NDArray[np.int64]:
        standing = np.random.default_rng(seed).permutation(self._fleet.workers)
        return np.asarray(standing[self._shards], dtype=np.int64)

    def overlap(self) -> Chances:
        return self._shared

    def poisoned(self, customers: int) -> Chances | None:
        if customers == 0:
            return _certain(0, self.size)
        return self._shared if customers == 1 else None

    @cached_property
    def _shared(self) -> Chances:
        counts = pair_overlaps(membership(self._shards, self._fleet.workers)).counts.tolist()
        return [Fraction(count, sum(counts)) for count in counts]


def parse_sharding(text: str, fleet: Fleet) -> LabSharding:
    """A way of sharding from what somebody wrote, such as "shuffle" or "stateful:overlap=1".

    Raises:
        UsageError: there is no such way, or the fleet cannot be sharded like this.
    """
    simple = {kind.name: kind for kind in (_NoSharding, _Plain, _Shuffle, _Lattice)}
    if text in simple:
        return simple[text](fleet)
    match = re.fullmatch(r"stateful:overlap=(\d+)", text)
    if not match:
        raise UsageError(
            f"--sharding must be {', '.join(simple)} or stateful:overlap=M, got {text!r}"
        )
    return _Stateful(fleet, int(match.group(1)))


def _certain(lost: int, size: int) -> Chances:
    return [Fraction(j == lost) for j in range(size + 1)]


def _either(chance: Fraction, size: int) -> Chances:
    """The whole shard with a chance, else nothing of it."""
    return [1 - chance, *[Fraction()] * (size - 1), chance]


def _mean(several: Sequence[Chances]) -> Chances:
    return [sum(chances, Fraction()) / len(several) for chances in zip(*several, strict=True)]
