"""Which instances a fault hits, against botocore's own model of the answers."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.stub import Stubber

from chaosgrade.actions.selection import Instance, Selection
from chaosgrade.aws import Aws
from chaosgrade.errors import TargetNotFound, UsageError


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    return Aws(region="us-east-1")


@pytest.fixture
def stub(aws: Aws) -> Iterator[Stubber]:
    with Stubber(aws.client("ec2")) as stubber:
        yield stubber


def _answer(count: int, *, token: str | None = None, first: int = 0) -> dict[str, Any]:
    instances = [
        {"InstanceId": f"i-{n:03}", "Placement": {"AvailabilityZone": f"us-east-1{'abc'[n % 3]}"}}
        for n in range(first, first + count)
    ]
    answer: dict[str, Any] = {"Reservations": [{"Instances": [i]} for i in instances]}
    return {**answer, "NextToken": token} if token else answer


RUNNING = {"Name": "instance-state-name", "Values": ["running"]}


def test_a_group_is_asked_for_by_its_tag(aws: Aws, stub: Stubber) -> None:
    """Auto Scaling tags what it launches."""
    tag = {"Name": "tag:aws:autoscaling:groupName", "Values": ["web"]}
    stub.add_response(
        "describe_instances", _answer(6), {"Filters": [RUNNING, tag], "MaxResults": 1000}
    )
    assert len(Selection(group="web").draw(aws, random.Random(1))) == 1


def test_zone_and_tags_narrow_the_question(aws: Aws, stub: Stubber) -> None:
    """The filter is AWS's: what does not match never arrives."""
    filters = [
        RUNNING,
        {"Name": "tag:Tier", "Values": ["web"]},
        {"Name": "availability-zone", "Values": ["us-east-1a"]},
    ]
    stub.add_response("describe_instances", _answer(2), {"Filters": filters, "MaxResults": 1000})
    selection = Selection(tags={"Tier": "web"}, zone="us-east-1a", count=2)
    assert len(selection.draw(aws, random.Random(1))) == 2


def test_every_page_counts(aws: Aws, stub: Stubber) -> None:
    """A share is one of the whole fleet, not of its first page."""
    stub.add_response("describe_instances", _answer(6, token="more"))
    stub.add_response("describe_instances", _answer(3, first=6))
    assert len(Selection(group="web", share_percent=50).draw(aws, random.Random(1))) == 5


def test_the_same_seed_draws_the_same_instances(aws: Aws, stub: Stubber) -> None:
    """A run can be repeated, and a plan tells what the run will hit."""
    drawn: list[list[Instance]] = []
    for seed in (5, 5, 6):
        stub.add_response("describe_instances", _answer(9))
        drawn.append(Selection(group="web", count=3).draw(aws, random.Random(seed)))
    assert drawn[0] == drawn[1] != drawn[2]


@pytest.mark.parametrize("matching", [0, 2])
def test_too_few_matches_break_nothing(aws: Aws, stub: Stubber, matching: int) -> None:
    """Half a fault would prove half a claim: it is an error that names the selector."""
    stub.add_response("describe_instances", _answer(matching))
    with pytest.raises(TargetNotFound, match=f"{matching} running instances match group web"):
        Selection(group="web", count=3).draw(aws, random.Random(1))


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({}, "name a group or tags"),
        ({"group": "web", "count": 0}, "got 0"),
        ({"group": "web", "share_percent": 140}, "got 140"),
        ({"group": "web", "share_percent": 0}, "got 0"),
        ({"group": "web", "count": 1, "share_percent": 5}, "exclude each other"),
    ],
)
def test_a_senseless_selection_is_refused_with_its_value(
    arguments: dict[str, Any], value: str
) -> None:
    """An argument whose absence meant "random" has cost others a fleet."""
    with pytest.raises(UsageError, match=value):
        Selection(**arguments)
