"""Many shards of which any two share at most m workers, by algebra instead of search.

Workers are put into k groups of g; a shard takes one worker of each group, at the place that a
polynomial of degree at most m has there. Two polynomials agree in at most m points, so two shards
share at most m workers, and there are g^(m+1) of them. Shards that lie within one group share at
most one worker with any of those: the groups are filled in the same way, and so on.

The polynomials are over a product of finite fields, which there is for every g; its smallest field
bounds the number of groups: as many as it has elements, and one more for the leading coefficient.

Sources: I. S. Reed and G. Solomon, "Polynomial Codes over Certain Finite Fields" (1960).
H. F. MacNeish, "Euler's Squares", Annals of Mathematics 23 (1922), for products of fields.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product
from math import gcd

import numpy as np
from numpy.typing import NDArray

type Shards = NDArray[np.int64]
"""An array of shape (shards, k): the workers of each, as positions from 0 to n-1."""


@dataclass(frozen=True, slots=True)
class TransversalDesign:
    """The shards that take one worker of each group.

    Args:
        group: workers in a group, g.
        shard: how many groups, k: worker p of group j is at position j·g + p.
        overlap: the most that two shards share, m.
    """

    group: int
    shard: int
    overlap: int

    @property
    def size(self) -> int:
        """How many shards there are."""
        return int(self.group ** (self.overlap + 1))

    def shards(self, start: int, stop: int) -> Shards:
        """Shards number `start` to `stop`-1, in an order in which neighbours differ everywhere."""
        # A stride near the golden ratio of the size spreads numbers over all coefficients.
        stride = round(self.size * 0.6180339887498949) or 1
        while gcd(stride, self.size) > 1:
            stride += 1
        rest = np.array([number * stride % self.size for number in range(start, stop)])
        coefficients = np.empty((len(rest), self.overlap + 1), dtype=np.int64)
        for degree in range(self.overlap + 1):
            rest, coefficients[:, degree] = np.divmod(rest, self.group)
        found = np.empty((len(rest), self.shard), dtype=np.int64)
        for j in range(self.shard - 1):
            found[:, j] = _values(self.group, coefficients, j) + j * self.group
        found[:, -1] = coefficients[:, -1] + (self.shard - 1) * self.group
        return found


def transversal_designs(
    n: int, k: int, overlap: int, first: int = 0
) -> Iterator[tuple[TransversalDesign, int]]:
    """Designs that together have at most `overlap` workers common to any two of their shards.

    Args:
        n: how many workers.
        k: the size of a shard, at least 2.
        overlap: from 1 to k-1.
        first: the position of the first worker.

    Yields:
        A design, and the position of its first worker.
    """
    group = next((g for g in range(n // k, 1, -1) if min(_fields(g)) >= k - 1), 0)
    if group == 0:
        if n >= k:
            yield TransversalDesign(1, k, overlap), first
        return
    yield TransversalDesign(group, k, overlap), first
    for j in range(k):
        yield from transversal_designs(group, k, overlap, first + j * group)


def _values(group: int, coefficients: NDArray[np.int64], point: int) -> NDArray[np.int64]:
    """The values of polynomials at element number `point` of each field of the product."""
    total = np.zeros(len(coefficients), dtype=np.int64)
    stride = 1
    for size in _fields(group):
        field = _Field.of(size)
        value = np.zeros((len(coefficients), field.degree), dtype=np.int64)
        for degree in reversed(range(coefficients.shape[1])):  # Horner's scheme
            digits = field.digits(coefficients[:, degree] // stride % size)
            value = (value @ field.times(point) + digits) % field.prime
        total += stride * field.number(value)
        stride *= size
    return total


@dataclass(frozen=True)
class _Field:
    """A finite field: elements are rows of `degree` digits to the base of a prime."""

    prime: int
    degree: int

    @staticmethod
    @cache
    def of(size: int) -> "_Field":
        prime = next(p for p in range(2, size + 1) if size % p == 0)
        return _Field(prime, next(e for e in range(1, size) if prime**e == size))

    def digits(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        return numbers[:, None] // self.prime ** np.arange(self.degree) % self.prime

    def number(self, digits: NDArray[np.int64]) -> NDArray[np.int64]:
        value: NDArray[np.int64] = digits @ self.prime ** np.arange(self.degree)
        return value

    def times(self, number: int) -> NDArray[np.int64]:
        """The matrix that multiplies a row by an element."""
        matrix = np.zeros((self.degree, self.degree), dtype=np.int64)
        for digit in self.digits(np.array([number]))[0][::-1]:
            matrix = (matrix @ self._generator + digit * self._one) % self.prime
        return matrix

    @cached_property
    def _one(self) -> NDArray[np.int64]:
        return np.eye(self.degree, dtype=np.int64)

    @cached_property
    def _generator(self) -> NDArray[np.int64]:
        """The companion matrix of a polynomial whose root generates the whole field."""
        digits = range(self.prime)
        for lowest in product(digits[1:], *[digits] * (self.degree - 1)):
            companion = np.roll(self._one, 1, axis=1)
            companion[-1] = lowest
            power, order = companion, 1
            while order < self.prime**self.degree and not np.array_equal(power, self._one):
                power, order = power @ companion % self.prime, order + 1
            if order == self.prime**self.degree - 1:
                return companion
        raise AssertionError("every finite field has a primitive polynomial")


def _fields(group: int) -> list[int]:
    """The prime powers whose product is `group`, such as [4, 5] of 20."""
    found = []
    p = 2
    while group > 1:
        power = 1
        while group % p == 0:
            group //= p
            power *= p
        if power > 1:
            found.append(power)
        p += 1
    return found
