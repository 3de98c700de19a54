"""Actions on a whole Availability Zone."""

import logging
from collections.abc import Sequence
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.subnets import Subnet, cut_off, told
from chaosgrade.aws import Call
from chaosgrade.changes.filtering import filtered
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.instance import STOPPED, InstanceState
from chaosgrade.changes.model import Change
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.session import Session, activity

__all__ = ["black_hole_zone", "power_off_zone"]

logger = logging.getLogger("chaostoolkit")


def black_hole_zone(
    zone: str,
    vpcs: list[str] | None = None,
    tags: dict[str, str] | None = None,
    suspend: list[str] | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Cut every subnet of an Availability Zone off, as one transaction: all of them, or none.

    Each subnet is given a network ACL that denies everything; established connections stop at once,
    traffic inside a subnet goes on. Undone by giving each subnet its former network ACL.

    Arguments:
        zone: its name in this account, such as "eu-west-1a".
        vpcs: ids of the VPCs concerned; all by default.
        tags: tags that a subnet must all carry.
        suspend: processes of the Auto Scaling groups in these subnets that are suspended meanwhile,
            such as [Launch, AZRebalance]: without it groups go on launching into the dark zone.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: black-hole-a-zone
        provider:
          type: python
          module: chaosgrade.actions.zones
          func: black_hole_zone
          arguments: {zone: us-east-1a, suspend: [Launch, AZRebalance]}
        ```

    Source: Amazon EC2 API Reference, ReplaceNetworkAclAssociation.
    """
    with activity(configuration) as session:
        subnets = _subnets(session, zone, vpcs, tags)
        return cut_off(session, subnets, around=_suspensions(session, subnets, suspend))


def power_off_zone(
    zone: str,
    vpcs: list[str] | None = None,
    tags: dict[str, str] | None = None,
    suspend: list[str] | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Cut every subnet of an Availability Zone off, and power its instances off.

    As `black_hole_zone`, with the running instances in these subnets stopped by force. Undone by
    starting them and giving each subnet its former network ACL. An instance that cannot be stopped
    (Spot, or with a root volume that is not EBS) is cut off only, and named with change null.

    Arguments: as `black_hole_zone`.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Source: AWS Fault Injection Service User Guide, "AZ Availability: Power Interruption".
    """
    with activity(configuration) as session:
        subnets = _subnets(session, zone, vpcs, tags)
        stops, spared = _stops(session, subnets)
        # Resumed last: a group takes an instance that does not run yet for unhealthy, and ends it.
        suspensions = _suspensions(session, subnets, suspend)
        return [*cut_off(session, subnets, stops, around=suspensions), *spared]


def _subnets(
    session: Session, zone: str, vpcs: list[str] | None, tags: dict[str, str] | None
) -> list[Subnet]:
    if not zone or not isinstance(zone, str):
        raise UsageError(f"zone must name an Availability Zone such as us-east-1a, got {zone!r}")
    filters = [{"Name": "availability-zone", "Values": [zone]}]
    if vpcs:
        filters.append({"Name": "vpc-id", "Values": vpcs})
    filters += [{"Name": f"tag:{key}", "Values": [value]} for key, value in (tags or {}).items()]
    call = Call("ec2", "DescribeSubnets", {"Filters": filters})
    found = [
        Subnet(s["SubnetId"], s["VpcId"], s["AvailabilityZone"])
        for s in session.aws.pages(call, "Subnets")
    ]
    if not found:
        among = f" of {', '.join(vpcs)}" if vpcs else ""
        tagged = f" with tags {tags}" if tags else ""
        raise TargetNotFound(
            f"no subnet{among} in {zone}{tagged}; check the zone, the tags and the Region"
        )
    return sorted(found, key=lambda subnet: subnet.id)


def _suspensions(
    session: Session, subnets: Sequence[Subnet], processes: list[str] | None
) -> list[Change]:
    """Suspend these processes of each group that launches into one of the subnets."""
    if not processes:
        return []
    ids = {subnet.id for subnet in subnets}
    call = Call("autoscaling", "DescribeAutoScalingGroups", {"MaxRecords": 100})
    concerned = [
        SuspendedProcesses(group["AutoScalingGroupName"], tuple(processes))
        for group in session.aws.pages(call, "AutoScalingGroups")
        if ids & set(group.get("VPCZoneIdentifier", "").replace(" ", "").split(","))
    ]
    return [Change(setting, list(setting.processes)) for setting in concerned]


def _stops(
    session: Session, subnets: Sequence[Subnet]
) -> tuple[list[Change], list[dict[str, Any]]]:
    """Stop the running instances of the subnets; and those that cannot be stopped."""
    stops, spared = [], []
    ids = (subnet.id for subnet in subnets)
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    for reservation in filtered(
        session.aws, "DescribeInstances", "Reservations", "subnet-id", ids, running
    ):
        for instance in reservation["Instances"]:
            id_, zone = instance["InstanceId"], instance["Placement"]["AvailabilityZone"]
            if reason := _unstoppable(instance):
                logger.warning("%s is cut off but not stopped: %s", id_, reason)
                spared.append(told(None, id_, zone, f"not stopped: {reason}", False, reason))
            else:
                stops.append(Change(InstanceState(id_, zone), STOPPED))
    return stops, spared


def _unstoppable(instance: dict[str, Any]) -> str:
    if instance.get("InstanceLifecycle") == "spot":
        return "a Spot instance"
    if instance.get("RootDeviceType", "ebs") != "ebs":
        return "its root volume is an instance store"
    return ""
