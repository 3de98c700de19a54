"""Which instances a fault hits: by group, tags, zone, and how many of them."""

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.engine import Applied
from chaosgrade.errors import TargetNotFound, UsageError


@dataclass(frozen=True, slots=True)
class Instance:
    """A running instance."""

    id: str
    zone: str


@dataclass(frozen=True, slots=True)
class Selection:
    """Running instances of a group or with tags, and how many of them.

    Args:
        group: name of an Auto Scaling group.
        tags: tags that an instance must all carry; `group` or `tags` is needed.
        zone: only instances in this Availability Zone.
        count: how many; 1 when neither `count` nor `share_percent` is given.
        share_percent: how many of those that match, above 0 to 100, rounded up.
        spot: only Spot Instances.

    Raises:
        UsageError: nothing selects, or a count or share is out of range.
    """

    group: str | None = None
    tags: dict[str, str] | None = None
    zone: str | None = None
    count: int | None = None
    share_percent: float | None = None
    spot: bool = False

    def __post_init__(self) -> None:
        if not self.group and not self.tags:
            raise UsageError("nothing is selected: name a group or tags")
        check_how_many(self.count, self.share_percent)

    def draw(self, aws: Aws, chance: random.Random) -> list[Instance]:
        """The instances that are hit, drawn by `chance` among those that match.

        Raises:
            TargetNotFound: nothing matches, or fewer than `count`.
        """
        found = sorted(self._matching(aws), key=lambda instance: instance.id)
        wanted = how_many(len(found), self.count, self.share_percent)
        if not found or len(found) < wanted:
            raise TargetNotFound(
                f"{len(found)} running instances match {self}, {wanted} wanted; "
                "check the selector and the Region"
            )
        return chance.sample(found, wanted)

    def __str__(self) -> str:
        named = (
            ("group", self.group),
            ("tags", self.tags),
            ("zone", self.zone),
            ("lifecycle", "spot" if self.spot else None),
        )
        return ", ".join(f"{name} {value}" for name, value in named if value)

    def _matching(self, aws: Aws) -> Iterator[Instance]:
        tags = dict(self.tags or {})
        if self.group:
            # Auto Scaling puts this tag on what it launches: one paginated call finds a group.
            tags["aws:autoscaling:groupName"] = self.group
        filters = [{"Name": "instance-state-name", "Values": ["running"]}]
        filters += [{"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()]
        if self.zone:
            filters.append({"Name": "availability-zone", "Values": [self.zone]})
        call = Call("ec2", "DescribeInstances", {"Filters": filters, "MaxResults": 1000})
        for reservation in aws.pages(call, "Reservations"):
            for described in reservation["Instances"]:
                if self.spot and described.get("InstanceLifecycle") != "spot":
                    continue
                yield Instance(described["InstanceId"], described["Placement"]["AvailabilityZone"])


def check_how_many(count: int | None, share_percent: float | None) -> None:
    """Whether somebody has said how many in a way that makes sense.

    Raises:
        UsageError: both are given, or one is out of range.
    """
    if count is not None and share_percent is not None:
        raise UsageError(f"count {count} and share_percent {share_percent} exclude each other")
    if count is not None and count < 1:
        raise UsageError(f"count must be at least 1, got {count}")
    if share_percent is not None and not 0 < share_percent <= 100:
        raise UsageError(f"share_percent must be above 0 and at most 100, got {share_percent}")


def how_many(of: int, count: int | None, share_percent: float | None) -> int:
    """How many of so many are wanted: at least 1, and maybe more than there are."""
    if share_percent is not None:
        return max(1, math.ceil(of * share_percent / 100))
    return count or 1


def outcome(chosen: Sequence[Instance], applied: Sequence[Applied]) -> list[dict[str, Any]]:
    """What an action returns: which instance was hit by which change, and whether it is proven."""
    return [
        {
            "change": done.id,
            "instance": instance.id,
            "zone": instance.zone,
            "summary": done.change.summary,
            "proven": done.effect.proven,
            "detail": done.effect.detail,
        }
        for instance, done in zip(chosen, applied, strict=True)
    ]
