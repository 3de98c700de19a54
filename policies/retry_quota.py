"""A budget for retries: when most calls fail, the retries of a client dry up instead of doubling.

Each retry takes tokens, and a success gives back what its last retry took. While a dependency is
well, the bucket is full and every hiccup is retried; while it is down, a client sends its first
attempts and hardly more. Source: AWS SDKs and Tools Reference Guide, "Retry behavior"; the numbers
are botocore 1.44's for transient errors: 35 retries out of a full bucket.
"""

import threading

from chaosgrade.policies.arguments import require_whole_number

SDK_TOKENS, SDK_RETRY_COST, SDK_FIRST_TRY_REFUND = 500, 14, 1


class RetryQuota:
    """A token bucket that callers and threads share: one for each dependency of a process.

    Args:
        tokens: what the full bucket holds; it begins full.
        retry_cost: what a retry takes, and what a success after it gives back.
        first_try_refund: what a success without a retry gives back.
    """

    def __init__(
        self,
        tokens: int = SDK_TOKENS,
        *,
        retry_cost: int = SDK_RETRY_COST,
        first_try_refund: int = SDK_FIRST_TRY_REFUND,
    ) -> None:
        require_whole_number("tokens", tokens, least=0)
        require_whole_number("retry_cost", retry_cost, least=1)
        require_whole_number("first_try_refund", first_try_refund, least=0)
        self._capacity = tokens
        self._tokens = tokens
        self._retry_cost = retry_cost
        self._first_try_refund = first_try_refund
        self._lock = threading.Lock()

    @property
    def tokens(self) -> int:
        """What is in the bucket."""
        return self._tokens

    def take(self) -> bool:
        """Pay for a retry; False when the bucket holds too little, which then stays as it is."""
        with self._lock:
            if self._tokens < self._retry_cost:
                return False
            self._tokens -= self._retry_cost
            return True

    def succeeded(self, *, retried: bool) -> None:
        """A call ended well: give back what it is worth.

        Args:
            retried: whether it needed a retry.
        """
        with self._lock:
            refund = self._retry_cost if retried else self._first_try_refund
            self._tokens = min(self._capacity, self._tokens + refund)
