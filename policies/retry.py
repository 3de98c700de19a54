"""Retries as a well-behaved customer makes them: few, apart from each other, and within a budget.

    policy = RetryPolicy(attempts=4, backoff=FullJitter(base_s=0.1, cap_s=5), deadline_s=10)
    quota = RetryQuota()  # one for each dependency, shared by all callers
    answer = await policy.call(ask, retry_on=(TimeoutError,), quota=quota, random=random)

Retry at one layer only: five layers of three tries each are 243 calls for one. Source: Amazon
Builders' Library, "Timeouts, retries, and backoff with jitter"; AWS Well-Architected Framework,
Reliability Pillar, "Control and limit retry calls".
"""

import asyncio
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, Retrying

from chaosgrade.errors import UsageError
from chaosgrade.policies.arguments import require_number, require_whole_number
from chaosgrade.policies.backoff_families import Backoff, FullJitter
from chaosgrade.policies.retry_quota import RetryQuota

type RetryOn = type[Exception] | tuple[type[Exception], ...] | Callable[[Exception], bool]
"""Exception types, or what decides about an exception."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try. Retry only what is safe to do twice.

    The defaults are those of the AWS SDKs' standard mode for transient errors.

    Args:
        attempts: at most this many, the first included; None for no limit.
        backoff: how long to wait before each retry.
        deadline_s: no retry starts later than this after the first attempt; None for no deadline.
        retry_after_cap_s: a server that asks for more patience than this gets this much.

    Raises:
        UsageError: naming the first value that makes no sense.
    """

    attempts: int | None = 3
    backoff: Backoff = FullJitter()  # noqa: RUF009 - frozen
    deadline_s: float | None = None
    retry_after_cap_s: float = 20.0

    def __post_init__(self) -> None:
        if self.attempts is not None:
            require_whole_number("attempts", self.attempts, least=1)
        if not callable(getattr(self.backoff, "span", None)):
            raise UsageError(f"backoff must be one such as FullJitter(), got {self.backoff!r}")
        if self.deadline_s is not None:
            require_number("deadline_s", self.deadline_s)
        require_number("retry_after_cap_s", self.retry_after_cap_s)

    async def call[T](
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        random: Random,
        retry_if: Callable[[T], bool] | None = None,
        retry_on: RetryOn = (),
        retry_after: Callable[[T | Exception], float | None] | None = None,
        quota: RetryQuota | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> T:
        """Call `attempt` until its outcome is worth no retry, or the policy or the quota gives up.

        Args:
            attempt: makes one attempt.
            random: where jitter comes from.
            retry_if: which results are worth another try.
            retry_on: which exceptions are; any other passes through at once.
            retry_after: reads from an outcome for how many seconds the server wants to be left
                alone, see `retry_after.retry_after_s`. The gap of the backoff comes on top: the
                server tells everybody the same.
            quota: the budget to take retries from.
            sleep: waits for so many seconds.
            now: monotonic seconds.

        Returns:
            The last result, also when giving up; or it raises the last exception.

        Raises:
            UsageError: neither `retry_if` nor `retry_on` is given.
        """
        conduct = _Conduct(self, random, retry_if, retry_on, retry_after, quota, now)

        async def once() -> T:  # tenacity awaits only what it recognises as a coroutine function
            return await attempt()

        retrying = AsyncRetrying(sleep=sleep, **conduct.hooks())
        result: T = await retrying(once)
        conduct.end()
        return result

    def call_blocking[T](
        self,
        attempt: Callable[[], T],
        *,
        random: Random,
        retry_if: Callable[[T], bool] | None = None,
        retry_on: RetryOn = (),
        retry_after: Callable[[T | Exception], float | None] | None = None,
        quota: RetryQuota | None = None,
        sleep: Callable[[float], None] = time.sleep,
        now: Callable[[], float] = time.monotonic,
    ) -> T:
        """As `call`, for code without an event loop."""
        conduct = _Conduct(self, random, retry_if, retry_on, retry_after, quota, now)
        result: T = Retrying(sleep=sleep, **conduct.hooks())(attempt)
        conduct.end()
        return result


class _Conduct[T]:
    """One call under a policy: what tenacity asks after each attempt, answered."""

    def __init__(
        self,
        policy: RetryPolicy,
        random: Random,
        retry_if: Callable[[T], bool] | None,
        retry_on: RetryOn,
        retry_after: Callable[[T | Exception], float | None] | None,
        quota: RetryQuota | None,
        now: Callable[[], float],
    ) -> None:
        if retry_if is None and retry_on == ():
            raise UsageError("say what to retry: retry_if for results, retry_on for exceptions")
        if not isinstance(retry_on, type | tuple) and not callable(retry_on):
            raise UsageError(f"retry_on must be a type, a tuple or a function, got {retry_on!r}")
        self._policy = policy
        self._random = random
        self._retry_if = retry_if
        self._retry_on = retry_on
        self._retry_after = retry_after
        self._quota = quota
        self._now = now
        self._began = now()
        self._gap_s = 0.0
        self._retried = False
        self._gave_up = False

    def hooks(self) -> dict[str, Any]:
        """What both kinds of tenacity's loops take."""
        return {
            "retry": self._is_worth_it,
            "wait": self._wait_s,
            "stop": self._is_over,
            "retry_error_callback": self._give_up,
        }

    def end(self) -> None:
        """The call has a result; one that made the policy give up is no success."""
        if self._quota is not None and not self._gave_up:
            self._quota.succeeded(retried=self._retried)

    def _is_worth_it(self, state: RetryCallState) -> bool:
        error, result = _outcome(state)
        if error is None:
            return self._retry_if is not None and self._retry_if(result)
        if not isinstance(error, Exception):
            return False  # cancelled or interrupted
        if isinstance(self._retry_on, type | tuple):
            return isinstance(error, self._retry_on)
        return self._retry_on(error)

    def _wait_s(self, state: RetryCallState) -> float:
        # tenacity asks once after each attempt that was worth a retry, and before _is_over.
        span = self._policy.backoff.span(state.attempt_number)
        self._gap_s = span.draw_s(self._gap_s, self._random.random())
        if self._retry_after is None:
            return self._gap_s
        error, result = _outcome(state)
        heard: Any = result if error is None else error
        asked_s = self._retry_after(heard)
        if asked_s is None or math.isnan(asked_s):
            return self._gap_s
        return self._gap_s + min(max(0.0, asked_s), self._policy.retry_after_cap_s)

    def _is_over(self, state: RetryCallState) -> bool:
        policy = self._policy
        if policy.attempts is not None and state.attempt_number >= policy.attempts:
            return True
        elapsed_s = self._now() - self._began
        if policy.deadline_s is not None and elapsed_s + state.upcoming_sleep > policy.deadline_s:
            return True
        # Last, because it takes: nothing may be paid for a retry that is not made.
        if self._quota is not None and not self._quota.take():
            return True
        self._retried = True
        return False

    def _give_up(self, state: RetryCallState) -> T:
        self._gave_up = True
        error, result = _outcome(state)
        if error is not None:
            raise error
        last: T = result
        return last


def _outcome(state: RetryCallState) -> tuple[BaseException | None, Any]:
    """The exception and the result of the last attempt: one of them counts."""
    if state.outcome is None:  # tenacity asks only after an attempt
        raise AssertionError("no attempt was made")
    error = state.outcome.exception()
    return error, None if error is not None else state.outcome.result()
