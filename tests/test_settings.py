"""Settings and strikes: what is asked of AWS, what an answer means, which calls follow."""

import time
from typing import Any

import pytest

from chaosgrade.aws import Call, Lookup, ResourceGone
from chaosgrade.changes import process
from chaosgrade.changes.group_processes import PROCESSES, SuspendedProcesses
from chaosgrade.changes.instance import InstanceState, TerminateInstance, existing
from chaosgrade.changes.model import Effect, Live, Resource
from chaosgrade.changes.network_acl import BlockingAcl, SubnetAcl, name_of, tags_of
from chaosgrade.changes.process import KillProcess, ProcessState
from chaosgrade.changes.target_registration import TargetRegistration
from chaosgrade.errors import AwsError, UsageError
from tests.canned_aws import CannedAws, instance, reservations, tags

ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123"
NOW = Live(None)


def by_ids(*ids: str) -> Call:
    filters = [{"Name": "instance-id", "Values": list(ids)}]
    return Call("ec2", "DescribeInstances", {"Filters": filters, "MaxResults": 1000})


@pytest.mark.parametrize(
    ("state", "reading"),
    [
        ("pending", Live("running", settled=False)),
        ("running", Live("running")),
        ("stopping", Live("stopped", settled=False)),
        ("stopped", Live("stopped")),
        ("shutting-down", None),
        ("terminated", None),
    ],
)
def test_an_instance_state_is_where_it_is_going(state: str, reading: Live | None) -> None:
    """Settled when it has arrived; an instance that ends is gone."""
    ours, unknown = InstanceState("i-1", "us-east-1a"), InstanceState("i-2", "us-east-1a")
    aws: Any = CannedAws({"DescribeInstances": reservations(instance("i-1", state=state))})
    assert InstanceState.read_all(aws, [ours, unknown]) == ({ours: reading} if reading else {})
    assert aws.sent == [by_ids("i-1", "i-2")]


def test_instances_are_asked_for_by_the_200() -> None:
    """A filter takes no more values."""
    found: Any = CannedAws({"DescribeInstances": lambda p: reservations(*map(instance, ids(p)))})

    def ids(parameters: Any) -> list[str]:
        listed: list[str] = parameters["Filters"][0]["Values"]
        return listed

    asked = [f"i-{n}" for n in range(201)]
    assert existing(found, [*asked, "i-0"]) == set(asked)
    assert found.sent == [by_ids(*asked[:200]), by_ids(asked[200])]


def test_an_instance_is_powered_off_by_force_and_started() -> None:
    """A host that loses power asks nobody."""
    setting = InstanceState("i-1", "us-east-1a")
    assert setting.resource == Resource("ec2:instance", "i-1", "us-east-1a")
    off = Call("ec2", "StopInstances", {"InstanceIds": ["i-1"], "Force": True})
    assert setting.calls("stopped", NOW) == (off,)
    assert setting.calls("running", NOW) == (
        Call("ec2", "StartInstances", {"InstanceIds": ["i-1"]}),
    )
    assert setting.summary("stopped") == "power off i-1 in us-east-1a"
    assert setting.summary("running") == "start i-1 in us-east-1a"


def test_a_termination_is_proven_by_what_ec2_tells() -> None:
    """Also by its not knowing the instance any more."""
    strike = TerminateInstance("i-1", "us-east-1a")
    assert strike.resource == Resource("ec2:instance", "i-1", "us-east-1a")
    assert strike.calls() == (Call("ec2", "TerminateInstances", {"InstanceIds": ["i-1"]}),)
    assert strike.summary() == "terminate i-1 in us-east-1a"
    for found, effect in (
        ([instance("i-1", state="terminated")], Effect(True, "i-1 is terminated")),
        ([instance("i-1", state="shutting-down")], Effect(False, "i-1 is shutting-down")),
        ([], Effect(True, "i-1 does not exist any more")),
    ):
        aws: Any = CannedAws({"DescribeInstances": reservations(*found)})
        assert strike.effect(aws) == effect
        assert aws.sent == [by_ids("i-1")]


def test_suspended_processes_are_read_by_the_100() -> None:
    """Those of others are neither read nor resumed."""
    settings = [SuspendedProcesses(f"g{n}", ("Launch", "AZRebalance")) for n in range(101)]

    def groups(parameters: Any) -> Any:
        suspended = [{"ProcessName": name} for name in ("Launch", "Terminate")]
        return {
            "AutoScalingGroups": [
                {"AutoScalingGroupName": name, "SuspendedProcesses": suspended}
                for name in parameters["AutoScalingGroupNames"]
                if name != "g1"
            ]
        }

    aws: Any = CannedAws({"DescribeAutoScalingGroups": groups})
    read = SuspendedProcesses.read_all(aws, settings)
    assert read == {s: Live(["Launch"]) for s in settings if s.group != "g1"}
    assert aws.sent == [
        Call(
            "autoscaling",
            "DescribeAutoScalingGroups",
            {"AutoScalingGroupNames": names, "MaxRecords": 100},
        )
        for names in ([f"g{n}" for n in range(100)], ["g100"])
    ]


def test_only_the_difference_is_suspended_and_resumed() -> None:
    """And nothing when there is none."""
    setting = SuspendedProcesses("g", ("Terminate", "Launch", "Launch"))
    assert setting == SuspendedProcesses("g", ("Launch", "Terminate"))
    assert setting.resource == Resource("autoscaling:group", "g")

    def call(operation: str, *names: str) -> Call:
        parameters = {"AutoScalingGroupName": "g", "ScalingProcesses": list(names)}
        return Call("autoscaling", operation, parameters)

    swap = setting.calls(["Launch"], Live(["Terminate"]))
    assert swap == (call("SuspendProcesses", "Launch"), call("ResumeProcesses", "Terminate"))
    both = setting.calls(["Launch", "Terminate"], Live([]))
    assert both == (call("SuspendProcesses", "Launch", "Terminate"),)
    assert setting.calls(["Launch"], Live(["Launch"])) == ()
    assert setting.calls(None, Live(["Launch"])) == (call("ResumeProcesses", "Launch"),)
    assert setting.summary([]) == "resume Launch, Terminate of group g"
    assert setting.summary(["Launch", "Terminate"]) == "suspend Launch, Terminate of group g"


def test_a_process_that_auto_scaling_does_not_have_is_refused() -> None:
    """With those that it has."""
    with pytest.raises(UsageError) as caught:
        SuspendedProcesses("g", ("launch",))
    has = ", ".join(PROCESSES)
    assert str(caught.value) == f"process 'launch' is none of Auto Scaling's; there are: {has}"


def health(*targets: tuple[str, int | None, str]) -> dict[str, Any]:
    return {
        "TargetHealthDescriptions": [
            {
                "Target": {"Id": id_} if port is None else {"Id": id_, "Port": port},
                "TargetHealth": {"State": state},
            }
            for id_, port, state in targets
        ]
    }


def test_a_draining_target_is_not_registered_and_a_dead_instance_never_can_be() -> None:
    """An address needs no instance."""
    targets = {id_: TargetRegistration(ARN, id_, 80) for id_ in ("i-1", "i-2", "i-3", "10.0.0.9")}
    targets["any"] = TargetRegistration(ARN, "i-4", 8080)
    answer = health(
        ("i-1", 80, "healthy"), ("i-2", 80, "draining"), ("i-3", 81, "unhealthy"),
        ("i-4", None, "initial"),
    )  # fmt: skip
    aws: Any = CannedAws(
        {
            "DescribeTargetHealth": answer,
            "DescribeInstances": reservations(instance("i-2"), instance("i-3", state="terminated")),
        }
    )
    assert TargetRegistration.read_all(aws, list(targets.values())) == {
        targets["i-1"]: Live("registered"),
        targets["any"]: Live("registered"),
        targets["i-2"]: Live("deregistered"),
        targets["10.0.0.9"]: Live("deregistered"),
    }
    asked = Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": ARN})
    assert aws.sent == [asked, by_ids("i-2", "i-3")]


def test_a_target_group_that_cannot_be_read_says_nothing_of_another() -> None:
    """Nor of its own targets."""
    other = ARN.replace("web", "api")
    error = AwsError("denied", code="AccessDenied")
    read: Any = CannedAws(
        {
            "DescribeTargetHealth": lambda p: (
                error if p["TargetGroupArn"] == ARN else health(("i-1", 80, "healthy"))
            ),
            "DescribeInstances": reservations(),
        }
    )
    ours, theirs = (TargetRegistration(arn, "i-1", 80) for arn in (ARN, other))
    for order in ([ours, theirs], [theirs, ours]):
        assert TargetRegistration.read_all(read, order) == {
            ours: error,
            theirs: Live("registered"),
        }


def test_a_target_is_registered_by_id_and_port() -> None:
    """And named by its group's name."""
    setting = TargetRegistration(ARN, "i-1", 80)
    assert setting.resource == Resource("elbv2:target", f"{ARN}/i-1:80")
    parameters = {"TargetGroupArn": ARN, "Targets": [{"Id": "i-1", "Port": 80}]}
    assert setting.calls("registered", NOW) == (Call("elbv2", "RegisterTargets", parameters),)
    assert setting.calls("deregistered", NOW) == (Call("elbv2", "DeregisterTargets", parameters),)
    assert setting.summary("registered") == "register i-1:80 at target group web"
    assert setting.summary("deregistered") == "deregister i-1:80 at target group web"


def acl(id_: str, vpc: str = "vpc-1", subnets: tuple[str, ...] = (), **named: str) -> Any:
    return {
        "NetworkAclId": id_,
        "VpcId": vpc,
        "Tags": tags(**named),
        "Associations": [
            {"SubnetId": subnet, "NetworkAclAssociationId": f"assoc-{subnet}"} for subnet in subnets
        ],
    }


def test_blocking_acls_are_found_by_tag_and_vpc() -> None:
    """All of a name, for a lost reply makes two; with our tags only."""
    ours, theirs, none = (
        BlockingAcl("vpc-1", "x"), BlockingAcl("vpc-2", "x"), BlockingAcl("vpc-1", "y"),
    )  # fmt: skip
    found = [
        acl("acl-2", chaosgrade_acl="x", chaosgrade_run="r1", Name="n"),
        acl("acl-1", chaosgrade_acl="x", chaosgrade_run="r1"),
        acl("acl-3", "vpc-3", chaosgrade_acl="y"),
    ]
    aws: Any = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": found}})
    value = {"chaosgrade:acl": "x", "chaosgrade:run": "r1"}
    one = BlockingAcl("vpc-3", "y")
    assert BlockingAcl.read_all(aws, [ours, theirs, none, one]) == {
        one: Live({"chaosgrade:acl": "y"}, {"ids": "acl-3"}),
        ours: Live(value, {"ids": "acl-1 acl-2"}),
        theirs: Live(None, {"ids": ""}),
        none: Live(None, {"ids": ""}),
    }
    filters = [{"Name": "tag:chaosgrade:acl", "Values": ["x", "y"]}]
    assert aws.sent == [Call("ec2", "DescribeNetworkAcls", {"Filters": filters})]


def test_a_blocking_acl_is_created_with_its_tags_and_deleted_by_id() -> None:
    """A person, who has no id, looks it up by the tag."""
    setting = BlockingAcl("vpc-1", "x")
    assert setting.resource == Resource("ec2:network-acl", "vpc-1/x")
    (create,) = setting.calls({"chaosgrade:acl": "x"}, Live(None))
    specification = {
        "ResourceType": "network-acl",
        "Tags": [
            {"Key": "Name", "Value": "chaosgrade: denies everything"},
            {"Key": "chaosgrade:acl", "Value": "x"},
        ],
    }
    parameters = {"VpcId": "vpc-1", "TagSpecifications": [specification]}
    assert create == Call("ec2", "CreateNetworkAcl", parameters)
    assert setting.calls(None, Live({}, {"ids": "acl-1 acl-2"})) == (
        Call("ec2", "DeleteNetworkAcl", {"NetworkAclId": "acl-1"}),
        Call("ec2", "DeleteNetworkAcl", {"NetworkAclId": "acl-2"}),
    )
    assert setting.calls(None, Live({})) == (
        Call("ec2", "DeleteNetworkAcl", {"NetworkAclId": BY_NAME}),
    )
    what = "a network ACL that denies everything in vpc-1"
    assert [setting.summary(v) for v in ({"a": "b"}, None)] == [f"create {what}", f"delete {what}"]


BY_NAME = Lookup(
    Call(
        "ec2",
        "DescribeNetworkAcls",
        {"Filters": [{"Name": "tag:chaosgrade:acl", "Values": ["x"]}]},
    ),
    "NetworkAcls[0].NetworkAclId",
)


def test_a_subnets_acl_is_read_with_what_its_next_call_needs() -> None:
    """Ours by name, another's by id; a subnet without one is gone."""
    settings = [SubnetAcl("vpc-1", f"subnet-{n}", "us-east-1a") for n in (1, 2, 3)]
    other = SubnetAcl("vpc-2", "subnet-4", "us-east-1a")
    found = [
        acl("acl-1", subnets=("subnet-1",)),
        acl("acl-2", subnets=("subnet-2",), chaosgrade_acl="x"),
        acl("acl-3", chaosgrade_acl="y"),
        acl("acl-4", "vpc-2", subnets=("subnet-4",)),
    ]
    aws: Any = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": found}})
    ours = {"chaosgrade:x": "acl-2", "chaosgrade:y": "acl-3"}
    assert SubnetAcl.read_all(aws, [*settings, other]) == {
        settings[0]: Live("acl-1", {"association": "assoc-subnet-1", **ours}),
        settings[1]: Live("chaosgrade:x", {"association": "assoc-subnet-2", **ours}),
        other: Live("acl-4", {"association": "assoc-subnet-4"}),
    }
    filters = [{"Name": "vpc-id", "Values": ["vpc-1", "vpc-2"]}]
    assert aws.sent == [Call("ec2", "DescribeNetworkAcls", {"Filters": filters})]


def test_a_subnets_acl_is_replaced_by_its_association() -> None:
    """Both ids as they are now; a person looks them up."""
    setting = SubnetAcl("vpc-1", "subnet-1", "us-east-1a")
    assert setting.resource == Resource("ec2:subnet", "subnet-1", "us-east-1a")

    def replace(association: Any, acl: Any) -> tuple[Call, ...]:
        parameters = {"AssociationId": association, "NetworkAclId": acl}
        return (Call("ec2", "ReplaceNetworkAclAssociation", parameters),)

    live = Live("acl-1", {"association": "assoc-1", "chaosgrade:x": "acl-2"})
    assert setting.calls("chaosgrade:x", live) == replace("assoc-1", "acl-2")
    assert setting.calls("acl-9", live) == replace("assoc-1", "acl-9")
    by_subnet = [{"Name": "association.subnet-id", "Values": ["subnet-1"]}]
    query = "NetworkAcls[0].Associations[?SubnetId=='subnet-1'].NetworkAclAssociationId | [0]"
    association = Lookup(Call("ec2", "DescribeNetworkAcls", {"Filters": by_subnet}), query)
    assert setting.calls("chaosgrade:x", Live("acl-1")) == replace(association, BY_NAME)
    assert setting.summary("chaosgrade:x") == "cut subnet-1 in us-east-1a off"
    assert setting.summary("acl-1") == "give subnet-1 in us-east-1a its network ACL acl-1"


def shell(*answers: Any) -> Any:
    """Systems Manager, whose invocation answers so, one look after the other."""
    left = list(answers)
    sent = {"Command": {"CommandId": "c-1"}}
    return CannedAws({"SendCommand": sent, "GetCommandInvocation": lambda parameters: left.pop(0)})


def success(output: str) -> dict[str, str]:
    return {"Status": "Success", "StandardOutputContent": output}


NOT_YET = AwsError("not yet", code="InvocationDoesNotExist")


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time stands still but for pauses; what they were."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + sum(pauses))
    return pauses


@pytest.mark.parametrize(
    ("output", "state"),
    [("", "absent"), ("S\n", "running"), ("T\n", "stopped"), ("T\nTl\n", "stopped"),
     ("T\nSl\n", "running")],
)  # fmt: skip
def test_a_process_state_is_what_ps_tells(output: str, state: str, seconds: Any) -> None:
    """Stopped only when all of its name are."""
    aws = shell(NOT_YET, {"Status": "Pending"}, {"Status": "InProgress"}, {"Status": "Delayed"},
                success(output))  # fmt: skip
    setting = ProcessState("i-1", "us-east-1a", "web")
    assert ProcessState.read_all(aws, [setting]) == {setting: Live(state)}
    command = {
        "DocumentName": "AWS-RunShellScript",
        "InstanceIds": ["i-1"],
        "Parameters": {"commands": ["ps -o stat= -C web"]},
    }
    look = Call("ssm", "GetCommandInvocation", {"CommandId": "c-1", "InstanceId": "i-1"})
    assert aws.sent == [Call("ssm", "SendCommand", command), *[look] * 5]
    assert seconds == [0.2] * 4


@pytest.mark.parametrize("answer", [NOT_YET, {"Status": "Pending"}])
def test_a_command_that_does_not_end_is_given_up_after_a_minute(
    answer: Any, seconds: list[float]
) -> None:
    """With what to look at."""
    aws = shell(*[answer] * 400)
    with pytest.raises(AwsError) as caught:
        process.process_state(aws, "i-1", "web")
    if answer is not NOT_YET:
        assert caught.value.code == "CommandTimeout"
        assert str(caught.value) == (
            "ssm:GetCommandInvocation: no answer from i-1 within 60 s; is its SSM agent running?"
        )
    assert 60.0 <= sum(seconds) <= 60.5


def test_a_command_that_is_refused_is_not_asked_for_again(seconds: list[float]) -> None:
    """Only an invocation that is not there yet may come."""
    with pytest.raises(AwsError, match="denied"):
        process.process_state(shell(AwsError("denied", code="AccessDenied")), "i-1", "web")
    assert seconds == []


def test_an_invocation_without_output_means_no_such_process() -> None:
    """ps prints nothing then, and says so by its exit code."""
    failed = {"Status": "Failed", "ResponseCode": 1}
    assert process.process_state(shell(failed), "i-1", "web") == "absent"


@pytest.mark.parametrize(
    ("status", "code"),
    [("Failed", 127), ("Failed", -1), ("TimedOut", -1), ("Undeliverable", -1), ("Cancelled", 1)],
)
def test_a_command_that_did_not_run_tells_nothing_of_the_process(status: str, code: int) -> None:
    """A process that is still stopped would be taken for one that somebody else has ended."""
    with pytest.raises(AwsError, match=f"{status} with exit code {code} on i-1"):
        process.process_state(shell({"Status": status, "ResponseCode": code}), "i-1", "web")


def signals(name: str) -> tuple[Call, ...]:
    parameters = {
        "DocumentName": "AWSFIS-Run-Kill-Process",
        "InstanceIds": ["i-1"],
        "Parameters": {"ProcessName": ["web"], "Signal": [name]},
    }
    return (Call("ssm", "SendCommand", parameters),)


def test_a_process_is_stopped_and_continued_by_signal() -> None:
    """With the document that AWS FIS uses."""
    setting = ProcessState("i-1", "us-east-1a", "web")
    assert setting.resource == Resource("ec2:instance", "i-1", "us-east-1a")
    assert setting.calls("stopped", NOW) == signals("SIGSTOP")
    assert setting.calls("running", NOW) == signals("SIGCONT")
    assert setting.summary("stopped") == "stop process web on i-1 in us-east-1a"
    assert setting.summary("running") == "continue process web on i-1 in us-east-1a"


def test_a_killed_process_is_absent_or_its_instance_is() -> None:
    """Whatever is there is no proof."""
    strike = KillProcess("i-1", "us-east-1a", "web")
    assert strike.resource == Resource("ec2:instance", "i-1", "us-east-1a")
    assert strike.calls() == signals("SIGKILL")
    assert strike.summary() == "kill process web (SIGKILL) on i-1 in us-east-1a"
    aws = shell(success(""))
    assert strike.effect(aws) == Effect(True, "web on i-1 is absent")
    command = {"commands": ["ps -o stat= -C web"]}
    sent = aws.sent[0].parameters
    assert (sent["InstanceIds"], sent["Parameters"]) == (["i-1"], command)
    assert strike.effect(shell(success("S"))) == Effect(False, "web on i-1 is running")
    assert strike.effect(unmanaged("terminated")) == Effect(True, "i-1 has been replaced since")


def unmanaged(*states: str) -> Any:
    """An instance in such a state, out of Systems Manager's reach; without a state, none."""
    refused = ResourceGone("not in a valid state", code="InvalidInstanceId")
    found = reservations(*(instance("i-1", state=state) for state in states))
    return CannedAws({"SendCommand": refused, "DescribeInstances": found})


@pytest.mark.parametrize("state", ["pending", "running", "stopping"])
def test_an_instance_whose_agent_does_not_answer_is_not_gone(state: str) -> None:
    """Its process may be as we left it: no end of an undo, and no proof of a kill."""
    setting = ProcessState("i-1", "us-east-1a", "web")
    reading = ProcessState.read_all(unmanaged(state), [setting])[setting]
    assert isinstance(reading, AwsError)
    assert not isinstance(reading, ResourceGone)
    assert f"i-1, which is {state}" in str(reading)
    with pytest.raises(AwsError, match="does not reach i-1"):
        KillProcess("i-1", "us-east-1a", "web").effect(unmanaged(state))


@pytest.mark.parametrize("states", [(), ("terminated",), ("shutting-down",), ("stopped",)])
def test_an_instance_that_has_stopped_has_taken_its_processes_with_it(states: Any) -> None:
    """There is nothing to continue."""
    setting = ProcessState("i-1", "us-east-1a", "web")
    assert isinstance(ProcessState.read_all(unmanaged(*states), [setting])[setting], ResourceGone)


def test_what_has_no_tags_has_none() -> None:
    """EC2 may leave them out."""
    assert tags_of({"InstanceId": "i-1"}) == {}
    assert name_of({"NetworkAclId": "acl-1"}) == ""
