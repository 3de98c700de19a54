"""Metrics and times of calls to Amazon CloudWatch, as moto hands them over, and the stage's own."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from chaosgrade.stage.metrics import Metric


def metric(namespace: str, name: str, fields: Mapping[str, Any]) -> Metric:
    """Of a call that has its Dimensions among its fields."""
    dimensions = {d["Name"]: d["Value"] for d in fields.get("Dimensions") or ()}
    return Metric.of(namespace, name, dimensions)


def unix(at: datetime | float) -> float:
    """Unix seconds of a time that a call has."""
    if not isinstance(at, datetime):
        return float(at)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def moment(unix_s: float) -> datetime:
    """For an answer: to the millisecond, in which it travels."""
    return datetime.fromtimestamp(round(unix_s, 3), UTC)


def page[T](items: Sequence[T], token: str | None, size: int) -> tuple[Sequence[T], str | None]:
    """So many items from where a token leads, and the token of those that follow.

    Args:
        token: from an answer before; None for the first page.
    """
    begin = int(token or 0)
    end = begin + size
    return items[begin:end], str(end) if len(items) > end else None
