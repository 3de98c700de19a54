"""Which customers suffer with a poisoned one, beside what their sharding lets expect."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from scipy import stats

from chaosgrade.errors import UsageError
from chaosgrade.policies.shard_mathematics import (
    customers_affected,
    failed_in_shard,
    poisoned_in_shard,
    request_failure,
    workers_poisoned,
)
from chaosgrade.probes.sharding_assignment import Assignment
from chaosgrade.traffic.worker import TrafficFailed

_NAMED = 20  # customers
_CONFIDENCE = 0.95

type Seen = tuple[str, bool]
"""A customer's request, and whether it succeeded."""


@dataclass(frozen=True, slots=True)
class Expectation:
    """How far poison reaches if sharding and client work as described.

    Args:
        workers: n, of the sharding.
        lost: the chance that j of a customer's workers are lost, for j from 0 to the shard.
        tries: how often a request is tried.
        distinct: whether each try goes to another worker of the shard.
        together: what `lost` is the mean of, with the chance of each: all customers meet the same
            lost workers, so that they suffer together where those are many.
        shared: how many workers each customer shares with the poisoned, where that is known.
    """

    workers: int
    lost: Sequence[Fraction]
    tries: int
    distinct: bool
    together: Sequence[tuple[Fraction, Sequence[Fraction]]]
    shared: Mapping[str, int] | None = None

    @property
    def shard(self) -> int:
        """How many workers each customer has."""
        return len(self.lost) - 1

    @property
    def enough(self) -> int:
        """How many lost workers make some request fail on every try."""
        return min(self.tries, self.shard) if self.distinct else 1

    def suffering(self, lost: Sequence[Fraction]) -> float:
        """The share of customers some of whose requests fail, where so many workers are lost."""
        return float(customers_affected(lost, self.tries, distinct=self.distinct))

    def fully_out(self, lost: Sequence[Fraction]) -> float:
        """The share of customers all of whose workers are lost."""
        return float(lost[-1])


def expected_of_size(n: int, k: int, poisonous: int, tries: int, *, distinct: bool) -> Expectation:
    """The expectation for shuffle sharding of which only the size is known.

    Args:
        n, k: workers, and how many of them each customer has.
        poisonous: how many customers are poisoned.
        tries, distinct: as of `Expectation`.
    """
    together = [
        (chance, failed_in_shard(n, k, workers))
        for workers, chance in enumerate(workers_poisoned(n, k, poisonous))
        if chance
    ]
    return Expectation(n, poisoned_in_shard(n, k, poisonous), tries, distinct, together)


def expected_of(
    assignment: Assignment, poisoned: frozenset[str], tries: int, *, distinct: bool
) -> Expectation:
    """The expectation for one assignment, in which it is known who shares how much.

    Raises:
        UsageError: it does not know a poisoned customer, or there is nobody else.
    """
    for customer in sorted(poisoned.difference(assignment.shards)):
        raise UsageError(f"the assignment has no customer {customer!r}, who is poisoned")
    lost = frozenset().union(*(assignment.shards[customer] for customer in poisoned))
    shared = {
        customer: len(shard & lost)
        for customer, shard in assignment.shards.items()
        if customer not in poisoned
    }
    if not shared:
        raise UsageError("the assignment has no customer but the poisoned")
    counts = Counter(shared.values())
    chances = [Fraction(counts[j], len(shared)) for j in range(assignment.shard + 1)]
    together = [(Fraction(1), chances)]
    return Expectation(len(assignment.workers), chances, tries, distinct, together, shared)


def reach(
    seen: Iterable[Seen], before: Iterable[Seen], poisoned: frozenset[str], expected: Expectation
) -> dict[str, Any]:
    """How many suffer with the poisoned; see `chaosgrade.probes.blast_radius.blast_radius`.

    Raises:
        TrafficFailed: nobody but the poisoned made a request.
        UsageError: the assignment does not know a customer who did.
    """
    requests, failures = _tally(seen, poisoned)
    if not requests:
        raise TrafficFailed("nobody but the poisoned made a request: who suffers is not known")
    suffering = {customer for customer in requests if failures[customer]}
    out = {customer for customer in suffering if failures[customer] == requests[customer]}
    failed, offered = failures.total(), requests.total()
    if expected.shared is not None:
        for customer in sorted(requests.keys() - expected.shared.keys()):
            raise UsageError(f"the assignment has no customer {customer!r}, who made requests")
    worst = sorted(suffering, key=lambda name: (-failures[name] / requests[name], name))
    return {
        "workers": expected.workers,
        "shard": expected.shard,
        "customers": len(requests),
        "poisoned": sorted(poisoned),
        "suffering": _share(len(suffering), len(requests), expected, expected.suffering),
        "fully_out": _share(len(out), len(requests), expected, expected.fully_out),
        "requests": {
            "offered": offered,
            "failed": failed / offered,
            "expected": float(
                request_failure(expected.lost, expected.tries, distinct=expected.distinct)
            ),
        },
        "suffering_before": sum(1 for times in _tally(before, poisoned)[1].values() if times),
        "worst": [
            {
                "customer": name,
                "failed": failures[name] / requests[name],
                "shares": None if expected.shared is None else expected.shared[name],
            }
            for name in worst[:_NAMED]
        ],
        "beyond": None
        if expected.shared is None
        else [name for name in worst if expected.shared[name] < expected.enough],
    }


def _tally(seen: Iterable[Seen], poisoned: frozenset[str]) -> tuple["Counter[str]", "Counter[str]"]:
    """Requests and failures of everybody but the poisoned."""
    requests: Counter[str] = Counter()
    failures: Counter[str] = Counter()
    for customer, ok in seen:
        if customer not in poisoned:
            requests[customer] += 1
            failures[customer] += not ok
    return requests, failures


def _share(
    count: int,
    customers: int,
    expected: Expectation,
    share_of: Callable[[Sequence[Fraction]], float],
) -> dict[str, Any]:
    """A share of customers with its interval, and the chance of at least as many by luck."""
    by_luck = sum(
        float(chance) * float(stats.binom.sf(count - 1, customers, share_of(lost)))
        for chance, lost in expected.together
    )
    interval = stats.binomtest(count, customers).proportion_ci(_CONFIDENCE, method="exact")
    return {
        "customers": count,
        "share": count / customers,
        "low": float(interval.low),
        "high": float(interval.high),
        "expected": share_of(expected.lost),
        "p_value": min(by_luck, 1.0),
    }
