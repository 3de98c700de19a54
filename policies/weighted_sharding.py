"""Shards that hardly change when workers join, leave or get another weight.

Each worker draws a waiting time for each customer, from a hash of both names: exponential, and the
shorter the heavier the worker is. The k that come first are the shard. A worker that leaves moves
only the customers who had it; one that joins takes one place from those who get it, which is its
share of the weight; a changed weight moves customers to that worker or away from it, and no other.

That asks each worker, so that a shard costs time in proportion to their number.

Sources: D. G. Thaler and C. V. Ravishankar, "Using Name-Based Mappings to Increase Hit Rates"
(1998), for rendezvous hashing. P. S. Efraimidis and P. G. Spirakis, "Weighted Random Sampling with
a Reservoir" (2006), for the k smallest of weighted exponential draws.
"""

from collections.abc import Mapping
from heapq import nsmallest
from math import inf, log
from typing import Self

from xxhash import xxh3_64_intdigest

from chaosgrade.errors import UsageError
from chaosgrade.policies.shuffle_sharding import (
    checked_seed,
    checked_shard,
    checked_workers,
    derived_seed,
)


class WeightedSharding:
    """Each customer's workers, drawn by weight from hashes of both names.

    Args:
        weights: of the workers by name, relative to each other, above 0.
        shard: how many workers each customer gets.
        seed: 0 to 2^64-1; another one is another assignment.

    Raises:
        UsageError: no worker, a weight that is none, a shard that does not fit, or a seed out of
            range.
    """

    def __init__(self, weights: Mapping[str, float], shard: int, *, seed: int = 0) -> None:
        self.workers = checked_workers(weights)
        self.shard = checked_shard(shard, len(self.workers))
        self.seed = checked_seed(seed)
        for name, weight in weights.items():
            if not 0 < weight < inf:
                raise UsageError(f"weight of worker {name!r} must be above 0, got {weight}")
        self._weights = dict(weights)
        self._drawing = [(name, name.encode(), weights[name]) for name in self.workers]

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer, in the order drawn."""
        own = derived_seed(customer.encode(), self.seed)
        # Half a step up: a hash of 0 has a logarithm too.
        waits = [
            (-log((xxh3_64_intdigest(digested, own) + 0.5) * 2.0**-64) / weight, name)
            for name, digested, weight in self._drawing
        ]
        return tuple(name for _, name in nsmallest(self.shard, waits))

    def joined(self, worker: str, weight: float = 1.0) -> Self:
        """The same with one more worker, or with another weight of one.

        Raises:
            UsageError: the weight is none.
        """
        return type(self)({**self._weights, worker: weight}, self.shard, seed=self.seed)

    def left(self, worker: str) -> Self:
        """The same with one worker less.

        Raises:
            UsageError: there is no such worker, or the shard needs it.
        """
        if worker not in self._weights:
            raise UsageError(f"there is no worker {worker!r} that could leave")
        rest = {name: weight for name, weight in self._weights.items() if name != worker}
        return type(self)(rest, self.shard, seed=self.seed)
