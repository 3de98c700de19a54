"""The stage of services that call each other: what clients do, what is logged, what poison ends."""

import gzip
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chaosgrade.policies.shuffle_sharding import ShuffleSharding
from chaosgrade.probes.access_log import Attempt, parsed
from tests.stage.conftest import Stage, eventually, running_stage

pytestmark = pytest.mark.stage

WORKERS = ShuffleSharding([f"quote-{n}" for n in range(1, 9)], 2)
BUCKET = "services-logs-123456789012"


@pytest.fixture(scope="module")
def services() -> Iterator[Stage]:
    """One stage for all tests, thirty times as fast as AWS; logs come every ten seconds."""
    options = ("--template", "services", "--time-scale", "30", "--parameter", "RestartSeconds=150")
    with running_stage(*options) as running:
        yield running


def _ask(stage: Stage, path: str, customer: int = 0) -> tuple[int, dict[str, Any]]:
    url = stage.document["balancers"]["web"] + path
    request = urllib.request.Request(url, headers={"X-Customer": str(customer)})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as refused:
        with refused:
            said = refused.read()
        # The load balancer's own words are no JSON.
        return refused.code, json.loads(said) if said.startswith(b"{") else {}


def _logged(stage: Stage) -> list[Attempt]:
    s3 = stage.client("s3")
    keys = [o["Key"] for o in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]
    bodies = [s3.get_object(Bucket=BUCKET, Key=key)["Body"].read() for key in keys]
    found = [
        parsed(line) for body in bodies for line in gzip.decompress(body).decode().splitlines()
    ]
    assert None not in found
    return [one for one in found if one is not None]


def test_the_page_is_served_without_recommendations_and_attempts_share_their_trace(
    services: Stage,
) -> None:
    """Without a target the load balancer says 503: the web tier tries three times, and does
    without. Its log tells that the three are one."""
    whole = (200, {"products": ["mug", "kettle", "tea"], "degraded": False})
    eventually(lambda: _ask(services, "/recommendations") == whole)
    elb = services.client("elbv2")
    group = elb.describe_target_groups(Names=["recommendations"])["TargetGroups"][0]
    arn = group["TargetGroupArn"]
    described = elb.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    targets = [one["Target"] for one in described]
    elb.deregister_targets(TargetGroupArn=arn, Targets=targets)
    eventually(lambda: _ask(services, "/recommendations")[1]["degraded"])
    elb.register_targets(TargetGroupArn=arn, Targets=targets)
    eventually(lambda: not _ask(services, "/recommendations")[1]["degraded"])

    def requests() -> list[list[Attempt]]:
        by_root: dict[str, list[Attempt]] = {}
        for attempt in sorted(_logged(services), key=lambda one: one.at):
            by_root.setdefault(attempt.request, []).append(attempt)
        refused = [each for each in by_root.values() if {one.status for one in each} == {503}]
        return refused if any(each[-1].status == 200 for each in by_root.values()) else []

    refused = eventually(requests)
    assert max(map(len, refused)) == 3
    assert all(len({one.client for one in each}) == 1 for each in refused)


def test_poison_ends_the_workers_of_its_shard_and_no_other(services: Stage) -> None:
    """Who shares one of them is served by the other; who shares both is not."""
    shard = set(WORKERS.shard_of("0"))
    shared = {n: len(shard & set(WORKERS.shard_of(str(n)))) for n in range(1, 100)}
    one = next(n for n, both in shared.items() if both == 1)
    two = next(n for n, both in shared.items() if both == 2)
    quote = (200, {"total_cents": 2000, "rebate_percent": 20})
    eventually(lambda: _ask(services, "/quotes?quantity=2", two) == quote)
    none_left = (503, {"error": "none of 2 workers answered"})
    eventually(lambda: _ask(services, "/quotes?quantity=0") == none_left)
    assert _ask(services, "/quotes?quantity=2", two) == none_left
    assert none_left not in [_ask(services, "/quotes?quantity=2", one) for _ in range(8)]
    assert _ask(services, "/quotes?quantity=2", one) == quote
    # Its supervisor starts them again.
    eventually(lambda: _ask(services, "/quotes?quantity=2", two)[0] == 200)


def test_a_request_without_a_customer_is_refused(services: Stage) -> None:
    url = services.document["balancers"]["web"] + "/quotes"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, timeout=10)
    assert refused.value.code == 400
    refused.value.close()


def test_logs_go_to_buckets_that_there_are(services: Stage) -> None:
    elb = services.client("elbv2")
    (balancer,) = elb.describe_load_balancers(Names=["web"])["LoadBalancers"]
    wanted = [
        {"Key": "access_logs.s3.enabled", "Value": "true"},
        {"Key": "access_logs.s3.bucket", "Value": "nobodys"},
    ]
    with pytest.raises(ClientError, match="Access Denied for bucket: nobodys"):
        elb.modify_load_balancer_attributes(
            LoadBalancerArn=balancer["LoadBalancerArn"], Attributes=wanted
        )


def test_the_template_says_who_may_log(services: Stage) -> None:
    policy = json.loads(services.client("s3").get_bucket_policy(Bucket=BUCKET)["Policy"])
    (statement,) = policy["Statement"]
    assert statement["Principal"] == {"Service": "logdelivery.elasticloadbalancing.amazonaws.com"}
