"""Shards of which any two share at most m workers: who has what is remembered.

A hash promises that large overlaps are rare; this promises that there are none. The price is a
table: the assignment is a JSON file that all who route by it read, and it holds only so many
customers, at the most `shard_mathematics.most_shards`.

A new customer gets the least loaded shard that a design still has to offer (`cyclic_designs` or
`transversal_designs`, whichever is larger), and when there is none left, or the workers are not
those that the table began with, whatever a search finds beside all shards there are. Nobody who has
a shard is ever moved.
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from chaosgrade.errors import UsageError
from chaosgrade.policies.cyclic_designs import cyclic_design
from chaosgrade.policies.shard_mathematics import check_overlap, most_shards
from chaosgrade.policies.shuffle_sharding import (
    checked_seed,
    checked_shard,
    checked_workers,
    derived_seed,
)
from chaosgrade.policies.transversal_designs import Shards, transversal_designs

_FORMAT = "chaosgrade-bounded-overlap-1"
_PAGE = 2_048  # shards of a design that are compared at once
_STEPS = 20_000  # of one search


class NoShardLeft(UsageError):
    """No further customer fits in."""


class BoundedOverlap:
    """Shards of customers, any two of which share at most `overlap` workers.

    Args:
        workers: their names, in any order.
        shard: how many workers each customer gets.
        overlap: the most that two shards may share.
        seed: 0 to 2^64-1. The same seed and the same customers in the same order get the same.
        shards: the workers of customers who have theirs already.

    Raises:
        UsageError: the workers or the shard make no sense, no such bound can hold, or the shards
            that there are do not keep it.
    """

    def __init__(
        self,
        workers: Iterable[str],
        shard: int,
        overlap: int,
        *,
        seed: int = 0,
        shards: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.workers = checked_workers(workers)
        self.shard = checked_shard(shard, len(self.workers))
        check_overlap(len(self.workers), shard, overlap)
        self.overlap = overlap
        self.seed = checked_seed(seed)
        self._position = {name: position for position, name in enumerate(self.workers)}
        self._numbers: dict[str, int] = {}
        self._shards: dict[str, tuple[str, ...]] = {}
        self._members = np.zeros((len(self.workers), 64), dtype=bool)
        self._load = np.zeros(len(self.workers), dtype=np.int64)
        self._pages = self._designed()
        self._offered: Shards = np.empty((0, shard), dtype=np.int64)
        for customer, names in (shards or {}).items():
            self._add_existing(customer, names)

    def __len__(self) -> int:
        """How many customers have a shard."""
        return len(self._numbers)

    @property
    def shards(self) -> dict[str, tuple[str, ...]]:
        """The workers of each customer."""
        return dict(self._shards)

    def shard_of(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer who has been assigned.

        Raises:
            UsageError: this one has not.
        """
        if customer not in self._shards:
            raise UsageError(f"customer {customer!r} has no shard; assign one first")
        return self._shards[customer]

    def assign(self, customer: str) -> tuple[str, ...]:
        """The workers of a customer, who gets a shard now if there was none.

        Raises:
            NoShardLeft: no shard keeps the bound, or none was found in a bounded search.
        """
        if customer not in self._numbers:
            most = most_shards(len(self.workers), self.shard, self.overlap)
            if len(self) >= most:
                raise self._full(f"{most} are the most there can be")
            found = self._from_design()
            self._add(customer, self._searched(customer) if found is None else found)
        return self.shard_of(customer)

    def remove(self, customer: str) -> None:
        """Forget a customer, whose shard somebody else may get.

        Raises:
            UsageError: this one has no shard.
        """
        self.shard_of(customer)
        del self._shards[customer]
        number = self._numbers.pop(customer)
        last = len(self._numbers)
        if number != last:
            moved = next(name for name, its in self._numbers.items() if its == last)
            self._members[:, number] = self._members[:, last]
            self._numbers[moved] = number
        self._members[:, last] = False
        self._load = self._taken.sum(axis=1)
        self._pages, self._offered = self._designed(), self._offered[:0]

    def save(self, path: Path) -> None:
        """Write the assignment to a file, whole or not at all.

        Raises:
            UsageError: it cannot be written.
        """
        document = {
            "format": _FORMAT,
            "workers": self.workers,
            "shard": self.shard,
            "overlap": self.overlap,
            "seed": self.seed,
            "shards": self.shards,
        }
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        try:
            with beside.open("w", encoding="utf-8") as file:
                file.write(json.dumps(document, indent=1) + "\n")
                file.flush()
                os.fsync(file.fileno())
            beside.replace(path)
        except OSError as error:
            beside.unlink(missing_ok=True)
            raise UsageError(f"assignment {path} cannot be written: {error.strerror}") from None

    @classmethod
    def load(cls, path: Path, *, workers: Iterable[str] | None = None) -> Self:
        """The assignment of a file that `save` wrote.

        Args:
            path: the file.
            workers: the workers there are now, when some have joined or idle ones have left.

        Raises:
            UsageError: it cannot be read, is no such file, or breaks its own bound.
        """
        try:
            document: Any = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise UsageError(f"assignment {path} cannot be read: {reason}") from None
        if not isinstance(document, dict) or document.get("format") != _FORMAT:
            raise UsageError(f"assignment {path} is no {_FORMAT} file")
        try:
            return cls(
                document["workers"] if workers is None else workers,
                document["shard"],
                document["overlap"],
                seed=document["seed"],
                shards=document["shards"],
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise UsageError(f"assignment {path} is damaged: {error!r}") from None
        except UsageError as error:
            raise UsageError(f"assignment {path}: {error}") from None

    @property
    def _taken(self) -> NDArray[np.bool_]:
        """Which worker (row) serves which customer (column)."""
        return self._members[:, : len(self._numbers)]

    def _add(self, customer: str, positions: list[int]) -> None:
        number = len(self._numbers)
        if number == self._members.shape[1]:
            room = np.zeros_like(self._members)
            self._members = np.concatenate([self._members, room], axis=1)
        self._members[positions, number] = True
        self._load[positions] += 1
        self._numbers[customer] = number
        self._shards[customer] = tuple(self.workers[position] for position in sorted(positions))

    def _add_existing(self, customer: str, names: Sequence[str]) -> None:
        for name in names:
            if name not in self._position:
                raise UsageError(f"customer {customer!r} has worker {name!r}, which there is not")
        if len(set(names)) != self.shard or len(names) != self.shard:
            raise UsageError(
                f"customer {customer!r} must have {self.shard} different workers, got {list(names)}"
            )
        positions = [self._position[name] for name in names]
        shared = self._taken[positions].sum(axis=0)
        if shared.size and shared.max() > self.overlap:
            other = list(self._numbers)[int(shared.argmax())]
            raise UsageError(
                f"customers {other!r} and {customer!r} share {shared.max()} workers, "
                f"more than the {self.overlap} allowed"
            )
        self._add(customer, positions)

    def _from_design(self) -> list[int] | None:
        """The least loaded shard on offer that keeps the bound; None when the design is used up."""
        while True:
            if len(self._offered) < _PAGE // 2 and (page := next(self._pages, None)) is not None:
                self._offered = np.concatenate([self._offered, page])
            if not len(self._offered):
                return None
            loads = self._load[self._offered]
            key = loads.max(axis=1) * (self._load.max() * self.shard + 1) + loads.sum(axis=1)
            best = int(np.argmin(key))
            positions = self._offered[best]
            self._offered = np.delete(self._offered, best, axis=0)
            if not (self._taken[positions].sum(axis=0) > self.overlap).any():
                return [int(position) for position in positions]

    def _designed(self) -> Iterator[Shards]:
        """Pages of shards that keep the bound among themselves; the seed says who stands where."""
        if self.overlap == 0:  # any search finds disjoint shards
            return
        n = len(self.workers)
        names = sorted(range(n), key=lambda p: derived_seed(self.workers[p].encode(), self.seed))
        standing = np.array(names, dtype=np.int64)
        circle = cyclic_design(n, self.shard, self.overlap)
        designs = transversal_designs(n, self.shard, self.overlap)
        if len(circle):
            by_algebra = list(designs)
            if len(circle) > sum(design.size for design, _ in by_algebra):
                yield standing[circle]
                return
            designs = iter(by_algebra)
        page: list[Shards] = []
        for design, first in designs:
            for start in range(0, design.size, _PAGE):
                page.append(design.shards(start, min(start + _PAGE, design.size)) + first)
                if sum(map(len, page)) >= _PAGE:
                    yield standing[np.concatenate(page)]
                    page = []
        if page:
            yield standing[np.concatenate(page)]

    def _searched(self, customer: str) -> list[int]:
        """A shard that keeps the bound, of the workers with the least load if possible."""
        own = derived_seed(customer.encode(), self.seed)
        last_first = sorted(
            range(len(self.workers)),
            key=lambda p: (self._load[p], derived_seed(self.workers[p].encode(), own)),
            reverse=True,
        )
        chosen: list[int] = []
        nothing = np.zeros(len(self), dtype=np.int64)
        # For each of those chosen, and before the first: what everybody shares with the shard so
        # far, and who may come next.
        levels = [(nothing, self._open(last_first, nothing))]
        for _ in range(_STEPS):
            shared, candidates = levels[-1]
            if len(candidates) < self.shard - len(chosen):
                levels.pop()
                if not levels:
                    raise self._full("a search of all others found none")
                chosen.pop()
                continue
            chosen.append(candidates.pop())
            if len(chosen) == self.shard:
                return chosen
            now = shared + self._taken[chosen[-1]]
            levels.append((now, self._open(candidates, now)))
        raise self._full(f"none was found in {_STEPS} steps of search")

    def _open(self, candidates: list[int], shared: NDArray[np.int64]) -> list[int]:
        """The candidates of whom nobody has one who already shares as many as allowed."""
        closed = self._taken[:, shared == self.overlap].any(axis=1)
        return [position for position in candidates if not closed[position]]

    def _full(self, how: str) -> NoShardLeft:
        return NoShardLeft(
            f"no further shard of {self.shard} of {len(self.workers)} workers shares at most "
            f"{self.overlap} with each of the {len(self)} there are ({how}): "
            "add workers, or allow a larger overlap"
        )
