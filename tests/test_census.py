"""The census: what is counted, by which calls."""

from typing import Any

import pytest

from chaosgrade.aws import Call
from chaosgrade.changes import census
from chaosgrade.changes.census import Capacity
from tests.canned_aws import CannedAws, instance, reservations, tags

ALLOWED = ("chaosgrade", "allowed")
FILTERS = [{"Name": "tag:chaosgrade", "Values": ["allowed"]}]
ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123"


def ec2(operation: str, filters: Any) -> Call:
    return Call("ec2", operation, {"Filters": filters, "MaxResults": 1000})


def groups(**parameters: Any) -> Call:
    return Call("autoscaling", "DescribeAutoScalingGroups", {"MaxRecords": 100, **parameters})


@pytest.mark.parametrize(("opt_in", "filters"), [(ALLOWED, FILTERS), (None, [])])
def test_instances_that_carry_the_tag_exactly_are_counted(opt_in: Any, filters: Any) -> None:
    """EC2's filter lets wildcards through; what is terminated is nothing to break."""
    aws: Any = CannedAws(
        {
            "DescribeInstances": reservations(
                instance("i-1", chaosgrade="allowed"),
                instance("i-2", "us-east-1b", "stopped", chaosgrade="allowed"),
                instance("i-3", chaosgrade="allowed-not"),
                instance("i-4", Chaosgrade="allowed"),
                instance("i-5", state="terminated", chaosgrade="allowed"),
            )
        }
    )
    counted = {"i-1": "us-east-1a", "i-2": "us-east-1b"}
    if opt_in is None:
        counted |= {"i-3": "us-east-1a", "i-4": "us-east-1a"}
    assert census.population(aws, "ec2:instance", ["i-1"], opt_in) == counted
    assert aws.sent == [ec2("DescribeInstances", filters)]


def test_subnets_and_groups_that_carry_the_tag_are_counted() -> None:
    """A group has no zone of its own."""
    subnets = [
        {"SubnetId": f"subnet-{value}", "AvailabilityZone": "us-east-1a",
         "Tags": tags(chaosgrade=value)} for value in ("allowed", "denied")
    ]  # fmt: skip
    found = [
        {"AutoScalingGroupName": f"g-{value}", "Tags": tags(chaosgrade=value)}
        for value in ("allowed", "denied")
    ]
    aws: Any = CannedAws(
        {
            "DescribeSubnets": {"Subnets": subnets},
            "DescribeAutoScalingGroups": {"AutoScalingGroups": found},
        }
    )
    zones = census.population(aws, "ec2:subnet", [], ALLOWED)
    assert zones == {"subnet-allowed": "us-east-1a"}
    assert census.population(aws, "autoscaling:group", [], ALLOWED) == {"g-allowed": None}
    assert len(census.population(aws, "autoscaling:group", [], None)) == 2
    assert aws.sent == [ec2("DescribeSubnets", FILTERS), groups(Filters=FILTERS), groups()]


def target(id_: str, state: str = "healthy", **more: Any) -> Any:
    return {"Target": {"Id": id_, **more}, "TargetHealth": {"State": state}}


def test_targets_are_those_of_the_touched_groups_that_carry_the_tag() -> None:
    """Tags are asked for by the 20."""
    arns = [f"{ARN}{n:02}" for n in range(21)]

    def described(parameters: Any) -> Any:
        return {
            "TagDescriptions": [
                {"ResourceArn": arn, "Tags": tags(chaosgrade="allowed" if arn == arns[0] else "")}
                for arn in parameters["ResourceArns"]
            ]
        }

    health = [target("i-1", Port=80, AvailabilityZone="us-east-1a"), target("lambda")]
    aws: Any = CannedAws(
        {"DescribeTags": described, "DescribeTargetHealth": {"TargetHealthDescriptions": health}}
    )
    ids = [f"{arn}/i-{n}:80" for arn in arns for n in (1, 2)]
    assert census.population(aws, "elbv2:target", ids, ALLOWED) == {
        f"{arns[0]}/i-1:80": "us-east-1a",
        f"{arns[0]}/lambda:None": None,
    }
    asked = [c.parameters["ResourceArns"] for c in aws.sent if c.operation == "DescribeTags"]
    assert asked == [arns[:20], arns[20:]]
    assert aws.sent[0] == Call("elbv2", "DescribeTags", {"ResourceArns": arns[:20]})
    assert aws.sent[1] == Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": arns[0]})


def test_a_group_loses_the_instances_that_are_named_and_those_of_touched_subnets() -> None:
    """Only what serves is lost; only groups that lose something are looked at."""
    named = instance("i-1", aws_autoscaling_groupName="g")
    by_subnet = [instance("i-2", aws_autoscaling_groupName="g"), instance("i-9")]
    states = {"i-1": ("InService", "Healthy"), "i-2": ("InService", "HEALTHY"),
              "i-3": ("InService", "healthy"), "i-4": ("Pending", "Healthy"),
              "i-5": ("InService", "Unhealthy")}  # fmt: skip
    group = {
        "AutoScalingGroupName": "g",
        "DesiredCapacity": 4,
        "Instances": [
            {"InstanceId": id_, "LifecycleState": lifecycle, "HealthStatus": health}
            for id_, (lifecycle, health) in states.items()
        ],
    }

    def instances(parameters: Any) -> Any:
        by = parameters["Filters"][0]["Name"]
        return reservations(*([named] if by == "instance-id" else by_subnet))

    aws: Any = CannedAws(
        {
            "DescribeInstances": instances,
            "DescribeAutoScalingGroups": {"AutoScalingGroups": [group]},
        }
    )
    touched = {"ec2:instance": frozenset({"i-1"}), "ec2:subnet": frozenset({"subnet-1"})}
    ((capacity, lost),) = census.capacities(aws, touched)
    assert capacity == Capacity("g", 4, frozenset({"i-1", "i-2", "i-3"}))
    assert lost == {"i-1", "i-2"}
    assert aws.sent == [
        ec2("DescribeInstances", [{"Name": "instance-id", "Values": ["i-1"]}]),
        ec2("DescribeInstances", [{"Name": "subnet-id", "Values": ["subnet-1"]}]),
        groups(AutoScalingGroupNames=["g"]),
    ]


def test_nothing_is_asked_where_nothing_is_touched() -> None:
    """Instances of no group are nobody's capacity."""
    aws: Any = CannedAws({"DescribeInstances": reservations(instance("i-1"))})
    assert list(census.capacities(aws, {})) == []
    assert aws.sent == []
    assert list(census.capacities(aws, {"ec2:instance": frozenset({"i-1"})})) == []


def test_instances_are_asked_for_by_the_200() -> None:
    """A filter takes no more values."""
    aws: Any = CannedAws({"DescribeInstances": reservations()})
    ids = [f"i-{n:03}" for n in range(201)]
    assert list(census.capacities(aws, {"ec2:instance": frozenset(ids)})) == []
    asked = [call.parameters["Filters"][0]["Values"] for call in aws.sent]
    assert asked == [ids[:200], ids[200:]]


def test_groups_are_asked_for_by_the_100() -> None:
    """A zone of a large account has more of them, and one call takes no more names."""
    names = [f"g{n:03}" for n in range(101)]
    found = reservations(*(instance(f"i-{n}", aws_autoscaling_groupName=n) for n in names))
    aws: Any = CannedAws(
        {"DescribeInstances": found, "DescribeAutoScalingGroups": {"AutoScalingGroups": []}}
    )
    assert list(census.capacities(aws, {"ec2:subnet": frozenset({"subnet-1"})})) == []
    asked = [groups(AutoScalingGroupNames=some) for some in (names[:100], names[100:])]
    assert aws.sent[1:] == asked


def test_a_target_group_loses_the_healthy_targets_that_are_touched() -> None:
    """Every target counts as whole, only the healthy as left."""
    health = [target("i-1", Port=80), target("i-2", Port=80), target("i-3", "unhealthy", Port=80)]
    aws: Any = CannedAws({"DescribeTargetHealth": {"TargetHealthDescriptions": health}})
    touched = frozenset({f"{ARN}/i-1:80", f"{ARN}/i-3:80"})
    healthy = frozenset({f"{ARN}/i-1:80", f"{ARN}/i-2:80"})
    assert list(census.capacities(aws, {"elbv2:target": touched})) == [
        (Capacity("web", 3, healthy), frozenset({f"{ARN}/i-1:80"}))
    ]
    assert aws.sent == [Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": ARN})]
