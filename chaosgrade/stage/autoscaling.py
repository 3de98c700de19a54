"""What an Auto Scaling group does next: pure rules, from what is to what should happen.

Source: Amazon EC2 Auto Scaling User Guide, "Health checks for instances in an Auto Scaling group",
"Suspend and resume processes", "Instance distribution and Availability Zone rebalancing",
"Capacity Rebalancing in Auto Scaling to replace at-risk Spot Instances".
"""

import uuid
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from chaosgrade.stage.mixed_instances import Mix
from chaosgrade.stage.world import Activity

PENDING, IN_SERVICE, TERMINATING, STANDBY = "Pending", "InService", "Terminating", "Standby"
EC2, ELB = "EC2", "ELB"
_ON_DEMAND = Mix(("",))


@dataclass(frozen=True, slots=True)
class Member:
    """One instance of a group.

    Args:
        lifecycle: as DescribeAutoScalingInstances names it.
        in_service_for_s: AWS seconds since it went into service.
        healthy: what Auto Scaling thinks of it, also by SetInstanceHealth.
        running: what EC2 says.
        refused: a load balancer of the group calls it unhealthy.
        protected: from scale-in.
        instance_type, spot: what it is and how it was bought.
        at_risk: EC2 recommends to rebalance it.
        serving: healthy with every target group of the group.
    """

    instance: str
    zone: str
    lifecycle: str
    in_service_for_s: float
    healthy: bool = True
    running: bool = True
    refused: bool = False
    protected: bool = False
    instance_type: str = ""
    spot: bool = False
    at_risk: bool = False
    serving: bool = True


@dataclass(frozen=True, slots=True)
class Group:
    """A group as it is.

    Args:
        zones: where it may launch.
        suspended: names of suspended processes.
        health_type: `EC2` or `ELB`, which includes it, or both with a comma between them.
        grace_s: health check grace period in AWS seconds.
        mix: what it buys.
        rebalances: whether capacity rebalancing is on.
        maximum: of its size; None for no limit.
    """

    name: str
    desired: int
    zones: tuple[str, ...]
    suspended: frozenset[str]
    health_type: str
    grace_s: float
    members: tuple[Member, ...]
    mix: Mix = _ON_DEMAND
    rebalances: bool = False
    maximum: int | None = None

    def runs(self, *processes: str) -> bool:
        """Whether none of these processes is suspended."""
        return not self.suspended.intersection(processes)

    def counted(self) -> list[Member]:
        """Members that count towards the desired capacity."""
        return [m for m in self.members if m.lifecycle in (PENDING, IN_SERVICE)]

    def leaving(self) -> list[Member]:
        """Members that are in service until others have taken their place."""
        if not self.rebalances:
            return []
        return [m for m in self.members if m.at_risk and m.healthy and m.lifecycle == IN_SERVICE]


@dataclass(frozen=True, slots=True)
class Launch:
    """Launch one instance in a zone.

    Args:
        spot: a Spot Instance, not an On-Demand one.
        elsewhere: in another zone where this one has no capacity.
    """

    zone: str
    cause: str
    spot: bool = False
    elsewhere: bool = True


@dataclass(frozen=True, slots=True)
class Terminate:
    """Take an instance out of service and terminate it."""

    instance: str
    cause: str


type Decision = Launch | Terminate


def decide(group: Group) -> list[Decision]:
    """Everything that the group does now.

    An unhealthy instance leaves at once and no longer counts, so that its replacement is launched
    with the next decision: termination does not wait for the launch, nor the launch for it. Until
    then it still counts, and nothing else is decided.
    """
    if unhealthy := replaced(group):
        return [*unhealthy]
    return rebalanced(group) if group.leaving() else to_desired(group)


def found_unhealthy(group: Group) -> dict[str, str]:
    """Instances that a health evaluation marks unhealthy, each with the cause."""
    if not group.runs("HealthCheck"):
        return {}
    found = {}
    for member in group.members:
        if member.lifecycle not in (PENDING, IN_SERVICE) or not member.healthy:
            continue
        if not member.running:
            # The grace period does not cover an instance that EC2 says is gone.
            found[member.instance] = (
                "an EC2 health check indicating it has been terminated or stopped"
            )
        elif (
            ELB in group.health_type.split(",")
            and member.lifecycle == IN_SERVICE
            and member.refused
            and member.in_service_for_s >= group.grace_s
        ):
            found[member.instance] = "an ELB system health check failure"
    return found


def replaced(group: Group) -> list[Terminate]:
    """Unhealthy instances that are to be terminated now."""
    if not group.runs("ReplaceUnhealthy", "Terminate"):
        return []
    return [
        Terminate(member.instance, "a health check that called it unhealthy")
        for member in group.members
        if member.lifecycle in (PENDING, IN_SERVICE) and not member.healthy
    ]


def rebalanced(group: Group) -> list[Decision]:
    """Capacity rebalancing: others for instances at risk, which leave once those are healthy.

    A group may grow beyond its maximum by a tenth of it, at least by one. Source: Amazon EC2 Auto
    Scaling User Guide, "Capacity Rebalancing in Auto Scaling to replace at-risk Spot Instances".
    """
    leaving, counted = group.leaving(), group.counted()
    staying = [member for member in counted if member not in leaving]
    load = Counter({zone: 0 for zone in group.zones})
    load.update(member.zone for member in staying)
    missing = group.desired - len(staying)
    if group.maximum is not None:
        room = group.maximum + max(1, group.maximum // 10) - len(counted)
        missing = min(missing, room)
    cause = "an EC2 instance rebalance recommendation"
    launches = _launches(group, load, missing, staying, cause) if missing > 0 else ()
    ready = sum(m.lifecycle == IN_SERVICE and m.healthy and m.serving for m in staying)
    spare = max(0, ready + len(leaving) - group.desired)
    if not group.runs("Terminate"):
        spare = 0
    return [*launches, *(Terminate(member.instance, cause) for member in leaving[:spare])]


def to_desired(group: Group) -> list[Decision]:
    """What brings the group to its desired capacity, spread evenly over its zones."""
    counted = group.counted()
    missing = group.desired - len(counted)
    load = Counter({zone: 0 for zone in group.zones})
    load.update(member.zone for member in counted)
    if missing > 0:
        cause = f"a difference between desired ({group.desired}) and actual capacity"
        return list(_launches(group, load, missing, counted, cause))
    if missing < 0:
        return list(_scale_in(group, load, -missing))
    if group.runs("AZRebalance", "Launch", "Terminate") and len(group.zones) > 1:
        fullest, emptiest = max(load.values()), min(load[zone] for zone in group.zones)
        settled = all(member.lifecycle == IN_SERVICE for member in counted)
        if settled and fullest - emptiest > 1:
            # Launch before terminate: rebalancing must not cost capacity.
            zone, cause = _emptiest(group.zones, load), "an imbalance of Availability Zones"
            fuller = [m.spot for m in counted if load[m.zone] == fullest]
            return [Launch(zone, cause, spot=any(fuller), elsewhere=False)]
    return []


def _launches(
    group: Group, load: Counter[str], missing: int, staying: Iterable[Member], cause: str
) -> Iterable[Launch]:
    if not group.runs("Launch") or not group.zones:
        return
    wanted = group.mix.on_demand_of(group.desired)
    on_demand = wanted - sum(not member.spot for member in staying)
    for number in range(missing):
        zone = _emptiest(group.zones, load)
        load[zone] += 1
        yield Launch(zone, cause, spot=number >= on_demand)


def _scale_in(group: Group, load: Counter[str], surplus: int) -> Iterable[Terminate]:
    if not group.runs("Terminate"):
        return
    candidates = [m for m in group.counted() if not m.protected and m.lifecycle == IN_SERVICE]
    wanted = group.mix.on_demand_of(group.desired)
    on_demand = sum(not member.spot for member in group.counted())
    for _ in range(min(surplus, len(candidates))):
        # The oldest instance of the fullest zone, of the purchase option that there is too much of.
        spot = on_demand <= wanted
        member = max(candidates, key=lambda m: (m.spot == spot, load[m.zone], m.in_service_for_s))
        candidates.remove(member)
        load[member.zone] -= 1
        on_demand -= not member.spot
        yield Terminate(member.instance, f"a desired capacity of {group.desired}")


def _emptiest(zones: tuple[str, ...], load: Counter[str]) -> str:
    return min(zones, key=lambda zone: (load[zone], zones.index(zone)))


def activity(group: str, description: str, cause: str) -> Activity:
    """A scaling activity that begins now."""
    now = datetime.now(UTC)
    return {
        "ActivityId": str(uuid.uuid4()),
        "AutoScalingGroupName": group,
        "Description": description,
        "Cause": f"At {now:%Y-%m-%dT%H:%M:%SZ} {cause}.",
        "StartTime": now,
        "StatusCode": "InProgress",
        "Progress": 50,
    }


def ended(begun: Activity, failure: str | None = None) -> Activity:
    """The same activity, ended now; with what went wrong, if it failed."""
    done: Activity = {
        **begun,
        "EndTime": datetime.now(UTC),
        "StatusCode": "Failed" if failure else "Successful",
        "Progress": 100,
    }
    if failure:
        done["StatusMessage"] = failure
    return done
