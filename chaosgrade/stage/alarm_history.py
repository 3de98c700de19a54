"""What DescribeAlarmHistory tells of alarms, also of those that have been deleted since."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TypedDict

CONFIGURATION, STATE, ACTION = "ConfigurationUpdate", "StateUpdate", "Action"
_KEPT = 1000


class Item(TypedDict):
    """One of AlarmHistoryItems."""

    AlarmName: str
    AlarmType: str
    Timestamp: datetime
    HistoryItemType: str
    HistorySummary: str
    HistoryData: str


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which items somebody asks for; None asks for all.

    Args:
        since, until: both included.
    """

    alarm: str | None = None
    kind: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def takes(self, item: Item) -> bool:
        """Whether an item is one of them."""
        return (
            self.alarm in (None, item["AlarmName"])
            and self.kind in (None, item["HistoryItemType"])
            and (self.since is None or self.since <= item["Timestamp"])
            and (self.until is None or item["Timestamp"] <= self.until)
        )


class AlarmHistory:
    """Of all alarms of a stage, the latest thousand items."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def note(
        self, alarm: str, at: datetime, kind: str, summary: str, data: Mapping[str, object]
    ) -> None:
        """Add an item.

        Args:
            kind: `CONFIGURATION`, `STATE` or `ACTION`.
        """
        self._items.append(
            Item(
                AlarmName=alarm,
                AlarmType="MetricAlarm",
                Timestamp=at,
                HistoryItemType=kind,
                HistorySummary=summary,
                HistoryData=json.dumps({"version": "1.0", **data}, default=str),
            )
        )
        del self._items[:-_KEPT]

    def items(self, wanted: Wanted) -> list[Item]:
        """The latest first."""
        return [item for item in reversed(self._items) if wanted.takes(item)]
