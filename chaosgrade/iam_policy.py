"""The least privilege that carries out one experiment, as an IAM policy document.

What a run calls is known before it runs: changes name the calls that make, prove and undo them,
observers declare what they read, and everything else that reads is run once and listened to.
Resource types and condition keys are those of the Service Authorization Reference.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import botocore.exceptions
from chaoslib.configuration import load_configuration
from chaoslib.exceptions import ChaosException
from chaoslib.provider.python import run_python_activity
from chaoslib.secret import load_secrets

from chaosgrade.api_calls import iam_action, recorded
from chaosgrade.arn import partition
from chaosgrade.aws import Aws
from chaosgrade.changes import census
from chaosgrade.changes.network_acl import NAME_TAG
from chaosgrade.changes.spot import NAME_TAG as FIS_TAG
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.errors import UsageError
from chaosgrade.plan import Plan, draw_up, only_reads
from chaosgrade.policies.objectives import parse_extension
from chaosgrade.policies.safety import Profile, load_safety
from chaosgrade.probes import observers
from chaosgrade.stop_conditions import StopConditions

_OURS = "chaosgrade."
_OUR_PROBES = "chaosgrade.probes."

type Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Grant:
    """Resources on which one write is allowed.

    Args:
        resources: ARNs with {partition}, {region}, {account} and {table} to be filled in.
        name: tells it from the other grants of the same write.
        tag: the condition key, without the tag's own, that lets only resources pass which carry the
            opt-in tag; "" where a resource of this type need not carry it.
        condition: a further condition.
    """

    resources: tuple[str, ...]
    name: str = ""
    tag: str = ""
    condition: Mapping[str, Mapping[str, str]] = field(default_factory=dict)


_TAGGED = "aws:ResourceTag/"
_INSTANCE = "arn:{partition}:ec2:{region}:{account}:instance/*"
_ACL = "arn:{partition}:ec2:{region}:{account}:network-acl/*"
_SUBNET = "arn:{partition}:ec2:{region}:{account}:subnet/*"
_VPC = "arn:{partition}:ec2:{region}:{account}:vpc/*"
_GROUP = "arn:{partition}:autoscaling:{region}:{account}:autoScalingGroup:*:autoScalingGroupName/*"
_TARGETS = "arn:{partition}:elasticloadbalancing:{region}:{account}:targetgroup/*/*"
_TABLE = "arn:{partition}:dynamodb:{region}:{account}:table/{table}"
_DB_INSTANCE = "arn:{partition}:rds:{region}:{account}:db:*"
_DB_CLUSTER = "arn:{partition}:rds:{region}:{account}:cluster:*"
_FIS = "arn:{partition}:fis:{region}:{account}:"
_OUR_TEMPLATE = {"Null": {f"{_TAGGED}{FIS_TAG}": "false"}}
# Owned by AWS: there is no account in their ARNs.
_DOCUMENTS = (
    "arn:{partition}:ssm:{region}::document/AWSFIS-Run-Kill-Process",
    "arn:{partition}:ssm:{region}::document/AWS-RunShellScript",
)

RESOURCES: Mapping[str, tuple[Grant, ...]] = {
    "autoscaling:ResumeProcesses": (Grant((_GROUP,), tag=_TAGGED),),
    "autoscaling:SuspendProcesses": (Grant((_GROUP,), tag=_TAGGED),),
    "dynamodb:DeleteItem": (Grant((_TABLE,)),),
    "dynamodb:PutItem": (Grant((_TABLE,)),),
    "dynamodb:UpdateItem": (Grant((_TABLE,)),),
    "ec2:CreateNetworkAcl": (Grant((_VPC, _ACL)),),
    "ec2:CreateTags": (
        Grant((_ACL,), condition={"StringEquals": {"ec2:CreateAction": "CreateNetworkAcl"}}),
    ),
    # Only those that chaosgrade has made.
    "ec2:DeleteNetworkAcl": (
        Grant((_ACL,), condition={"Null": {f"{_TAGGED}{NAME_TAG}": "false"}}),
    ),
    # Any network ACL may be the one to go back to.
    "ec2:ReplaceNetworkAclAssociation": (
        Grant((_ACL,), "NetworkAcl"),
        Grant((_SUBNET,), "Subnet", tag=_TAGGED),
    ),
    "ec2:StartInstances": (Grant((_INSTANCE,), tag=_TAGGED),),
    "ec2:StopInstances": (Grant((_INSTANCE,), tag=_TAGGED),),
    "ec2:TerminateInstances": (Grant((_INSTANCE,), tag=_TAGGED),),
    "elasticloadbalancing:DeregisterTargets": (Grant((_TARGETS,), tag=_TAGGED),),
    "elasticloadbalancing:RegisterTargets": (Grant((_TARGETS,), tag=_TAGGED),),
    "fis:CreateExperimentTemplate": (Grant((_FIS + "experiment-template/*", _FIS + "action/*")),),
    "fis:DeleteExperimentTemplate": (
        Grant((_FIS + "experiment-template/*",), condition=_OUR_TEMPLATE),
    ),
    "fis:StartExperiment": (
        Grant((_FIS + "experiment-template/*",), "Template", condition=_OUR_TEMPLATE),
        Grant((_FIS + "experiment/*",), "Experiment"),
    ),
    "fis:StopExperiment": (Grant((_FIS + "experiment/*",)),),
    "fis:TagResource": (Grant((_FIS + "experiment-template/*",)),),
    "iam:PassRole": (
        Grant(
            ("arn:{partition}:iam::{account}:role/*",),
            condition={"StringEquals": {"iam:PassedToService": "fis.amazonaws.com"}},
        ),
    ),
    "rds:FailoverDBCluster": (Grant((_DB_CLUSTER,), tag=_TAGGED),),
    "rds:RebootDBInstance": (Grant((_DB_INSTANCE,), tag=_TAGGED),),
    # Source: AWS Systems Manager User Guide, "Restricting Run Command access based on tags".
    "ssm:SendCommand": (
        Grant(_DOCUMENTS, "Documents"),
        Grant((_INSTANCE,), "Instances", tag="ssm:resourceTag/"),
    ),
}
"""Where each write is allowed; one that is not here is allowed everywhere."""


def policy_for(document: Mapping[str, Any], aws: Aws, seed: int) -> Json:
    """The least privilege that carries out an experiment on `aws` and undoes it.

    Targets are resolved and probes that are not chaosgrade's run once, both with read calls.

    Args:
        document: the experiment.
        aws: where.
        seed: what its targets are drawn from.

    Raises:
        TargetNotFound: a selector matches nothing.
        UsageError: an activity does not accept its arguments, a probe failed, or the Region is in
            no partition that botocore knows.
        AwsError: a read was refused.
    """
    profile = load_safety()[aws.environment.kind]
    activities = [*document["method"], *(document.get("rollbacks") or ())]
    with recorded() as calls:
        plan = draw_up({**document, "method": activities}, aws, seed)
        _listen_to_probes(document)
    actions = {"sts:GetCallerIdentity", *(iam_action(*call) for call in calls), *plan.permissions}
    actions |= observers.reads(parse_extension(document).observers)
    actions |= observers.reads([_specification(p) for p in _probes(document) if _is_ours(p)])
    actions |= _surveys(plan, profile)
    if profile.lock_table:
        actions |= _declared(TargetLock)
    if profile.stop_conditions:
        actions |= _declared(StopConditions)
    # Whoever is to assume the role needs that one; the policy is the role's own.
    actions.discard("sts:AssumeRole")
    place = {
        "partition": partition(aws.region),
        "region": aws.region,
        "account": aws.environment.account,
        "table": profile.lock_table or "*",
    }
    return {
        "Version": "2012-10-17",
        "Statement": list(_statements(actions, place, profile.opt_in)),
    }


def not_covered(document: Mapping[str, Any]) -> list[str]:
    """Names of activities whose calls to AWS cannot be known before they run."""
    actions = [
        activity
        for activity in (*document["method"], *(document.get("rollbacks") or ()))
        if activity.get("type") == "action" and not _is_ours(activity)
    ]
    programs = [p for p in _probes(document) if p["provider"].get("type") == "process"]
    return [str(activity["name"]) for activity in (*actions, *programs)]


def _statements(
    actions: Iterable[str], place: Mapping[str, str], opt_in: tuple[str, str] | None
) -> Iterator[Json]:
    ordered = sorted(actions)
    yield {
        "Sid": "Observe",
        "Effect": "Allow",
        "Action": [action for action in ordered if only_reads(action)],
        "Resource": "*",
    }
    for action in ordered:
        if only_reads(action):
            continue
        service, _, operation = action.partition(":")
        for grant in RESOURCES.get(action, (Grant(("*",)),)):
            resources = [resource.format_map(place) for resource in grant.resources]
            statement: Json = {
                "Sid": f"{service.title().replace('-', '')}{operation}{grant.name}",
                "Effect": "Allow",
                "Action": action,
                "Resource": resources if len(resources) > 1 else resources[0],
            }
            condition = {operator: dict(keys) for operator, keys in grant.condition.items()}
            if grant.tag and opt_in:
                condition.setdefault("StringEquals", {})[grant.tag + opt_in[0]] = opt_in[1]
            yield {**statement, "Condition": condition} if condition else statement


def _surveys(plan: Plan, profile: Profile) -> set[str]:
    """What the guard reads to count what is touched, where a rule asks it to count."""
    reads: set[str] = set()
    for kind in plan.blast_radius:
        limit = profile.limits.get(kind)
        if (
            profile.opt_in
            or profile.untouched_zones
            or profile.min_healthy > 0
            or (limit is not None and limit.share is not None)
        ):
            reads.update(census.READS.get(kind, ()))
    return reads


def _declared(owner: type) -> set[str]:
    """What a class says that it needs, as changes do."""
    return {a for name in ("reads", "writes") for a in getattr(owner, name, ())}


def _listen_to_probes(document: Mapping[str, Any]) -> None:
    """Run each probe that is not ours, for what it asks AWS."""
    configuration = load_configuration(document.get("configuration") or {})
    secrets = load_secrets(document.get("secrets") or {}, configuration)
    for probe in _probes(document):
        if _is_ours(probe) or probe["provider"].get("type") != "python":
            continue
        try:
            run_python_activity(probe, configuration, secrets)
        except (ChaosException, botocore.exceptions.BotoCoreError) as error:
            raise UsageError(
                f"probe {probe['name']} failed, so what it needs is not known: {error}"
            ) from None


def _probes(document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    hypothesis = document.get("steady-state-hypothesis") or {}
    yield from hypothesis.get("probes") or ()
    for activity in (*document["method"], *(document.get("rollbacks") or ())):
        if activity.get("type") == "probe":
            yield activity


def _is_ours(activity: Mapping[str, Any]) -> bool:
    return str(activity["provider"].get("module", "")).startswith(_OURS)


def _specification(probe: Mapping[str, Any]) -> Mapping[str, Any]:
    """One of our probes as if it were an observer."""
    provider = probe["provider"]
    arguments = provider.get("arguments") or {}
    return {**arguments, "probe": str(provider["module"]).removeprefix(_OUR_PROBES)}
