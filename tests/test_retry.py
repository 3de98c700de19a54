"""Retry policies: what is tried again, when, and who pays for it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import pytest

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff_families import (
    DecorrelatedJitter,
    Exponential,
    Fixed,
    FullJitter,
    NoBackoff,
)
from chaosgrade.policies.circuit_breaker import CircuitBreaker, CircuitOpen
from chaosgrade.policies.retry import RetryOn, RetryPolicy
from chaosgrade.policies.retry_quota import RetryQuota


@dataclass
class Service:
    """Gives these outcomes one after the other, each after `takes_s` on a clock of its own."""

    outcomes: list[str | Exception]
    takes_s: float = 0.0
    now_s: float = 100.0
    made: int = 0
    gaps: list[float] = field(default_factory=list)

    def ask(self) -> str:
        self.now_s += self.takes_s
        self.made += 1
        outcome = self.outcomes[self.made - 1]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def sleep(self, seconds: float) -> None:
        self.gaps.append(seconds)
        self.now_s += seconds

    def call(
        self,
        policy: RetryPolicy,
        *,
        blocking: bool,
        retry_on: RetryOn = (),
        retry_after: Callable[[str | Exception], float | None] | None = None,
        quota: RetryQuota | None = None,
    ) -> str:
        def is_bad(word: str) -> bool:
            return word != "ok"

        def now() -> float:
            return self.now_s

        if blocking:
            return policy.call_blocking(
                self.ask, random=Random(1), retry_if=is_bad, retry_on=retry_on,
                retry_after=retry_after, quota=quota, sleep=self.sleep, now=now,
            )  # fmt: skip

        async def ask() -> str:
            return self.ask()

        async def sleep(seconds: float) -> None:
            self.sleep(seconds)

        return asyncio.run(
            policy.call(
                ask, random=Random(1), retry_if=is_bad, retry_on=retry_on,
                retry_after=retry_after, quota=quota, sleep=sleep, now=now,
            )
        )  # fmt: skip


both_ways = pytest.mark.parametrize("blocking", [False, True], ids=["async", "blocking"])


@both_ways
def test_it_stops_at_the_first_success(blocking: bool) -> None:
    """No attempt is made after one that succeeded."""
    service = Service(["bad", "ok", "bad"])
    assert service.call(RetryPolicy(5), blocking=blocking) == "ok"
    assert service.made == 2


@both_ways
def test_it_gives_up_with_the_last_result(blocking: bool) -> None:
    """When all attempts fail, the caller sees the last failure, not an exception."""
    service = Service(["a", "b", "c", "ok"])
    assert service.call(RetryPolicy(3), blocking=blocking) == "c"


@both_ways
def test_it_gives_up_with_the_last_exception(blocking: bool) -> None:
    """The caller's own exception, the last one, and not one of the library."""
    last = TimeoutError("third")
    service = Service([TimeoutError("first"), "bad", last])
    with pytest.raises(TimeoutError) as caught:
        service.call(RetryPolicy(3), blocking=blocking, retry_on=TimeoutError)
    assert caught.value is last
    assert service.made == 3


@both_ways
@pytest.mark.parametrize(
    "retry_on",
    [(), KeyError, (KeyError, TimeoutError), lambda error: isinstance(error, KeyError)],
    ids=["none", "type", "types", "predicate"],
)
def test_an_exception_that_nobody_named_passes_through(blocking: bool, retry_on: RetryOn) -> None:
    """A bug in the attempt is not an outcome to be tried again."""
    service = Service([ZeroDivisionError(), "ok"])
    with pytest.raises(ZeroDivisionError):
        service.call(RetryPolicy(5), blocking=blocking, retry_on=retry_on)
    assert service.made == 1


@pytest.mark.parametrize("retry_on", [KeyError, (KeyError,), lambda e: isinstance(e, KeyError)])
def test_an_exception_that_was_named_is_tried_again(retry_on: RetryOn) -> None:
    """By its type, by one of several types, or by what a predicate says."""
    service = Service([KeyError(), KeyError(), "ok"])
    assert service.call(RetryPolicy(3), blocking=True, retry_on=retry_on) == "ok"


async def test_a_call_that_is_cancelled_is_not_tried_again() -> None:
    """Cancelling goes through, whatever is worth a retry."""
    made = 0
    began = asyncio.Event()

    async def attempt() -> str:
        nonlocal made
        made += 1
        began.set()
        await asyncio.Event().wait()
        return "never"

    call = asyncio.ensure_future(
        RetryPolicy(5).call(attempt, retry_on=lambda error: True, random=Random(1))
    )
    await began.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert made == 1


async def test_what_returns_an_awaitable_is_awaited() -> None:
    """An attempt need not be a coroutine function: a lambda around one will do."""

    async def ask(word: str) -> str:
        return word

    policy = RetryPolicy(2)
    assert await policy.call(lambda: ask("ok"), retry_on=KeyError, random=Random(1)) == "ok"


@both_ways
def test_gaps_are_those_of_the_backoff(blocking: bool) -> None:
    """Full jitter by default: between zero and min(cap, base x 2^(n-1)), each drawn anew."""
    service = Service(["bad"] * 8)
    service.call(RetryPolicy(8, FullJitter(0.1, 0.5)), blocking=blocking)
    assert len(service.gaps) == 7
    for number, gap in enumerate(service.gaps):
        assert 0 <= gap <= min(0.5, 0.1 * 2**number)
    assert len(set(service.gaps)) == 7


def test_decorrelated_gaps_follow_from_each_other() -> None:
    """Each is at most three times the one before, the first of the base; none is below the base."""
    service = Service(["bad"] * 30)
    service.call(RetryPolicy(30, DecorrelatedJitter(0.1, 5.0)), blocking=True)
    before = 0.1
    for gap in service.gaps:
        assert 0.1 <= gap <= min(5.0, 3 * before)
        before = gap
    assert max(service.gaps) > 1


@both_ways
def test_no_retry_starts_after_the_deadline(blocking: bool) -> None:
    """The time that attempts take counts, and a retry is not made if its gap would end too late."""
    service = Service(["bad"] * 9, takes_s=0.4)
    policy = RetryPolicy(None, Fixed(1.0), deadline_s=3.2)
    assert service.call(policy, blocking=blocking) == "bad"
    assert service.made == 3  # begun at 0, 1.4 and 2.8; the next would at 4.2
    assert service.gaps == [1.0, 1.0]


@both_ways
def test_a_server_that_asks_for_patience_gets_it(blocking: bool) -> None:
    """What it asks for and the backoff's own gap, up to a bound; without a word, the gap alone."""
    asked: dict[str, float | None] = {"wait": 3.0, "long": 86_400.0, "bad": None, "past": -5.0}
    service = Service(["wait", "long", "bad", "past", "ok"])
    policy = RetryPolicy(9, Exponential(0.1, 1.0), retry_after_cap_s=7.0)
    service.call(policy, blocking=blocking, retry_after=lambda outcome: asked[str(outcome)])
    assert service.gaps == pytest.approx([3.1, 7.2, 0.4, 0.8])


def test_an_exception_can_tell_how_long_to_wait() -> None:
    """Clients that raise on 429 carry the header in the exception."""

    class Throttled(Exception):
        after_s = 2.0

    service = Service([Throttled(), "ok"])
    service.call(
        RetryPolicy(2, Fixed(0.5)), blocking=True, retry_on=Throttled,
        retry_after=lambda outcome: getattr(outcome, "after_s", None),
    )  # fmt: skip
    assert service.gaps == [2.5]


def test_a_policy_gives_up_when_the_quota_is_spent() -> None:
    """Before its attempts are, and with the last outcome; 2 retries of 14 tokens out of 30."""
    quota = RetryQuota(30)
    service = Service(["bad"] * 9)
    assert service.call(RetryPolicy(9), blocking=True, quota=quota) == "bad"
    assert (service.made, quota.tokens) == (3, 2)
    again = Service(["bad"] * 9)
    again.call(RetryPolicy(9), blocking=True, quota=quota)
    assert again.made == 1


def test_success_after_a_retry_gives_back_the_last_retry() -> None:
    """As botocore does: two retries were paid, one is refunded."""
    quota = RetryQuota(100)
    Service(["bad", "bad", "ok"]).call(RetryPolicy(9), blocking=True, quota=quota)
    assert quota.tokens == 100 - 28 + 14
    Service(["ok"]).call(RetryPolicy(9), blocking=True, quota=quota)
    assert quota.tokens == 100 - 28 + 14 + 1


def test_nothing_is_paid_for_a_retry_that_is_not_made() -> None:
    """Attempts and deadline are looked at before the quota; failure gives nothing back."""
    quota = RetryQuota(100)
    Service(["bad"] * 3).call(RetryPolicy(2), blocking=True, quota=quota)
    assert quota.tokens == 100 - 14
    late = RetryPolicy(None, Fixed(2.0), deadline_s=1.0)
    Service(["bad"] * 3).call(late, blocking=True, quota=quota)
    assert quota.tokens == 100 - 14
    with pytest.raises(ZeroDivisionError):
        Service([ZeroDivisionError()]).call(RetryPolicy(2), blocking=True, quota=quota)
    assert quota.tokens == 100 - 14


def test_a_breaker_goes_inside_a_retry() -> None:
    """The breaker sees each attempt, and tells the policy how long it will refuse."""
    service = Service([ConnectionError()] * 2 + ["ok"])
    breaker = CircuitBreaker(failures=2, open_s=10.0, now=lambda: service.now_s)

    def retry_after(outcome: str | Exception) -> float | None:
        return outcome.retry_after_s if isinstance(outcome, CircuitOpen) else None

    answer = RetryPolicy(9, Fixed(0.25)).call_blocking(
        lambda: breaker.call(service.ask),
        random=Random(1), retry_on=(ConnectionError, CircuitOpen), retry_after=retry_after,
        sleep=service.sleep, now=lambda: service.now_s,
    )  # fmt: skip
    assert answer == "ok"
    assert service.made == 3
    assert service.gaps == [0.25, 0.25, pytest.approx(9.75 + 0.25)]


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RetryPolicy(0), "attempts must be at least 1, got 0"),
        (lambda: RetryPolicy(2.5), "attempts must be a whole number, got 2.5"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(3, 0.05), "backoff must be one such as FullJitter"),  # type: ignore[arg-type]
        (lambda: RetryPolicy(3, deadline_s=-1), "deadline_s must be at least 0, got -1"),
        (lambda: RetryPolicy(3, retry_after_cap_s=-2), "retry_after_cap_s must be at least 0"),
        (
            lambda: RetryPolicy(3).call_blocking(str, random=Random(1)),
            "say what to retry: retry_if for results, retry_on for exceptions",
        ),
        (
            lambda: RetryPolicy(3).call_blocking(str, random=Random(1), retry_on=[KeyError]),  # type: ignore[arg-type]
            "retry_on must be a type, a tuple or a function, got",
        ),
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(make: Callable[[], object], says: str) -> None:
    """One line that names the value and shows it."""
    with pytest.raises(UsageError, match=says):
        make()


def test_the_default_is_what_the_aws_sdks_do() -> None:
    """Three attempts, full jitter from 50 ms, capped at 20 s."""
    assert RetryPolicy() == RetryPolicy(3, FullJitter(0.05, 20.0), None)
    assert RetryPolicy(attempts=1, backoff=NoBackoff()).attempts == 1
