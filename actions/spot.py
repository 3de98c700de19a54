"""Actions on Spot Instances, through AWS Fault Injection Service."""

import uuid
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.selection import Selection
from chaosgrade.arn import partition
from chaosgrade.aws import Call, ResourceGone
from chaosgrade.changes.model import Change
from chaosgrade.changes.spot import (
    PRESENT,
    RUNNING,
    InterruptionTemplate,
    RunningInterruption,
    SpotInterruption,
)
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.session import Session, activity

__all__ = ["interrupt_spot_instances"]

ROLE = "chaosgrade-fis"
"""The role that FIS assumes, unless an experiment names another."""

_WARNING_MINUTES = (2, 4)
"""From what FIS allows to what lets the interruption notice be seen while its proof is awaited."""

_LONGEST_MINUTES = 720


def interrupt_spot_instances(
    group: str | None = None,
    tags: dict[str, str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    warning_minutes: int = 2,
    no_capacity_minutes: int = 0,
    role_arn: str | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Interrupt running Spot Instances as EC2 does, with its warnings. Irreversible.

    AWS FIS sends the rebalance recommendation at once and the interruption notice two minutes
    before each instance is terminated. The experiment template that is made for it is deleted with
    the undo, and an experiment that still runs is stopped.

    Arguments:
        group, tags, zone, count, share_percent: which Spot Instances, as `terminate_instances`.
        warning_minutes: from the recommendation to the end, 2 to 4.
        no_capacity_minutes: for so long launches of the group fail with
            InsufficientInstanceCapacity in the zone of the first instance that is drawn; 0 for
            not at all. Needs `group`, whose instances come from a launch template.
        role_arn: a role that FIS may assume, with ec2:SendSpotInstanceInterruptions,
            ec2:DescribeInstances, and for `no_capacity_minutes` ec2:InjectApiError and
            autoscaling:DescribeAutoScalingGroups; by default the account's role chaosgrade-fis.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: interrupt-spot-instances
        provider:
          type: python
          module: chaosgrade.actions.spot
          func: interrupt_spot_instances
          arguments: {group: web, share_percent: 50}
        ```

    Source: AWS FIS User Guide, "AWS FIS actions reference", Amazon EC2 actions.
    """
    with activity(configuration) as session:
        low, high = _WARNING_MINUTES
        if not low <= warning_minutes <= high:
            raise UsageError(f"warning_minutes must be {low} to {high}, got {warning_minutes}")
        if not 0 <= no_capacity_minutes <= _LONGEST_MINUTES:
            raise UsageError(
                f"no_capacity_minutes must be 0 to {_LONGEST_MINUTES}, got {no_capacity_minutes}"
            )
        if no_capacity_minutes and not group:
            raise UsageError(f"no_capacity_minutes {no_capacity_minutes} needs a group")
        selection = Selection(group, tags, zone, count, share_percent, spot=True)
        chosen = selection.draw(session.aws, session.random)
        aws, name = session.aws, uuid.uuid4().hex[:12]
        prefix = f"arn:{partition(aws.region)}:ec2:{aws.region}:{aws.environment.account}:instance"
        denied = group if group and no_capacity_minutes else ""
        template = InterruptionTemplate(
            name,
            role_arn or _role(session),
            tuple(f"{prefix}/{instance.id}" for instance in chosen),
            warning_minutes,
            _group_arn(session, denied) if denied else "",
            chosen[0].zone if denied else "",
            no_capacity_minutes,
        )
        applied = session.executor.apply(
            [Change(template, PRESENT)],
            [Change(RunningInterruption(name, denied), RUNNING)],
            [Change(SpotInterruption(instance.id, instance.zone)) for instance in chosen],
        )
        return [
            {
                "change": done.id,
                "resource": done.change.subject.resource.id,
                "zone": done.change.subject.resource.zone,
                "summary": done.change.summary,
                "proven": done.effect.proven,
                "detail": done.effect.detail,
            }
            for done in applied
        ]


def _role(session: Session) -> str:
    try:
        return str(session.aws.send(Call("iam", "GetRole", {"RoleName": ROLE}))["Role"]["Arn"])
    except ResourceGone:
        raise UsageError(
            f"there is no role {ROLE} that AWS FIS could assume: create it, or give role_arn"
        ) from None


def _group_arn(session: Session, group: str) -> str:
    call = Call("autoscaling", "DescribeAutoScalingGroups", {"AutoScalingGroupNames": [group]})
    for described in session.aws.pages(call, "AutoScalingGroups"):
        return str(described["AutoScalingGroupARN"])
    raise TargetNotFound(f"there is no Auto Scaling group {group}; check the name and the Region")
