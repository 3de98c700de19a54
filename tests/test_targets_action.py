"""Which targets of a target group an action takes out."""

import json
import random
from collections.abc import Iterator
from typing import Any

import pytest
from chaoslib.exceptions import ActivityFailed

from chaosgrade import session
from chaosgrade.actions.targets import deregister_targets
from chaosgrade.changes import registry
from chaosgrade.changes.engine import Planner
from chaosgrade.changes.model import Live, address
from chaosgrade.changes.target_registration import DEREGISTERED, REGISTERED, TargetRegistration
from chaosgrade.clock import Clock
from tests.canned_aws import CannedAws, instance, reservations

ARN = "arn:aws:elasticloadbalancing:us-east-1:1:targetgroup/web/1"
IDS = ["i-1", "i-2", "i-3"]


@pytest.fixture
def planner() -> Iterator[Planner]:
    aws: Any = CannedAws(
        {
            "DescribeTargetGroups": {"TargetGroups": [{"TargetGroupArn": ARN, "Port": 80}]},
            "DescribeTargetHealth": {
                "TargetHealthDescriptions": [
                    {"Target": {"Id": id_, "Port": 80}, "TargetHealth": {"State": "healthy"}}
                    for id_ in IDS
                ]
            },
            "DescribeInstances": reservations(*map(instance, IDS)),
        }
    )
    planner = Planner()
    session.activate(session.Session(aws, planner, random.Random(1), Clock()))
    yield planner
    session.activate(None)


@pytest.mark.parametrize(
    ("how_many", "taken"),
    [({}, 1), ({"count": 2}, 2), ({"share_percent": 34}, 2), ({"share_percent": 100}, 3)],
)
def test_so_many_are_taken_out(planner: Planner, how_many: dict[str, Any], taken: int) -> None:
    """One unless somebody says otherwise; shares are rounded up."""
    assert len({one["target"] for one in deregister_targets("web", **how_many)}) == taken
    assert len(planner.changes) == taken


@pytest.mark.parametrize(
    ("how_many", "named"),
    [
        ({"share_percent": 0}, "got 0"),
        ({"share_percent": 101}, "got 101"),
        ({"count": 1, "share_percent": 50}, "exclude each other"),
        ({"targets": ["i-1"], "share_percent": 50}, "name them or draw them"),
        ({"count": 4}, "has 3 targets, 4 wanted"),
    ],
)
def test_a_senseless_number_takes_nothing(
    planner: Planner, how_many: dict[str, Any], named: str
) -> None:
    with pytest.raises(ActivityFailed, match=named):
        deregister_targets("web", **how_many)
    assert planner.changes == []


def test_a_group_of_a_function_is_refused(planner: Planner) -> None:
    """Its only target has no port, by which what is taken out is told apart."""
    aws: Any = session._active and session._active.aws
    aws.answers["DescribeTargetGroups"]["TargetGroups"][0] |= {"TargetType": "lambda"}
    aws.answers["DescribeTargetHealth"]["TargetHealthDescriptions"] = [
        {"Target": {"Id": "arn:aws:lambda:f"}, "TargetHealth": {"State": "healthy"}}
    ]
    with pytest.raises(ActivityFailed, match="web has a Lambda function"):
        deregister_targets("web")
    assert planner.changes == []


def test_an_address_outside_the_vpc_goes_back_to_all_zones(planner: Planner) -> None:
    """Elastic Load Balancing takes it back only so, and the undo is one of its own."""
    outside = {"Id": "192.168.7.7", "Port": 80, "AvailabilityZone": "all"}
    aws: Any = session._active and session._active.aws
    aws.answers["DescribeTargetHealth"]["TargetHealthDescriptions"].append(
        {"Target": outside, "TargetHealth": {"State": "healthy"}}
    )
    deregister_targets("web", targets=["192.168.7.7"])
    (change,) = planner.changes
    assert isinstance(change.subject, TargetRegistration)
    rebuilt = registry.setting(change.subject.kind, json.dumps(address(change.subject)))
    (back,) = rebuilt.calls(REGISTERED, Live(DEREGISTERED))
    assert (back.operation, back.parameters["Targets"]) == ("RegisterTargets", [outside])


def test_an_address_goes_back_only_to_whom_it_was_of(planner: Planner) -> None:
    """A container that ended has given it back, and the next to get it serves somebody else."""
    aws: Any = session._active and session._active.aws
    aws.answers["DescribeTargetGroups"]["TargetGroups"][0] |= {"TargetType": "ip", "VpcId": "vpc-1"}
    aws.answers["DescribeTargetHealth"]["TargetHealthDescriptions"] = [
        {"Target": {"Id": "10.0.0.9", "Port": 80}, "TargetHealth": {"State": "healthy"}}
    ]
    address_ = {"PrivateIpAddress": "10.0.0.9"}
    interface = {"NetworkInterfaceId": "eni-1", "PrivateIpAddresses": [address_]}
    aws.answers["DescribeNetworkInterfaces"] = {"NetworkInterfaces": [interface]}
    deregister_targets("web")
    asked = aws.sent[-1].parameters["Filters"]
    assert asked == [
        {"Name": "addresses.private-ip-address", "Values": ["10.0.0.9"]},
        {"Name": "vpc-id", "Values": ["vpc-1"]},
    ]
    setting: Any = planner.changes[0].subject
    aws.answers["DescribeTargetHealth"]["TargetHealthDescriptions"] = []
    assert TargetRegistration.read_all(aws, [setting]) == {setting: Live(DEREGISTERED)}
    assert aws.sent[-1].parameters["Filters"] == [
        {"Name": "network-interface-id", "Values": ["eni-1"]}
    ]
    for now in ([], [{**interface, "PrivateIpAddresses": [{"PrivateIpAddress": "10.0.0.8"}]}]):
        aws.answers["DescribeNetworkInterfaces"] = {"NetworkInterfaces": now}
        assert TargetRegistration.read_all(aws, [setting]) == {}  # gone: left as it is


def test_zones_of_many_targets_are_asked_for_by_the_200(planner: Planner) -> None:
    """A filter takes no more values, and a target group holds a thousand targets."""
    aws: Any = session._active and session._active.aws
    ids = [f"i-{n:03}" for n in range(201)]
    aws.answers["DescribeTargetHealth"]["TargetHealthDescriptions"] = [
        {"Target": {"Id": id_, "Port": 80}, "TargetHealth": {"State": "healthy"}} for id_ in ids
    ]
    deregister_targets("web", targets=ids[:1])
    asked = [c.parameters["Filters"][0]["Values"] for c in aws.sent if "Filters" in c.parameters]
    assert asked == [ids[:200], ids[200:]]
