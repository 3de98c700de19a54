"""Spot Instances on the stage: pools that dry up, warnings, interruptions, replacements."""

import http.client
import json
import urllib.error
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
import urllib3
from botocore.exceptions import ClientError
from botocore.utils import InstanceMetadataRegionFetcher

from chaosgrade.stage.autoscaling import IN_SERVICE, PENDING, Launch, Terminate, decide
from chaosgrade.stage.capacity_pools import ON_DEMAND, SPOT, CapacityPools, Pool
from chaosgrade.stage.mixed_instances import Mix
from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.test_autoscaling import A, B, C, group, member

FIS_ROLE = "arn:aws:iam::123456789012:role/fis"
TTL = {"X_aws_ec2_metadata_token_ttl_seconds": "600"}
INTERRUPT = "aws:ec2:send-spot-instance-interruptions"


# The rules


def test_the_on_demand_base_comes_first_and_the_rest_by_percentage() -> None:
    """Rounded towards On-Demand."""
    mix = Mix(("t3.micro",), on_demand_base=2, on_demand_percent=25.0)
    assert [mix.on_demand_of(n) for n in (1, 2, 3, 6, 10)] == [1, 2, 3, 3, 4]


def test_the_pool_with_the_most_room_is_tried_first_and_a_warned_one_last() -> None:
    """Among equals the group spreads; lowest-price keeps to its first types."""
    rooms = {"a": 3.0, "b": 9.0, "c": -1.0, "d": 9.0}
    running = {"a": (0, 0), "b": (1, 1), "c": (0, 0), "d": (0, 2)}
    mix = Mix(tuple(rooms), strategy="price-capacity-optimized")
    told: Any = {"room": rooms.__getitem__, "running": running.__getitem__}
    assert mix.order(spot=True, **told) == ["d", "b", "a", "c"]
    assert mix.order(spot=False, **told) == ["a", "b", "c", "d"]
    assert replace(mix, strategy="lowest-price").order(spot=True, **told) == ["a", "b", "c", "d"]


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ({"Overrides": [{"InstanceType": "a", "WeightedCapacity": "2"}]}, "WeightedCapacity"),
        ({"Overrides": [{"InstanceRequirements": {}}]}, "InstanceRequirements"),
    ],
)
def test_a_policy_that_would_not_be_carried_out_is_refused(
    policy: Mapping[str, Any], words: str
) -> None:
    """Rather than stored."""
    with pytest.raises(ValueError, match=words):
        Mix.of({"LaunchTemplate": policy}, "t3.micro")


def test_a_group_buys_what_its_mix_says() -> None:
    """On-Demand Instances first, over the zones; a lost Spot Instance is replaced by one."""
    mix = Mix(("a",), on_demand_base=2, on_demand_percent=0.0)
    launches = [d for d in decide(group(desired=5, mix=mix)) if isinstance(d, Launch)]
    assert [launch.spot for launch in launches] == [False, False, True, True, True]
    members = (member("1", A), member("2", B), member("3", C, spot=True))
    (launch,) = decide(group(*members, desired=4, mix=mix))
    assert isinstance(launch, Launch)
    assert launch.spot


def test_capacity_rebalancing_launches_first_and_terminates_when_others_serve() -> None:
    """Without it a warned instance stays until EC2 takes it back."""
    warned = member("1", A, spot=True, at_risk=True)
    others = (member("2", B, spot=True), member("3", C, spot=True))
    mix = Mix(("a",), on_demand_percent=0.0)
    before = group(warned, *others, mix=mix, rebalances=True, maximum=3)
    (launch,) = decide(before)
    assert isinstance(launch, Launch)
    assert (launch.zone, launch.spot) == (A, True)
    assert decide(replace(before, rebalances=False)) == []
    for newcomer in (
        member("4", A, spot=True, lifecycle=PENDING),
        member("4", A, spot=True, serving=False),
    ):
        assert decide(replace(before, members=(warned, *others, newcomer))) == []
    serving = member("4", A, spot=True)
    (end,) = decide(replace(before, members=(warned, *others, serving)))
    assert isinstance(end, Terminate)
    assert end.instance == "1"


def test_a_group_grows_beyond_its_maximum_by_one_at_most() -> None:
    """However many are warned."""
    warned = [member(str(n), A, spot=True, at_risk=True) for n in range(3)]
    decisions = decide(group(*warned, rebalances=True, maximum=3))
    assert len(decisions) == 1


def test_pools_take_orders_and_tell_them() -> None:
    """What is not named stays as it was; nonsense is named."""
    pools = CapacityPools(spot=4)
    pool = Pool("t3.micro", A)
    pools.order({"instance_type": "t3.micro", "zone": A, "spot": 0})
    assert (pools.capacity(pool, SPOT), pools.capacity(pool, ON_DEMAND)) == (0, float("inf"))
    assert pools.capacity(Pool("t3.micro", B), SPOT) == 4
    assert pools.told()["pools"] == [
        {"instance_type": "t3.micro", "zone": A, "spot": 0, "on_demand": None}
    ]
    for wrong in ({"zone": A}, {"instance_type": "t", "zone": A, "spot": -1}, {"colour": 1}):
        with pytest.raises(ValueError, match=r"instance_type|spot|colour"):
            pools.order(wrong)


# A whole stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """Sixty times as fast as AWS; loopback, so that the tests reach what is inside."""
    with running_stage("--time-scale", "60", "--fabric", "loopback") as running:
        yield running


def instances(stage: Stage) -> dict[str, dict[str, Any]]:
    """Running instances by id, without the worker tier."""
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    reservations = stage.client("ec2").describe_instances(Filters=running)["Reservations"]
    worker = {"Key": "Tier", "Value": "worker"}
    return {
        i["InstanceId"]: i
        for r in reservations
        for i in r["Instances"]
        if worker not in i.get("Tags", [])
    }


def spots(stage: Stage) -> dict[str, dict[str, Any]]:
    return {k: i for k, i in instances(stage).items() if i.get("InstanceLifecycle") == "spot"}


def members(stage: Stage) -> dict[str, str]:
    """{instance: its lifecycle state} of the group."""
    (group,) = stage.client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=["web"]
    )["AutoScalingGroups"]
    return {i["InstanceId"]: i["LifecycleState"] for i in group["Instances"]}


def whole(stage: Stage) -> bool:
    elbv2 = stage.client("elbv2")
    arn = elbv2.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    health = {
        target["Target"]["Id"]: target["TargetHealth"]["State"]
        for target in elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
    }
    books = members(stage)
    return (
        len(books) == 6
        and set(books.values()) == {IN_SERVICE}
        and (health == dict.fromkeys(books, "healthy"))
    )


def set_pool(stage: Stage, **order: Any) -> dict[str, Any]:
    request = urllib.request.Request(
        stage.document["endpoint"] + "/_chaosgrade/pools", json.dumps(order).encode(), method="PUT"
    )
    with urllib.request.urlopen(request, timeout=5) as answer:
        told: dict[str, Any] = json.load(answer)
    return told


def answer_of(instance: Mapping[str, Any], path: str) -> int:
    """The status that an instance's web server answers with."""
    connection = http.client.HTTPConnection(instance["PrivateIpAddress"], 8080, timeout=2)
    connection.request("GET", path)
    status = connection.getresponse().status
    connection.close()
    return status


def set_rebalancing(stage: Stage, *, on: bool) -> None:
    stage.client("autoscaling").update_auto_scaling_group(
        AutoScalingGroupName="web", CapacityRebalance=on
    )


class Metadata:
    """The metadata service as one instance sees it."""

    def __init__(self, stage: Stage, address: str) -> None:
        self._url = stage.document["metadata"]
        self._address = address

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        host, _, port = self._url.removeprefix("http://").partition(":")
        connection = http.client.HTTPConnection(
            host, int(port), source_address=(self._address, 0), timeout=5
        )
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, f"/latest/{path}", headers=named)
        answer = connection.getresponse()
        found = answer.status, answer.read().decode()
        connection.close()
        return found

    def token(self) -> str:
        status, token = self.ask("api/token", "PUT", **TTL)
        assert status == 200
        return token

    def read(self, path: str) -> tuple[int, str]:
        return self.ask(path, X_aws_ec2_metadata_token=self.token())


def template(client: Any, **changes: Any) -> str:
    """An FIS experiment template that interrupts; returns its id."""
    plain: dict[str, Any] = {
        "clientToken": str(uuid.uuid4()),
        "description": "interrupt",
        "roleArn": FIS_ROLE,
        "stopConditions": [{"source": "none"}],
        "targets": {
            "spots": {
                "resourceType": "aws:ec2:spot-instance",
                "resourceTags": {"Tier": "web"},
                "selectionMode": "COUNT(1)",
            }
        },
        "actions": {
            "interrupt": {
                "actionId": INTERRUPT,
                "parameters": {"durationBeforeInterruption": "PT4M"},
                "targets": {"SpotInstances": "spots"},
            }
        },
        "tags": {"Name": "ours"},
    }
    made = client.create_experiment_template(**{**plain, **changes})["experimentTemplate"]
    assert made["tags"] == {"Name": "ours"}
    return str(made["id"])


def status(client: Any, experiment: str) -> str:
    return str(client.get_experiment(id=experiment)["experiment"]["state"]["status"])


def test_the_sound_fleet_mixes_purchase_options_types_and_zones(stage: Stage) -> None:
    """Half of it is Spot, of several types, and each has a request that is fulfilled."""
    found = instances(stage)
    spot = spots(stage)
    assert (len(found), len(spot)) == (6, 3)
    assert Counter(i["Placement"]["AvailabilityZone"] for i in found.values()) == {
        zone: 2 for zone in stage.document["zones"]
    }
    assert len({i["InstanceType"] for i in spot.values()}) == 3
    assert len({i["Placement"]["AvailabilityZone"] for i in spot.values()}) == 3
    requests = stage.client("ec2").describe_spot_instance_requests()["SpotInstanceRequests"]
    assert {r["InstanceId"]: r["SpotInstanceRequestId"] for r in requests} == {
        id_: i["SpotInstanceRequestId"] for id_, i in spot.items()
    }
    assert {r["Status"]["Code"] for r in requests} == {"fulfilled"}


def test_metadata_needs_a_token_and_knows_who_asks(stage: Stage) -> None:
    """By the caller's address; a token of one instance is none of another."""
    one, other = list(spots(stage).values())[:2]
    mine, theirs = (Metadata(stage, i["PrivateIpAddress"]) for i in (one, other))
    assert mine.ask("meta-data/instance-id")[0] == 401
    assert mine.ask("api/token", "PUT")[0] == 400
    token = mine.token()
    assert mine.ask("meta-data/instance-id", X_aws_ec2_metadata_token=token) == (
        200,
        one["InstanceId"],
    )
    assert theirs.ask("meta-data/instance-id", X_aws_ec2_metadata_token=token)[0] == 401
    assert Metadata(stage, "127.0.0.1").ask("api/token", "PUT", **TTL)[0] == 403
    assert mine.read("meta-data/instance-life-cycle") == (200, "spot")
    assert mine.read("meta-data/placement/") == (200, "availability-zone\nregion")
    assert mine.read("meta-data/autoscaling/target-lifecycle-state") == (200, "InService")
    assert mine.read("meta-data/spot/instance-action")[0] == 404
    document = json.loads(mine.read("dynamic/instance-identity/document")[1])
    assert document["instanceType"] == one["InstanceType"]


def test_botocore_finds_the_metadata_service_by_its_variable(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From an instance's address it gets the Region of the instance."""
    instance = next(iter(instances(stage).values()))
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", stage.document["metadata"])
    connect = urllib3.connection.HTTPConnection.__init__

    def from_instance(self: Any, *arguments: Any, **options: Any) -> None:
        source = (instance["PrivateIpAddress"], 0)
        connect(self, *arguments, **{**options, "source_address": source})

    monkeypatch.setattr(urllib3.connection.HTTPConnection, "__init__", from_instance)
    fetcher = InstanceMetadataRegionFetcher(base_url=stage.document["metadata"] + "/")
    assert fetcher.retrieve_region() == stage.document["region"]


def test_a_dry_pool_refuses_run_instances(stage: Stage) -> None:
    """With AWS's code and message; another type is there."""
    zone = stage.document["zones"][0]
    ec2 = stage.client("ec2")
    subnets = ec2.describe_subnets(Filters=[{"Name": "tag:Name", "Values": ["web-a"]}])["Subnets"]
    plain = {
        "ImageId": "ami-0c101f26f147fa7fd",
        "MinCount": 1,
        "MaxCount": 1,
        "SubnetId": subnets[0]["SubnetId"],
    }
    set_pool(stage, instance_type="m5.large", zone=zone, on_demand=0)
    with pytest.raises(ClientError) as caught:
        ec2.run_instances(InstanceType="m5.large", **plain)
    error = caught.value.response["Error"]
    assert error["Code"] == "InsufficientInstanceCapacity"
    assert (
        f"sufficient m5.large capacity in the Availability Zone you requested ({zone})"
        in (error["Message"])
    )
    spot = {"MarketType": "spot"}
    made = ec2.run_instances(InstanceType="m5.large", InstanceMarketOptions=spot, **plain)
    id_ = made["Instances"][0]["InstanceId"]
    assert spots(stage)[id_]["SpotInstanceRequestId"].startswith("sir-")
    with pytest.raises(ClientError, match="UnsupportedOperation"):
        ec2.stop_instances(InstanceIds=[id_])
    ec2.terminate_instances(InstanceIds=[id_])
    with pytest.raises(urllib.error.HTTPError, match="400"):
        set_pool(stage, instance_type="m5.large", zone=zone, spot=-1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"actions": {"a": {"actionId": "aws:ec2:stop-instances"}}}, "aws:ec2:stop-instances"),
        ({"roleArn": "arn:aws:iam::123456789012:user/nobody"}, "roleArn"),
        ({"stopConditions": [{"source": "aws:cloudwatch:alarm"}]}, "alarm"),
        (
            {
                "actions": {
                    "a": {
                        "actionId": INTERRUPT,
                        "parameters": {"durationBeforeInterruption": "PT1M"},
                        "targets": {"SpotInstances": "spots"},
                    }
                }
            },
            "PT1M",
        ),
        ({"targets": {}}, "SpotInstances"),
    ],
)
def test_an_experiment_that_would_do_nothing_is_refused(
    stage: Stage, changes: dict[str, Any], words: str
) -> None:
    """At the template, by ValidationException with the name of what is wrong."""
    with pytest.raises(ClientError, match=words) as caught:
        template(stage.client("fis"), **changes)
    assert caught.value.response["Error"]["Code"] == "ValidationException"


def test_an_interruption_warns_replaces_and_ends_the_instance(stage: Stage) -> None:
    """The recommendation at once, the notice two minutes before the end; capacity never drops."""
    fis, before = stage.client("fis"), spots(stage)
    id_ = template(fis)
    experiment = fis.start_experiment(experimentTemplateId=id_)["experiment"]["id"]
    assert status(fis, experiment) in ("pending", "initiating")
    eventually(lambda: status(fis, experiment) == "running")
    (target,) = fis.list_experiment_resolved_targets(experimentId=experiment)["resolvedTargets"]
    victim = target["targetInformation"]["arn"].rpartition("/")[2]
    metadata = Metadata(stage, before[victim]["PrivateIpAddress"])
    assert metadata.read("meta-data/events/recommendations/rebalance")[0] == 200
    assert metadata.read("meta-data/spot/instance-action")[0] == 404
    launched = eventually(lambda: members(stage).keys() - before.keys() and members(stage))
    assert len(launched) >= 6
    assert victim in launched
    eventually(lambda: victim not in members(stage))
    eventually(lambda: whole(stage))
    eventually(lambda: status(fis, experiment) == "completed")
    causes = [
        a["Cause"]
        for a in stage.client("autoscaling").describe_scaling_activities()["Activities"]
        if victim in a["Description"] and a["Description"].startswith("Term")
    ]
    assert "rebalance recommendation" in causes[0]
    (listed,) = fis.list_experiments(experimentTemplateId=id_)["experiments"]
    assert listed["state"]["status"] == "completed"
    fis.delete_experiment_template(id=id_)
    assert fis.list_experiment_templates()["experimentTemplates"] == []


def test_without_rebalancing_the_notice_comes_and_then_the_end(stage: Stage) -> None:
    """An instance action in its metadata, a marked request, a draining workload, a dead process."""
    set_rebalancing(stage, on=False)
    # Else the group may terminate it first, for failing its load balancer's health check.
    processes = {"AutoScalingGroupName": "web", "ScalingProcesses": ["ReplaceUnhealthy"]}
    stage.client("autoscaling").suspend_processes(**processes)
    fis, ec2, before = stage.client("fis"), stage.client("ec2"), spots(stage)
    target = {"resourceType": "aws:ec2:spot-instance", "selectionMode": "ALL"}
    victim = next(iter(before))
    arn = f"arn:aws:ec2:us-east-1:123456789012:instance/{victim}"
    ours = {
        "actionId": INTERRUPT,
        "parameters": {"durationBeforeInterruption": "PT5M"},
        "targets": {"SpotInstances": "spots"},
    }
    id_ = template(
        fis, targets={"spots": {**target, "resourceArns": [arn]}}, actions={"interrupt": ours}
    )
    experiment = fis.start_experiment(experimentTemplateId=id_)["experiment"]["id"]
    metadata = Metadata(stage, before[victim]["PrivateIpAddress"])
    code, text = eventually(
        lambda: (a := metadata.read("meta-data/spot/instance-action"))[0] == 200 and a
    )
    assert (code, json.loads(text)["action"]) == (200, "terminate")
    assert spots(stage).keys() == before.keys()
    request = before[victim]["SpotInstanceRequestId"]

    def request_status() -> str:
        answer = ec2.describe_spot_instance_requests(SpotInstanceRequestIds=[request])
        return str(answer["SpotInstanceRequests"][0]["Status"]["Code"])

    assert request_status() == "marked-for-termination"
    assert answer_of(before[victim], "/health") == 200
    eventually(lambda: answer_of(before[victim], "/health") == 503)
    assert answer_of(before[victim], "/") == 200
    # The notice has been given: stopping the experiment does not take it back.
    fis.stop_experiment(id=experiment)
    eventually(lambda: status(fis, experiment) == "stopped")
    eventually(lambda: victim not in spots(stage))
    assert request_status() == "instance-terminated-by-experiment"
    stage.client("autoscaling").resume_processes(**processes)
    eventually(lambda: victim not in members(stage) and whole(stage))
    fis.delete_experiment_template(id=id_)
    set_rebalancing(stage, on=True)


def test_stopping_an_experiment_before_the_notice_spares_the_instance(stage: Stage) -> None:
    """Its recommendation is gone too."""
    set_rebalancing(stage, on=False)
    fis, before = stage.client("fis"), spots(stage)
    ours = {
        "actionId": INTERRUPT,
        "parameters": {"durationBeforeInterruption": "PT15M"},
        "targets": {"SpotInstances": "spots"},
    }
    id_ = template(fis, actions={"interrupt": ours})
    experiment = fis.start_experiment(experimentTemplateId=id_)["experiment"]["id"]
    eventually(lambda: status(fis, experiment) == "running")
    fis.stop_experiment(id=experiment)
    eventually(lambda: status(fis, experiment) == "stopped")
    for instance in before.values():
        asked = Metadata(stage, instance["PrivateIpAddress"])
        assert asked.read("meta-data/events/recommendations/rebalance")[0] == 404
    assert spots(stage).keys() == before.keys()
    fis.delete_experiment_template(id=id_)
    set_rebalancing(stage, on=True)


def test_targets_that_match_nothing_fail_the_experiment(stage: Stage) -> None:
    """As on AWS, at the resolution and not before."""
    fis = stage.client("fis")
    target = {
        "resourceType": "aws:ec2:spot-instance",
        "resourceTags": {"Tier": "nothing"},
        "selectionMode": "PERCENT(50)",
        "filters": [{"path": "State.Name", "values": ["running"]}],
    }
    id_ = template(fis, targets={"spots": target})
    experiment = fis.start_experiment(experimentTemplateId=id_)["experiment"]["id"]
    eventually(lambda: status(fis, experiment) == "failed")
    state = fis.get_experiment(id=experiment)["experiment"]["state"]
    assert "empty set" in state["reason"]
    with pytest.raises(ClientError, match="ResourceNotFoundException"):
        fis.get_experiment(id="EXPnone")
    fis.delete_experiment_template(id=id_)


def test_a_dry_pool_fails_an_activity_and_the_group_goes_elsewhere(stage: Stage) -> None:
    """The failed activity names the pool; the replacement is of another one."""
    victim, instance = next(iter(spots(stage).items()))
    zone = instance["Placement"]["AvailabilityZone"]
    for instance_type in ("t3.micro", "t3a.micro", "t2.micro"):
        set_pool(stage, instance_type=instance_type, zone=zone, spot=0)
    stage.client("ec2").terminate_instances(InstanceIds=[victim])
    eventually(lambda: victim not in members(stage) and whole(stage))
    failed = [
        a["StatusMessage"]
        for a in stage.client("autoscaling").describe_scaling_activities()["Activities"]
        if a["StatusCode"] == "Failed"
    ]
    assert any(f"capacity in the Availability Zone you requested ({zone})" in f for f in failed)
    assert zone not in {i["Placement"]["AvailabilityZone"] for i in spots(stage).values()}
    for instance_type in ("t3.micro", "t3a.micro", "t2.micro"):
        told = set_pool(stage, instance_type=instance_type, zone=zone, spot=None)
    assert {"instance_type": "t2.micro", "zone": zone, "spot": None, "on_demand": None} in (
        told["pools"]
    )
