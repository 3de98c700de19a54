"""How far a failure reaches under shuffle sharding, exactly, as fractions.

n workers, shards of k. Nothing here is simulated or rounded; `float()` rounds a result once.

Source: Colm MacCárthaigh, "Shuffle Sharding: Massive and Magical Fault Isolation", AWS Architecture
Blog (2014). The rest is counting: hypergeometric chances, inclusion and exclusion.
"""

from collections.abc import Sequence
from fractions import Fraction
from math import comb

from chaosgrade.errors import UsageError


def shards(n: int, k: int) -> int:
    """How many different shards there are.

    Raises:
        UsageError: no shard of k fits into n workers; so do all functions here.
    """
    _check(n, k)
    return comb(n, k)


def overlap_distribution(n: int, k: int) -> tuple[Fraction, ...]:
    """The chance that two customers share exactly j workers, for j from 0 to k."""
    return failed_in_shard(n, k, k)


def failed_in_shard(n: int, k: int, failed: int) -> tuple[Fraction, ...]:
    """The chance that j of a customer's k workers are among `failed` others chosen at random."""
    _check(n, k)
    _check_count("failed", failed, n)
    return tuple(
        Fraction(comb(k, j) * comb(n - k, failed - j) if j <= failed else 0, comb(n, failed))
        for j in range(k + 1)
    )


def fully_out(n: int, k: int, failed: int) -> Fraction:
    """The share of customers all of whose workers are among `failed` workers."""
    return failed_in_shard(n, k, failed)[k]


def poisoned_in_shard(n: int, k: int, poisonous: int) -> tuple[Fraction, ...]:
    """The chance that j of a customer's k workers are lost to `poisonous` other customers.

    Each of those takes its whole shard down.
    """
    _check(n, k)
    _check_count("poisonous", poisonous)
    # In how many of `total` cases t given workers are in nobody's shard.
    untouched = [comb(n - t, k) ** poisonous for t in range(k + 1)]
    total = comb(n, k) ** poisonous
    return tuple(
        Fraction(
            comb(k, j) * sum((-1) ** i * comb(j, i) * untouched[k - j + i] for i in range(j + 1)),
            total,
        )
        for j in range(k + 1)
    )


def workers_poisoned(n: int, k: int, poisonous: int) -> tuple[Fraction, ...]:
    """The chance that u of n workers are lost to `poisonous` customers, for u from 0 to n."""
    _check(n, k)
    _check_count("poisonous", poisonous)
    cases = [1, *[0] * n]
    for _ in range(poisonous):
        following = [0] * (n + 1)
        for u, ways in enumerate(cases):
            for new in range(min(k, n - u) + 1) if ways else ():
                following[u + new] += ways * comb(u, k - new) * comb(n - u, new)
        cases = following
    total = comb(n, k) ** poisonous
    return tuple(Fraction(ways, total) for ways in cases)


def full_loss(n: int, k: int, poisonous: int) -> Fraction:
    """The chance that `poisonous` customers together take down all workers of another one.

    That is Σᵢ (-1)^i C(k,i) [C(n-i,k)/C(n,k)]^m.
    """
    return poisoned_in_shard(n, k, poisonous)[k]


def request_failure(lost: Sequence[Fraction], tries: int, *, distinct: bool = True) -> Fraction:
    """The chance that a request fails on every try.

    Args:
        lost: the chance that j of the shard's k workers are lost, for j from 0 to k: of
            `failed_in_shard`, `poisoned_in_shard`, or an assignment of yours.
        tries: how often it is tried. Distinct ones end when the whole shard was tried.
        distinct: whether every try goes to another worker of the shard; else each goes to any.

    Raises:
        UsageError: fewer than one try.
    """
    k = len(lost) - 1
    _check_tries(tries)
    if distinct:
        r = min(tries, k)
        return sum((p * Fraction(comb(j, r), comb(k, r)) for j, p in enumerate(lost)), Fraction())
    return sum((p * Fraction(j, k) ** tries for j, p in enumerate(lost)), Fraction())


def customers_affected(lost: Sequence[Fraction], tries: int, *, distinct: bool = True) -> Fraction:
    """The share of customers some of whose requests fail on every try, sooner or later.

    With distinct tries that takes as many lost workers as there are tries; else one is enough.

    Args:
        lost, tries, distinct: as of `request_failure`.

    Raises:
        UsageError: fewer than one try.
    """
    _check_tries(tries)
    return sum(lost[min(tries, len(lost) - 1) if distinct else 1 :], Fraction())


def most_shards(n: int, k: int, overlap: int) -> int:
    """No assignment has more shards of which any two share at most `overlap` workers.

    That is ⌊n/k ⌊(n-1)/(k-1) ⌊… ⌊(n-m)/(k-m)⌋⌋⌋⌋. Some n, k and m reach it, many do not.

    Source: S. M. Johnson, "A New Upper Bound for Error-Correcting Codes", IRE Transactions on
    Information Theory 8 (1962).
    """
    check_overlap(n, k, overlap)
    most = 1
    for i in reversed(range(overlap + 1)):
        most = most * (n - i) // (k - i)
    return most


def check_overlap(n: int, k: int, overlap: int) -> None:
    """Whether a bound on the workers that two shards share can hold and says anything.

    Raises:
        UsageError: it cannot, naming it.
    """
    _check(n, k)
    least = max(0, 2 * k - n)
    if isinstance(overlap, bool) or not isinstance(overlap, int) or overlap < least:
        raise UsageError(
            f"overlap must be a whole number from {least}, got {overlap!r}: "
            f"any two shards of {k} of {n} workers share at least {least}"
        )
    if overlap >= k:
        raise UsageError(
            f"overlap must be below the shard of {k}, got {overlap}: it would bound nothing"
        )


def convolved(*parts: Sequence[Fraction]) -> tuple[Fraction, ...]:
    """The distribution of a sum of independent counts, such as the workers shared in each zone."""
    total: Sequence[Fraction] = (Fraction(1),)
    for part in parts:
        summed = [Fraction()] * (len(total) + len(part) - 1)
        for i, p in enumerate(total):
            for j, q in enumerate(part):
                summed[i + j] += p * q
        total = summed
    return tuple(total)


def _check(n: int, k: int) -> None:
    if not 1 <= k <= n:
        raise UsageError(f"shard must be a whole number from 1 to the {n} workers, got {k}")


def _check_count(name: str, value: int, most: int | None = None) -> None:
    if value < 0 or (most is not None and value > most):
        upper = "" if most is None else f" to the {most} workers"
        raise UsageError(f"{name} must be a whole number from 0{upper}, got {value}")


def _check_tries(tries: int) -> None:
    if tries < 1:
        raise UsageError(f"tries must be at least 1, got {tries}")
