"""What a server says about when to come back, and what it says badly."""

from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgrade.policies.retry_after import retry_after_s

NOW = 1_795_651_200.0  # Thu, 26 Nov 2026 00:00:00 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"Retry-After": "120"}, 120.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"RETRY-AFTER": "Thu, 26 Nov 2026 00:00:30 GMT"}, 30.0),
        ({"Retry-After": "Thursday, 26-Nov-26 00:00:30 GMT"}, 30.0),
        ({"Retry-After": "Thu Nov 26 00:00:30 2026"}, 30.0),
        ({"Retry-After": "Wed, 25 Nov 2026 23:00:00 GMT"}, 0.0),
        ({"x-amz-retry-after": "1500"}, 1.5),
        ({"X-Amz-Retry-After": "1500", "Retry-After": "60"}, 1.5),
        ({"X-Amz-Retry-After": "soon", "Retry-After": "60"}, 60.0),
        ({"Content-Type": "text/plain"}, None),
        ({}, None),
    ],
)
def test_it_reads_seconds_dates_and_milliseconds(
    headers: dict[str, str], seconds: float | None
) -> None:
    """The three forms of a date that RFC 9110 names, and AWS's header before the standard one."""
    assert retry_after_s(headers, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    ["", " ", "-1", "+5", "1.5", "soon", "1e3", "٣", "²", "0x10", "1 2", "Thu, 99 Nov 2026", "nan",
     "Thu, 26 Nov 99999 00:00:30 GMT", "inf"],
)  # fmt: skip
def test_what_makes_no_sense_is_no_answer(value: str) -> None:
    """The policy's own gap is all there is then."""
    assert retry_after_s({"Retry-After": value}, now=NOW) is None
    assert retry_after_s({"x-amz-retry-after": value}, now=NOW) is None


def test_thousands_of_digits_are_very_long() -> None:
    """Longer than Python reads as a whole number; the policy's bound deals with it."""
    assert retry_after_s({"Retry-After": "9" * 5000}, now=NOW) == float("inf")


@given(st.text())
def test_no_header_breaks_it(value: str) -> None:
    """Whatever a server sends, the answer is None or not negative."""
    seconds = retry_after_s({"Retry-After": value}, now=NOW)
    assert seconds is None or seconds >= 0


@given(st.integers(0, 10_000_000))
def test_a_date_is_as_far_away_as_it_says(ahead: int) -> None:
    """To the second, which is all that a date can say."""
    date = formatdate(NOW + ahead, usegmt=True)
    assert retry_after_s({"Retry-After": date}, now=NOW) == ahead
