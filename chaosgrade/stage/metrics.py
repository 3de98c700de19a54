"""Metrics as Amazon CloudWatch keeps them: statistics of periods, without clock or network.

Timestamps are what the clock on the wall says. Periods are AWS seconds, as every duration on the
stage: a minute at time scale 20 is three seconds long, and begins at a multiple of three seconds
since 1970. Why: docs/decisions/0014-a-period-is-aws-seconds.md.

Source: Amazon CloudWatch User Guide, "Metrics concepts"; API Reference, "GetMetricStatistics".
"""

import math
import re
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

MINUTE_S = 60
KEPT_S = 86_400
"""How long datapoints are kept, in AWS seconds: a day. Amazon CloudWatch keeps them for longer."""

SIMPLE = ("SampleCount", "Average", "Sum", "Minimum", "Maximum")
_PERCENTILE = re.compile(r"p(100|\d{1,2}(?:\.\d{1,10})?)")
_SAME_INSTANT_S = 0.001
"""Timestamps travel in milliseconds: one just before a minute's beginning is its beginning."""


def percentile_of(statistic: str) -> float | None:
    """99.9 of "p99.9"; None of what is no percentile."""
    match = _PERCENTILE.fullmatch(statistic)
    return float(match.group(1)) if match else None


@dataclass(frozen=True, slots=True)
class Metric:
    """What a series of datapoints is of.

    Args:
        dimensions: (name, value) pairs, sorted: another set of them is another metric.
    """

    namespace: str
    name: str
    dimensions: tuple[tuple[str, str], ...] = ()

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> "Metric":
        """With its dimensions in any order."""
        return cls(namespace, name, tuple(sorted(dimensions.items())))


@dataclass(frozen=True, slots=True)
class Statistics:
    """What is known of the samples of a period.

    Args:
        values: how often each value was seen; None when somebody gave a summary only, of which
            there are no percentiles.
    """

    count: float
    total: float
    least: float
    most: float
    values: Mapping[float, float] | None = None

    @classmethod
    def of(cls, values: Mapping[float, float]) -> "Statistics":
        """Of samples.

        Args:
            values: {value: how often}.
        """
        return cls(
            sum(values.values()),
            sum(value * times for value, times in values.items()),
            min(values),
            max(values),
            values,
        )

    def merged(self, other: "Statistics") -> "Statistics":
        """Of the samples of both."""
        values = None
        if self.values is not None and other.values is not None:
            values = dict(self.values)
            for value, times in other.values.items():
                values[value] = values.get(value, 0.0) + times
        return Statistics(
            self.count + other.count,
            self.total + other.total,
            min(self.least, other.least),
            max(self.most, other.most),
            values,
        )

    def value(self, statistic: str) -> float | None:
        """One of `SIMPLE`, or a percentile such as "p99"; None when it cannot be told."""
        match statistic:
            case "SampleCount":
                return self.count
            case "Sum":
                return self.total
            case "Minimum":
                return self.least
            case "Maximum":
                return self.most
            case "Average":
                return self.total / self.count if self.count else None
        percent = percentile_of(statistic)
        return None if percent is None else self._percentile(percent)

    def _percentile(self, percent: float) -> float | None:
        """By nearest rank. Assumption: AWS documents no method."""
        if self.least == self.most:
            return self.least  # a summary is enough
        if self.values is None:
            return None
        rank, seen = self.count * percent / 100, 0.0
        for value, times in sorted(self.values.items()):
            seen += times
            if seen >= rank:
                return value
        return self.most


type Datapoint = tuple[float, Statistics]
"""When its period began, in Unix seconds, and what is known of it."""


class MetricStore:
    """Every metric of a stage. May be used from any thread.

    Args:
        scale: AWS seconds per real second.
    """

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._lock = threading.Lock()
        self._series: dict[Metric, dict[str, dict[int, Statistics]]] = {}
        """By metric, unit and the AWS second at which the datapoint's resolution puts it."""

    def second(self, unix_s: float) -> float:
        """AWS seconds at a time of the clock on the wall, counted from 1970."""
        return unix_s * self._scale

    def unix(self, second: float) -> float:
        """The time of the clock on the wall, in Unix seconds, at an AWS second."""
        return second / self._scale

    def put(
        self,
        metric: Metric,
        statistics: Statistics,
        unix_s: float,
        *,
        unit: str = "None",
        resolution_s: int = MINUTE_S,
    ) -> None:
        """Take in samples.

        Args:
            unix_s: when they were taken.
            resolution_s: how exactly that is kept, in AWS seconds: 60, or 1.
        """
        at = math.floor(self.second(unix_s) / resolution_s) * resolution_s
        with self._lock:
            points = self._series.setdefault(metric, {}).setdefault(unit, {})
            known = points.get(at)
            points[at] = known.merged(statistics) if known else statistics
            if known is None:
                self._forget(points, at - KEPT_S)

    def query(
        self, metric: Metric, period_s: int, start: float, end: float, unit: str | None = None
    ) -> list[Datapoint]:
        """Datapoints whose period begins from `start` on and before `end`, the oldest first.

        Periods follow each other from `start`, which is rounded down to a minute (a second if the
        period is shorter than a minute). A period without samples has no datapoint.

        Args:
            period_s: AWS seconds.
            start, end: Unix seconds.
            unit: samples with this unit only; None for all of them.
        """
        grain = MINUTE_S if period_s % MINUTE_S == 0 else 1
        first = math.floor(self.second(start + _SAME_INSTANT_S) / grain) * grain
        found = self.periods(metric, period_s, first, self.second(end), unit)
        return [(self.unix(first + n * period_s), statistics) for n, statistics in found]

    def periods(
        self, metric: Metric, period_s: int, first: int, end: float, unit: str | None = None
    ) -> list[tuple[int, Statistics]]:
        """(number of the period counted from `first`, its statistics), in AWS seconds."""
        merged: dict[int, Statistics] = {}
        with self._lock:
            for points in self._points(metric, unit):
                for at, statistics in points.items():
                    if first <= at < end:
                        number = (at - first) // period_s
                        known = merged.get(number)
                        merged[number] = known.merged(statistics) if known else statistics
        return sorted(merged.items(), key=lambda one: one[0])

    def units(self, metric: Metric) -> tuple[str, ...]:
        """Units that samples of a metric came with."""
        with self._lock:
            return tuple(self._series.get(metric, {}))

    def metrics(self) -> list[Metric]:
        """All that have datapoints."""
        with self._lock:
            return list(self._series)

    def last_at(self, metric: Metric) -> float:
        """Unix seconds of a metric's latest datapoint."""
        with self._lock:
            return self.unix(max(max(points) for points in self._series[metric].values()))

    def _points(self, metric: Metric, unit: str | None) -> Iterator[Mapping[int, Statistics]]:
        for known_unit, points in self._series.get(metric, {}).items():
            if unit in (None, known_unit):
                yield points

    @staticmethod
    def _forget(points: dict[int, Statistics], before: int) -> None:
        """Drop what is too old: they come roughly in order, so only the first are looked at."""
        for at in [at for at in islice(points, 2) if at < before]:
            del points[at]
