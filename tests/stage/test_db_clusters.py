"""DB clusters of a stage: members that can be read from, a writer that another one succeeds."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.customers import Customer, connect, kept, refusal, resolver

pytestmark = pytest.mark.stage
_SCALE = 60.0


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """With the cluster `shop` of `shop-1` and `shop-2`; a failover takes half a second."""
    options = ("DatabaseKind=cluster", "DesiredCapacity=1", "WorkerCapacity=0")
    parameters = [word for option in options for word in ("--parameter", option)]
    with running_stage(
        "--time-scale", f"{_SCALE:g}", "--fabric", "loopback", *parameters
    ) as running:
        yield running


def described(stage: Stage, id_: str = "shop") -> dict[str, Any]:
    (found,) = stage.client("rds").describe_db_clusters(DBClusterIdentifier=id_)["DBClusters"]
    return dict(found)


def members(stage: Stage, id_: str = "shop") -> dict[str, dict[str, Any]]:
    """The DB instances of a cluster."""
    found = stage.client("rds").describe_db_instances(
        Filters=[{"Name": "db-cluster-id", "Values": [id_]}]
    )["DBInstances"]
    return {instance["DBInstanceIdentifier"]: instance for instance in found}


def writer(stage: Stage, id_: str = "shop") -> str:
    writers = [m for m in described(stage, id_)["DBClusterMembers"] if m["IsClusterWriter"]]
    return str(writers[0]["DBInstanceIdentifier"]) if writers else ""


def settle(stage: Stage, id_: str, *wanted: str) -> None:
    """Wait until the cluster and exactly these DB instances of it are available."""
    eventually(
        lambda: (
            {id_: i["DBInstanceStatus"] for id_, i in members(stage, id_).items()}
            == dict.fromkeys(wanted, "available")
            and described(stage, id_)["Status"] == "available"
        )
    )


def address(stage: Stage, name: str) -> str:
    return resolver(stage).resolve(name)


def addresses(stage: Stage, *instances: str) -> set[str]:
    """Of DB instances."""
    found = stage.client("rds").describe_db_instances()["DBInstances"]
    names = {i["DBInstanceIdentifier"]: i["Endpoint"]["Address"] for i in found}
    return {address(stage, names[instance]) for instance in instances}


def leads_to(stage: Stage, name: str, *instances: str) -> bool:
    """Whether a name leads to all of these DB instances and no other."""
    return {address(stage, name) for _ in range(30)} == addresses(stage, *instances)


def messages(stage: Stage, id_: str) -> list[str]:
    events = stage.client("rds").describe_events(SourceIdentifier=id_, SourceType="db-cluster")
    assert all(event["EventCategories"] for event in events["Events"])
    return [event["Message"] for event in events["Events"]]


def create(stage: Stage, id_: str, **changes: Any) -> dict[str, Any]:
    return dict(
        stage.client("rds").create_db_cluster(
            **{
                "DBClusterIdentifier": id_, "Engine": "aurora-postgresql", "DatabaseName": "shop",
                "MasterUsername": "shop", "MasterUserPassword": "only-on-the-stage",
                "DBSubnetGroupName": "shop", **changes,
            }
        )["DBCluster"]
    )  # fmt: skip


def add(stage: Stage, cluster: str, id_: str, **changes: Any) -> None:
    stage.client("rds").create_db_instance(
        **{
            "DBInstanceIdentifier": id_, "DBClusterIdentifier": cluster,
            "DBInstanceClass": "db.t4g.medium", "Engine": "aurora-postgresql", **changes,
        }
    )  # fmt: skip


def test_a_failover_loses_no_acknowledged_write_and_the_endpoints_follow(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Called by boto3 and by chaostoolkit-aws: the reader writes, the old writer reads."""
    from chaosaws.rds.actions import failover_db_cluster

    for name, value in stage.document["env"].items():
        monkeypatch.setenv(name, value)
    cluster = described(stage)
    assert cluster["MultiAZ"]
    assert stage.document["databases"]["shop"] == cluster["Endpoint"]
    zones = {id_: m["AvailabilityZone"] for id_, m in members(stage).items()}
    assert len(set(zones.values())) == 2
    customer = Customer(stage, cluster["Endpoint"])
    customer.writes(100)
    fail_over(stage, lambda to: stage.client("rds").failover_db_cluster(DBClusterIdentifier="shop"))
    customer.writes(100)
    fail_over(stage, lambda to: failover_db_cluster("shop", to))
    customer.writes(100)
    assert {id_: m["AvailabilityZone"] for id_, m in members(stage).items()} == zones
    acknowledged = customer.end()
    assert acknowledged <= kept(stage, cluster["Endpoint"])
    eventually(lambda: acknowledged <= kept(stage, cluster["ReaderEndpoint"]))
    with (
        connect(address(stage, cluster["ReaderEndpoint"])) as reader,
        pytest.raises(psycopg.errors.ReadOnlySqlTransaction),
    ):
        reader.execute("INSERT INTO orders VALUES (-1)")


def fail_over(stage: Stage, call: Callable[[str], Any]) -> None:
    """Have the reader take over, by a call that is given its identifier; AWS tells of it."""
    cluster, old = described(stage), writer(stage)
    (new,) = set(members(stage)) - {old}
    assert leads_to(stage, cluster["Endpoint"], old)
    assert leads_to(stage, cluster["ReaderEndpoint"], new)
    assert call(new)["DBCluster"]["Status"] == "failing-over"
    assert writer(stage) == old
    eventually(lambda: members(stage)[old]["DBInstanceStatus"] == "rebooting")
    eventually(lambda: writer(stage) == new)
    settle(stage, "shop", old, new)
    eventually(lambda: leads_to(stage, cluster["Endpoint"], new))
    eventually(lambda: leads_to(stage, cluster["ReaderEndpoint"], old))
    assert messages(stage, "shop")[-2:] == [
        f"Started cross AZ failover to DB instance: {new}",
        f"Completed failover to DB instance: {new}",
    ]


def test_members_come_and_go_and_the_data_stays(stage: Stage) -> None:
    """A target is promoted whatever its tier; the writer leaves and is succeeded; the last one's
    data is there for the next."""
    rds = stage.client("rds")
    cluster = create(stage, "books")
    rds.get_waiter("db_cluster_available").wait(DBClusterIdentifier="books")
    add(stage, "books", "Books-1")
    settle(stage, "books", "books-1")
    assert leads_to(stage, cluster["ReaderEndpoint"], "books-1")
    assert refusal(rds.failover_db_cluster, DBClusterIdentifier="books") == (
        "InvalidDBClusterStateFault"
    )
    with connect(address(stage, cluster["Endpoint"])) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        connection.execute("INSERT INTO orders VALUES (1)")
    add(stage, "books", "books-2", PromotionTier=0)
    add(stage, "books", "books-3", PromotionTier=15)
    settle(stage, "books", "books-1", "books-2", "books-3")
    assert len({m["AvailabilityZone"] for m in members(stage, "books").values()}) == 3
    eventually(lambda: leads_to(stage, cluster["ReaderEndpoint"], "books-2", "books-3"))
    rds.failover_db_cluster(DBClusterIdentifier="Books", TargetDBInstanceIdentifier="books-3")
    eventually(lambda: writer(stage, "books") == "books-3")
    settle(stage, "books", "books-1", "books-2", "books-3")
    eventually(lambda: leads_to(stage, cluster["ReaderEndpoint"], "books-1", "books-2"))
    rds.delete_db_instance(DBInstanceIdentifier="BOOKS-3", SkipFinalSnapshot=True)
    eventually(lambda: writer(stage, "books") == "books-2")
    rds.delete_db_instance(DBInstanceIdentifier="books-1", SkipFinalSnapshot=True)
    settle(stage, "books", "books-2")
    assert kept(stage, cluster["Endpoint"]) == {1}
    assert refusal(rds.delete_db_cluster, DBClusterIdentifier="books", SkipFinalSnapshot=True) == (
        "InvalidDBClusterStateFault"
    )
    rds.delete_db_instance(DBInstanceIdentifier="books-2", SkipFinalSnapshot=True)
    add(stage, "books", "books-4")
    settle(stage, "books", "books-4")
    assert kept(stage, cluster["Endpoint"]) == {1}
    rds.delete_db_instance(DBInstanceIdentifier="books-4", SkipFinalSnapshot=True)
    rds.delete_db_cluster(DBClusterIdentifier="books", SkipFinalSnapshot=True)
    assert refusal(rds.describe_db_clusters, DBClusterIdentifier="books") == (
        "DBClusterNotFoundFault"
    )


def test_a_member_that_is_rebooted_comes_back_as_what_it_was(stage: Stage) -> None:
    """Writes go on without the reader."""
    rds, cluster, before = stage.client("rds"), described(stage), writer(stage)
    (reader,) = set(members(stage)) - {before}
    customer = Customer(stage, cluster["Endpoint"])
    rds.reboot_db_instance(DBInstanceIdentifier=reader)
    eventually(lambda: leads_to(stage, cluster["ReaderEndpoint"], before))
    assert members(stage)[reader]["DBInstanceStatus"] == "rebooting"
    customer.writes(100)
    settle(stage, "shop", before, reader)
    rds.reboot_db_instance(DBInstanceIdentifier=before)
    assert members(stage)[before]["DBInstanceStatus"] == "rebooting"
    settle(stage, "shop", before, reader)
    assert writer(stage) == before
    customer.writes(100)
    assert customer.end() <= kept(stage, cluster["Endpoint"])
    eventually(lambda: leads_to(stage, cluster["ReaderEndpoint"], reader))


def test_a_multi_az_db_cluster_comes_with_three_members(stage: Stage) -> None:
    """In three zones, which can be failed over and only go together."""
    rds = stage.client("rds")
    cluster = create(
        stage, "three", Engine="postgres", DBClusterInstanceClass="db.m6gd.large",
        AllocatedStorage=100, StorageType="io1", Iops=1000,
    )  # fmt: skip
    assert cluster["Status"] == "creating"
    names = [f"three-instance-{number}" for number in (1, 2, 3)]
    settle(stage, "three", *names)
    assert len({m["AvailabilityZone"] for m in members(stage, "three").values()}) == 3
    assert refusal(
        rds.delete_db_instance, DBInstanceIdentifier=names[0], SkipFinalSnapshot=True
    ) == ("InvalidDBClusterStateFault")
    rds.failover_db_cluster(DBClusterIdentifier="three")
    eventually(lambda: writer(stage, "three") in names[1:])
    settle(stage, "three", *names)
    rds.delete_db_cluster(DBClusterIdentifier="three", SkipFinalSnapshot=True)
    assert members(stage, "three") == {}


def test_wrong_calls_are_awss_errors(stage: Stage) -> None:
    """And change nothing."""
    rds, before = stage.client("rds"), described(stage)
    wrong = {"DBClusterIdentifier": "wrong"}
    shop = {"DBClusterIdentifier": "shop"}
    new = {
        "Engine": "aurora-postgresql", "MasterUsername": "shop",
        "MasterUserPassword": "long-enough", "DBSubnetGroupName": "shop",
    }  # fmt: skip
    member = {
        "DBInstanceIdentifier": "wrong", "DBInstanceClass": "db.t4g.medium",
        "Engine": "aurora-postgresql",
    }  # fmt: skip
    for code, call, arguments in (
        ("DBClusterNotFoundFault", rds.failover_db_cluster, wrong),
        ("DBClusterNotFoundFault", rds.delete_db_cluster, {**wrong, "SkipFinalSnapshot": True}),
        ("DBClusterNotFoundFault", rds.create_db_instance, {**wrong, **member}),
        ("DBClusterAlreadyExistsFault", rds.create_db_cluster, {**shop, **new}),
        ("InvalidParameterValue", rds.create_db_cluster,
         {**wrong, **new, "Engine": "aurora-mysql"}),
        ("InvalidParameterValue", rds.create_db_cluster,
         {**wrong, **new, "GlobalClusterIdentifier": "world"}),
        ("InvalidParameterCombination", rds.create_db_cluster,
         {**wrong, **new, "Engine": "postgres"}),
        ("InvalidParameterValue", rds.failover_db_cluster,
         {**shop, "TargetDBInstanceIdentifier": "nobody"}),
        ("InvalidParameterValue", rds.failover_db_cluster,
         {**shop, "TargetDBInstanceIdentifier": writer(stage)}),
        ("InvalidParameterCombination", rds.create_db_instance,
         {**shop, **member, "MasterUsername": "shop"}),
        ("InvalidParameterCombination", rds.create_db_instance,
         {**shop, **member, "Engine": "postgres"}),
        ("InvalidParameterValue", rds.create_db_instance,
         {**shop, **member, "AvailabilityZone": "us-east-1f"}),
        ("InvalidParameterCombination", rds.reboot_db_instance,
         {"DBInstanceIdentifier": "shop-1", "ForceFailover": True}),
        ("InvalidParameterCombination", rds.create_db_instance_read_replica,
         {"DBInstanceIdentifier": "copy", "SourceDBInstanceIdentifier": "shop-1"}),
        ("NotImplemented", rds.modify_db_cluster, shop),
        ("NotImplemented", rds.stop_db_cluster, shop),
    ):  # fmt: skip
        assert refusal(call, **arguments) == code, arguments
    after = described(stage)
    unchanged = ("Status", "DBClusterMembers")
    assert [after[key] for key in unchanged] == [before[key] for key in unchanged]
