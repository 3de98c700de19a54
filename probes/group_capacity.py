"""Capacity of an Auto Scaling group: what it wants and what is in service, by zone."""

from collections import Counter
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import TargetNotFound
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["group_capacity"]

READS: tuple[str, ...] = ("autoscaling:DescribeAutoScalingGroups",)
"""IAM actions that this probe and its observer need."""


def group_capacity(
    group: str, configuration: Configuration = None, secrets: Secrets = None
) -> dict[str, Any]:
    """Desired capacity and healthy instances in service: {group, desired, in_service, by_zone}.

    Arguments:
        group: name of the Auto Scaling group.

    Example:
        ```yaml
        type: probe
        name: group-is-full
        tolerance: {type: jsonpath, path: $.in_service, expect: [6]}
        provider:
          type: python
          module: chaosgrade.probes.group_capacity
          func: group_capacity
          arguments: {group: web}
        ```

    Source: Amazon EC2 Auto Scaling API Reference, DescribeAutoScalingGroups.
    """
    with activity(configuration) as session:
        return _read(session.aws, group)


def observe(session: Session, *, group: str) -> Poll:
    """An observer that records `group_capacity` whenever it changes."""
    return Poll(session, "group_capacity", lambda: _read(session.aws, group))


def _read(aws: Aws, group: str) -> dict[str, Any]:
    answer = aws.send(
        Call("autoscaling", "DescribeAutoScalingGroups", {"AutoScalingGroupNames": [group]})
    )
    if not answer["AutoScalingGroups"]:
        raise TargetNotFound(
            f"there is no Auto Scaling group {group}; check the name and the Region"
        )
    described = answer["AutoScalingGroups"][0]
    by_zone = Counter(
        instance["AvailabilityZone"]
        for instance in described["Instances"]
        if instance["LifecycleState"] == "InService" and instance["HealthStatus"] == "Healthy"
    )
    return {
        "group": group,
        "desired": described["DesiredCapacity"],
        "in_service": by_zone.total(),
        "by_zone": dict(sorted(by_zone.items())),
    }
