"""What it takes to undo a transaction, in the tags of what the transaction created on AWS.

When the machine with the journal is lost, AWS itself still tells what was changed: each blocking
network ACL carries the settings of its transaction with their former values, as JSON, compressed,
in as many tags as it takes. Tags hold up to 256 characters, a resource up to 50 of them. Source:
Amazon EC2 User Guide, "Tag your Amazon EC2 resources".
"""

import base64
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.instance import InstanceState
from chaosgrade.changes.journal import Entry, State
from chaosgrade.changes.model import Setting, address
from chaosgrade.changes.network_acl import (
    NAME_TAG,
    PREFIX,
    BlockingAcl,
    SubnetAcl,
    name_of,
    tags_of,
)
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import Json

RUN_TAG = PREFIX + "run"
EXPIRES_TAG = PREFIX + "expires"
_PART_TAG = PREFIX + "undo-"
_PART_LENGTH = 256
_PARTS = 40

_STEPS = {
    BlockingAcl.kind: 0,
    SuspendedProcesses.kind: 1,
    InstanceState.kind: 2,
    SubnetAcl.kind: 2,
}
"""What a zone fault changes, in its order. Nothing else is undone for what tags say: whoever may
write tags may not therefore have commands run by whoever recovers."""


@dataclass(frozen=True, slots=True)
class Former:
    """A setting with the value that it had and the value that it was given."""

    setting: Setting
    before: Json
    wanted: Json


@dataclass(frozen=True, slots=True)
class Trace:
    """A transaction as AWS remembers it.

    Args:
        run: whose it is.
        expires: until when its changes were to stay, in Unix seconds.
        entries: what has to be undone, as a journal would have it.
        unreadable: ids of network ACLs whose tags do not tell what to undo.
    """

    run: str
    expires: float
    entries: tuple[Entry, ...]
    unreadable: tuple[str, ...]


def written(formers: Sequence[Former], *, run: str, expires: float) -> list[dict[str, str]]:
    """Tags that hold these settings: one set for each network ACL that is needed to carry them."""
    items = [[f.setting.kind, address(f.setting), f.before, f.wanted] for f in formers]
    packed = zlib.compress(json.dumps(items, separators=(",", ":")).encode(), 9)
    text = base64.b64encode(packed).decode()
    parts = [text[n : n + _PART_LENGTH] for n in range(0, len(text), _PART_LENGTH)]
    if len(parts) > _PARTS:
        half = len(formers) // 2
        return [
            *written(formers[:half], run=run, expires=expires),
            *written(formers[half:], run=run, expires=expires),
        ]
    numbered = {f"{_PART_TAG}{number:02}": part for number, part in enumerate(parts)}
    return [{RUN_TAG: run, EXPIRES_TAG: f"{expires:.0f}", **numbered}]


def read(tags: Mapping[str, str]) -> list[tuple[str, Mapping[str, Any], Json, Json]]:
    """(kind, address, before, wanted) of each setting that tags hold.

    Raises:
        ValueError: they were cut or changed.
    """
    text = "".join(tags[key] for key in sorted(tags) if key.startswith(_PART_TAG))
    try:
        items = json.loads(zlib.decompress(base64.b64decode(text, validate=True)))
        return [(str(kind), dict(fields), before, wanted) for kind, fields, before, wanted in items]
    except (zlib.error, TypeError) as error:
        raise ValueError(str(error)) from None


def traces(aws: Aws) -> list[Trace]:
    """What chaosgrade has left in this account and Region, as AWS itself tells.

    Raises:
        AwsError: the network ACLs cannot be read.
    """
    filters = [{"Name": "tag-key", "Values": [NAME_TAG]}]
    acls = list(aws.pages(Call("ec2", "DescribeNetworkAcls", {"Filters": filters}), "NetworkAcls"))
    by_run: dict[str, list[dict[str, Any]]] = {}
    for acl in acls:
        by_run.setdefault(tags_of(acl).get(RUN_TAG, "unknown"), []).append(acl)
    return [_trace(run, acls) for run, acls in sorted(by_run.items())]


def _trace(run: str, acls: Sequence[dict[str, Any]]) -> Trace:
    entries: dict[tuple[str, str], Entry] = {}
    unreadable, expires = [], 0.0
    for acl in acls:
        tags = tags_of(acl)
        try:
            expires = max(expires, float(tags.get(EXPIRES_TAG, "0")))
            found = list(_entries(run, acl, tags))
        except (ValueError, ChaosgradeError):
            unreadable.append(str(acl["NetworkAclId"]))
            continue
        entries |= {(entry.kind, entry.address): entry for entry in found}
    numbered = (replace(entry, id=number) for number, entry in enumerate(entries.values()))
    return Trace(run, expires, tuple(numbered), tuple(unreadable))


def _entries(run: str, acl: Mapping[str, Any], tags: Mapping[str, str]) -> Iterator[Entry]:
    ours = {key: value for key, value in tags.items() if key.startswith(PREFIX)}
    itself = BlockingAcl(str(acl["VpcId"]), name_of(acl))
    items: list[tuple[str, Mapping[str, Any], Json, Json]]
    items = [(BlockingAcl.kind, address(itself), None, dict(ours)), *read(tags)]
    for kind, fields, before, wanted in items:
        if kind not in _STEPS:
            raise ValueError(f"no zone fault changes {kind}")
        if before != wanted:  # another transaction of the run may have changed it, and have it
            yield _entry(run, kind, fields, before, wanted)


def _entry(run: str, kind: str, fields: Mapping[str, Any], before: Json, wanted: Json) -> Entry:
    from chaosgrade.changes import registry

    text = json.dumps(fields, sort_keys=True)
    return Entry(
        id=0,
        run=run,
        batch=0,
        wave=_STEPS[kind],
        kind=kind,
        address=text,
        summary=registry.setting(kind, text).summary(wanted),
        reversible=True,
        before=before,
        wanted=wanted,
        state=State.INTENDED,
        detail="",
        lease_until=0.0,
        lease_uptime=0.0,
    )
