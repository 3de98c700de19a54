"""Retry policies in one line."""

import contextlib
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff_families import (
    AdditiveJitter,
    DecorrelatedJitter,
    FullJitter,
    MultiplicativeJitter,
    NoBackoff,
)
from chaosgrade.policies.retry import RetryPolicy
from chaosgrade.policies.retry_notation import NotedPolicy, family_names, parse


@pytest.mark.parametrize(
    ("text", "noted"),
    [
        ("full", ("full-jitter", RetryPolicy(None, FullJitter()), None)),
        ("full-jitter", ("full-jitter", RetryPolicy(None, FullJitter()), None)),
        (
            "full:base=0.05,cap=2,attempts=5",
            ("full-jitter", RetryPolicy(5, FullJitter(0.05, 2.0)), None),
        ),
        (
            "additive:base=1, jitter=0.5, factor=1, deadline=30, quota=500",
            ("additive-jitter", RetryPolicy(None, AdditiveJitter(1, 20, 1, 0.5), 30.0), 500),
        ),
        ("multiplicative:share=0.1", (
            "multiplicative-jitter", RetryPolicy(None, MultiplicativeJitter(share=0.1)), None
        )),
        ("decorrelated:cap=unlimited", (
            "decorrelated-jitter", RetryPolicy(None, DecorrelatedJitter(0.05, math.inf)), None
        )),
        ("none:attempts=3", ("none", RetryPolicy(3, NoBackoff()), None)),
        ("no-retry", ("no-retry", RetryPolicy(1, NoBackoff()), None)),
    ],
)  # fmt: skip
def test_a_line_becomes_a_policy(text: str, noted: tuple[str, RetryPolicy, int | None]) -> None:
    """Families by their short or whole name, and numbers by the names that they have in code."""
    assert parse(text) == NotedPolicy(text, *noted)


def test_usual_numbers_stand_where_none_are_given() -> None:
    """The family's own before those for all, and what the line says before both."""
    usual = {"": {"base": 1.0, "cap": 9.0, "jitter": 0.3}, "full-jitter": {"cap": 7.0}}
    assert parse("full:base=2", usual).retry.backoff == FullJitter(2.0, 7.0)
    assert parse("additive", usual).retry.backoff == AdditiveJitter(1.0, 9.0, 2.0, 0.3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ful", "policy 'ful' begins with no family; did you mean full"),
        ("", "policy '' begins with no family; There are: no-retry, none"),
        ("full:pace=1", "full-jitter has no 'pace'; it has: base, cap, factor, attempts"),
        ("none:base=1", "none has no 'base'; it has: attempts, deadline, quota"),
        ("full:base", "'base' is no NAME=VALUE"),
        ("full:base=1,", "'' is no NAME=VALUE"),
        ("full:base=1,base=2", "'base=2' stands there twice"),
        ("full:base=fast", "base must be a number, got 'fast'"),
        ("full:base=nan", "base_s must be a number, got nan"),
        ("full:base=3,cap=1", "cap_s must be at least base_s"),
        ("full:attempts=0", "attempts must be at least 1, got 0"),
        ("full:attempts=2.5", "attempts must be a whole number or unlimited, got 2.5"),
        ("full:quota=-1", "quota must be a whole number or unlimited, got -1"),
        ("full:deadline=-1", "deadline_s must be at least 0, got -1"),
        ("no-retry:base=1", "no-retry takes no numbers"),
    ],
)
def test_a_line_that_makes_no_sense_is_refused(text: str, says: str) -> None:
    """Each mistake ends in one line that shows the policy and names what is wrong with it."""
    with pytest.raises(UsageError, match=says) as refused:
        parse(text)
    assert "\n" not in str(refused.value)


@given(
    st.from_regex(
        rf"({'|'.join(family_names())})(:[a-z]{{3,8}}=[-0-9.einf]{{1,6}})?", fullmatch=True
    )
    | st.text(max_size=20)
)
def test_any_line_is_a_policy_or_a_mistake(text: str) -> None:
    """Nothing that somebody can write ends in any other error."""
    with contextlib.suppress(UsageError):
        assert parse(text).text == text
