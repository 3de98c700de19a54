"""What is there to be broken: the live population of each resource kind, for the guard to count.

Each survey is a few paginated calls, however many resources there are, and reads tags itself: a
filter of EC2 takes wildcards, so what it lets through is compared once more, exactly.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import batched
from typing import Any

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.filtering import filtered
from chaosgrade.changes.network_acl import tags_of

GROUP_TAG = "aws:autoscaling:groupName"
_TAGGED_AT_ONCE = 20
_GROUPS_AT_ONCE = 100

type OptIn = tuple[str, str] | None
type Population = Mapping[str, str | None]
"""Resource ids that may be touched, each with its Availability Zone, None when it has none."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """How much of a group serves.

    Args:
        name: of the group or target group.
        whole: how many there are to be.
        healthy: ids of those that serve now.
    """

    name: str
    whole: int
    healthy: frozenset[str]


def population(aws: Aws, kind: str, ids: Iterable[str], opt_in: OptIn) -> Population:
    """All resources of a kind that carry the opt-in tag; for targets, of their target groups.

    Raises:
        KeyError: a kind that is not surveyed.
        AwsError: it could not be read.
    """
    return dict(_SURVEYS[kind](aws, ids, opt_in))


SURVEYED = (
    "autoscaling:group",
    "ec2:instance",
    "ec2:subnet",
    "elbv2:load-balancer",
    "elbv2:target",
    "rds:db-cluster",
    "rds:db-instance",
)

READS: Mapping[str, tuple[str, ...]] = {
    "autoscaling:group": ("autoscaling:DescribeAutoScalingGroups",),
    "ec2:instance": ("autoscaling:DescribeAutoScalingGroups", "ec2:DescribeInstances"),
    "ec2:subnet": (
        "autoscaling:DescribeAutoScalingGroups",
        "ec2:DescribeInstances",
        "ec2:DescribeSubnets",
    ),
    "elbv2:load-balancer": (
        "elasticloadbalancing:DescribeLoadBalancers",
        "elasticloadbalancing:DescribeTags",
    ),
    "elbv2:target": (
        "elasticloadbalancing:DescribeTags",
        "elasticloadbalancing:DescribeTargetHealth",
    ),
    "rds:db-cluster": ("rds:DescribeDBClusters",),
    "rds:db-instance": ("rds:DescribeDBInstances",),
}
"""IAM actions that surveying a kind needs."""


def capacities(
    aws: Aws, touched: Mapping[str, frozenset[str]]
) -> Iterator[tuple[Capacity, frozenset[str]]]:
    """Each group that loses members, with the ids of those which it loses.

    Args:
        aws: where.
        touched: ids by kind; a subnet takes its instances with it.

    Raises:
        AwsError: it could not be read.
    """
    instances = set(touched.get("ec2:instance", ()))
    names = set()
    lost = [("instance-id", instances), ("subnet-id", touched.get("ec2:subnet", frozenset()))]
    for key, values in lost:
        for instance in _instances(aws, key, values):
            instances.add(instance["InstanceId"])
            if name := tags_of(instance).get(GROUP_TAG):
                names.add(name)
    for some in batched(sorted(names), _GROUPS_AT_ONCE):
        for group in _groups(aws, {"AutoScalingGroupNames": list(some)}):
            healthy = frozenset(
                i["InstanceId"]
                for i in group["Instances"]
                if (i["LifecycleState"], i["HealthStatus"].lower()) == ("InService", "healthy")
            )
            capacity = Capacity(group["AutoScalingGroupName"], group["DesiredCapacity"], healthy)
            yield capacity, healthy & instances
    targets = touched.get("elbv2:target", frozenset())
    for arn in sorted({target_group(target) for target in targets}):
        described = _target_health(aws, arn)
        healthy = frozenset(
            _target_id(arn, d) for d in described if d["TargetHealth"]["State"] == "healthy"
        )
        yield Capacity(arn.split("/")[-2], len(described), healthy), healthy & targets


def target_group(target: str) -> str:
    """The ARN of the target group of an "elbv2:target" resource id."""
    return target.rpartition("/")[0]


def _survey_instances(
    aws: Aws, ids: Iterable[str], opt_in: OptIn
) -> Iterator[tuple[str, str | None]]:
    for instance in _pages(aws, "DescribeInstances", "Reservations", _filters(opt_in)):
        for one in instance["Instances"]:
            if _opted_in(tags_of(one), opt_in) and one["State"]["Name"] != "terminated":
                yield one["InstanceId"], one["Placement"]["AvailabilityZone"]


def _survey_subnets(
    aws: Aws, ids: Iterable[str], opt_in: OptIn
) -> Iterator[tuple[str, str | None]]:
    for subnet in _pages(aws, "DescribeSubnets", "Subnets", _filters(opt_in)):
        if _opted_in(tags_of(subnet), opt_in):
            yield subnet["SubnetId"], subnet["AvailabilityZone"]


def _survey_groups(aws: Aws, ids: Iterable[str], opt_in: OptIn) -> Iterator[tuple[str, str | None]]:
    for group in _groups(aws, {"Filters": _filters(opt_in)} if opt_in else {}):
        if _opted_in(tags_of(group), opt_in):
            yield group["AutoScalingGroupName"], None


def _survey_balancers(
    aws: Aws, ids: Iterable[str], opt_in: OptIn
) -> Iterator[tuple[str, str | None]]:
    found = aws.pages(Call("elbv2", "DescribeLoadBalancers"), "LoadBalancers")
    for some in batched((balancer["LoadBalancerArn"] for balancer in found), _TAGGED_AT_ONCE):
        call = Call("elbv2", "DescribeTags", {"ResourceArns": list(some)})
        for described in aws.send(call)["TagDescriptions"]:
            if _opted_in(tags_of(described), opt_in):
                yield described["ResourceArn"], None


def _survey_targets(
    aws: Aws, ids: Iterable[str], opt_in: OptIn
) -> Iterator[tuple[str, str | None]]:
    arns = sorted({target_group(target) for target in ids})
    for some in batched(arns, _TAGGED_AT_ONCE):
        call = Call("elbv2", "DescribeTags", {"ResourceArns": list(some)})
        for described in aws.send(call)["TagDescriptions"]:
            arn = described["ResourceArn"]
            if _opted_in(tags_of(described), opt_in):
                for target in _target_health(aws, arn):
                    yield _target_id(arn, target), target["Target"].get("AvailabilityZone")


def _survey_databases(what: str) -> Callable[..., Iterator[tuple[str, str | None]]]:
    """Of DB instances or clusters: they are not of one zone."""

    def survey(aws: Aws, ids: Iterable[str], opt_in: OptIn) -> Iterator[tuple[str, str | None]]:
        for database in aws.pages(Call("rds", f"Describe{what}s"), f"{what}s"):
            if _opted_in({t["Key"]: t["Value"] for t in database.get("TagList", ())}, opt_in):
                yield database[f"{what}Identifier"], None

    return survey


_SURVEYS: Mapping[str, Callable[[Aws, Iterable[str], OptIn], Iterator[tuple[str, str | None]]]] = {
    "autoscaling:group": _survey_groups,
    "ec2:instance": _survey_instances,
    "ec2:subnet": _survey_subnets,
    "elbv2:load-balancer": _survey_balancers,
    "elbv2:target": _survey_targets,
    "rds:db-cluster": _survey_databases("DBCluster"),
    "rds:db-instance": _survey_databases("DBInstance"),
}


def _opted_in(tags: Mapping[str, str], opt_in: OptIn) -> bool:
    return opt_in is None or tags.get(opt_in[0]) == opt_in[1]


def _filters(opt_in: OptIn) -> list[dict[str, Any]]:
    return [{"Name": f"tag:{opt_in[0]}", "Values": [opt_in[1]]}] if opt_in else []


def _pages(aws: Aws, operation: str, key: str, filters: list[dict[str, Any]]) -> Iterator[Any]:
    return aws.pages(Call("ec2", operation, {"Filters": filters, "MaxResults": 1000}), key)


def _instances(aws: Aws, key: str, values: Iterable[str]) -> Iterator[dict[str, Any]]:
    for one in filtered(aws, "DescribeInstances", "Reservations", key, sorted(values)):
        yield from one["Instances"]


def _groups(aws: Aws, parameters: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    records = {"MaxRecords": _GROUPS_AT_ONCE}
    call = Call("autoscaling", "DescribeAutoScalingGroups", {**records, **parameters})
    return aws.pages(call, "AutoScalingGroups")


def _target_health(aws: Aws, arn: str) -> list[dict[str, Any]]:
    call = Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": arn})
    described: list[dict[str, Any]] = aws.send(call)["TargetHealthDescriptions"]
    return described


def _target_id(arn: str, described: Mapping[str, Any]) -> str:
    target = described["Target"]
    return f"{arn}/{target['Id']}:{target.get('Port')}"
