"""The retry quota, shared between callers and threads."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgrade.errors import UsageError
from chaosgrade.policies.retry_quota import RetryQuota


def test_a_full_bucket_grants_as_many_retries_as_botocore() -> None:
    """500 tokens at 14 each are 35 retries."""
    quota = RetryQuota()
    assert [quota.take() for _ in range(37)] == [True] * 35 + [False] * 2
    assert quota.tokens == 500 - 35 * 14


def test_an_empty_bucket_grants_none() -> None:
    """A quota of nothing forbids retries."""
    assert not RetryQuota(0).take()


@given(st.lists(st.sampled_from(["take", "retried", "first"]), max_size=60), st.integers(0, 60))
def test_the_bucket_never_overflows_and_never_owes(steps: list[str], tokens: int) -> None:
    """Whatever happens in whatever order, it holds between nothing and its capacity."""
    quota = RetryQuota(tokens, retry_cost=7, first_try_refund=2)
    for step in steps:
        before = quota.tokens
        if step == "take":
            assert quota.take() == (before >= 7)
            assert quota.tokens == (before - 7 if before >= 7 else before)
        else:
            quota.succeeded(retried=step == "retried")
            assert quota.tokens == min(tokens, before + (7 if step == "retried" else 2))


def test_threads_never_get_more_than_there_is() -> None:
    """Eight threads at once are granted exactly what one would be."""
    quota = RetryQuota(14 * 1000)
    barrier = Barrier(8)

    def work() -> int:
        barrier.wait()
        return sum(quota.take() for _ in range(500))

    with ThreadPoolExecutor(8) as pool:
        granted = [job.result() for job in [pool.submit(work) for _ in range(8)]]
    assert sum(granted) == 1000
    assert quota.tokens == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"tokens": -1}, "tokens must be at least 0, got -1"),
        ({"tokens": 1.5}, "tokens must be a whole number, got 1.5"),
        ({"retry_cost": 0}, "retry_cost must be at least 1, got 0"),
        ({"first_try_refund": -1}, "first_try_refund must be at least 0, got -1"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(arguments: dict[str, int], says: str) -> None:
    """One line that names the number and shows it."""
    with pytest.raises(UsageError, match=says):
        RetryQuota(**arguments)
