"""Shuffle sharding that takes so many workers from each Availability Zone.

A zone that is lost then costs each customer the same part of the shard, and never all of it.

Source: route53-infima, the "lattice" of AWS's own library for shuffle sharding.
"""

from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

from chaosgrade.errors import UsageError
from chaosgrade.policies.shard_mathematics import convolved, overlap_distribution
from chaosgrade.policies.shuffle_sharding import (
    ShuffleSharding,
    checked_workers,
    derived_seed,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class ZoneLattice:
    """Each customer's workers, as many of each zone, drawn from a hash of the customer's name.

    Zones are drawn from independently: workers that join or leave one move nobody in another.

    Args:
        zones: the names of each zone's workers.
        per_zone: how many of each zone every customer gets.
        seed: 0 to 2^64-1; another one is another assignment.

    Raises:
        UsageError: no zone, one with too few workers, a worker that is in two, or a seed out of
            range.
    """

    def __init__(self, zones: Mapping[str, Iterable[str]], per_zone: int, *, seed: int = 0) -> None:
        if not zones:
            raise UsageError("zones must be at least one, got none")
        members = {zone: tuple(names) for zone, names in sorted(zones.items())}
        self.workers = checked_workers(name for names in members.values() for name in names)
        self._order = ShuffleSharding(members, len(members), seed=seed)
        self._zones: list[ShuffleSharding] = []
        for zone, names in members.items():
            try:
                own = ShuffleSharding(names, per_zone, seed=derived_seed(zone.encode(), seed))
            except UsageError as error:
                raise UsageError(f"zone {zone}: {error}") from None
            self._zones.append(own)
        self._by_zone = dict(zip(members, self._zones, strict=True))
        self.per_zone = per_zone
        self.shard = per_zone * len(members)

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer: neighbours are of different zones, the first is of any."""
        shards = [self._by_zone[zone].shard_of(customer) for zone in self._order.shard_of(customer)]
        return tuple(name for turn in zip(*shards, strict=True) for name in turn)

    def positions_of(self, customers: Sequence[str]) -> "NDArray[np.int32]":
        """The shards of many customers at once, as positions in `workers`.

        Returns:
            An array of shape (customers, shard); row i is `shard_of(customers[i])`.
        """
        import numpy as np

        of_name = {name: position for position, name in enumerate(self.workers)}
        by_zone = [
            np.array([of_name[name] for name in zone.workers], dtype=np.int32)[
                zone.positions_of(customers)
            ]
            for zone in self._zones
        ]
        order = self._order.positions_of(customers)
        found = np.take_along_axis(np.stack(by_zone, axis=1), order[:, :, None], axis=1)
        return found.transpose(0, 2, 1).reshape(len(customers), self.shard)

    def overlap_distribution(self) -> tuple[Fraction, ...]:
        """The chance that two customers share exactly j workers, for j from 0 to the shard."""
        return convolved(
            *(overlap_distribution(len(zone.workers), self.per_zone) for zone in self._zones)
        )
