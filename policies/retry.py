"""Retry with capped exponential backoff and full jitter, as a well-behaved customer does it.

Source: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015): a random gap
between zero and the exponential bound spreads a crowd of retrying clients best for the work done.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from random import Random

from tenacity import AsyncRetrying, RetryCallState, retry_if_result, stop_after_attempt
from tenacity.stop import stop_before_delay


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how patiently to try. Retry only what is safe to do twice.

    Args:
        attempts: at most this many, the first included.
        base_s: upper bound of the first gap, in seconds; it doubles with every retry.
        cap_s: no gap is longer, in seconds.
        deadline_s: no retry starts later than this after the first attempt; None for no deadline.
    """

    attempts: int = 3
    base_s: float = 0.05
    cap_s: float = 1.0
    deadline_s: float | None = None

    def gap_s(self, retry: int, random: Random) -> float:
        """Seconds before retry number `retry` (from 1): uniform in [0, min(cap, base·2^(n-1))]."""
        # Beyond 2^63 the cap has long decided, and a float would overflow.
        return random.uniform(0.0, min(self.cap_s, self.base_s * 2.0 ** min(retry - 1, 63)))

    async def call[T](
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        retry_if: Callable[[T], bool],
        random: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> T:
        """Call `attempt` until `retry_if` is content with its result or the policy gives up.

        Returns the last result; an exception of `attempt` is not retried and passes through.
        """
        stop = stop_after_attempt(self.attempts)
        retrying = AsyncRetrying(
            stop=stop if self.deadline_s is None else stop | stop_before_delay(self.deadline_s),
            wait=lambda state: self.gap_s(state.attempt_number, random),
            retry=retry_if_result(retry_if),
            retry_error_callback=_last_result,
            sleep=sleep,
        )
        result: T = await retrying(attempt)
        return result


def _last_result(state: RetryCallState) -> object:
    if state.outcome is None:  # tenacity calls this only after an attempt
        raise AssertionError("no attempt was made")
    return state.outcome.result()
