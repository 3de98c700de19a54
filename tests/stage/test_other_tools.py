"""Tools that users already have work against a stage as against AWS."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.stage.workload.resolver import Resolver
from tests.stage.conftest import Stage, eventually
from tests.stage.vantage import neighbour, socket_at

pytestmark = pytest.mark.stage

BIN = Path(sys.executable).parent


def tool(stage: Stage, *command: str, folder: Path | None = None) -> str:
    """What a tool of this environment prints, with the variables that the stage told."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, **stage.document["env"], "AWS_PAGER": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_aws_cli_reads_and_writes(stage: Stage) -> None:
    """Groups, target health, a tag there and back."""

    def aws(*words: str) -> Any:
        return json.loads(tool(stage, "aws", *words, "--output", "json") or "null")

    (group,) = aws(
        "autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", "web"
    )["AutoScalingGroups"]
    assert (group["AutoScalingGroupName"], group["DesiredCapacity"]) == ("web", 6)
    targets = aws(
        "elbv2", "describe-target-health", "--target-group-arn", group["TargetGroupARNs"][0]
    )["TargetHealthDescriptions"]
    assert len(targets) == 6
    instance = group["Instances"][0]["InstanceId"]
    aws("ec2", "create-tags", "--resources", instance, "--tags", "Key=seen,Value=yes")
    (tag,) = aws(
        "ec2", "describe-tags", "--filters", f"Name=resource-id,Values={instance}",
        "Name=key,Values=seen",
    )["Tags"]  # fmt: skip
    assert tag["Value"] == "yes"


def test_the_probes_of_chaostoolkit_aws_tell_the_truth(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the shipped experiments use as their steady state."""
    from chaosaws.asg.probes import desired_equals_healthy
    from chaosaws.elbv2.probes import targets_health_count

    for name, value in stage.document["env"].items():
        monkeypatch.setenv(name, value)
    assert targets_health_count(tg_names=["web"]) == {"web": {"healthy": 6}}
    assert desired_equals_healthy(asg_names=["web"]) is True


# chaostoolkit-aws through plain `chaos run`: no control of ours, no extension.


def action(module: str, func: str, **arguments: Any) -> dict[str, Any]:
    provider = {
        "type": "python",
        "module": f"chaosaws.{module}.actions",
        "func": func,
        "arguments": arguments,
    }
    return {"type": "action", "name": func, "provider": provider}


def chaos_run(stage: Stage, folder: Path, *method: dict[str, Any]) -> list[Any]:
    """What the actions of an experiment answered."""
    experiment = {
        "title": "What somebody else wrote",
        "description": "Actions of chaostoolkit-aws and nothing else",
        "configuration": {"aws_region": stage.document["region"]},
        "method": method,
    }
    path = folder / "experiment.json"
    path.write_text(json.dumps(experiment), "utf-8")
    tool(stage, "chaos", "--no-version-check", "run", str(path), folder=folder)
    journal = json.loads((folder / "journal.json").read_text("utf-8"))
    assert "chaosgrade" not in journal
    assert [(a["status"], a.get("exception")) for a in journal["run"]] == [
        ("succeeded", None) for _ in method
    ]
    return [activity["output"] for activity in journal["run"]]


def members(stage: Stage, group: str) -> dict[str, dict[str, Any]]:
    """Those of a group that are in service, as EC2 describes them."""
    (described,) = stage.client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=[group]
    )["AutoScalingGroups"]
    ids = [i["InstanceId"] for i in described["Instances"] if i["LifecycleState"] == "InService"]
    found = stage.client("ec2").describe_instances(InstanceIds=ids)["Reservations"]
    return {i["InstanceId"]: i for reservation in found for i in reservation["Instances"]}


def targets(stage: Stage) -> dict[str, str]:
    """The web tier's targets and their health."""
    elbv2 = stage.client("elbv2")
    (group,) = elbv2.describe_target_groups(Names=["web"])["TargetGroups"]
    described = elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])
    return {
        one["Target"]["Id"]: one["TargetHealth"]["State"]
        for one in described["TargetHealthDescriptions"]
    }


def database(stage: Stage) -> dict[str, Any]:
    (described,) = stage.client("rds").describe_db_instances()["DBInstances"]
    return dict(described)


def address_of(stage: Stage) -> str:
    """Where the database's endpoint leads to, asked anew."""
    return Resolver(stage.document["dns"]).resolve(database(stage)["Endpoint"]["Address"])


def answers(stage: Stage, instance: dict[str, Any]) -> bool:
    """Whether the web server of an instance does, asked from another instance."""
    address = instance["PrivateIpAddress"]
    try:
        with socket_at(stage, neighbour(stage, address)) as asking:
            asking.settimeout(0.5)
            asking.connect((address, 8080))
            asking.sendall(b"GET /health HTTP/1.0\r\n\r\n")
            return b" 200 " in asking.recv(64)
    except OSError:
        return False


def served_by(stage: Stage, count: int) -> set[str]:
    """Which instances answered so many requests to the load balancer."""
    seen = set()
    for _ in range(count):
        with urllib.request.urlopen(stage.document["balancers"]["web"]) as response:
            seen.add(response.headers["X-Instance"])
    return seen


def ordered(stage: Stage) -> bool:
    """Whether the shop takes an order, which its database has to commit."""
    order = {"id": os.urandom(8).hex(), "customer": "c", "product": "p"}
    request = urllib.request.Request(
        stage.document["balancers"]["web"] + "/orders", json.dumps(order).encode()
    )
    try:
        with urllib.request.urlopen(request, timeout=2) as response:
            return bool(response.status == 201)
    except OSError:
        return False


def spot_instance(stage: Stage, subnet: str) -> dict[str, Any]:
    """One that belongs to nobody, once it serves."""
    ec2 = stage.client("ec2")
    (launched,) = ec2.run_instances(
        ImageId="ami-0c101f26f147fa7fd", InstanceType="t3.micro", MinCount=1, MaxCount=1,
        SubnetId=subnet, InstanceMarketOptions={"MarketType": "spot"},
    )["Instances"]  # fmt: skip
    eventually(lambda: answers(stage, launched))
    return dict(launched)


def test_faults_of_chaostoolkit_aws_reach_processes_and_traffic(
    stage: Stage, tmp_path: Path
) -> None:
    """A plain experiment terminates, stops, deregisters and fails over; the data plane reacts.

    The terminated instance is a Spot Instance, whose request chaostoolkit-aws cancels first.
    """
    web, workers, first = members(stage, "web"), members(stage, "worker"), address_of(stage)
    standby_zone = database(stage)["SecondaryAvailabilityZone"]
    victim = spot_instance(stage, next(iter(web.values()))["SubnetId"])
    _, stopped, _, _ = chaos_run(
        stage,
        tmp_path,
        action("ec2", "terminate_instances", instance_ids=[victim["InstanceId"]]),
        action("asg", "stop_random_instances", asg_names=["worker"], instance_count=1),
        action("elbv2", "deregister_target", tg_name="web"),
        action("rds", "reboot_db_instance", db_instance_identifier="shop", force_failover=True),
    )

    # Terminated: it answers nothing any more, and EC2 knows who wanted that.
    assert not answers(stage, victim)
    (request,) = stage.client("ec2").describe_spot_instance_requests(
        Filters=[{"Name": "instance-id", "Values": [victim["InstanceId"]]}]
    )["SpotInstanceRequests"]
    assert (request["State"], request["Status"]["Code"]) == (
        "cancelled", "instance-terminated-by-user",
    )  # fmt: skip

    # Stopped: found unhealthy, terminated and replaced by its group.
    worker = stopped[0]["StoppingInstances"][0]["InstanceId"]
    assert worker in workers
    eventually(
        lambda: worker not in members(stage, "worker") and len(members(stage, "worker")) == 2
    )

    # Deregistered: drained, and sent no request, while its process goes on.
    eventually(lambda: list(targets(stage).values()) == ["healthy"] * 5)
    (deregistered,) = web.keys() - targets(stage).keys()
    assert served_by(stage, 12) == targets(stage).keys()
    assert answers(stage, web[deregistered])

    # Failed over: the endpoint leads to the other zone, and the server there takes writes.
    eventually(lambda: database(stage)["AvailabilityZone"] == standby_zone)
    eventually(lambda: address_of(stage) != first)
    eventually(lambda: ordered(stage))
