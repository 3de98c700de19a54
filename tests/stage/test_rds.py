"""Amazon RDS of a stage: what its calls do to databases, and what it says about them."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.stage.children import runs, traces, wait_until
from tests.stage.conftest import Stage, descendants, eventually, running_stage
from tests.stage.customers import Customer, connect, kept, refusal, resolver

pytestmark = pytest.mark.stage
_SCALE = 60.0
_DOWN_S = 60 / _SCALE
_MANY_S = 0.3


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A failover takes a second; loopback, so that clients of the tests reach what is inside."""
    with running_stage("--time-scale", f"{_SCALE:g}", "--fabric", "loopback") as running:
        running.client("autoscaling").suspend_processes(
            AutoScalingGroupName="web", ScalingProcesses=["ReplaceUnhealthy"]
        )
        yield running


def described(stage: Stage, id_: str) -> dict[str, Any]:
    (found,) = stage.client("rds").describe_db_instances(DBInstanceIdentifier=id_)["DBInstances"]
    return dict(found)


def available(stage: Stage, id_: str) -> dict[str, Any]:
    """The DB instance, once it is available."""
    eventually(lambda: described(stage, id_)["DBInstanceStatus"] == "available")
    return described(stage, id_)


def zones(stage: Stage, id_: str) -> tuple[str, str]:
    """Of the primary and of the standby."""
    found = described(stage, id_)
    return found["AvailabilityZone"], found["SecondaryAvailabilityZone"]


def create(stage: Stage, id_: str, **changes: Any) -> dict[str, Any]:
    made = stage.client("rds").create_db_instance(
        **{
            "DBInstanceIdentifier": id_, "DBInstanceClass": "db.t4g.micro", "Engine": "postgres",
            "AllocatedStorage": 20, "MasterUsername": "shop", "DBName": "shop",
            "MasterUserPassword": "only-on-the-stage", "DBSubnetGroupName": "shop", **changes,
        }
    )  # fmt: skip
    assert made["DBInstance"]["DBInstanceStatus"] == "creating"
    return available(stage, id_)


def messages(stage: Stage, id_: str, since: datetime) -> list[str]:
    """Of the events of a DB instance."""
    events = stage.client("rds").describe_events(
        SourceIdentifier=id_, SourceType="db-instance", StartTime=since
    )["Events"]
    return [event["Message"] for event in events]


def endpoint(stage: Stage, id_: str) -> str:
    """The name of a DB instance's endpoint."""
    return str(described(stage, id_)["Endpoint"]["Address"])


def address(stage: Stage, id_: str) -> str:
    """What it leads to now."""
    return resolver(stage).resolve(endpoint(stage, id_))


def broken(connection: "psycopg.Connection[Any]") -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False


def test_a_forced_failover_moves_the_primary_and_keeps_what_was_acknowledged(stage: Stage) -> None:
    """Zones swap, the name leads elsewhere, events tell it; then again, and back."""
    rds, before = stage.client("rds"), zones(stage, "shop")
    assert set(before) == {"us-east-1a", "us-east-1b"}
    customer = Customer(stage, endpoint(stage, "shop"))
    for _ in range(2):
        primary, standby = zones(stage, "shop")
        first, since = address(stage, "shop"), datetime.now(UTC)
        customer.writes(200)
        answer = rds.reboot_db_instance(DBInstanceIdentifier="shop", ForceFailover=True)
        began = time.monotonic()
        assert answer["DBInstance"]["DBInstanceStatus"] == "rebooting"
        assert available(stage, "shop")["MultiAZ"]
        assert time.monotonic() - began >= _DOWN_S * 0.9
        assert zones(stage, "shop") == (standby, primary)
        eventually(lambda old=first: address(stage, "shop") != old)
        told = messages(stage, "shop", since)
        assert "Multi-AZ instance failover started" in told
        assert "Multi-AZ instance failover completed" in told
        customer.writes(200)
    assert zones(stage, "shop") == before
    acknowledged = customer.end()
    assert acknowledged <= kept(stage, endpoint(stage, "shop"))


def test_a_single_zone_instance_restarts_in_place(stage: Stage) -> None:
    """A reboot keeps zone and address; a failover is refused."""
    rds, since = stage.client("rds"), datetime.now(UTC)
    zone = create(stage, "single", AvailabilityZone="us-east-1b")["AvailabilityZone"]
    assert zone == "us-east-1b"
    host = address(stage, "single")
    with connect(host) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        connection.execute("INSERT INTO orders VALUES (1)")
        rds.reboot_db_instance(DBInstanceIdentifier="single")
        wait_until(lambda: broken(connection), "down")
    assert described(stage, "single")["DBInstanceStatus"] == "rebooting"
    assert refusal(rds.reboot_db_instance, DBInstanceIdentifier="single") == (
        "InvalidDBInstanceState"
    )
    assert available(stage, "single")["AvailabilityZone"] == zone
    assert address(stage, "single") == host
    assert kept(stage, endpoint(stage, "single")) == {1}
    assert messages(stage, "single", since)[-1] == "DB instance restarted"


def test_asynchronous_replication_loses_acknowledged_writes(stage: Stage) -> None:
    """The flaw that a tag chooses."""
    tags = [{"Key": "Replication", "Value": "asynchronous"}]
    create(stage, "flawed", MultiAZ=True, Tags=tags)
    customer = Customer(stage, endpoint(stage, "flawed"))
    customer.writes(200)
    before = zones(stage, "flawed")
    stage.client("rds").reboot_db_instance(DBInstanceIdentifier="flawed", ForceFailover=True)
    eventually(lambda: zones(stage, "flawed") == before[::-1])
    acknowledged = customer.end()
    with connect(address(stage, "flawed")) as connection:
        rows = connection.execute("SELECT to_regclass('orders')").fetchone()
    there = kept(stage, endpoint(stage, "flawed")) if rows and rows[0] else set()
    assert len(acknowledged - there) > 0


def test_a_read_replica_lags_and_is_promoted(stage: Stage) -> None:
    """It reads what the source wrote half a second ago; promoted, it is one of its own."""
    rds = stage.client("rds")
    rds.create_db_instance_read_replica(
        DBInstanceIdentifier="copy", SourceDBInstanceIdentifier="single"
    )
    assert available(stage, "copy")["ReadReplicaSourceDBInstanceIdentifier"] == "single"
    with connect(address(stage, "single")) as source, connect(address(stage, "copy")) as copy:
        began = time.monotonic()
        source.execute("INSERT INTO orders VALUES (2)")
        wait_until(
            lambda: copy.execute("SELECT count(*) FROM orders WHERE n = 2").fetchone() == (1,),
            "replicated",
        )
        assert time.monotonic() - began >= 0.5
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            copy.execute("INSERT INTO orders VALUES (3)")
    rds.promote_read_replica(DBInstanceIdentifier="copy")
    assert "ReadReplicaSourceDBInstanceIdentifier" not in available(stage, "copy")
    with connect(address(stage, "copy")) as connection:
        connection.execute("INSERT INTO orders VALUES (3)")
    assert kept(stage, endpoint(stage, "single")) == {1, 2}
    rds.delete_db_instance(DBInstanceIdentifier="copy", SkipFinalSnapshot=True)


def test_wrong_calls_are_awss_errors(stage: Stage) -> None:
    """And change nothing."""
    rds, before = stage.client("rds"), zones(stage, "shop")
    new = {
        "DBInstanceIdentifier": "wrong", "DBInstanceClass": "db.t4g.micro", "Engine": "postgres",
        "AllocatedStorage": 20, "MasterUsername": "shop", "MasterUserPassword": "long-enough",
        "DBSubnetGroupName": "shop",
    }  # fmt: skip
    for code, call, arguments in (
        ("DBInstanceNotFound", rds.reboot_db_instance, {"DBInstanceIdentifier": "nobody"}),
        ("InvalidParameterCombination", rds.reboot_db_instance,
         {"DBInstanceIdentifier": "single", "ForceFailover": True}),
        ("InvalidDBInstanceState", rds.promote_read_replica, {"DBInstanceIdentifier": "shop"}),
        ("InvalidParameterValue", rds.create_db_instance, {**new, "Engine": "mysql"}),
        ("InvalidParameterValue", rds.create_db_instance,
         {**new, "AvailabilityZone": "us-east-1f"}),
        ("InvalidParameterCombination", rds.create_db_instance,
         {**new, "MultiAZ": True, "AvailabilityZone": "us-east-1a"}),
        ("NotImplemented", rds.stop_db_instance, {"DBInstanceIdentifier": "shop"}),
    ):  # fmt: skip
        assert refusal(call, **arguments) == code
    assert zones(stage, "shop") == before
    assert described(stage, "shop")["DBInstanceStatus"] == "available"
    assert refusal(rds.describe_db_instances, DBInstanceIdentifier="wrong") == "DBInstanceNotFound"


def test_a_black_holed_zone_hangs_its_clients_and_the_other_takes_over(stage: Stage) -> None:
    """A network ACL that denies all, on the primary's subnet; healed, the standby is there."""
    ec2, rds = stage.client("ec2"), stage.client("rds")
    primary, standby = zones(stage, "shop")
    (group,) = rds.describe_db_subnet_groups(DBSubnetGroupName="shop")["DBSubnetGroups"]
    subnet = next(
        s["SubnetIdentifier"]
        for s in group["Subnets"]
        if s["SubnetAvailabilityZone"]["Name"] == primary
    )
    (former,) = ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [subnet]}]
    )["NetworkAcls"]
    association = next(a for a in former["Associations"] if a["SubnetId"] == subnet)
    blocking = ec2.create_network_acl(VpcId=former["VpcId"])["NetworkAcl"]["NetworkAclId"]
    customer, first, since = (
        Customer(stage, endpoint(stage, "shop")),
        address(stage, "shop"),
        datetime.now(UTC),
    )
    customer.writes(100)
    with connect(first) as established:
        answered = threading.Event()

        def ask() -> None:
            try:
                established.execute("SELECT 1")
            except psycopg.OperationalError:
                return
            answered.set()

        new = ec2.replace_network_acl_association(
            AssociationId=association["NetworkAclAssociationId"], NetworkAclId=blocking
        )["NewAssociationId"]
        asking = threading.Thread(target=ask, daemon=True)
        time.sleep(_MANY_S)  # an order has to arrive
        asking.start()
        eventually(lambda: zones(stage, "shop") == (standby, primary))
        second = address(stage, "shop")
        assert second != first
        assert asking.is_alive()
        with pytest.raises(psycopg.errors.ConnectionTimeout):
            connect(first)
        told = messages(stage, "shop", since)
        assert "Multi-AZ instance failover started" in told
        assert "Multi-AZ instance failover completed" in told
        ec2.replace_network_acl_association(AssociationId=new, NetworkAclId=former["NetworkAclId"])
        asking.join(10)  # what it was connected to is gone
        assert not answered.is_set()
    eventually(lambda: turned_away(first))
    rds.reboot_db_instance(DBInstanceIdentifier="shop", ForceFailover=True)
    eventually(lambda: zones(stage, "shop") == (primary, standby))
    eventually(lambda: address(stage, "shop") == first)
    ec2.delete_network_acl(NetworkAclId=blocking)
    customer.writes(100)
    acknowledged = customer.end()
    assert acknowledged <= kept(stage, endpoint(stage, "shop"))


def turned_away(host: str) -> bool:
    """Whether a standby is there, which takes no connections."""
    try:
        connect(host).close()
    except psycopg.OperationalError as error:
        return "not accepting connections" in str(error)
    return False


def networks(processes: Iterable[int] | None = None) -> set[str]:
    """The network namespaces that these processes are in; without any, those of the machine."""
    running = processes or [int(name) for name in os.listdir("/proc") if name.isdigit()]
    found = set()
    for pid in running:
        with suppress(OSError):  # it has ended
            found.add(os.readlink(f"/proc/{pid}/ns/net"))
    return found


def test_a_stage_whose_parent_is_killed_leaves_nothing(tmp_path: Path) -> None:
    """No process, no shared memory of either kind, no network namespace, no socket, no folder."""
    before, ours = traces(), networks()
    starter = (
        "import os, subprocess, sys, time\n"
        "os.environ['CHAOSGRADE_PARENT'] = str(os.getpid())\n"
        "subprocess.Popen([sys.executable, '-m', 'chaosgrade.stage', '--json'])\n"
        "time.sleep(600)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", starter], stdout=subprocess.PIPE, cwd=tmp_path,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )  # fmt: skip
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline()  # it is up
        started = descendants(parent.pid)
        names = [Path(f"/proc/{pid}/comm").read_text().strip() for pid in started]
        assert names.count("postgres") > 10
        theirs = networks(started) - ours
        os.kill(parent.pid, signal.SIGKILL)
        parent.wait()
        wait_until(lambda: not any(map(runs, started)), "all processes gone")
    wait_until(lambda: traces() <= before, "all shared memory gone")
    wait_until(lambda: not theirs & networks(), "all network namespaces gone")
    assert list(tmp_path.iterdir()) == []
