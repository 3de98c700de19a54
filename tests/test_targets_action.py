"""Which targets of a target group an action takes out."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from chaoslib.exceptions import ActivityFailed

from chaosgrade import session
from chaosgrade.actions.targets import deregister_targets
from chaosgrade.changes.engine import Planner
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
