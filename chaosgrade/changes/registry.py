"""Kinds of changes by name, so that the journal's rows can be turned back into changes."""

import json
from collections.abc import Mapping

from chaosgrade.changes.database import ClusterFailover, InstanceFailover
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.instance import InstanceState, TerminateInstance
from chaosgrade.changes.model import Setting, Strike
from chaosgrade.changes.network_acl import BlockingAcl, SubnetAcl
from chaosgrade.changes.process import KillProcess, ProcessState
from chaosgrade.changes.request_burst import RequestBurst
from chaosgrade.changes.spot import InterruptionTemplate, RunningInterruption, SpotInterruption
from chaosgrade.changes.target_registration import TargetRegistration
from chaosgrade.errors import UsageError

SETTINGS: Mapping[str, type[Setting]] = {
    kind.kind: kind
    for kind in (
        BlockingAcl,
        InstanceState,
        InterruptionTemplate,
        ProcessState,
        RunningInterruption,
        SubnetAcl,
        SuspendedProcesses,
        TargetRegistration,
    )
}
STRIKES: Mapping[str, type[Strike]] = {
    kind.kind: kind
    for kind in (
        ClusterFailover,
        InstanceFailover,
        KillProcess,
        RequestBurst,
        SpotInterruption,
        TerminateInstance,
    )
}


def setting(kind: str, address: str) -> Setting:
    """The Setting that a journal row is about.

    Args:
        kind: the row's kind.
        address: its fields as JSON.

    Raises:
        UsageError: a kind, or fields of one, that this version does not know.
    """
    subject = _subject(SETTINGS, kind, address)
    assert isinstance(subject, Setting)  # noqa: S101 - by the mapping
    return subject


def subject(kind: str, address: str) -> Setting | Strike:
    """The Setting or Strike that a journal row is about; arguments and errors as `setting`."""
    return _subject({**SETTINGS, **STRIKES}, kind, address)


def _subject(
    kinds: Mapping[str, type[Setting] | type[Strike]], kind: str, address: str
) -> Setting | Strike:
    if kind not in kinds:
        raise UsageError(
            f"the journal holds a change of kind {kind!r}, which this version does not know; "
            "undo it with the version that made it"
        )
    try:
        return kinds[kind](**json.loads(address))
    except TypeError:
        raise UsageError(
            f"the journal holds a change of kind {kind!r} with fields that this version does not "
            f"know ({address}); undo it with the version that made it"
        ) from None
