"""Changes of processes on instances, through AWS Systems Manager.

Signals are sent by the document `AWSFIS-Run-Kill-Process`, the one that AWS FIS uses; the state is
read with `ps` through `AWS-RunShellScript`. Source: AWS FIS User Guide, "Use Systems Manager SSM
documents with AWS FIS".
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Self

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.changes.instance import described
from chaosgrade.changes.model import Effect, Live, Reading, Resource
from chaosgrade.changes.reading import one_by_one
from chaosgrade.errors import AwsError
from chaosgrade.evidence import Json

RUNNING, STOPPED, ABSENT = "running", "stopped", "absent"

_COMMAND_TIMEOUT_S = 60.0
_READS = ("ec2:DescribeInstances", "ssm:SendCommand", "ssm:GetCommandInvocation")
_PENDING = ("Pending", "InProgress", "Delayed")
_NO_MATCH = 1
"""The exit code of `ps` when it lists nothing."""

_WITH_PROCESSES = ("pending", "running", "stopping")


@dataclass(frozen=True, slots=True)
class ProcessState:
    """Whether a process runs or is stopped. A stopped one keeps its port open and answers nothing:
    the hang that only a health check with a request in it can see."""

    instance_id: str
    zone: str
    process: str

    kind: ClassVar[str] = "ssm:process-state"
    reads: ClassVar[tuple[str, ...]] = _READS
    writes: ClassVar[tuple[str, ...]] = ("ssm:SendCommand",)

    @property
    def resource(self) -> Resource:
        return Resource("ec2:instance", self.instance_id, self.zone)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        return one_by_one(
            aws, settings, lambda aws, s: Live(process_state(aws, s.instance_id, s.process))
        )

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        return (signal_call(self.instance_id, self.process, _SIGNALS[str(value)]),)

    def summary(self, value: Json) -> str:
        verb = "stop" if value == STOPPED else "continue"
        return f"{verb} process {self.process} on {self.instance_id} in {self.zone}"


_SIGNALS = {STOPPED: "SIGSTOP", RUNNING: "SIGCONT"}


@dataclass(frozen=True, slots=True)
class KillProcess:
    """Kill a process outright; whether anything starts it again is the system's affair."""

    instance_id: str
    zone: str
    process: str
    signal: str = "SIGKILL"

    kind: ClassVar[str] = "ssm:kill-process"
    reads: ClassVar[tuple[str, ...]] = _READS
    writes: ClassVar[tuple[str, ...]] = ("ssm:SendCommand",)

    @property
    def resource(self) -> Resource:
        return Resource("ec2:instance", self.instance_id, self.zone)

    def calls(self) -> tuple[Call, ...]:
        return (signal_call(self.instance_id, self.process, self.signal),)

    def effect(self, aws: Aws) -> Effect:
        try:
            state = process_state(aws, self.instance_id, self.process)
        except ResourceGone:
            return Effect(True, f"{self.instance_id} has been replaced since")
        return Effect(state == ABSENT, f"{self.process} on {self.instance_id} is {state}")

    def summary(self) -> str:
        return f"kill process {self.process} ({self.signal}) on {self.instance_id} in {self.zone}"


def signal_call(instance_id: str, process: str, signal: str) -> Call:
    """The call that sends a signal to a process by name."""
    return Call(
        "ssm",
        "SendCommand",
        {
            "DocumentName": "AWSFIS-Run-Kill-Process",
            "InstanceIds": [instance_id],
            "Parameters": {"ProcessName": [process], "Signal": [signal]},
        },
    )


def process_state(aws: Aws, instance_id: str, process: str) -> str:
    """ "running", "stopped" or "absent".

    Raises:
        ResourceGone: the instance does not exist or does not run (any more).
        AwsError: the command did not run, or did not finish within a minute.
    """
    command = Call(
        "ssm",
        "SendCommand",
        {
            "DocumentName": "AWS-RunShellScript",
            "InstanceIds": [instance_id],
            "Parameters": {"commands": [f"ps -o stat= -C {process}"]},
        },
    )
    try:
        sent = aws.send(command)
    except ResourceGone as error:
        raise _gone_or_silent(aws, instance_id, error) from None
    invocation = Call(
        "ssm",
        "GetCommandInvocation",
        {"CommandId": sent["Command"]["CommandId"], "InstanceId": instance_id},
    )
    deadline = time.monotonic() + _COMMAND_TIMEOUT_S
    while True:
        try:
            answer = aws.send(invocation)
        except AwsError as error:
            # The invocation appears a moment after the command was accepted.
            if error.code != "InvocationDoesNotExist" or time.monotonic() > deadline:
                raise
            answer = {"Status": "Pending"}
        if answer["Status"] not in _PENDING:
            break
        if time.monotonic() > deadline:
            raise AwsError(
                f"ssm:GetCommandInvocation: no answer from {instance_id} within 60 s; "
                "is its SSM agent running?",
                code="CommandTimeout",
            )
        time.sleep(0.2)
    status, code = answer["Status"], answer.get("ResponseCode")
    if status != "Success" and (status, code) != ("Failed", _NO_MATCH):
        raise AwsError(
            f"ssm:GetCommandInvocation: {status} with exit code {code} on {instance_id}: "
            f"whether {process} runs there is not known",
            code=f"Command{status}",
        )
    stats = str(answer.get("StandardOutputContent", "")).split()
    if not stats:
        return ABSENT
    return STOPPED if all(stat.startswith("T") for stat in stats) else RUNNING


def _gone_or_silent(aws: Aws, instance_id: str, error: ResourceGone) -> AwsError:
    """What it means that Systems Manager does not reach an instance.

    InvalidInstanceId is its word for one that has ended, and for one that runs and whose agent does
    not answer. Source: AWS Systems Manager API Reference, SendCommand.
    """
    for instance in described(aws, [instance_id]):
        state = instance["State"]["Name"]
        if state in _WITH_PROCESSES:
            return AwsError(
                f"Systems Manager does not reach {instance_id}, which is {state}: "
                "is its SSM agent running?",
                code=error.code,
            )
    return error
