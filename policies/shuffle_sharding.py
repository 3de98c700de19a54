"""Which k of n workers serve a customer: drawn from a hash of the customer's name, without state.

Two customers rarely get the same k workers, so what one customer breaks, another is rarely left
with nothing. `chaosgrade.policies.shard_mathematics` says how rarely; `shard_client` is the other
half, a client that tries the rest of its shard.

Where the shard comes from, so that any language can compute it again:

1. The worker names are sorted, as code points. Block b = 0, 1, … of a sharding has the seed
   XXH3-64(b as eight little-endian bytes, seed).
2. XXH3-128(customer in UTF-8, seed of block b), as sixteen canonical (big-endian) bytes, is four
   32-bit big-endian numbers; those of block 0, then of block 1 … are w₀, w₁, ….
3. Draw i takes the place xᵢ = wᵢ·(n-i) >> 32 of those from 0 to n-1-i, and moves what is in the
   last of them there: a Fisher–Yates shuffle that ends after k draws.

The shard of k workers begins with that of k-1, so a larger k moves nobody. Each draw favours some
places over others by less than n in 2^32. Workers that join or leave move nearly everybody: where
that matters, see `weighted_sharding`.

Sources: Colm MacCárthaigh, "Shuffle Sharding: Massive and Magical Fault Isolation", AWS
Architecture Blog (2014). XXH3: the xxHash specification, stable since 0.8.0.
"""

from collections.abc import Iterable, Sequence
from itertools import pairwise, repeat
from operator import mul
from struct import Struct
from typing import TYPE_CHECKING, Protocol

from xxhash import xxh3_64_intdigest, xxh3_128_digest

from chaosgrade.errors import UsageError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORDS = 4  # 32-bit numbers of one digest
_unpacked = Struct(f">{_WORDS}I").unpack
_BATCH = 1 << 16  # customers at once: their words stay in the cache


class Sharding(Protocol):
    """Who serves whom."""

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer, none of them twice."""
        ...


class ShuffleSharding:
    """Each customer's workers, drawn from a hash of the customer's name.

    Customers who choose their own names could look for one whose shard is somebody else's: give
    them names of yours, or a seed that they do not know and names that were digested with a key.

    Args:
        workers: their names, in any order.
        shard: how many workers each customer gets.
        seed: 0 to 2^64-1; another one is another assignment.

    Raises:
        UsageError: no worker or one twice, a shard that does not fit, or a seed out of range.
    """

    def __init__(self, workers: Iterable[str], shard: int, *, seed: int = 0) -> None:
        self.workers = checked_workers(workers)
        self.shard = checked_shard(shard, len(self.workers))
        self.seed = checked_seed(seed)
        self._sizes = tuple(len(self.workers) - drawn for drawn in range(shard))
        self._seeds = tuple(
            derived_seed(block.to_bytes(8, "little"), seed)
            for block in range((shard + _WORDS - 1) // _WORDS)
        )
        self._first = self._seeds[0]

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer, in the order drawn, which is as random as the choice."""
        name = customer.encode()
        words = _unpacked(xxh3_128_digest(name, self._first))
        for seed in self._seeds[1:]:
            words += _unpacked(xxh3_128_digest(name, seed))
        places = [product >> 32 for product in map(mul, words, self._sizes)]
        if len(set(places)) < self.shard:
            places = self._moved(places)
        workers = self.workers
        return tuple([workers[place] for place in places])

    def positions_of(self, customers: Sequence[str]) -> "NDArray[np.int32]":
        """The shards of many customers at once, as positions in `workers`.

        Returns:
            An array of shape (customers, shard); row i is `shard_of(customers[i])`.
        """
        import numpy as np  # late: who asks for one customer at a time needs none of it

        found = np.empty((len(customers), self.shard), dtype=np.int32)
        for start in range(0, len(customers), _BATCH):
            names = [customer.encode() for customer in customers[start : start + _BATCH]]
            places = self._places(names)
            last = len(self.workers) - 1
            for i in range(self.shard):
                place = places[i].copy()
                for j in reversed(range(i)):
                    np.copyto(place, last - j, where=place == places[j])
                found[start : start + len(names), i] = place
        return found

    def _moved(self, places: Sequence[int]) -> list[int]:
        """Who is at each drawn place, after what earlier draws have moved there."""
        last = len(self.workers) - 1
        found = []
        for i, drawn in enumerate(places):
            place = drawn
            for j in reversed(range(i)):  # what draw j moved came from the end as it was then
                if place == places[j]:
                    place = last - j
            found.append(place)
        return found

    def _places(self, names: Sequence[bytes]) -> "list[NDArray[np.uint32]]":
        import numpy as np

        places: list[NDArray[np.uint32]] = []
        for seed in self._seeds:
            digests = b"".join(map(xxh3_128_digest, names, repeat(seed)))
            words = np.frombuffer(digests, dtype=">u4").reshape(-1, _WORDS)
            for word, size in zip(words.T, self._sizes[len(places) :], strict=False):
                product = word.astype(np.uint64) * np.uint64(size)
                places.append((product >> np.uint64(32)).astype(np.uint32))
        return places


def derived_seed(name: bytes, seed: int) -> int:
    """A seed for a part of what `seed` is for: XXH3-64 of the part's name."""
    return int(xxh3_64_intdigest(name, seed))


def checked_workers(workers: Iterable[str]) -> tuple[str, ...]:
    """Worker names, sorted.

    Raises:
        UsageError: there is none, or one is there twice.
    """
    names = tuple(sorted(workers))
    if not names:
        raise UsageError("workers must be at least one name, got none")
    for one, other in pairwise(names):
        if one == other:
            raise UsageError(f"workers must have a name each, got {one!r} twice")
    return names


def checked_shard(shard: int, workers: int) -> int:
    """The size of a shard.

    Raises:
        UsageError: it is not a whole number from 1 to the number of workers.
    """
    if isinstance(shard, bool) or not isinstance(shard, int) or not 1 <= shard <= workers:
        raise UsageError(
            f"shard must be a whole number from 1 to the {workers} workers, got {shard!r}"
        )
    return shard


def checked_seed(seed: int) -> int:
    """A seed.

    Raises:
        UsageError: it is not a whole number from 0 to 2^64-1.
    """
    if isinstance(seed, bool) or not isinstance(seed, int) or not 0 <= seed < 2**64:
        raise UsageError(f"seed must be a whole number from 0 to 2^64-1, got {seed!r}")
    return seed
