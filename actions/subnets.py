"""Cuts subnets off: what actions on zones and on databases have in common."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from chaosgrade.changes import manifest
from chaosgrade.changes.manifest import Former
from chaosgrade.changes.model import Change, Live, Setting
from chaosgrade.changes.network_acl import NAME_TAG, PREFIX, BlockingAcl, SubnetAcl
from chaosgrade.changes.reading import read
from chaosgrade.session import Session


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet and where it is."""

    id: str
    vpc: str
    zone: str


def cut_off(
    session: Session, subnets: Sequence[Subnet], others: Sequence[Change] = ()
) -> list[dict[str, Any]]:
    """Cut subnets off and make other changes, as one transaction: all of them, or none.

    Each subnet is given a network ACL that denies everything, and with the undo its former one.

    Args:
        session: the run.
        subnets: at least one.
        others: settings that are changed in the same step.

    Returns: one object per change: change, resource, zone, summary, proven, detail.
    """
    zones = {subnet.zone for subnet in subnets}
    zone = zones.pop() if len(zones) == 1 else None
    by_vpc: dict[str, list[Subnet]] = {}
    for subnet in subnets:
        by_vpc.setdefault(subnet.vpc, []).append(subnet)
    token = uuid.uuid4().hex[:12]
    cuts = {
        vpc: [
            Change(SubnetAcl(vpc, subnet.id, subnet.zone), f"{PREFIX}{token}-{number}.0")
            for subnet in of_vpc
        ]
        for number, (vpc, of_vpc) in enumerate(by_vpc.items())
    }
    # What the changes without a VPC need to be undone is carried by the first network ACL.
    carried = {
        vpc: [*changes, *(others if n == 0 else ())]
        for n, (vpc, changes) in enumerate(cuts.items())
    }
    before = read(session.aws, (_setting(c) for changes in carried.values() for c in changes))
    acls = []
    for number, (vpc, changes) in enumerate(carried.items()):
        formers = []
        for change in changes:
            reading = before[_setting(change)]
            if not isinstance(reading, Live):
                raise reading
            formers.append(Former(_setting(change), reading.value, change.wanted))
        parts = manifest.written(
            formers, run=session.executor.run, expires=session.executor.lease_until
        )
        for part, tags in enumerate(parts):
            name = f"{token}-{number}.{part}"
            acls.append(Change(BlockingAcl(vpc, name), {**tags, NAME_TAG: name}))
    wave = [change for changes in carried.values() for change in changes]
    return [
        told(
            done.id,
            done.change.subject.resource.id,
            done.change.subject.resource.zone or zone,
            done.change.summary,
            done.effect.proven,
            done.effect.detail,
        )
        for done in session.executor.apply(acls, wave)
    ]


def _setting(change: Change) -> Setting:
    assert isinstance(change.subject, Setting)  # noqa: S101 - a zone is cut by settings only
    return change.subject


def told(
    change: int | None, resource: str, zone: str | None, summary: str, proven: bool, detail: str
) -> dict[str, Any]:
    """What an action returns of one change."""
    return {
        "change": change,
        "resource": resource,
        "zone": zone,
        "summary": summary,
        "proven": proven,
        "detail": detail,
    }
