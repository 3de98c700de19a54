"""The families of backoff: how long to wait before retry number n, as a span to draw from.

Every family is the same idea with other numbers: a gap is drawn uniformly between two bounds, which
depend on the number of the retry and, for one family, on the gap before. `Span` is that idea as a
value, so that whoever calls, simulates or recognises a family shares one definition of it.

Sources: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015), for full,
equal and decorrelated jitter; AWS SDKs and Tools Reference Guide, "Retry behavior", for the default
base and cap; "gRPC Connection Backoff Protocol" for multiplicative jitter.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from chaosgrade.errors import UsageError
from chaosgrade.policies.arguments import require_number

SDK_BASE_S, SDK_CAP_S = 0.05, 20.0


@dataclass(frozen=True, slots=True)
class Span:
    """Where one gap is drawn from.

    Args:
        low_s: no gap is shorter, unless the cap is.
        high_s: no gap is longer, were it not for the gap before.
        times_previous: how much of the gap before is added to `high_s`.
        cap_s: a longer draw is cut to this.
    """

    low_s: float
    high_s: float
    times_previous: float = 0.0
    cap_s: float = math.inf

    def draw_s(self, previous_s: float, uniform: float) -> float:
        """The gap in seconds.

        Args:
            previous_s: the gap before, in seconds.
            uniform: the draw from [0, 1).
        """
        high_s = self.high_s + self.times_previous * previous_s
        return min(self.cap_s, self.low_s + uniform * (high_s - self.low_s))


class Backoff(Protocol):
    """A family with its numbers."""

    family: ClassVar[str]
    """The name that the laboratory and the classifier of observed retries use."""

    def span(self, retry: int) -> Span:
        """Where the gap before a retry is drawn from; the first retry is number 1."""


@dataclass(frozen=True, slots=True)
class NoBackoff:
    """Try again at once."""

    family: ClassVar[str] = "none"

    def span(self, retry: int) -> Span:
        """Zero."""
        return Span(0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Fixed:
    """The same gap each time.

    Args:
        base_s: the gap.
    """

    family: ClassVar[str] = "fixed"
    base_s: float = SDK_BASE_S

    def __post_init__(self) -> None:
        require_number("base_s", self.base_s)

    def span(self, retry: int) -> Span:
        """Base."""
        return Span(self.base_s, self.base_s)


@dataclass(frozen=True, slots=True)
class _Capped:
    """What grows up to a cap.

    Args:
        base_s: the first gap, or the bound of the first draw.
        cap_s: what grows stops growing here; infinity for no cap.
    """

    base_s: float = SDK_BASE_S
    cap_s: float = SDK_CAP_S

    def __post_init__(self) -> None:
        require_number("base_s", self.base_s, above=True)
        require_number("cap_s", self.cap_s, endless=True)
        if self.cap_s < self.base_s:
            raise UsageError(f"cap_s must be at least base_s ({self.base_s:g}), got {self.cap_s:g}")


@dataclass(frozen=True, slots=True)
class Linear(_Capped):
    """Base × n."""

    family: ClassVar[str] = "linear"

    def span(self, retry: int) -> Span:
        """min(cap, base·n)."""
        gap_s = min(self.cap_s, self.base_s * retry)
        return Span(gap_s, gap_s)


@dataclass(frozen=True, slots=True)
class Fibonacci(_Capped):
    """Base × the n-th Fibonacci number: 1, 1, 2, 3, 5 …"""

    family: ClassVar[str] = "fibonacci"

    def span(self, retry: int) -> Span:
        """min(cap, base·F(n))."""
        gap_s, following_s = self.base_s, self.base_s
        for _ in range(retry - 1):
            if gap_s >= self.cap_s:
                break
            gap_s, following_s = following_s, gap_s + following_s
        gap_s = min(self.cap_s, gap_s)
        return Span(gap_s, gap_s)


@dataclass(frozen=True, slots=True)
class _Growing(_Capped):
    """What grows by a factor.

    Args:
        factor: the bound grows by this with each retry.
    """

    factor: float = 2.0

    def __post_init__(self) -> None:
        _Capped.__post_init__(self)  # super() has no class here: slots make another one
        require_number("factor", self.factor, least=1.0)

    def bound_s(self, retry: int) -> float:
        """min(cap, base·factor^(n-1)), in seconds."""
        try:
            return min(self.cap_s, self.base_s * self.factor ** (retry - 1))
        except OverflowError:
            return self.cap_s


@dataclass(frozen=True, slots=True)
class Exponential(_Growing):
    """Without jitter: clients that failed together come back together."""

    family: ClassVar[str] = "exponential"

    def span(self, retry: int) -> Span:
        """The bound itself."""
        bound_s = self.bound_s(retry)
        return Span(bound_s, bound_s)


@dataclass(frozen=True, slots=True)
class FullJitter(_Growing):
    """Anywhere below the exponential bound: the least work for what gets done."""

    family: ClassVar[str] = "full-jitter"

    def span(self, retry: int) -> Span:
        """[0, bound]."""
        return Span(0.0, self.bound_s(retry))


@dataclass(frozen=True, slots=True)
class EqualJitter(_Growing):
    """Half of the exponential bound, and anything up to the other half."""

    family: ClassVar[str] = "equal-jitter"

    def span(self, retry: int) -> Span:
        """[bound / 2, bound]."""
        bound_s = self.bound_s(retry)
        return Span(bound_s / 2, bound_s)


@dataclass(frozen=True, slots=True)
class DecorrelatedJitter(_Capped):
    """Between the base and three times the gap before, which for the first retry is the base."""

    family: ClassVar[str] = "decorrelated-jitter"

    def span(self, retry: int) -> Span:
        """[base, 3·previous], cut at the cap."""
        if retry == 1:
            return Span(self.base_s, 3 * self.base_s, cap_s=self.cap_s)
        return Span(self.base_s, 0.0, times_previous=3.0, cap_s=self.cap_s)


@dataclass(frozen=True, slots=True)
class AdditiveJitter(_Growing):
    """The exponential bound and a random amount on top, also where the cap holds.

    Args:
        jitter_s: the most that is added; a `factor` of 1 adds it to a fixed gap.
    """

    family: ClassVar[str] = "additive-jitter"
    jitter_s: float = 1.0

    def __post_init__(self) -> None:
        _Growing.__post_init__(self)
        require_number("jitter_s", self.jitter_s)

    def span(self, retry: int) -> Span:
        """[bound, bound + jitter]."""
        bound_s = self.bound_s(retry)
        return Span(bound_s, bound_s + self.jitter_s)


@dataclass(frozen=True, slots=True)
class MultiplicativeJitter(_Growing):
    """The exponential bound, give or take a share of it, also where the cap holds.

    Args:
        share: of the bound, 0–1; gRPC takes 0.2.
    """

    family: ClassVar[str] = "multiplicative-jitter"
    share: float = 0.2

    def __post_init__(self) -> None:
        _Growing.__post_init__(self)
        require_number("share", self.share)
        if self.share > 1:
            raise UsageError(f"share must be at most 1, got {self.share:g}")

    def span(self, retry: int) -> Span:
        """[bound·(1 - share), bound·(1 + share)]."""
        bound_s = self.bound_s(retry)
        return Span(bound_s * (1 - self.share), bound_s * (1 + self.share))
