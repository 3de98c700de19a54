"""Which worker makes a customer's quote, and which is tried next when one does not answer."""

from collections.abc import Collection, Mapping
from random import Random
from typing import Protocol

from chaosgrade.policies.shard_client import EndpointHealth, ShardClient
from chaosgrade.policies.shuffle_sharding import Sharding, ShuffleSharding

_SHARD = 2
_TRIES = 2


class Plain:
    """Customers in groups, each with workers of its own: what is called sharding without shuffle.

    Args:
        workers: their names; each group has the next two.
    """

    def __init__(self, workers: Collection[str]) -> None:
        names = sorted(workers)
        self._groups = {
            f"group-{i // _SHARD}": tuple(names[i : i + _SHARD])
            for i in range(0, len(names), _SHARD)
        }
        self._group_of = ShuffleSharding(self._groups, 1)

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer's group."""
        return self._groups[self._group_of.shard_of(customer)[0]]


class Tries(Protocol):
    """Where the tries of a request go."""

    def next_endpoint(self, customer: str, tried: Collection[str] = ()) -> str | None:
        """The worker of the next try; None when it is to be given up."""
        ...

    def record(self, endpoint: str, *, ok: bool) -> None:
        """Remember what a try came to."""
        ...


class SameAgain:
    """Tries again where it has failed, as a client does that keeps to its connection.

    Args:
        sharding: whose shard is what.
        random: chooses the worker.
    """

    def __init__(self, sharding: Sharding, random: Random) -> None:
        self._sharding = sharding
        self._random = random

    def next_endpoint(self, customer: str, tried: Collection[str] = ()) -> str | None:
        """See `Tries`."""
        return next(iter(tried), None) or self._random.choice(self._sharding.shard_of(customer))

    def record(self, endpoint: str, *, ok: bool) -> None:
        """It is forgotten."""


class QuoteRouting:
    """Knows the workers.

    Args:
        workers: {name: "address:port"}.
        sharding: "shuffle", "plain" or "none", which lets any worker serve anybody.
        retry: "another" worker of the shard, the "same" one, or "anywhere": every worker there is,
            the shard's first.
        random: chooses among equals.
    """

    def __init__(
        self, workers: Mapping[str, str], sharding: str, retry: str, random: Random
    ) -> None:
        self._workers = workers
        self._anywhere = retry == "anywhere"
        self._random = random
        shards: Sharding
        if sharding == "plain":
            shards = Plain(workers)
        else:
            shards = ShuffleSharding(workers, len(workers) if sharding == "none" else _SHARD)
        self._tries: Tries = (
            SameAgain(shards, random)
            if retry == "same"
            else ShardClient(shards, EndpointHealth(), random)
        )

    def address_of(self, worker: str) -> str:
        """ "address:port" of a worker."""
        return self._workers[worker]

    def next_worker(self, customer: str, tried: Collection[str]) -> str | None:
        """The worker of the next try; None when the request is to be given up."""
        if len(tried) < _TRIES:
            return self._tries.next_endpoint(customer, tried)
        left = sorted(self._workers.keys() - set(tried))
        return self._random.choice(left) if self._anywhere and left else None

    def record(self, worker: str, *, ok: bool) -> None:
        """Remember what a try came to."""
        self._tries.record(worker, ok=ok)
