"""What a load balancer's node counts, under the names that Amazon CloudWatch has for it.

Source: Elastic Load Balancing, User Guide for Application Load Balancers, "CloudWatch metrics for
your Application Load Balancer"; User Guide for Network Load Balancers, the same.
"""

from collections import Counter
from typing import Any


class RequestCounts:
    """Of one node and one target group."""

    def __init__(self) -> None:
        self._sums: Counter[str] = Counter()
        self._response_times: Counter[float] = Counter()

    def chosen(self) -> None:
        """A target was found for a request."""
        self._sums["RequestCount"] += 1

    def unreachable(self) -> None:
        """No connection to a target could be made."""
        self._sums["TargetConnectionErrorCount"] += 1

    def answered(self, status: int, after_s: float) -> None:
        """A target has begun to answer, so long after it was asked."""
        self._sums[f"HTTPCode_Target_{status // 100}XX_Count"] += 1
        self._response_times[float(f"{after_s:.3g}")] += 1

    def refused(self, status: int) -> None:
        """The load balancer answered by itself."""
        self._sums[f"HTTPCode_ELB_{status // 100}XX_Count"] += 1
        if status >= 500:
            self._sums[f"HTTPCode_ELB_{status}_Count"] += 1

    def connected(self) -> None:
        """A client of a network load balancer has come."""
        self._sums["NewFlowCount"] += 1

    def take(self) -> dict[str, Any] | None:
        """{"sums": {name: count}, "response_times": [[seconds, count], …]} since the last time;
        None when nothing happened."""
        if not self._sums:
            return None
        taken = {"sums": dict(self._sums), "response_times": list(self._response_times.items())}
        self._sums.clear()
        self._response_times.clear()
        return taken
