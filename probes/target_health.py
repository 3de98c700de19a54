"""Health of a target group, as its load balancer sees it."""

from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import TargetNotFound
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["healthy_targets", "target_health"]

READS: tuple[str, ...] = (
    "elasticloadbalancing:DescribeTargetGroups",
    "elasticloadbalancing:DescribeTargetHealth",
)
"""IAM actions that these probes and their observer need."""


def healthy_targets(
    target_group: str, configuration: Configuration = None, secrets: Secrets = None
) -> int:
    """How many targets of a group are healthy.

    Arguments:
        target_group: its name.

    Example:
        ```yaml
        type: probe
        name: six-targets-in-service
        tolerance: 6
        provider:
          type: python
          module: chaosgrade.probes.target_health
          func: healthy_targets
          arguments: {target_group: web}
        ```

    Source: Elastic Load Balancing API Reference, DescribeTargetHealth.
    """
    with activity(configuration) as session:
        targets = _read(session.aws, _arn(session.aws, target_group))
        return sum(target["state"] == "healthy" for target in targets.values())


def target_health(
    target_group: str, configuration: Configuration = None, secrets: Secrets = None
) -> dict[str, dict[str, Any]]:
    """State of each target: {id: {state, reason}}.

    Arguments:
        target_group: its name.
    """
    with activity(configuration) as session:
        return _read(session.aws, _arn(session.aws, target_group))


def observe(session: Session, *, target_group: str) -> Poll:
    """An observer that records `target_health` whenever it changes."""
    arn = _arn(session.aws, target_group)

    def look() -> dict[str, Any]:
        return {"target_group": target_group, "targets": _read(session.aws, arn)}

    return Poll(session, "target_health", look)


def _arn(aws: Aws, name: str) -> str:
    answer = aws.send(Call("elbv2", "DescribeTargetGroups", {"Names": [name]}))
    if not answer["TargetGroups"]:
        raise TargetNotFound(f"there is no target group {name}; check the name and the Region")
    return str(answer["TargetGroups"][0]["TargetGroupArn"])


def _read(aws: Aws, arn: str) -> dict[str, dict[str, Any]]:
    answer = aws.send(Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": arn}))
    return {
        described["Target"]["Id"]: {
            "state": described["TargetHealth"]["State"],
            "reason": described["TargetHealth"].get("Reason"),
        }
        for described in answer["TargetHealthDescriptions"]
    }
