"""Systems Manager documents act on processes without a shell."""

import time
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chaosgrade.stage.ssm_documents import KILL_PROCESS, SHELL, invoke
from tests.stage.conftest import Stage, eventually, running_stage


class Hosts:
    """Answers orders with a fixed reply and keeps them."""

    def __init__(self, **reply: object) -> None:
        self.orders: list[Mapping[str, Any]] = []
        self._reply = {"ok": True, "state": "running", "stat": "S", "error": None, **reply}

    def ask(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        self.orders.append(order)
        return self._reply


def test_a_shell_command_other_than_ps_is_refused_without_running() -> None:
    """The stage's instances have no shell, and say so."""
    hosts = Hosts()
    ended = invoke(SHELL, {"commands": ["ps -o stat= -C web; reboot"]}, "i-1", hosts.ask)
    assert (ended.status, ended.code) == ("Failed", 127)
    assert "ps -o stat= -C NAME" in ended.error
    assert hosts.orders == []


def test_ps_ends_as_ps_does_when_nothing_matches() -> None:
    """No output and exit code 1."""
    ended = invoke(SHELL, {"commands": ["ps -o stat= -C web"]}, "i-1", Hosts(state="absent").ask)
    assert (ended.status, ended.code, ended.output) == ("Failed", 1, "")


def test_kill_process_needs_a_process_name() -> None:
    """Without one nothing is sent."""
    hosts = Hosts()
    assert invoke(KILL_PROCESS, {"Signal": ["SIGKILL"]}, "i-1", hosts.ask).status == "Failed"
    assert hosts.orders == []


@pytest.mark.parametrize("signal", ["SIGSTOP", "STOP"])
def test_signals_may_be_named_either_way(signal: str) -> None:
    """As `kill` takes them."""
    hosts = Hosts()
    invoke(KILL_PROCESS, {"ProcessName": ["web"], "Signal": [signal]}, "i-1", hosts.ask)
    assert hosts.orders[0]["signal"] == "SIGSTOP"


@pytest.fixture(scope="module")
def fixed() -> Iterator[Stage]:
    """A fleet that nothing replaces, checked by connecting only."""
    options = ("FleetType=fixed", "HealthCheckProtocol=TCP")
    with running_stage(
        "--time-scale", "60", *(w for o in options for w in ("--parameter", o))
    ) as s:
        yield s


def instances(stage: Stage) -> list[str]:
    """Of the web tier."""
    reservations = stage.client("ec2").describe_instances(
        Filters=[{"Name": "tag:Tier", "Values": ["web"]}]
    )["Reservations"]
    return [
        instance["InstanceId"]
        for reservation in reservations
        for instance in reservation["Instances"]
        if instance["State"]["Name"] == "running"
    ]


def command(stage: Stage, instance: str, document: str, **parameters: str) -> Mapping[str, Any]:
    ssm = stage.client("ssm")
    sent = ssm.send_command(
        DocumentName=document,
        InstanceIds=[instance],
        Parameters={name: [value] for name, value in parameters.items()},
    )
    answer: Mapping[str, Any] = ssm.get_command_invocation(
        CommandId=sent["Command"]["CommandId"], InstanceId=instance
    )
    return answer


def state(stage: Stage, instance: str) -> str:
    answer = command(stage, instance, SHELL, commands="ps -o stat= -C web")
    return str(answer["StandardOutputContent"]).strip()[:1]


def test_a_process_is_stopped_and_continued(fixed: Stage) -> None:
    """SIGSTOP leaves it stopped, SIGCONT running: the state that ps shows is the real one."""
    victim = instances(fixed)[0]
    stopped = command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGSTOP")
    assert stopped["Status"] == "Success"
    assert state(fixed, victim) == "T"
    assert command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGCONT")["Status"]
    assert eventually(lambda: state(fixed, victim)) in {"S", "R"}


def test_connecting_health_checks_do_not_see_a_hang(fixed: Stage) -> None:
    """The flaw of TCP health checks: a stopped process still accepts connections."""
    victim = instances(fixed)[1]
    command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGSTOP")
    elbv2 = fixed.client("elbv2")
    arn = elbv2.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    seen = set()
    until = time.monotonic() + 60 / 60  # six checks are due meanwhile, two would be enough
    while time.monotonic() < until:
        targets = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        seen |= {target["TargetHealth"]["State"] for target in targets}
    assert seen == {"healthy"}
    command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGCONT")


def test_a_killed_process_is_absent(fixed: Stage) -> None:
    """Nothing starts it again, and a second kill has nobody to kill."""
    victim = instances(fixed)[2]
    command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGKILL")
    assert state(fixed, victim) == ""
    again = command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGKILL")
    assert again["Status"] == "Failed"
    assert "web" in again["StandardErrorContent"]


def test_documents_and_instances_that_do_not_exist_are_refused(fixed: Stage) -> None:
    """With the codes of Systems Manager."""
    ssm = fixed.client("ssm")
    with pytest.raises(ClientError) as caught:
        ssm.send_command(DocumentName="AWSFIS-Run-Nothing", InstanceIds=[instances(fixed)[0]])
    assert caught.value.response["Error"]["Code"] == "InvalidDocument"
    with pytest.raises(ClientError) as caught:
        ssm.send_command(DocumentName=KILL_PROCESS, InstanceIds=["i-0123456789abcdef0"])
    assert caught.value.response["Error"]["Code"] == "InvalidInstanceId"


def test_a_stopped_instance_takes_no_commands_until_it_is_started(fixed: Stage) -> None:
    """Stop ends the process, start runs it again at the same address; nothing replaces it."""
    ec2, ssm = fixed.client("ec2"), fixed.client("ssm")
    victim = instances(fixed)[3]
    ec2.stop_instances(InstanceIds=[victim])
    with pytest.raises(ClientError) as caught:
        ssm.send_command(DocumentName=KILL_PROCESS, InstanceIds=[victim])
    assert caught.value.response["Error"]["Code"] == "InvalidInstanceId"
    ec2.start_instances(InstanceIds=[victim])
    assert eventually(lambda: state(fixed, victim)) in {"S", "R"}
    assert len(instances(fixed)) == 6


def test_a_reboot_starts_the_process_anew(fixed: Stage) -> None:
    """A process that was stopped by a signal runs after a reboot."""
    victim = instances(fixed)[4]
    command(fixed, victim, KILL_PROCESS, ProcessName="web", Signal="SIGSTOP")
    fixed.client("ec2").reboot_instances(InstanceIds=[victim])
    assert eventually(lambda: state(fixed, victim) in {"S", "R"})
