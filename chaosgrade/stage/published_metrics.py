"""The metrics that the stage's AWS services publish: what they have seen, as AWS names it.

Source: Elastic Load Balancing, User Guide for Application Load Balancers, "CloudWatch metrics for
your Application Load Balancer"; User Guide for Network Load Balancers, the same; Amazon EC2 Auto
Scaling User Guide, "Amazon CloudWatch metrics for Amazon EC2 Auto Scaling". As there, what has not
happened in a minute has no datapoint in it.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade.stage.balancing import HostCount
from chaosgrade.stage.metrics import MINUTE_S, Metric, MetricStore, Statistics
from chaosgrade.stage.timing import SAMPLE_S

APPLICATION, NETWORK, GROUPS = "AWS/ApplicationELB", "AWS/NetworkELB", "AWS/AutoScaling"

_CODES = (
    "HTTPCode_ELB_4XX_Count", "HTTPCode_ELB_5XX_Count", "HTTPCode_ELB_502_Count",
    "HTTPCode_ELB_503_Count", "HTTPCode_ELB_504_Count",
)  # fmt: skip
_OF_TARGETS = (
    "RequestCount", "TargetConnectionErrorCount", "TargetResponseTime", "HTTPCode_Target_2XX_Count",
    "HTTPCode_Target_3XX_Count", "HTTPCode_Target_4XX_Count", "HTTPCode_Target_5XX_Count",
)  # fmt: skip
_SETTLED_MINUTES = 60
_HOSTS = ("HealthyHostCount", "UnHealthyHostCount")

GROUP_METRICS = (
    "GroupMinSize", "GroupMaxSize", "GroupDesiredCapacity", "GroupInServiceInstances",
    "GroupPendingInstances", "GroupStandbyInstances", "GroupTerminatingInstances",
    "GroupTotalInstances",
)  # fmt: skip

PUBLISHED: Mapping[str, tuple[str, ...]] = {
    APPLICATION: (*_OF_TARGETS, *_CODES, *_HOSTS),
    NETWORK: ("NewFlowCount", "ActiveFlowCount", *_HOSTS),
    GROUPS: GROUP_METRICS,
}
"""{namespace: names} of all that is ever published; of nothing else there can be an alarm."""


@dataclass(frozen=True, slots=True)
class GroupSizes:
    """An Auto Scaling group as its metrics tell it.

    Args:
        enabled: names of the metrics that somebody has asked for.
        lifecycles: of its members, as DescribeAutoScalingInstances names them.
    """

    name: str
    enabled: frozenset[str]
    minimum: int
    maximum: int
    desired: int
    lifecycles: tuple[str, ...]

    def metrics(self) -> dict[str, int]:
        """{name: value} of those that are enabled."""
        count = Counter(self.lifecycles)
        values = {
            "GroupMinSize": self.minimum,
            "GroupMaxSize": self.maximum,
            "GroupDesiredCapacity": self.desired,
            "GroupInServiceInstances": count["InService"],
            "GroupPendingInstances": count["Pending"],
            "GroupStandbyInstances": count["Standby"],
            "GroupTerminatingInstances": count["Terminating"],
            "GroupTotalInstances": count["InService"] + count["Pending"] + count["Terminating"],
        }
        return {name: value for name, value in values.items() if name in self.enabled}


class PublishedMetrics:
    """Puts into the store what the services of a stage measure.

    Args:
        store: where to.
        hosts: what the nodes of load balancers think of targets now.
        groups: the Auto Scaling groups as they are now.
    """

    def __init__(
        self,
        store: MetricStore,
        hosts: Callable[[], Iterable[HostCount]],
        groups: Callable[[], Iterable[GroupSizes]],
    ) -> None:
        self._store = store
        self._hosts = hosts
        self._groups = groups
        self._look = -1
        self._minute = -1

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in what the balancer counts; runs on another thread."""
        if event["event"] not in ("requests", "flows"):
            return
        balancer, unix_s = event["balancer"], self._store.unix(event["second"])
        if event["event"] == "flows":
            metric = Metric.of(NETWORK, "ActiveFlowCount", _dimensions(balancer, event["zone"]))
            self._store.put(metric, Statistics.of(Counter(event["active"])), unix_s, unit="Count")
            return
        for name, count in event["sums"].items():
            self._put(event, name, Statistics.of({1.0: count}), "Count", unix_s)
        if times := {seconds: count for seconds, count in event["response_times"]}:
            self._put(event, "TargetResponseTime", Statistics.of(times), "Seconds", unix_s)

    def _put(
        self, event: Mapping[str, Any], name: str, seen: Statistics, unit: str, unix_s: float
    ) -> None:
        namespace = _namespace(event["balancer"])
        if name in PUBLISHED[namespace]:
            target_groups = ("", event["target_group"]) if name in _OF_TARGETS else ("",)
            for target_group in target_groups:
                for zone in ("", event["zone"]):
                    metric = Metric.of(
                        namespace, name, _dimensions(event["balancer"], zone, target_group)
                    )
                    self._store.put(metric, seen, unix_s, unit=unit)

    def tick(self, unix_s: float) -> None:
        """Look at what is due to be looked at."""
        second = self._store.second(unix_s)
        if (look := math.floor(second / SAMPLE_S)) > self._look:
            self._look = look
            self._count_hosts(unix_s)
        if (minute := math.floor(second / MINUTE_S)) > self._minute:
            self._minute = minute
            self._count_members(self._store.unix((minute - 1) * MINUTE_S))

    def settle(self, unix_s: float) -> None:
        """Have it been for an hour as it is now: the system that a stage plays is not new.

        That is said of sizes and of health; nothing is counted that did not happen.
        """
        second = self._store.second(unix_s)
        self._look, self._minute = math.floor(second / SAMPLE_S), math.floor(second / MINUTE_S)
        for minute in range(self._minute - _SETTLED_MINUTES, self._minute):
            self._count_hosts(self._store.unix(minute * MINUTE_S))
            self._count_members(self._store.unix(minute * MINUTE_S))

    def _count_hosts(self, unix_s: float) -> None:
        for count in self._hosts():
            dimensions = _dimensions(count.balancer, count.zone, count.target_group)
            for name, value in zip(_HOSTS, (count.healthy, count.unhealthy), strict=True):
                metric = Metric.of(_namespace(count.balancer), name, dimensions)
                self._store.put(metric, Statistics.of({float(value): 1}), unix_s, unit="Count")

    def _count_members(self, unix_s: float) -> None:
        for group in self._groups():
            for name, value in group.metrics().items():
                metric = Metric.of(GROUPS, name, {"AutoScalingGroupName": group.name})
                self._store.put(metric, Statistics.of({float(value): 1}), unix_s)


def _namespace(balancer: str) -> str:
    return NETWORK if "/net/" in balancer else APPLICATION


def _dimensions(balancer: str, zone: str, target_group: str = "") -> dict[str, str]:
    """As AWS has them: of the ARNs what comes after "loadbalancer/", and from "targetgroup/" on."""
    dimensions = {"LoadBalancer": balancer.partition(":loadbalancer/")[2] or balancer}
    if zone:
        dimensions["AvailabilityZone"] = zone
    if target_group:
        dimensions["TargetGroup"] = target_group.rpartition(":")[2]
    return dimensions
