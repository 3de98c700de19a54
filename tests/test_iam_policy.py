"""The least privilege of an experiment: what it names is what is called, no more and no less."""

import json
import logging
import os
import random
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import botocore.session
import pytest
import yaml
from moto import mock_aws

from chaosgrade import iam_policy, session
from chaosgrade.actions.zones import power_off_zone
from chaosgrade.api_calls import iam_action, recorded
from chaosgrade.aws import Aws, Call
from chaosgrade.changes import census
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.registry import SETTINGS, STRIKES
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.clock import Clock
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.evidence import read
from chaosgrade.experiment import load, shipped
from chaosgrade.iam_policy import RESOURCES, not_covered, policy_for
from chaosgrade.plan import only_reads
from chaosgrade.policies.objectives import parse_extension
from chaosgrade.policies.safety import load_safety
from chaosgrade.probes import observers
from chaosgrade.stop_conditions import StopConditions
from tests.safety.inventory import REGION, ZONE, Account, Inventory
from tests.safety.wire import Wire
from tests.stage.conftest import running_stage

CHAOSGRADE = str(Path(sys.executable).parent / "chaosgrade")
ACCOUNT = "123456789012"
ENDPOINT = "botocore.endpoint"
WITHOUT_CALL = {"ec2:CreateTags", "fis:TagResource", "iam:PassRole", "s3:ListBucket"}
"""Permissions that other calls need: tags at creation, a role that is handed on, ListObjectsV2."""
OF_THE_OTHER_KIND = {"ec2:DescribeNetworkInterfaces", "rds:DescribeDBClusters"}
"""What is asked only of targets that are addresses, or of what may be a DB cluster's identifier."""


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Wire]:
    """Sees every call that botocore sends in this process, to moto."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_REGION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path / "state"))
    with mock_aws(), Wire() as wire:
        yield wire
    session.activate(None)


@pytest.fixture
def inventory(wire: Wire) -> Inventory:
    with wire.paused():
        return Account().build()


@pytest.fixture
def aws(wire: Wire) -> Aws:
    return Aws(region=REGION)


def experiment(action: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """The experiment instance-kill with another action, no hypothesis, traffic to an address."""
    document: dict[str, Any] = yaml.safe_load(shipped()["instance-kill"].read_text())
    document["extensions"][0]["observers"] = [{"probe": "traffic", "url": "http://x"}]
    document["method"] = [{"type": "action", "name": "act", "provider": action}]
    del document["steady-state-hypothesis"]
    return {**document, **changes}


def python(module: str, func: str, **arguments: Any) -> dict[str, Any]:
    return {"type": "python", "module": module, "func": func, "arguments": arguments}


POWER = python("chaosgrade.actions.zones", "power_off_zone", zone=ZONE, suspend=["Launch"])
TERMINATE = python("chaosgrade.actions.instances", "terminate_instances", group="group-0")


def actions_of(policy: Mapping[str, Any]) -> set[str]:
    found: set[str] = set()
    for statement in policy["Statement"]:
        actions = statement["Action"]
        found |= {actions} if isinstance(actions, str) else set(actions)
    return found


def by_sid(policy: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    statements = {statement["Sid"]: statement for statement in policy["Statement"]}
    assert len(statements) == len(policy["Statement"])
    return statements


@cache
def operations() -> dict[str, set[str]]:
    """What botocore knows of each IAM prefix that chaosgrade names."""
    models = botocore.session.get_session()
    services = (
        "autoscaling",
        "cloudwatch",
        "dynamodb",
        "ec2",
        "elbv2",
        "fis",
        "iam",
        "rds",
        "s3",
        "ssm",
        "sts",
    )
    return {
        iam_action(name, "X").partition(":")[0]: set(models.get_service_model(name).operation_names)
        for name in services
    }


def exists(action: str) -> bool:
    prefix, _, operation = action.partition(":")
    if action in WITHOUT_CALL:
        return True
    return operation in operations()[prefix]


# What calls are recorded


def test_every_call_in_the_block_is_recorded_whoever_makes_it(wire: Wire, aws: Aws) -> None:
    """Ours, foreign ones, those of other threads; none before or after."""
    aws.send(Call("ec2", "DescribeVpcs"))
    with recorded() as calls:
        aws.send(Call("elbv2", "DescribeTargetGroups"))
        Account().ec2.describe_subnets()
        thread = threading.Thread(target=aws.send, args=(Call("sts", "GetCallerIdentity"),))
        thread.start()
        thread.join()
    aws.send(Call("autoscaling", "DescribeAutoScalingGroups"))
    assert calls == {
        ("elbv2", "DescribeTargetGroups"),
        ("ec2", "DescribeSubnets"),
        ("sts", "GetCallerIdentity"),
    }


def test_no_parameter_reaches_another_log_and_all_is_as_before(wire: Wire, aws: Aws) -> None:
    """Not the root's handlers, not those of botocore's own logger, even if they want everything."""
    seen: list[str] = []

    class Nosy(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record.getMessage())

    nosy, logger = Nosy(), logging.getLogger(ENDPOINT)
    former = (logger.level, logger.propagate, list(logger.filters))
    logger.addHandler(nosy)
    logging.getLogger().addHandler(nosy)
    try:
        with recorded() as outer, recorded() as inner:
            aws.send(Call("ec2", "DescribeVpcs", {"VpcIds": []}))
        assert not seen
        assert outer == inner == {("ec2", "DescribeVpcs")}
        assert logger.handlers == [nosy]
        assert (logger.level, logger.propagate, logger.filters) == former
    finally:
        logger.removeHandler(nosy)
        logging.getLogger().removeHandler(nosy)


def test_blocks_may_end_in_the_order_in_which_they_began(wire: Wire, aws: Aws) -> None:
    """As those of two threads do: the second goes on recording."""
    first, second = recorded(), recorded()
    first.__enter__()
    calls = second.__enter__()
    first.__exit__(None, None, None)
    aws.send(Call("ec2", "DescribeVpcs"))
    second.__exit__(None, None, None)
    assert calls == {("ec2", "DescribeVpcs")}
    assert logging.getLogger(ENDPOINT).level == logging.NOTSET


def test_logging_that_is_switched_off_is_no_empty_answer() -> None:
    """A policy that lacks what nobody saw would look complete."""
    logging.disable(logging.DEBUG)
    try:
        with pytest.raises(RuntimeError, match=r"logging\.disable"), recorded():
            pass
    finally:
        logging.disable(logging.NOTSET)
    assert logging.getLogger(ENDPOINT).propagate


@pytest.mark.parametrize(
    ("service", "operation", "action"),
    [
        ("elbv2", "DescribeTargetHealth", "elasticloadbalancing:DescribeTargetHealth"),
        ("elasticloadbalancing", "RegisterTargets", "elasticloadbalancing:RegisterTargets"),
        ("ec2", "StopInstances", "ec2:StopInstances"),
        ("cloudwatch", "DescribeAlarms", "cloudwatch:DescribeAlarms"),
        ("monitoring", "DescribeAlarms", "cloudwatch:DescribeAlarms"),
        ("stepfunctions", "ListExecutions", "states:ListExecutions"),
        ("resourcegroupstaggingapi", "GetResources", "tag:GetResources"),
        ("s3", "ListObjectsV2", "s3:ListBucket"),
    ],
)
def test_operations_have_the_names_that_iam_gives_them(
    service: str, operation: str, action: str
) -> None:
    """From boto3's names and from those that requests are signed for."""
    assert iam_action(service, operation) == action


# What is declared


@pytest.mark.parametrize("kind", [*SETTINGS.values(), *STRIKES.values()], ids=lambda k: k.kind)
def test_every_action_of_every_change_exists_and_every_write_has_its_resources(kind: Any) -> None:
    """Whatever is registered: nothing is ever allowed everywhere."""
    assert all(exists(action) for action in (*kind.reads, *kind.writes))
    needed = {a for a in (*kind.reads, *kind.writes) if not only_reads(a)}
    assert set(kind.writes) <= needed
    assert needed <= RESOURCES.keys()


def test_everything_else_that_is_named_exists_too() -> None:
    """Of the observers, the guard, and the table of resources."""
    named = observers.reads([{"probe": name} for name in [*observers.OBSERVERS, "observation"]])
    named |= {action for reads in census.READS.values() for action in reads}
    assert all(only_reads(action) for action in named)
    assert all(exists(action) for action in named | RESOURCES.keys())
    assert not any(only_reads(action) for action in RESOURCES)


def test_the_lock_table_and_the_stop_conditions_are_covered_where_they_are_configured(
    wire: Wire, aws: Aws, inventory: Inventory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they declare, on the one table; nothing of it where the rules name neither."""
    declared = {"reads": ("dynamodb:GetItem",), "writes": ("dynamodb:UpdateItem",)}
    alarms = {"reads": ("cloudwatch:DescribeAlarms",), "writes": ()}
    for owner, actions in ((TargetLock, declared), (StopConditions, alarms)):
        for name, value in actions.items():
            monkeypatch.setattr(owner, name, value, raising=False)
    bare = actions_of(policy_for(experiment(TERMINATE), aws, 1))
    profile = replace(load_safety()["aws"], lock_table="locks", stop_conditions=(object(),))
    monkeypatch.setattr(iam_policy, "load_safety", lambda: {"aws": profile})
    policy = policy_for(experiment(TERMINATE), aws, 1)
    assert actions_of(policy) - bare == {
        "dynamodb:GetItem",
        "dynamodb:UpdateItem",
        "cloudwatch:DescribeAlarms",
    }
    resource = by_sid(policy)["DynamodbUpdateItem"]["Resource"]
    assert resource == f"arn:aws:dynamodb:{REGION}:{ACCOUNT}:table/locks"


@pytest.mark.skipif(not hasattr(TargetLock, "writes"), reason="the lock has no table yet")
def test_what_the_lock_and_the_stop_conditions_declare_exists() -> None:
    """Each names what it calls; every write of theirs has its resources."""
    named = {*TargetLock.reads, *TargetLock.writes, *StopConditions.reads}
    assert all(exists(action) for action in named)
    assert {action for action in named if not only_reads(action)} <= RESOURCES.keys()


def test_an_address_that_is_given_needs_no_permission() -> None:
    """And a probe that there is not is no empty answer."""
    assert observers.reads([{"probe": "traffic", "url": "http://x"}]) == set()
    assert observers.reads([{"probe": "traffic", "balancer": "web"}])
    with pytest.raises(UsageError, match="'weather'"):
        observers.reads([{"probe": "weather"}])


# The policy


def test_the_policy_of_a_zone_fault_is_what_its_engine_calls(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """Planned, guarded, made, proven and undone; and planning it writes nothing."""
    vpcs = list(inventory.vpcs)  # the account's default one has no opt-in tags
    action = {**POWER, "arguments": {**POWER["arguments"], "vpcs": vpcs}}
    wire.clear()
    policy = policy_for(experiment(action), aws, 1)
    assert not wire.writes()
    profile = replace(
        load_safety()["aws"], accounts=None, limits={}, zones_at_once=None, min_healthy=0.0
    )
    assert aws.environment.kind == "aws"
    journal, clock = Journal(), Clock()
    journal.open_run(
        "r1", experiment="e", environment=aws.environment, endpoint=None, started=clock.now()
    )
    engine = Engine(aws, Guard(profile, aws, journal, "r1", clock), journal, "r1", clock)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    with recorded() as calls:
        assert all(one["proven"] for one in power_off_zone(ZONE, vpcs, suspend=["Launch"]))
        assert {str(one.state) for one in engine.undo()} == {"undone"}
    journal.close()
    # Tags at creation are a permission of their own, and no call.
    named = actions_of(policy) - {"ec2:CreateTags", "sts:GetCallerIdentity"}
    assert named == {iam_action(*call) for call in calls}


def test_writes_are_allowed_where_the_opt_in_tag_is_and_nowhere_else(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """In the account, in the Region, on the type that the write is for."""
    statements = by_sid(policy_for(experiment(POWER), aws, 1))
    tagged = {"StringEquals": {"aws:ResourceTag/chaosgrade": "allowed"}}
    ec2 = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    assert statements["Ec2StopInstances"] == {
        "Sid": "Ec2StopInstances",
        "Effect": "Allow",
        "Action": "ec2:StopInstances",
        "Resource": f"{ec2}:instance/*",
        "Condition": tagged,
    }
    assert statements["Ec2StartInstances"]["Condition"] == tagged
    assert statements["AutoscalingSuspendProcesses"]["Condition"] == tagged
    assert statements["AutoscalingSuspendProcesses"]["Resource"].endswith(
        f":{REGION}:{ACCOUNT}:autoScalingGroup:*:autoScalingGroupName/*"
    )
    assert statements["Ec2ReplaceNetworkAclAssociationSubnet"]["Condition"] == tagged
    assert "Condition" not in statements["Ec2ReplaceNetworkAclAssociationNetworkAcl"]
    assert statements["Ec2CreateNetworkAcl"]["Resource"] == [f"{ec2}:vpc/*", f"{ec2}:network-acl/*"]
    assert statements["Ec2CreateTags"]["Condition"] == {
        "StringEquals": {"ec2:CreateAction": "CreateNetworkAcl"}
    }
    assert statements["Ec2DeleteNetworkAcl"]["Condition"] == {
        "Null": {"aws:ResourceTag/chaosgrade:acl": "false"}
    }
    assert statements["Observe"]["Resource"] == "*"
    assert all(only_reads(action) for action in statements["Observe"]["Action"])
    assert [sid for sid, s in statements.items() if s["Resource"] == "*"] == ["Observe"]


def test_commands_are_allowed_with_two_documents_and_on_tagged_instances(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """SendCommand reads, too, and yet is no read."""
    action = python("chaosgrade.actions.processes", "stop_process", process="web", group="group-0")
    statements = by_sid(policy_for(experiment(action), aws, 1))
    assert "ssm:SendCommand" not in statements["Observe"]["Action"]
    assert "ssm:GetCommandInvocation" in statements["Observe"]["Action"]
    assert statements["SsmSendCommandDocuments"]["Resource"] == [
        f"arn:aws:ssm:{REGION}::document/AWSFIS-Run-Kill-Process",
        f"arn:aws:ssm:{REGION}::document/AWS-RunShellScript",
    ]
    assert "Condition" not in statements["SsmSendCommandDocuments"]
    assert statements["SsmSendCommandInstances"]["Condition"] == {
        "StringEquals": {"ssm:resourceTag/chaosgrade": "allowed"}
    }


def test_the_partition_is_the_regions(
    monkeypatch: pytest.MonkeyPatch, wire: Wire, inventory: Inventory
) -> None:
    """China's ARNs begin otherwise."""
    with wire.paused():
        ec2 = botocore.session.get_session().create_client("ec2", region_name="cn-north-1")
        image = "ami-0c101f26f147fa7fd"
        tags = [{"Key": "Tier", "Value": "web"}]
        ec2.run_instances(
            ImageId=image,
            MinCount=1,
            MaxCount=1,
            TagSpecifications=[{"ResourceType": "instance", "Tags": tags}],
        )
    action = python(
        "chaosgrade.actions.instances", "terminate_instances", tags={"Tier": "web"}, count=1
    )
    statements = by_sid(policy_for(experiment(action), Aws(region="cn-north-1"), 1))
    resource = statements["Ec2TerminateInstances"]["Resource"]
    assert resource == f"arn:aws-cn:ec2:cn-north-1:{ACCOUNT}:instance/*"


def test_probes_of_others_are_listened_to_and_ours_declare(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """In the hypothesis as in the method; what cannot be known is named."""
    foreign = {
        "type": "probe",
        "name": "healthy",
        "provider": python("chaosaws.elbv2.probes", "targets_health_count", tg_names=["web"]),
    }
    ours = {
        "type": "probe",
        "name": "full",
        "provider": python("chaosgrade.probes.group_capacity", "group_capacity", group="group-0"),
    }
    program = {"type": "probe", "name": "look", "provider": {"type": "process", "path": "true"}}
    others = {"type": "action", "name": "drop", "provider": python("chaosaws.ec2.actions", "stop")}
    document = experiment(TERMINATE)
    bare = actions_of(policy_for(document, aws, 1))
    document["method"] += [foreign, ours, program, others]
    assert actions_of(policy_for(document, aws, 1)) - bare == {
        "elasticloadbalancing:DescribeTargetGroups",
        "elasticloadbalancing:DescribeTargetHealth",
    }
    assert "autoscaling:DescribeAutoScalingGroups" in bare  # the guard's own look, on AWS
    assert not_covered(document) == ["drop", "look"]


def test_a_probe_that_fails_leaves_no_half_policy(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """What it would have asked next is not known."""
    document = experiment(TERMINATE)
    document["method"].append(
        {
            "type": "probe",
            "name": "healthy",
            "provider": python("chaosaws.elbv2.probes", "targets_health_count", tg_names=["no"]),
        }
    )
    with pytest.raises(UsageError, match="probe healthy failed"):
        policy_for(document, aws, 1)


def test_rollbacks_are_covered(wire: Wire, aws: Aws, inventory: Inventory) -> None:
    """They are part of the run."""
    action = python(
        "chaosgrade.actions.processes", "continue_process", process="web", group="group-0"
    )
    rollback = {"type": "action", "name": "go on", "provider": action}
    policy = policy_for(experiment(TERMINATE, rollbacks=[rollback]), aws, 1)
    assert {"ec2:TerminateInstances", "ssm:SendCommand"} <= actions_of(policy)


def test_a_selector_that_matches_nothing_is_the_plans_error(
    wire: Wire, aws: Aws, inventory: Inventory
) -> None:
    """No policy for what cannot happen."""
    action = {**TERMINATE, "arguments": {"group": "nobody"}}
    with pytest.raises(TargetNotFound, match="group nobody"):
        policy_for(experiment(action), aws, 1)


# On the wire


def calls_of(url: str) -> dict[str, int]:
    with urllib.request.urlopen(f"{url}/_chaosgrade/calls", timeout=5) as answer:
        calls: dict[str, int] = json.load(answer)
    return calls


def made(before: Mapping[str, int], after: Mapping[str, int]) -> set[str]:
    more = {action for action, count in after.items() if count > before.get(action, 0)}
    return {action for action in more if not action.startswith("sqs:")}  # the shop's own


def chaosgrade(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return subprocess.run(
        [CHAOSGRADE, *arguments],
        cwd=folder,
        env={**environ, "CHAOSGRADE_STATE_DIR": str(folder / "state")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def fast_stage() -> Iterator[Callable[[str], str]]:
    """The endpoint of one stage for all experiments on a template, one after the other."""
    with ExitStack() as stages:

        @cache
        def endpoint(template: str) -> str:
            options = ("--time-scale", "100", "--template", template)
            stage = stages.enter_context(running_stage(*options))
            return str(stage.document["endpoint"])

        yield endpoint


IN_EVERY_RUN = {"instance-kill"}
"""One fault of instances, and one of the network."""


@pytest.mark.stage
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in IN_EVERY_RUN else pytest.mark.nightly)
        for name in shipped()
    ],
)
def test_the_policy_is_what_a_run_calls_on_the_wire(
    tmp_path: Path, fast_stage: Callable[[str], str], name: str
) -> None:
    """No less and no more; neither plan nor policy nor runbook makes a write call."""
    document = yaml.safe_load(shipped()[name].read_text())
    stage = fast_stage(parse_extension(document).template)
    document["extensions"][0]["window"] = "100s"
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    where = ("--stage", stage, "--seed", "1")
    before = calls_of(stage)
    for command in ("plan", "runbook"):
        assert chaosgrade(tmp_path, command, "mine.yaml", *where).returncode == 0
    printed = chaosgrade(tmp_path, "iam-policy", "mine.yaml", *where)
    assert (printed.returncode, printed.stderr) == (0, "")
    planned = calls_of(stage)
    looked = made(before, planned)
    assert looked
    assert all(only_reads(action) for action in looked)
    # Whatever its verdict: the window is too short for one.
    score = json.loads(chaosgrade(tmp_path, "run", "mine.yaml", *where, "--json").stdout)
    assert (score["statuses"], score["undone"]) == ({"completed": 1}, True)
    records = read(tmp_path / score["folder"] / "evidence.jsonl")
    assert {r["proven"] for r in records if r.kind == "change.effect"} == {True}
    on_the_wire = made(planned, calls_of(stage))
    allowed = actions_of(json.loads(printed.stdout))
    assert on_the_wire <= allowed
    beside = WITHOUT_CALL | OF_THE_OTHER_KIND
    assert allowed - beside == on_the_wire - beside


@pytest.mark.parametrize("command", ["iam-policy", "runbook"])
def test_a_misspelt_experiment_is_one_line_and_exit_code_2(tmp_path: Path, command: str) -> None:
    """As for every command."""
    done = chaosgrade(tmp_path, command, "instance-kil")
    assert (done.returncode, done.stdout) == (2, "")
    assert "did you mean instance-kill" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_shipped_experiments_leave_nothing_uncovered() -> None:
    """Each of their activities is ours or a Python probe."""
    assert all(not not_covered(load(name).document) for name in shipped())
