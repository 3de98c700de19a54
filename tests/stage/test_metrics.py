"""Metrics: what is kept of samples, and how it is asked for."""

import pytest

from chaosgrade.stage.balancing import HostCount
from chaosgrade.stage.metrics import KEPT_S, Metric, MetricStore, Statistics
from chaosgrade.stage.published_metrics import GROUP_METRICS, GroupSizes, PublishedMetrics

ORDERS = Metric.of("Shop", "Orders", {"Tier": "web"})
BALANCER = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/web/50dc6c495c0c91"
NETWORK_BALANCER = BALANCER.replace("/app/", "/net/")
TARGETS = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/73e2d6bc24d8a067"


def one(value: float) -> Statistics:
    return Statistics.of({value: 1})


def test_statistics_are_those_of_the_samples() -> None:
    """Merged from several reports, whatever their order."""
    merged = Statistics.of({1.0: 2, 4.0: 1}).merged(Statistics.of({0.5: 1}))
    told = {s: merged.value(s) for s in ("SampleCount", "Sum", "Average", "Minimum", "Maximum")}
    assert told == {"SampleCount": 4, "Sum": 6.5, "Average": 1.625, "Minimum": 0.5, "Maximum": 4.0}
    assert [merged.value(p) for p in ("p0", "p25", "p50", "p75", "p75.1", "p100")] == [
        0.5, 0.5, 1.0, 1.0, 4.0, 4.0,
    ]  # fmt: skip


def test_a_summary_has_no_percentiles_unless_all_its_samples_are_equal() -> None:
    """Nor has what it is merged with."""
    summary = Statistics(count=3, total=6, least=1, most=3)
    assert summary.value("p50") is None
    assert summary.merged(one(2)).value("p50") is None
    assert Statistics(count=3, total=6, least=2, most=2).value("p99") == 2


@pytest.mark.parametrize("statistic", ["p101", "p100.5", "tm99", "Median", "P50", "p"])
def test_what_is_no_statistic_has_no_value(statistic: str) -> None:
    """Also statistics that Amazon CloudWatch has and the stage has not."""
    assert one(1).value(statistic) is None


def test_a_minute_is_shorter_by_the_time_scale() -> None:
    """At 20, three seconds of the clock on the wall are one, beginning at multiples of three."""
    store = MetricStore(20)
    for at in (3000.0, 3002.9, 3003.0, 3008.9):
        store.put(ORDERS, one(1), at)
    assert [(at, s.total) for at, s in store.query(ORDERS, 60, 3000, 3010)] == [
        (3000, 2), (3003, 1), (3006, 1),
    ]  # fmt: skip
    assert [(at, s.total) for at, s in store.query(ORDERS, 120, 3000, 3010)] == [
        (3000, 3), (3006, 1),
    ]  # fmt: skip


def test_a_query_begins_with_the_minute_that_it_begins_in() -> None:
    """Periods follow each other from there; a gap is no datapoint, and the end is excluded."""
    store = MetricStore(1)
    for at in (0, 60, 600):
        store.put(ORDERS, one(1), at)
    assert [at for at, _ in store.query(ORDERS, 300, 119, 1000)] == [60, 360]
    assert [at for at, _ in store.query(ORDERS, 60, 0, 600)] == [0, 60]


def test_a_timestamp_that_was_answered_asks_for_the_same_datapoint() -> None:
    """At a scale that does not divide a minute, although timestamps travel in milliseconds."""
    store = MetricStore(70)
    store.put(ORDERS, one(1), 1000.0)
    ((at, _),) = store.query(ORDERS, 60, 990, 1001)
    ((again, _),) = store.query(ORDERS, 60, round(at, 3), 1001)
    assert again == at


def test_high_resolution_is_kept() -> None:
    """To the AWS second, where it was asked for."""
    store = MetricStore(10)
    for at in (100.0, 101.0, 101.1):
        store.put(ORDERS, one(1), at, resolution_s=1)
    assert [(at, s.total) for at, s in store.query(ORDERS, 10, 100, 102)] == [(100, 1), (101, 2)]
    assert [(at, s.total) for at, s in store.query(ORDERS, 60, 100, 102)] == [(96, 3)]


def test_another_set_of_dimensions_is_another_metric() -> None:
    """Amazon CloudWatch does not aggregate over them."""
    store = MetricStore(1)
    store.put(ORDERS, one(1), 0)
    assert store.query(Metric.of("Shop", "Orders", {}), 60, 0, 60) == []
    assert store.query(Metric.of("Shop", "Orders", {"Tier": "web"}), 60, 0, 60) != []


def test_datapoints_are_forgotten_after_a_day() -> None:
    """As many as come, so many go."""
    store = MetricStore(1)
    for at in range(0, 2 * KEPT_S, 60):
        store.put(ORDERS, one(1), at)
    assert len(store.query(ORDERS, 60, 0, 2 * KEPT_S)) == KEPT_S / 60 + 1


def test_a_load_balancers_counts_come_with_its_dimensions() -> None:
    """What concerns targets by target group as well; another name than AWS's does not come."""
    store = MetricStore(20)
    published = PublishedMetrics(store, list, list)
    published.on_event(
        {
            "event": "requests", "second": 600, "balancer": BALANCER, "zone": "us-east-1a",
            "target_group": TARGETS, "response_times": [[0.01, 3], [0.5, 1]],
            "sums": {"RequestCount": 5, "HTTPCode_ELB_5XX_Count": 1, "NewFlowCount": 7},
        }
    )  # fmt: skip
    balancer, zone = ("LoadBalancer", "app/web/50dc6c495c0c91"), ("AvailabilityZone", "us-east-1a")
    group = ("TargetGroup", "targetgroup/web/73e2d6bc24d8a067")
    dimensions: dict[str, set[frozenset[tuple[str, str]]]] = {}
    for metric in store.metrics():
        assert metric.namespace == "AWS/ApplicationELB"
        dimensions.setdefault(metric.name, set()).add(frozenset(metric.dimensions))
    own = {frozenset({balancer}), frozenset({balancer, zone})}
    targets = own | {frozenset({balancer, group}), frozenset({balancer, zone, group})}
    assert dimensions == {
        "RequestCount": targets, "TargetResponseTime": targets, "HTTPCode_ELB_5XX_Count": own,
    }  # fmt: skip
    times = Metric.of("AWS/ApplicationELB", "TargetResponseTime", dict([balancer]))
    ((at, known),) = store.query(times, 60, 30, 33)
    assert (at, known.value("p50"), known.value("p99"), known.count) == (30, 0.01, 0.5, 4)


def test_hosts_are_counted_by_each_node_and_zone() -> None:
    """The minimum is that of the node that sees the fewest; a network load balancer has its own
    namespace."""
    store = MetricStore(20)
    hosts = [
        HostCount(NETWORK_BALANCER, TARGETS, zone, healthy, unhealthy)
        for zone, healthy, unhealthy in (("", 6, 0), ("", 4, 2), ("us-east-1a", 2, 0))
    ]
    published = PublishedMetrics(store, lambda: hosts, list)
    published.tick(100.0)
    published.tick(100.1)  # nothing is due
    healthy = Metric.of(
        "AWS/NetworkELB",
        "HealthyHostCount",
        {
            "LoadBalancer": "net/web/50dc6c495c0c91",
            "TargetGroup": "targetgroup/web/73e2d6bc24d8a067",
        },
    )
    ((_, known),) = store.query(healthy, 60, 99, 102)
    assert (known.count, known.least, known.most) == (2, 4, 6)


def test_a_group_publishes_what_was_enabled() -> None:
    """At the end of each minute, for that minute."""
    store = MetricStore(20)
    group = GroupSizes(
        "web", frozenset(GROUP_METRICS) - {"GroupMaxSize"}, 2, 9, 6,
        ("InService", "InService", "Pending", "Terminating", "Standby"),
    )  # fmt: skip
    published = PublishedMetrics(store, list, lambda: [group])
    published.settle(300.0)
    published.tick(300.1)
    published.tick(303.0)
    values = {
        metric.name: [s.total for _, s in store.query(metric, 60, 297, 303)]
        for metric in store.metrics()
    }
    assert values == {
        "GroupMinSize": [2, 2], "GroupDesiredCapacity": [6, 6], "GroupInServiceInstances": [2, 2],
        "GroupPendingInstances": [1, 1], "GroupStandbyInstances": [1, 1],
        "GroupTerminatingInstances": [1, 1], "GroupTotalInstances": [4, 4],
    }  # fmt: skip
