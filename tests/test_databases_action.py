"""Failovers and outages of databases: chosen, proven, counted; undone where there is an undo."""

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from botocore.validate import ParamValidator
from chaoslib.exceptions import ActivityFailed

from chaosgrade import session
from chaosgrade.actions.databases import black_hole_database, fail_over_database
from chaosgrade.aws import Aws, ResourceGone
from chaosgrade.changes import census, registry
from chaosgrade.changes.database import ClusterFailover, InstanceFailover
from chaosgrade.changes.engine import Engine, Planner
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Effect, address
from chaosgrade.clock import Clock
from chaosgrade.evidence import EvidenceLog
from chaosgrade.experiment import shipped
from chaosgrade.policies.safety import Limit, load_safety
from chaosgrade.probes import database
from chaosgrade.probes.database import database_status
from chaosgrade.stage.workload.resolver import Resolver
from tests.canned_aws import CannedAws
from tests.commands import run
from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.vantage import neighbour, socket_at

GONE = ResourceGone("there is none", code="DBInstanceNotFound")
GROUP = {
    "VpcId": "vpc-1",
    "Subnets": [
        {
            "SubnetIdentifier": f"subnet-{zone}",
            "SubnetAvailabilityZone": {"Name": f"us-east-1{zone}"},
        }
        for zone in "abc"
    ],
}
INSTANCE = {
    "DBInstanceIdentifier": "shop",
    "DBInstanceStatus": "available",
    "MultiAZ": True,
    "AvailabilityZone": "us-east-1b",
    "SecondaryAvailabilityZone": "us-east-1a",
    "DBSubnetGroup": GROUP,
    "Endpoint": {"Address": "shop.rds", "Port": 5432},
}
CLUSTER = {
    "DBClusterIdentifier": "books",
    "Status": "available",
    "DBClusterMembers": [
        {"DBInstanceIdentifier": "books-1", "IsClusterWriter": False},
        {"DBInstanceIdentifier": "books-2", "IsClusterWriter": True},
    ],
}
ALONE = {**CLUSTER, "DBClusterMembers": CLUSTER["DBClusterMembers"][1:]}
SINGLE = {k: v for k, v in INSTANCE.items() if k != "SecondaryAvailabilityZone"} | {
    "MultiAZ": False
}
TORN = {**CLUSTER, "DBClusterMembers": CLUSTER["DBClusterMembers"][:1] * 2}
MEMBER = {**INSTANCE, "DBClusterIdentifier": "books"}


def canned(*instances: Any, clusters: Any = (), members: Any = (), interfaces: Any = ()) -> Any:
    def described(parameters: Any) -> Any:
        if "Filters" in parameters:
            return {"DBInstances": list(members)}
        return {"DBInstances": list(instances)} if instances else GONE

    return CannedAws(
        {
            "DescribeDBInstances": described,
            "DescribeDBClusters": {"DBClusters": list(clusters)} if clusters else GONE,
            "DescribeNetworkInterfaces": {"NetworkInterfaces": list(interfaces)},
            "DescribeNetworkAcls": lambda parameters: {"NetworkAcls": acls()},
        }
    )


def acls() -> list[dict[str, Any]]:
    associations = [
        {"SubnetId": f"subnet-{zone}", "NetworkAclAssociationId": f"aclassoc-{zone}"}
        for zone in "abc"
    ]
    acl = {"NetworkAclId": "acl-1", "VpcId": "vpc-1", "Tags": [], "Associations": associations}
    return [acl]


def planned(aws: Any, action: Any, **arguments: Any) -> list[Any]:
    """The subjects of the changes that an action would make."""
    planner = Planner()
    session.activate(session.Session(aws, planner, random.Random(1), Clock()))
    try:
        action(**arguments)
    finally:
        session.activate(None)
    return [change.subject for change in planner.changes]


def test_a_multi_az_instance_is_rebooted_with_failover_and_a_cluster_failed_over() -> None:
    """Whichever of the two carries the name."""
    assert planned(canned(INSTANCE), fail_over_database, identifier="shop") == [
        InstanceFailover("shop", "us-east-1b")
    ]
    assert planned(canned(clusters=[CLUSTER]), fail_over_database, identifier="books") == [
        ClusterFailover("books", "books-2")
    ]


@pytest.mark.parametrize(
    ("aws", "arguments", "words"),
    [
        (canned(SINGLE), {}, "shop is not Multi-AZ"),
        (canned(MEMBER), {}, "give books"),
        (canned(clusters=[ALONE]), {}, "has no reader"),
        (canned(clusters=[TORN]), {}, "nobody writes in the DB cluster shop at this moment"),
        (canned(), {}, "there is no DB instance or cluster shop"),
        (canned(INSTANCE), {"without_standby": "hope"}, "must be refuse or black-hole, got 'hope'"),
    ],
)
def test_what_cannot_fail_over_is_refused(aws: Any, arguments: Any, words: str) -> None:
    """In words, before any change."""
    with pytest.raises(ActivityFailed, match=words):
        planned(aws, fail_over_database, identifier="shop", **arguments)


def test_the_subnets_of_primary_and_standby_go_dark_and_no_others() -> None:
    """Of a DB instance without a standby the one subnet, if that is asked for."""
    dark = planned(canned(INSTANCE), black_hole_database, identifier="shop")
    assert [s.resource.id for s in dark if s.kind == "ec2:subnet-acl"] == ["subnet-a", "subnet-b"]
    single = planned(
        canned(SINGLE), fail_over_database, identifier="shop", without_standby="black-hole"
    )
    assert [s.resource.id for s in single if s.kind == "ec2:subnet-acl"] == ["subnet-b"]
    members = [{**SINGLE, "AvailabilityZone": f"us-east-1{zone}"} for zone in "ca"]
    dark = planned(
        canned(clusters=[CLUSTER], members=members), black_hole_database, identifier="books"
    )
    assert [s.resource.id for s in dark if s.kind == "ec2:subnet-acl"] == ["subnet-a", "subnet-c"]
    with pytest.raises(ActivityFailed, match="there is no DB instance or cluster shop"):
        planned(canned(), black_hole_database, identifier="shop")


def test_subnets_that_hold_anything_else_stay_as_they_are() -> None:
    """The outage would not be the database's alone."""
    ours = {
        "NetworkInterfaceId": "eni-1",
        "SubnetId": "subnet-a",
        "Description": "RDSNetworkInterface",
    }
    web = {
        "NetworkInterfaceId": "eni-2",
        "SubnetId": "subnet-a",
        "Description": "",
        "Attachment": {"InstanceId": "i-1"},
    }
    assert planned(canned(INSTANCE, interfaces=[ours]), black_hole_database, identifier="shop")
    with pytest.raises(ActivityFailed, match=r"subnet-a of shop also holds eni-2 \(i-1\)"):
        planned(canned(INSTANCE, interfaces=[ours, web]), black_hole_database, identifier="shop")


@pytest.mark.parametrize(
    "strike", [InstanceFailover("shop", "us-east-1b"), ClusterFailover("books", "books-2")]
)
def test_the_calls_are_such_as_aws_takes(strike: Any) -> None:
    """By botocore's models; and the journal finds the strike again."""
    for call in strike.calls():
        model = botocore.session.get_session().get_service_model(call.service)
        shape = model.operation_model(call.operation).input_shape
        assert not ParamValidator().validate(call.parameters, shape).has_errors()
    assert registry.subject(strike.kind, json.dumps(address(strike))) == strike
    assert strike.resource.zone is None


def test_what_is_read_of_a_database_is_what_aws_tells() -> None:
    """Every field that is looked at is in botocore's models."""
    model = botocore.session.get_session().get_service_model("rds")
    for operation, key, described in (
        ("DescribeDBInstances", "DBInstances", MEMBER),
        ("DescribeDBClusters", "DBClusters", CLUSTER),
    ):
        shape = model.operation_model(operation).output_shape.members[key]
        assert described.keys() <= shape.member.members.keys()


def test_a_failover_is_proven_by_who_is_the_primary() -> None:
    """Not before the zone, or the writer, is another; a cluster between writers proves nothing."""
    strike = InstanceFailover("shop", "us-east-1b")
    before, after = INSTANCE, {**INSTANCE, "AvailabilityZone": "us-east-1a"}
    assert not strike.effect(canned(before)).proven
    assert strike.effect(canned(after)) == Effect(
        True, "the primary of shop is in us-east-1a, it was in us-east-1b; available"
    )
    of_cluster = ClusterFailover("books", "books-2")
    nobody = [{**m, "IsClusterWriter": False} for m in CLUSTER["DBClusterMembers"]]
    assert not of_cluster.effect(canned(clusters=[CLUSTER])).proven
    assert not of_cluster.effect(canned(clusters=[{**CLUSTER, "DBClusterMembers": nobody}])).proven
    assert ClusterFailover("books", "books-1").effect(canned(clusters=[CLUSTER])).proven


def test_only_databases_with_the_opt_in_tag_are_counted() -> None:
    """Exactly this key and value; they are of no zone."""
    tagged = {**INSTANCE, "TagList": [{"Key": "chaosgrade", "Value": "allowed"}]}
    near = {
        **INSTANCE,
        "DBInstanceIdentifier": "b",
        "TagList": [{"Key": "chaosgrade", "Value": "no"}],
    }
    found = census.population(
        canned(tagged, near), "rds:db-instance", [], ("chaosgrade", "allowed")
    )
    assert found == {"shop": None}
    assert census.population(canned(clusters=[CLUSTER]), "rds:db-cluster", [], None) == {
        "books": None
    }


# On the stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage("--time-scale", "60") as running:
        yield running


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Journal]:
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path / "state"))
    journal = Journal()
    yield journal
    journal.close()
    session.activate(None)


def aws_of(stage: Stage) -> Aws:
    return Aws(
        region=stage.document["region"],
        endpoint_url=stage.document["endpoint"],
        access_key=("stage", "stage"),
    )


def begin(
    stage: Stage, journal: Journal, run: str = "r1", limits: dict[str, Limit] | None = None
) -> Engine:
    """An engine for a run on the stage, active for actions."""
    aws, clock = aws_of(stage), Clock()
    journal.open_run(
        run,
        experiment="e",
        environment=aws.environment,
        endpoint=aws.endpoint_url,
        started=clock.now(),
    )
    profile = replace(load_safety()["stage"], limits=limits or {})
    engine = Engine(aws, Guard(profile, aws, journal, run, clock), journal, run, clock)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    return engine


def shop(stage: Stage) -> dict[str, Any]:
    (found,) = stage.client("rds").describe_db_instances(DBInstanceIdentifier="shop")["DBInstances"]
    instance: dict[str, Any] = found
    return instance


def answers(stage: Stage) -> bool:
    """Whether an instance can connect to the database's endpoint within a second."""
    endpoint = shop(stage)["Endpoint"]
    there = Resolver(stage.document["dns"]).resolve(endpoint["Address"])
    with socket_at(stage, neighbour(stage)) as client:
        client.settimeout(1)
        try:
            client.connect((there, endpoint["Port"]))
        except TimeoutError:
            return False
        return True


@pytest.mark.stage
def test_a_failover_happens_is_counted_and_not_undone(stage: Stage, journal: Journal) -> None:
    """The zones are swapped and the event is there; the limit of its kind holds."""
    before = shop(stage)
    begin(stage, journal, "r1", {"rds:db-instance": Limit(count=0)})
    with pytest.raises(ActivityFailed, match="1 rds:db-instance would be touched"):
        fail_over_database("shop")
    assert shop(stage)["DBInstanceStatus"] == "available"
    engine = begin(stage, journal, "r2")
    (told,) = fail_over_database("shop")
    assert told["proven"], told
    assert told["zone"] == before["AvailabilityZone"]
    assert shop(stage)["AvailabilityZone"] == before["SecondaryAvailabilityZone"]
    events = stage.client("rds").describe_events(SourceIdentifier="shop", SourceType="db-instance")
    assert "Multi-AZ instance failover completed" in [e["Message"] for e in events["Events"]]
    assert engine.undo() == []


@pytest.mark.stage
def test_a_cluster_fails_over_and_is_watched_meanwhile(
    stage: Stage, journal: Journal, tmp_path: Path
) -> None:
    """Its status, its writer's zone and where its endpoint leads are recorded as they change."""
    rds, aurora = stage.client("rds"), {"Engine": "aurora-postgresql"}
    rds.create_db_cluster(
        DBClusterIdentifier="books", MasterUsername="shop", MasterUserPassword="only-on-the-stage",
        DBSubnetGroupName="shop", **aurora,
    )  # fmt: skip
    for id_ in ("books-1", "books-2"):
        rds.create_db_instance(
            DBClusterIdentifier="books", DBInstanceIdentifier=id_, DBInstanceClass="db.t4g.medium",
            **aurora,
        )  # fmt: skip
    for id_ in ("books-1", "books-2"):
        rds.get_waiter("db_instance_available").wait(
            DBInstanceIdentifier=id_, WaiterConfig={"Delay": 1}
        )
    engine = begin(stage, journal)
    assert database_status("books") == "available"
    with EvidenceLog(tmp_path / "evidence.jsonl", Clock()) as evidence:
        seen: list[Any] = []
        evidence.on_append(seen.append)
        observer = database.observe(
            session.Session(aws_of(stage), engine, random.Random(1), Clock(), evidence),
            identifier="books",
        )
        observer.start()
        (told,) = fail_over_database("books")
        assert told["proven"], told
        eventually(lambda: seen[-1]["zone"] != seen[0]["zone"])
        eventually(lambda: seen[-1]["address"] != seen[0]["address"])
        observer.stop()
    assert [seen[0]["status"], seen[-1]["status"]] == ["available", "available"]
    assert "failing-over" in [record["status"] for record in seen]
    assert engine.undo() == []


@pytest.mark.stage
def test_an_outage_hangs_and_heals(stage: Stage, journal: Journal) -> None:
    """Whoever connects waits; with the undo the endpoint answers and nothing of ours is left."""
    eventually(lambda: answers(stage))
    ec2 = stage.client("ec2")
    before = len(ec2.describe_network_acls()["NetworkAcls"])
    engine = begin(stage, journal)
    told = black_hole_database("shop")
    assert all(one["proven"] for one in told), told
    assert len([one for one in told if one["resource"].startswith("subnet-")]) == 2
    eventually(lambda: not answers(stage))
    assert {str(undone.state) for undone in engine.undo()} == {"undone"}
    eventually(lambda: answers(stage))
    assert len(ec2.describe_network_acls()["NetworkAcls"]) == before


@pytest.mark.stage
@pytest.mark.nightly
def test_writes_that_a_standby_never_got_make_an_f(tmp_path: Path) -> None:
    """A whole run, with a short window: what the ledger finds lost limits the grade."""
    document = yaml.safe_load(shipped()["rds-failover"].read_text())
    document["extensions"][0]["window"] = "120s"
    path = tmp_path / "failover.yaml"
    path.write_text(yaml.safe_dump(document))
    asynchronous = ("--parameter", "DatabaseReplication=asynchronous")
    code, score = run(tmp_path, "chaosgrade", "run", str(path), *asynchronous)
    assert code == 1
    assert score["grade"] == "F"
    (experiment,) = score["experiments"]
    verdicts = {o["metric"]: o["verdict"] for o in experiment["objectives"]}
    assert verdicts["lost_acknowledged_writes"] == "failed"
    assert verdicts["time_to_write_again"] == "passed"
    assert any("lost acknowledged writes" in cap["finding"] for cap in score["caps"])
