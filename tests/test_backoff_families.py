"""The families of backoff, each against its formula."""

import math
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff_families import (
    AdditiveJitter,
    Backoff,
    DecorrelatedJitter,
    EqualJitter,
    Exponential,
    Fibonacci,
    Fixed,
    FullJitter,
    Linear,
    MultiplicativeJitter,
    NoBackoff,
    Span,
)


@pytest.mark.parametrize(
    ("backoff", "gaps"),
    [
        (NoBackoff(), [0, 0, 0, 0, 0, 0]),
        (Fixed(0.3), [0.3, 0.3, 0.3, 0.3, 0.3, 0.3]),
        (Linear(0.5, 1.7), [0.5, 1.0, 1.5, 1.7, 1.7, 1.7]),
        (Fibonacci(0.1, 0.6), [0.1, 0.1, 0.2, 0.3, 0.5, 0.6]),
        (Exponential(0.1, 1.0), [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]),
        (Exponential(1.0, 20.0, factor=3), [1, 3, 9, 20, 20, 20]),
    ],
)
def test_a_family_without_jitter_has_one_gap_for_each_retry(
    backoff: Backoff, gaps: list[float]
) -> None:
    """None, b, b·n, b·F(n), min(c, b·m^(n-1)): the whole span is that gap."""
    for number, gap in enumerate(gaps, start=1):
        span = backoff.span(number)
        assert span.draw_s(7.0, 0.0) == pytest.approx(gap)
        assert span.draw_s(7.0, 0.999) == pytest.approx(gap)


@pytest.mark.parametrize(
    ("backoff", "spans"),
    [
        (FullJitter(0.1, 0.5), [(0, 0.1), (0, 0.2), (0, 0.4), (0, 0.5), (0, 0.5)]),
        (EqualJitter(0.1, 0.5), [(0.05, 0.1), (0.1, 0.2), (0.2, 0.4), (0.25, 0.5), (0.25, 0.5)]),
        (AdditiveJitter(0.1, 0.5, jitter_s=1), [(0.1, 1.1), (0.2, 1.2), (0.4, 1.4), (0.5, 1.5)]),
        (AdditiveJitter(0.1, 0.5, 1, 0.2), [(0.1, 0.3), (0.1, 0.3), (0.1, 0.3)]),
        (MultiplicativeJitter(1.0, 3.0), [(0.8, 1.2), (1.6, 2.4), (2.4, 3.6), (2.4, 3.6)]),
    ],
)
def test_a_family_with_jitter_draws_from_its_span(
    backoff: Backoff, spans: list[tuple[float, float]]
) -> None:
    """[0, e], [e/2, e], [e, e + j], [e·(1-r), e·(1+r)] of e = min(c, b·m^(n-1))."""
    for number, (low, high) in enumerate(spans, start=1):
        span = backoff.span(number)
        assert span.draw_s(7.0, 0.0) == pytest.approx(low)
        assert span.draw_s(7.0, 0.25) == pytest.approx(low + (high - low) / 4)
        assert span.draw_s(7.0, 1.0) == pytest.approx(high)


def test_decorrelated_jitter_draws_from_the_base_to_three_times_the_gap_before() -> None:
    """min(c, U(b, 3·previous)), with the base before the first; nothing is below the base."""
    backoff = DecorrelatedJitter(0.1, 1.0)
    assert backoff.span(1).draw_s(0.0, 0.0) == pytest.approx(0.1)
    assert backoff.span(1).draw_s(0.0, 1.0) == pytest.approx(0.3)
    assert backoff.span(2).draw_s(0.2, 0.0) == pytest.approx(0.1)
    assert backoff.span(2).draw_s(0.2, 0.5) == pytest.approx(0.35)
    assert backoff.span(9).draw_s(0.2, 1.0) == pytest.approx(0.6)
    assert backoff.span(9).draw_s(0.9, 1.0) == 1.0


@given(
    base=st.floats(1e-3, 10), times=st.floats(1, 1e4), retry=st.integers(1, 5000), u=st.floats(0, 1)
)
def test_no_gap_of_a_capped_family_is_beyond_its_cap(
    base: float, times: float, retry: int, u: float
) -> None:
    """Also at retries whose exponential bound no float can hold."""
    cap = base * times
    for kind in (Linear, Fibonacci, Exponential, FullJitter, EqualJitter, DecorrelatedJitter):
        assert 0 <= kind(base, cap).span(retry).draw_s(cap, u) <= cap


def test_without_a_cap_the_bound_goes_on_growing() -> None:
    """An infinite cap is no cap."""
    assert Exponential(1.0, math.inf).span(30).high_s == 2.0**29


def test_jitter_fills_its_span_evenly() -> None:
    """A quarter of many draws lies in each quarter."""
    random = Random(7)
    draws = [Span(1.0, 3.0).draw_s(0.0, random.random()) for _ in range(8000)]
    quarters = [sum(1 + q / 2 <= gap < 1.5 + q / 2 for gap in draws) for q in range(4)]
    assert sum(quarters) == 8000
    assert all(abs(number - 2000) < 160 for number in quarters)  # four standard deviations


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FullJitter(0.0), "base_s must be above 0, got 0"),
        (lambda: FullJitter(-1.0), "base_s must be above 0, got -1"),
        (lambda: FullJitter(2.0, 1.0), r"cap_s must be at least base_s \(2\), got 1"),
        (lambda: FullJitter(math.nan), "base_s must be a number, got nan"),
        (lambda: FullJitter(math.inf, math.inf), "base_s must be finite, got inf"),
        (lambda: FullJitter("1"), "base_s must be a number, got '1'"),  # type: ignore[arg-type]
        (lambda: FullJitter(True), "base_s must be a number, got True"),
        (lambda: Exponential(1, 2, 0.5), "factor must be at least 1, got 0.5"),
        (lambda: Fixed(-0.1), "base_s must be at least 0, got -0.1"),
        (lambda: AdditiveJitter(1, 2, jitter_s=-1), "jitter_s must be at least 0, got -1"),
        (lambda: MultiplicativeJitter(1, 2, share=1.5), "share must be at most 1, got 1.5"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: object, says: str) -> None:
    """One line that names the number and shows it."""
    with pytest.raises(UsageError, match=says):
        make()  # type: ignore[operator]
