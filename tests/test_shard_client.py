"""The endpoint of each try."""

from collections import Counter
from random import Random

import pytest
from scipy import stats

from chaosgrade.errors import UsageError
from chaosgrade.policies.shard_client import EndpointHealth, ShardClient
from chaosgrade.policies.shuffle_sharding import ShuffleSharding

CUSTOMERS = [f"customer-{number}" for number in range(4_000)]


def names(count: int) -> list[str]:
    return [f"w{number:04}" for number in range(count)]


SHARDING = ShuffleSharding(names(20), 4)
SHARD = SHARDING.shard_of("c")


def client_at(now: list[float]) -> ShardClient:
    health = EndpointHealth(30.0, clock=lambda: now[0])
    return ShardClient(SHARDING, health, Random(1))


def test_each_try_meets_another_endpoint_of_the_shard_and_none_outside() -> None:
    """When all were tried there is no next."""
    client = client_at([0.0])
    tried: list[str] = []
    while (endpoint := client.next_endpoint("c", tried)) is not None:
        tried.append(endpoint)
        client.record(endpoint, ok=False)
    assert sorted(tried) == sorted(SHARD)


def test_load_is_spread_over_the_shard() -> None:
    """No endpoint is everybody's first."""
    client = client_at([0.0])
    first = Counter(client.next_endpoint("c") for _ in range(2_000))
    assert set(first) == {*SHARD}
    assert stats.chisquare(list(first.values())).pvalue > 1e-3


def test_what_has_failed_lately_comes_last_the_latest_last_of_all() -> None:
    """Also for another customer of the same client."""
    now = [0.0]
    client = client_at(now)
    a, b, c, d = SHARD
    for endpoint in (b, a):
        now[0] += 1.0
        client.record(endpoint, ok=False)
    assert {client.next_endpoint("c") for _ in range(100)} == {c, d}
    assert client.next_endpoint("c", {c, d}) == b
    assert client.next_endpoint("c", {b, c, d}) == a


def test_a_failure_is_forgotten_after_a_time_and_by_a_success() -> None:
    """Half a minute here, to the second."""
    now = [0.0]
    client = client_at(now)
    a, b, *others = SHARD
    client.record(a, ok=False)
    client.record(b, ok=False)
    client.record(b, ok=True)
    assert {client.next_endpoint("c", others) for _ in range(50)} == {b}
    now[0] = 29.9
    assert {client.next_endpoint("c", others) for _ in range(50)} == {b}
    now[0] = 30.0
    assert {client.next_endpoint("c", others) for _ in range(50)} == {a, b}


def test_a_memory_without_duration_is_refused() -> None:
    """It would remember nothing."""
    with pytest.raises(UsageError, match="got 0"):
        EndpointHealth(0)
