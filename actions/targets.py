"""Actions on the targets of a load balancer's target group."""

from collections.abc import Mapping
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.selection import check_how_many, how_many
from chaosgrade.aws import Call
from chaosgrade.changes.instance import described
from chaosgrade.changes.model import Change
from chaosgrade.changes.target_registration import (
    DEREGISTERED,
    REGISTERED,
    TargetRegistration,
    interfaces,
)
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.session import Session, activity

__all__ = ["deregister_targets", "register_targets"]


def deregister_targets(
    target_group: str,
    targets: list[str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Take targets out of a target group. Undone by registering them again.

    Arguments:
        target_group: its name.
        targets: ids of registered targets; without them, `count` (default 1) are drawn.
        zone: draw only among targets in this Availability Zone.
        count: how many to draw.
        share_percent: how many of them instead, above 0 to 100, rounded up. Of 100 nothing is left:
            the load balancer answers 503 by itself.

    Returns: one object per target: change, target, port, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: deregister-a-target
        provider:
          type: python
          module: chaosgrade.actions.targets
          func: deregister_targets
          arguments: {target_group: web, count: 1}
        ```

    Source: Elastic Load Balancing API Reference, DeregisterTargets.
    """
    with activity(configuration) as session:
        if targets and (count is not None or share_percent is not None or zone):
            raise UsageError(
                f"targets {targets} exclude count, share_percent and zone: name them or draw them"
            )
        check_how_many(count, share_percent)
        arn, registered = _registered(session, target_group)
        if targets:
            chosen = [target for target in registered if target["id"] in targets]
            missing = sorted(set(targets) - {str(target["id"]) for target in chosen})
            if missing:
                raise TargetNotFound(
                    f"{', '.join(missing)} not registered with target group {target_group}"
                )
        else:
            pool = [t for t in registered if not zone or t["zone"] == zone]
            wanted = how_many(len(pool), count, share_percent)
            if len(pool) < wanted:
                where = f" in {zone}" if zone else ""
                raise TargetNotFound(
                    f"target group {target_group} has {len(pool)} targets{where}, {wanted} wanted"
                )
            chosen = session.random.sample(pool, wanted)
        return _set_registration(session, arn, chosen, DEREGISTERED)


def register_targets(
    target_group: str,
    targets: list[str],
    port: int | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Put targets into a target group. Undone by deregistering those that were not in it.

    Arguments:
        target_group: its name.
        targets: ids of the targets.
        port: the port that they listen on; the group's own by default.

    Returns: one object per target: change, target, port, summary, proven, detail.

    Source: Elastic Load Balancing API Reference, RegisterTargets.
    """
    with activity(configuration) as session:
        if not targets:
            raise UsageError("targets is empty: name at least one target id")
        group = _group(session, target_group)
        chosen = [{"id": target, "port": port or group["Port"]} for target in targets]
        return _set_registration(session, group["TargetGroupArn"], chosen, REGISTERED)


def _group(session: Session, name: str) -> dict[str, Any]:
    answer = session.aws.send(Call("elbv2", "DescribeTargetGroups", {"Names": [name]}))
    group: dict[str, Any] = answer["TargetGroups"][0]
    if group.get("TargetType") == "lambda":
        raise UsageError(
            f"target group {name} has a Lambda function as its target, which has no port: name one "
            "of instances or addresses"
        )
    return group


def _registered(session: Session, name: str) -> tuple[str, list[dict[str, Any]]]:
    group = _group(session, name)
    arn = group["TargetGroupArn"]
    answer = session.aws.send(Call("elbv2", "DescribeTargetHealth", {"TargetGroupArn": arn}))
    targets = [
        d["Target"]
        for d in answer["TargetHealthDescriptions"]
        if d["TargetHealth"]["State"] != "draining"
    ]
    # Target health tells the zone only for addresses.
    zones = {
        instance["InstanceId"]: instance["Placement"]["AvailabilityZone"]
        for instance in described(session.aws, (str(target["Id"]) for target in targets))
    }
    addresses = (t["Id"] for t in targets if group.get("TargetType") == "ip" and not _everywhere(t))
    holders = interfaces(
        session.aws, "addresses.private-ip-address", addresses, group.get("VpcId", "")
    )
    return arn, sorted(
        (
            {
                "id": target["Id"],
                "port": target["Port"],
                "zone": zones.get(target["Id"]),
                "everywhere": _everywhere(target),
                "interface": holders.get(target["Id"], ""),
            }
            for target in targets
        ),
        key=lambda target: str(target["id"]),
    )


def _everywhere(target: Mapping[str, Any]) -> bool:
    """Whether a target is of all Availability Zones, as an address outside the VPC is."""
    return target.get("AvailabilityZone") == "all"


def _set_registration(
    session: Session, arn: str, chosen: list[dict[str, Any]], wanted: str
) -> list[dict[str, Any]]:
    changes = [
        Change(
            TargetRegistration(
                arn,
                str(target["id"]),
                int(target["port"]),
                target.get("everywhere", False),
                target.get("interface", ""),
            ),
            wanted,
        )
        for target in chosen
    ]
    return [
        {
            "change": done.id,
            "target": target["id"],
            "port": target["port"],
            "summary": done.change.summary,
            "proven": done.effect.proven,
            "detail": done.effect.detail,
        }
        for target, done in zip(chosen, session.executor.apply(changes), strict=True)
    ]
