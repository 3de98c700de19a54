"""How many workers customers have in common, counted over all pairs."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS = 256  # customers whose overlaps with all are held at once


@dataclass(frozen=True, slots=True)
class PairOverlaps:
    """The pairs of some customers.

    Args:
        counts: how many pairs share j workers, for j from 0 to the shard.
        most: the most that any pair shares; -1 where there is no pair.
        pair: the rows of one that does.
    """

    counts: NDArray[np.int64]
    most: int
    pair: tuple[int, int]


def pair_overlaps(members: NDArray[np.bool_]) -> PairOverlaps:
    """Compare each customer with each.

    Args:
        members: of shape (customers, workers): who is served by whom; shards of one size.
    """
    shard = int(members[0].sum())
    words = _as_words(members)
    counts = np.zeros(shard + 1, dtype=np.int64)
    most, pair = -1, (0, 0)
    for start in range(0, len(words), _ROWS):
        rows, later = words[start : start + _ROWS], words[start:]
        shared = np.zeros((len(rows), len(later)), dtype=np.int16)
        for column in range(words.shape[1]):
            shared += np.bitwise_count(rows[:, None, column] & later[None, :, column])
        # Those of the same rows are there twice, and each customer with itself.
        shared[np.tril_indices(len(rows))] = -1
        counts += np.bincount(shared.ravel() + 1, minlength=shard + 2)[1:]
        row, column = divmod(int(shared.argmax()), len(later))
        if shared[row, column] > most:
            most, pair = int(shared[row, column]), (start + row, start + column)
    return PairOverlaps(counts, most, pair)


def _as_words(members: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """Each customer's workers as bits of a few numbers."""
    padded = np.pad(members, ((0, 0), (0, -members.shape[1] % 64)))
    return np.packbits(padded, axis=1).view(np.uint64)


def membership(shards: NDArray[np.int64], workers: int) -> NDArray[np.bool_]:
    """Who is served by whom, of shape (customers, workers), from numbers of workers in rows."""
    members = np.zeros((len(shards), workers), dtype=bool)
    np.put_along_axis(members, shards, True, axis=1)
    return members
