"""A whole stage: calls to its AWS have consequences for real processes."""

import json
import os
import resource
import signal
import socket
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.stage.conftest import Stage, descendants, eventually, running_stage
from tests.stage.vantage import neighbour, socket_at

pytestmark = pytest.mark.stage


def members(stage: Stage) -> dict[str, dict[str, Any]]:
    (group,) = stage.client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=["web"]
    )["AutoScalingGroups"]
    return {instance["InstanceId"]: instance for instance in group["Instances"]}


def health(stage: Stage) -> dict[str, str]:
    elbv2 = stage.client("elbv2")
    arn = elbv2.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    answer = elbv2.describe_target_health(TargetGroupArn=arn)
    return {
        target["Target"]["Id"]: target["TargetHealth"]["State"]
        for target in answer["TargetHealthDescriptions"]
    }


def whole(stage: Stage) -> bool:
    """Six members in service and six healthy targets, the same ones."""
    books = members(stage)
    in_service = all(member["LifecycleState"] == "InService" for member in books.values())
    return in_service and len(books) == 6 and health(stage) == dict.fromkeys(books, "healthy")


def hosting(stage: Stage, instance: str) -> str:
    (reservation,) = stage.client("ec2").describe_instances(InstanceIds=[instance])["Reservations"]
    address: str = reservation["Instances"][0]["PrivateIpAddress"]
    return address


def answers(stage: Stage, address: str) -> bool:
    """Whether another instance gets an answer from one."""
    with socket_at(stage, neighbour(stage, address)) as client:
        client.settimeout(0.2)
        try:
            client.connect((address, 8080))
            client.sendall(b"GET /health HTTP/1.1\r\nHost: shop\r\n\r\n")
            return b" 200 " in client.recv(4096)
        except OSError:
            return False


def command(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "chaosgrade.stage", *arguments],
        capture_output=True,
        text=True,
        timeout=20,
        env={**os.environ, **environment},
        check=False,
    )


def refusal(call: Any, **arguments: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


def test_a_ready_stage_is_whole_and_says_where_it_is(stage: Stage) -> None:
    """Every target is healthy by the balancer's own checks, and the endpoint repeats the line."""
    document = stage.document
    assert whole(stage)
    assert Counter(m["AvailabilityZone"] for m in members(stage).values()) == {
        zone: 2 for zone in document["zones"]
    }
    with urllib.request.urlopen(f"{document['endpoint']}/_chaosgrade/stage") as answer:
        assert json.load(answer) == document
    with urllib.request.urlopen(document["balancers"]["web"] + "/health") as answer:
        assert answer.status == 200
    assert document["time_scale"] == 60.0
    assert document["env"]["AWS_ENDPOINT_URL"] == document["endpoint"]


def test_a_terminated_instance_dies_and_is_replaced_in_its_zone(stage: Stage) -> None:
    """The process ends at once; the group notices at a health evaluation and launches anew."""
    victim, zone = next((i, m["AvailabilityZone"]) for i, m in members(stage).items())
    address = hosting(stage, victim)
    assert answers(stage, address)
    stage.client("ec2").terminate_instances(InstanceIds=[victim])
    eventually(lambda: not answers(stage, address))
    eventually(lambda: victim not in members(stage) and whole(stage))
    zones = Counter(m["AvailabilityZone"] for m in members(stage).values())
    assert zones[zone] == 2
    causes = [
        activity["Cause"]
        for activity in stage.client("autoscaling").describe_scaling_activities(
            AutoScalingGroupName="web"
        )["Activities"]
        if victim in activity["Description"] and activity["Description"].startswith("Term")
    ]
    assert "EC2 health check" in causes[0]


def test_the_fleet_begins_out_of_its_grace_period_and_replacements_in_it(stage: Stage) -> None:
    """A health verdict that respects grace counts for the first, and not for a newcomer."""
    before = members(stage)
    set_health = stage.client("autoscaling").set_instance_health
    victim = next(iter(before))  # members are listed by age
    set_health(InstanceId=victim, HealthStatus="Unhealthy")
    eventually(lambda: victim not in members(stage))
    (newcomer,) = eventually(lambda: members(stage).keys() - before.keys())
    set_health(InstanceId=newcomer, HealthStatus="Unhealthy")
    assert members(stage)[newcomer]["HealthStatus"] == "Healthy"
    eventually(lambda: whole(stage))
    assert newcomer in members(stage)


def test_a_stopped_instance_is_replaced(stage: Stage) -> None:
    """Stopped is not healthy either: the group terminates it and launches another."""
    victim = next(iter(members(stage)))
    stage.client("ec2").stop_instances(InstanceIds=[victim])
    eventually(lambda: victim not in members(stage) and whole(stage))


def test_a_hanging_process_is_found_by_its_health_check_and_replaced(stage: Stage) -> None:
    """ELB health counts after the grace period."""
    victim = next(iter(members(stage)))
    stage.client("ssm").send_command(
        DocumentName="AWSFIS-Run-Kill-Process",
        InstanceIds=[victim],
        Parameters={"ProcessName": ["web"], "Signal": ["SIGSTOP"]},
    )
    seen = {"healthy"}

    def replaced() -> bool:
        seen.add(health(stage).get(victim, "deregistered"))
        return victim not in members(stage) and whole(stage)

    eventually(replaced)
    assert seen & {"unhealthy", "draining"}


def test_suspended_launch_is_honoured_until_it_is_resumed(stage: Stage) -> None:
    """The group stays one short, however long it takes, and recovers afterwards."""
    autoscaling = stage.client("autoscaling")
    victim = next(iter(members(stage)))
    autoscaling.suspend_processes(AutoScalingGroupName="web", ScalingProcesses=["Launch"])
    stage.client("ec2").terminate_instances(InstanceIds=[victim])
    eventually(lambda: victim not in members(stage))
    assert len(members(stage)) == 5
    autoscaling.resume_processes(AutoScalingGroupName="web", ScalingProcesses=["Launch"])
    eventually(lambda: whole(stage))


def test_an_instance_called_unhealthy_is_replaced_unless_in_grace(stage: Stage) -> None:
    """SetInstanceHealth is respected at once when it is told to ignore the grace period."""
    victim = next(iter(members(stage)))
    stage.client("autoscaling").set_instance_health(
        InstanceId=victim, HealthStatus="Unhealthy", ShouldRespectGracePeriod=False
    )
    eventually(lambda: victim not in members(stage) and whole(stage))


def test_termination_by_the_group_may_shrink_it(stage: Stage) -> None:
    """With decrement nothing is launched; below the minimum it is refused."""
    autoscaling = stage.client("autoscaling")
    victim = next(iter(members(stage)))
    end = autoscaling.terminate_instance_in_auto_scaling_group
    assert refusal(end, InstanceId=victim, ShouldDecrementDesiredCapacity=True) == "ValidationError"
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=3)
    end(InstanceId=victim, ShouldDecrementDesiredCapacity=True)
    assert members(stage)[victim]["LifecycleState"] == "Terminating"
    eventually(lambda: victim not in members(stage))
    assert len(members(stage)) == 5
    autoscaling.set_desired_capacity(AutoScalingGroupName="web", DesiredCapacity=6)
    eventually(lambda: whole(stage))


def test_capacity_follows_the_desired_number(stage: Stage) -> None:
    """Scaling in keeps the zones balanced; above the maximum it is refused."""
    autoscaling = stage.client("autoscaling")
    set_desired = autoscaling.set_desired_capacity
    assert refusal(set_desired, AutoScalingGroupName="web", DesiredCapacity=10) == "ValidationError"
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=3, DesiredCapacity=3)
    eventually(lambda: len(members(stage)) == 3)
    zones = Counter(m["AvailabilityZone"] for m in members(stage).values())
    assert set(zones.values()) == {1}
    set_desired(AutoScalingGroupName="web", DesiredCapacity=6)
    eventually(lambda: whole(stage))


def test_standby_takes_an_instance_out_of_traffic_and_back(stage: Stage) -> None:
    """It keeps running, is no target meanwhile, and is one again afterwards."""
    autoscaling = stage.client("autoscaling")
    autoscaling.update_auto_scaling_group(AutoScalingGroupName="web", MinSize=3)
    eventually(lambda: whole(stage))  # one on its way out cannot be taken
    chosen = next(iter(members(stage)))
    autoscaling.enter_standby(
        AutoScalingGroupName="web", InstanceIds=[chosen], ShouldDecrementDesiredCapacity=True
    )
    eventually(lambda: chosen not in health(stage))
    assert answers(stage, hosting(stage, chosen))
    autoscaling.exit_standby(AutoScalingGroupName="web", InstanceIds=[chosen])
    eventually(lambda: whole(stage))
    assert chosen in members(stage)


def test_a_target_that_is_deregistered_drains_first(stage: Stage) -> None:
    """Its state is draining for the deregistration delay, then it is gone; it can come back."""
    elbv2 = stage.client("elbv2")
    arn = elbv2.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    chosen = next(iter(health(stage)))
    elbv2.deregister_targets(TargetGroupArn=arn, Targets=[{"Id": chosen}])
    assert health(stage)[chosen] == "draining"
    eventually(lambda: chosen not in health(stage))
    elbv2.register_targets(TargetGroupArn=arn, Targets=[{"Id": chosen}])
    eventually(lambda: whole(stage))


def test_what_the_stage_does_not_play_is_refused_in_the_services_own_shape(stage: Stage) -> None:
    """A client error at once, in each protocol, and never a success without consequences."""
    calls: list[tuple[str, str, dict[str, Any]]] = [
        ("autoscaling", "start_instance_refresh", {"AutoScalingGroupName": "web"}),
        ("ec2", "describe_fpga_images", {}),
        ("rds", "start_db_cluster", {"DBClusterIdentifier": "orders"}),
        ("route53", "list_hosted_zones", {}),
        ("fis", "get_action", {"id": "aws:ec2:stop-instances"}),
        ("fis", "update_experiment_template", {"id": "EXT1"}),
        ("cloudformation", "delete_stack", {"StackName": "three-tier"}),
        ("elb", "describe_load_balancers", {}),
        ("cloudwatch", "describe_alarm_contributors", {"AlarmName": "a"}),
    ]
    for service, operation, arguments in calls:
        code = refusal(getattr(stage.client(service), operation), **arguments)
        assert code == "NotImplemented", (service, operation)


def test_a_wrong_value_is_refused_and_the_stage_goes_on(stage: Stage) -> None:
    """As AWS refuses it: none is kept for the stage to stumble over, or to have no consequence."""
    elbv2 = stage.client("elbv2")
    (target_group,) = elbv2.describe_target_groups()["TargetGroups"]
    (listener,) = elbv2.describe_listeners(LoadBalancerArn=target_group["LoadBalancerArns"][0])[
        "Listeners"
    ]
    ec2, web = stage.client("ec2"), {"AutoScalingGroupName": "web"}
    member = next(iter(members(stage)))
    (found,) = ec2.describe_instances(InstanceIds=[member])["Reservations"][0]["Instances"]
    subnet = [{"Name": "association.subnet-id", "Values": [found["SubnetId"]]}]
    (acl,) = ec2.describe_network_acls(Filters=subnet)["NetworkAcls"]
    rule = {"RuleNumber": 7, "Protocol": "-1", "RuleAction": "deny", "Egress": False}
    attributes = [
        ("slow_start.duration_seconds", "soon", "ValidationError"),
        ("deregistration_delay.timeout_seconds", "-1", "ValidationError"),
        ("invented.yesterday", "true", "ValidationError"),
        ("stickiness.enabled", "true", "NotImplemented"),
        ("load_balancing.algorithm.type", "least_outstanding_requests", "NotImplemented"),
    ]
    calls: list[tuple[str, str, dict[str, Any], str]] = [
        *(
            (
                "elbv2",
                "modify_target_group_attributes",
                {
                    "TargetGroupArn": target_group["TargetGroupArn"],
                    "Attributes": [{"Key": key, "Value": value}],
                },
                code,
            )
            for key, value, code in attributes
        ),
        *(
            (
                "elbv2",
                "modify_load_balancer_attributes",
                {
                    "LoadBalancerArn": target_group["LoadBalancerArns"][0],
                    "Attributes": [{"Key": key, "Value": value}],
                },
                code,
            )
            for key, value, code in (
                ("idle_timeout.timeout_seconds", "0", "ValidationError"),
                ("client_keep_alive.seconds", "60", "NotImplemented"),
            )
        ),
        (
            "elbv2",
            "modify_target_group",
            {"TargetGroupArn": target_group["TargetGroupArn"], "HealthCheckPort": "http"},
            "ValidationError",
        ),
        (
            "elbv2",
            "modify_listener",
            {
                "ListenerArn": listener["ListenerArn"],
                "DefaultActions": [
                    {"Type": "forward", "TargetGroupArn": f"{target_group['TargetGroupArn']}0"}
                ],
            },
            "TargetGroupNotFound",
        ),
        ("ec2", "delete_subnet", {"SubnetId": found["SubnetId"]}, "DependencyViolation"),
        (
            "ec2",
            "create_network_acl_entry",
            {**rule, "NetworkAclId": acl["NetworkAclId"], "CidrBlock": "everywhere"},
            "InvalidParameterValue",
        ),
        (
            "autoscaling",
            "suspend_processes",
            {**web, "ScalingProcesses": ["Lunch"]},
            "ValidationError",
        ),
        ("autoscaling", "resume_processes", {"AutoScalingGroupName": "no"}, "ValidationError"),
        *(
            ("autoscaling", "update_auto_scaling_group", {**web, "HealthCheckType": kind}, code)
            for kind, code in (("elb", "ValidationError"), ("ELB,EBS", "NotImplemented"))
        ),
        ("autoscaling", "attach_instances", {**web, "InstanceIds": [member]}, "ValidationError"),
        ("autoscaling", "exit_standby", {**web, "InstanceIds": [member]}, "ValidationError"),
    ]
    for service, operation, arguments, code in calls:
        assert refusal(getattr(stage.client(service), operation), **arguments) == code, arguments
    assert whole(stage)


def test_an_instance_of_ones_own_runs_and_ends(stage: Stage) -> None:
    """RunInstances starts a process at the address that it tells; it belongs to no group."""
    ec2 = stage.client("ec2")
    (started,) = ec2.run_instances(ImageId="ami-1", MinCount=1, MaxCount=1)["Instances"]
    address = started["PrivateIpAddress"]
    assert address == hosting(stage, started["InstanceId"])
    eventually(lambda: answers(stage, address))
    ec2.terminate_instances(InstanceIds=[started["InstanceId"]])
    eventually(lambda: not answers(stage, address))
    assert started["InstanceId"] not in members(stage)
    for call in (ec2.start_instances, ec2.stop_instances):  # no way back from there
        assert refusal(call, InstanceIds=[started["InstanceId"]]) == "IncorrectInstanceState"
    (ended,) = ec2.describe_instances(InstanceIds=[started["InstanceId"]])["Reservations"]
    assert ended["Instances"][0]["State"]["Name"] == "terminated"


def test_a_group_that_cannot_launch_says_why(stage: Stage) -> None:
    """The failure is a scaling activity, and the stage goes on."""
    autoscaling, ec2 = stage.client("autoscaling"), stage.client("ec2")
    made = ec2.create_launch_template(
        LaunchTemplateName="gone", LaunchTemplateData={"ImageId": "ami-1"}
    )["LaunchTemplate"]
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    autoscaling.create_auto_scaling_group(
        AutoScalingGroupName="doomed",
        MinSize=0,
        MaxSize=1,
        DesiredCapacity=0,
        LaunchTemplate={"LaunchTemplateId": made["LaunchTemplateId"]},
        VPCZoneIdentifier=subnet,
    )
    ec2.delete_launch_template(LaunchTemplateId=made["LaunchTemplateId"])
    autoscaling.set_desired_capacity(AutoScalingGroupName="doomed", DesiredCapacity=1)
    describe = autoscaling.describe_scaling_activities
    (activity, *_) = eventually(lambda: describe(AutoScalingGroupName="doomed")["Activities"])
    assert activity["StatusCode"] == "Failed"
    assert activity["StatusMessage"]
    autoscaling.delete_auto_scaling_group(AutoScalingGroupName="doomed", ForceDelete=True)


@contextmanager
def few_files() -> Iterator[None]:
    """What is started may have as few files open as most machines let it have at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (1024, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_two_stages_run_side_by_side(stage: Stage) -> None:
    """They share neither ports nor addresses, and one ends without the other; each has as many
    connections as the machine allows: a balancer must not give out before its targets."""
    options = ("--time-scale", "60", "--parameter", "DesiredCapacity=1")
    with few_files(), running_stage(*options) as other:
        for pid in descendants(other.process.pid):
            soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
            assert soft == min(hard, 65536), pid
        assert other.document["endpoint"] != stage.document["endpoint"]
        assert other.document["balancers"] != stage.document["balancers"]
        other.process.send_signal(signal.SIGINT)
        assert other.process.wait(2) == 0
    assert whole(stage)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGKILL])
def test_nothing_outlives_a_stage(number: signal.Signals) -> None:
    """Not even its killing leaves a process; asked to end, it ends with 0 within two seconds."""
    with running_stage("--parameter", "DesiredCapacity=2") as stage:
        started = descendants(stage.process.pid)
        assert len(started) >= 4  # hosts, balancer, two instances
        stage.process.send_signal(number)
        code = stage.process.wait(2)
        assert code == (-number if number == signal.SIGKILL else 0)
        eventually(lambda: not any(_lives(pid) for pid in started), 2.0)


def test_a_stage_ends_with_who_started_it() -> None:
    """Also when that one is killed, and can close nothing."""
    starter = (
        "import os, subprocess, sys\n"
        "os.environ['CHAOSGRADE_PARENT'] = str(os.getpid())\n"
        "arguments = [sys.executable, '-m', 'chaosgrade.stage', '--json']\n"
        "stage = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)\n"
        "stage.stdout.readline()\n"
        "print(stage.pid, flush=True)\n"
        "stage.wait()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        stage_pid = int(parent.stdout.readline())
        started = [stage_pid, *descendants(stage_pid)]
        assert len(started) >= 9  # the stage, hosts, balancer, six instances
        parent.kill()
    eventually(lambda: not any(_lives(pid) for pid in started), 2.0)


@contextmanager
def _starting(*command: str) -> Iterator["subprocess.Popen[str]"]:
    """A stage that is told nothing yet; it does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, *command, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "CHAOSGRADE_PARENT": str(os.getpid())},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("delay_s", [0.0, 0.5])
def test_a_stage_that_is_still_starting_can_be_stopped(delay_s: float) -> None:
    """Whatever it is busy with, it ends with 0 and says nothing."""
    with _starting("-m", "chaosgrade.stage") as process:
        eventually(lambda: descendants(process.pid))  # from now on it can be told
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(delay_s)
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def test_nothing_that_a_stage_imports_can_keep_it_from_ending() -> None:
    """An import that catches whatever is raised within it, as a finaliser does."""
    swallowing = (
        "import contextlib, sys, time\n"
        "class Swallowing:\n"
        "    def find_spec(self, name, path, target=None):\n"
        "        if name == 'moto.ec2.models':\n"
        "            print('importing', file=sys.stderr, flush=True)\n"
        "            with contextlib.suppress(BaseException):\n"
        "                time.sleep(5)\n"
        "sys.meta_path.insert(0, Swallowing())\n"
        "from chaosgrade.stage.__main__ import main\n"
        "main()\n"
    )
    with _starting("-c", swallowing) as process:
        assert process.stderr is not None
        assert process.stderr.readline() == "importing\n"
        process.send_signal(signal.SIGTERM)
        output, errors = process.communicate(timeout=10)
    assert (process.returncode, output, errors) == (0, "", "")


def _lives(pid: int) -> bool:
    try:
        state = (
            Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
        )
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"  # a zombie waits for whoever inherited it


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--template", "four-tier"], ["four-tier", "three-tier"]),
        (["--time-scale", "0"], ["--time-scale", "0"]),
        (["--time-scale", "nan"], ["--time-scale", "nan"]),
        (["--time-scale", "fast"], ["--time-scale", "fast"]),
        (["--parameter", "FleetType=none"], ["none"]),
        (["--port", "70000"], ["--port", "70000"]),
        (["--colour"], ["--colour"]),
    ],
)
def test_a_wrong_argument_ends_in_one_line(arguments: list[str], words: list[str]) -> None:
    """Exit code 2 and a line with the value, before anything was started."""
    ended = command("--json", *arguments)
    assert (ended.returncode, ended.stdout) == (2, "")
    (line,) = ended.stderr.splitlines()
    assert line.startswith("chaosgrade: ")
    assert all(word in line for word in words), line


def test_a_template_that_cannot_be_played_ends_in_one_line(tmp_path: Path) -> None:
    """An unsupported type before anything starts, a wrong reference when the stack is made."""
    path = tmp_path / "mine.yaml"
    for text, word in (
        ("Resources: {Code: {Type: 'AWS::Lambda::Function'}}", "AWS::Lambda::Function"),
        (
            "Resources: {Net: {Type: 'AWS::EC2::Subnet', Properties: {VpcId: !Ref Missing}}}",
            "Missing",
        ),
    ):
        path.write_text(text, "utf-8")
        ended = command("--json", "--template", str(path))
        assert (ended.returncode, ended.stdout) == (2, "")
        (line,) = ended.stderr.splitlines()
        assert line.startswith("chaosgrade: ")
        assert word in line


def test_a_taken_port_ends_in_one_line() -> None:
    """With the port and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        ended = command("--json", "--port", str(port))
    assert ended.returncode == 2
    (line,) = ended.stderr.splitlines()
    assert str(port) in line
    assert "--port" in line
