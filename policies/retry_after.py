"""What a server says about when to come back.

Sources: RFC 9110, section 10.2.3 (`Retry-After`, seconds or an HTTP date); botocore 1.44
(`x-amz-retry-after`, whole milliseconds).
"""

import math
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime


def retry_after_s(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds until the server wants to be asked again; None when it does not say so intelligibly.

    Args:
        headers: of the answer; names in any case. AWS's own header goes before the standard one.
        now: Unix seconds at which the answer came, for dates.
    """
    named = {name.lower(): value.strip() for name, value in headers.items()}
    milliseconds = _digits(named.get("x-amz-retry-after", ""))
    if milliseconds is not None:
        return milliseconds / 1000
    standard = named.get("retry-after", "")
    seconds = _digits(standard)
    return seconds if seconds is not None else _until(standard, now)


def _digits(text: str) -> float | None:
    # Not int(): it refuses thousands of digits, and whoever sends them gets the policy's bound.
    return float(text) if text.isascii() and text.isdigit() else None


def _until(text: str, now: float) -> float | None:
    try:
        date = parsedate_to_datetime(text)
        at = date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (ValueError, OverflowError):
        return None
    return max(0.0, at - now) if math.isfinite(at) else None
