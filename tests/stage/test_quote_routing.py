"""Which worker is asked next: what differs between clients that shard and those that do not."""

from random import Random

import pytest

from chaosgrade.stage.workload.quote_routing import QuoteRouting

WORKERS = {f"quote-{n}": f"10.0.0.{n}:8080" for n in range(1, 9)}


def tried(sharding: str, retry: str, customer: str = "0") -> list[str]:
    """The workers that a request of a customer meets when none of them answers."""
    routing = QuoteRouting(WORKERS, sharding, retry, Random(1))
    found: list[str] = []
    while (worker := routing.next_worker(customer, found)) is not None:
        found.append(worker)
        routing.record(worker, ok=False)
    return found


@pytest.mark.parametrize("sharding", ["shuffle", "plain"])
def test_the_second_try_goes_to_the_other_worker_of_the_shard_and_there_is_no_third(
    sharding: str,
) -> None:
    assert len(tried(sharding, "another")) == len(set(tried(sharding, "another"))) == 2


def test_without_sharding_any_two_workers_are_met() -> None:
    met = {worker for n in range(200) for worker in tried("none", "another", str(n))}
    assert met == set(WORKERS)


def test_who_tries_the_same_again_meets_one_worker() -> None:
    assert len(tried("shuffle", "same")) == 2
    assert len(set(tried("shuffle", "same"))) == 1


def test_who_goes_on_anywhere_meets_all_the_shard_first() -> None:
    met = tried("shuffle", "anywhere")
    assert sorted(met) == sorted(WORKERS)
    assert set(met[:2]) == set(tried("shuffle", "another"))


def test_plain_shards_are_the_same_or_have_nothing_in_common() -> None:
    shards = {frozenset(tried("plain", "another", str(n))) for n in range(100)}
    assert len(shards) == 4
    assert sum(map(len, shards)) == len(WORKERS)


def test_a_worker_has_its_address() -> None:
    assert QuoteRouting(WORKERS, "none", "same", Random(1)).address_of("quote-3") == "10.0.0.3:8080"
