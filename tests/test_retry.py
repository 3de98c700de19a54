"""The sample client's retry policy."""

from random import Random

import pytest

from chaosgrade.policies.retry import RetryPolicy


async def run(policy: RetryPolicy, results: list[str]) -> tuple[str, int, list[float]]:
    """The last result, the number of attempts, and the gaps, without waiting."""
    gaps: list[float] = []
    left = iter(results)
    made = 0

    async def attempt() -> str:
        nonlocal made
        made += 1
        return next(left)

    async def sleep(seconds: float) -> None:
        gaps.append(seconds)

    result = await policy.call(
        attempt, retry_if=lambda word: word != "ok", random=Random(1), sleep=sleep
    )
    return result, made, gaps


async def test_it_stops_at_the_first_success() -> None:
    """No attempt is made after one that succeeded."""
    assert (await run(RetryPolicy(5), ["bad", "ok", "bad"]))[:2] == ("ok", 2)


async def test_it_gives_up_with_the_last_result() -> None:
    """When all attempts fail, the caller sees the last failure, not an exception."""
    assert (await run(RetryPolicy(3), ["a", "b", "c", "ok"]))[:2] == ("c", 3)


async def test_gaps_are_full_jitter_below_a_capped_exponential_bound() -> None:
    """Each gap lies between zero and min(cap, base x 2^(n-1))."""
    policy = RetryPolicy(8, base_s=0.1, cap_s=0.5)
    _, _, gaps = await run(policy, ["bad"] * 8)
    assert len(gaps) == 7
    for number, gap in enumerate(gaps):
        assert 0 <= gap <= min(0.5, 0.1 * 2**number)
    assert len(set(gaps)) == 7


def test_jitter_fills_its_whole_range() -> None:
    """The mean of uniform gaps is half their bound, also where a float would overflow."""
    draw = Random(7)
    policy = RetryPolicy(base_s=0.1, cap_s=10)
    gaps = [policy.gap_s(3, draw) for _ in range(4000)]
    assert sum(gaps) / len(gaps) == pytest.approx(0.2, rel=0.05)
    assert policy.gap_s(5000, draw) <= 10


async def test_no_retry_starts_after_the_deadline() -> None:
    """A retry that would begin beyond the deadline is not made."""
    policy = RetryPolicy(10, base_s=100, cap_s=100, deadline_s=0.001)
    _, made, gaps = await run(policy, ["bad"] * 10)
    assert made == 1
    assert gaps == []


async def test_an_exception_passes_through() -> None:
    """A bug in the attempt is not an outcome to be tried again."""

    async def attempt() -> str:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await RetryPolicy().call(attempt, retry_if=bool, random=Random(1))
