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
from chaosgrade.errors import Refused
from chaosgrade.session import Session


@dataclass(frozen=True, slots=True)
class Subnet:
    """A subnet and where it is."""

    id: str
    vpc: str
    zone: str


def cut_off(
    session: Session,
    subnets: Sequence[Subnet],
    others: Sequence[Change] = (),
    *,
    around: Sequence[Change] = (),
) -> list[dict[str, Any]]:
    """Cut subnets off and make other changes, as one transaction: all of them, or none.

    Each subnet is given a network ACL that denies everything, and with the undo its former one.

    Args:
        session: the run.
        subnets: at least one.
        others: settings that are changed in the same step.
        around: settings that are changed before that step, and undone after it.

    Returns: one object per change: change, resource, zone, summary, proven, detail.

    Raises:
        Refused: a subnet is dark already.
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
        vpc: [*changes, *((*around, *others) if n == 0 else ())]
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
            _check_bright(change, reading)
            formers.append(Former(_setting(change), reading.value, change.wanted))
        parts = manifest.written(
            formers, run=session.executor.run, expires=session.executor.lease_until
        )
        for part, tags in enumerate(parts):
            name = f"{token}-{number}.{part}"
            acls.append(Change(BlockingAcl(vpc, name), {**tags, NAME_TAG: name}))
    dark = [*(change for changes in cuts.values() for change in changes), *others]
    return [
        told(
            done.id,
            done.change.subject.resource.id,
            done.change.subject.resource.zone or zone,
            done.change.summary,
            done.effect.proven,
            done.effect.detail,
        )
        for done in session.executor.apply(*(wave for wave in (acls, around, dark) if wave))
    ]


def _check_bright(change: Change, reading: Live) -> None:
    """Let a subnet go dark, unless it is: its former network ACL would be one that goes away.

    Raises:
        Refused: a network ACL of chaosgrade, whoever's, denies everything there.
    """
    if isinstance(change.subject, SubnetAcl) and str(reading.value).startswith(PREFIX):
        raise Refused(
            f"{change.subject.subnet_id} is dark already, by chaosgrade's network ACL "
            f"{reading.value}: undo that first, with `chaosgrade recover`, or with `chaosgrade "
            "recover --from-aws` where it was done from another machine"
        )


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
