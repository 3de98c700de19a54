"""How clients retry, as it was observed: what probes find out and policies judge."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class RetryBehaviour:
    """What some clients do when their requests fail.

    Args:
        family: "no-retry", "none", "fixed", "linear", "fibonacci", "exponential", "full-jitter",
            "equal-jitter", "decorrelated-jitter", "additive-jitter", "multiplicative-jitter", or
            "inconclusive".
        first_retry_immediate: whether the first retry comes at once; None where none was seen.
        base_s: b of the family's formula, in seconds; n in it counts an immediate retry too.
        factor: by how much the gap, or its bound, grows with each retry; None where it does not
            grow by a factor.
        cap_s: the longest gap, or its bound, when it was reached, in seconds.
        jitter_s: width of the random range of the first gap that is waited, in seconds; of jitter
            that is not even, that of an even one which deviates as much.
        attempts: of a request that fails throughout, the first included; None when no limit was
            seen.
        clients: how many were observed.
        reasons: why this family, or why none.
        nearest: the family that explains best, even if it is not certain.
        odds: probability of each family that is not out of the question, given the gaps.
        step_s: by how much the gaps of a linear backoff grow, in seconds.
        jitter_share: width of the random range by its upper end at the last retry that was seen,
            from 0 to 1; None when that is not known.
        attempts_limited: whether clients give up after `attempts`; None when it was not seen.
        attempts_most: most attempts of a request that were seen.
        deadline_s: time after the first attempt from which no more are made; None for none seen.
        retry_after: "honoured", "ignored", "unclear" or "not-seen".
        retry_quota: retries that a client was granted before it stopped retrying; None for no
            quota seen.
        requests: how many were observed.
        failed: how many of them failed at first.
        retried: how many of these were retried.
        amplification: attempts by request while everything fails: of those that failed at first,
            as far as they would have gone without a success; None when none failed.
        longest_gap_s: the longest gap that these clients can make, as far as that is known.
        peak_to_mean: retries in the busiest hundredth of the time from failure to a retry against
            the mean, had all requests failed at once; 100 when all come back together, None where
            there are too few.
        recovery_s: from the first success after the failures until 95% of the requests were
            answered that had failed before and not given up; None when nothing recovered, or more
            still waited when the observation ended.
        recovery_at_least_s: the same, or, when more still waited, how long they had by then.
        left_out: what was not used, and why.
    """

    family: str
    first_retry_immediate: bool | None = None
    base_s: float | None = None
    factor: float | None = None
    cap_s: float | None = None
    jitter_s: float | None = None
    attempts: int | None = None
    clients: int = 0
    reasons: tuple[str, ...] = ()
    nearest: str | None = None
    odds: Mapping[str, float] = field(default_factory=dict)
    step_s: float | None = None
    jitter_share: float | None = None
    attempts_limited: bool | None = None
    attempts_most: int = 0
    deadline_s: float | None = None
    retry_after: str = "not-seen"
    retry_quota: int | None = None
    requests: int = 0
    failed: int = 0
    retried: int = 0
    amplification: float | None = None
    longest_gap_s: float | None = None
    peak_to_mean: float | None = None
    recovery_s: float | None = None
    recovery_at_least_s: float | None = None
    left_out: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """As a JSON object, seconds rounded to tenths of a millisecond."""
        document = asdict(self)
        for name, value in document.items():
            if isinstance(value, float):
                document[name] = round(value, 4)
            elif isinstance(value, tuple):
                document[name] = list(value)
        document["odds"] = {name: round(share, 4) for name, share in self.odds.items()}
        return document


@dataclass(frozen=True, slots=True)
class RetryTrace:
    """What a picture of retries shows.

    Args:
        gaps_s: the gaps before each retry number, some of them when there are many.
        ranges_s: (low, high) of the fitted family for each retry number; empty when there is none.
        since_s: seconds after its request's first attempt, of each retry.
        number: which retry each of these is.
    """

    gaps_s: Mapping[int, tuple[float, ...]]
    ranges_s: Mapping[int, tuple[float, float]]
    since_s: tuple[float, ...]
    number: tuple[int, ...]
