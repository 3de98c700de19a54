"""Kinds of changes by name, so that the journal's rows can be turned back into changes."""

import json
from collections.abc import Mapping

from chaosgrade.changes.instance import TerminateInstance
from chaosgrade.changes.model import Setting, Strike
from chaosgrade.changes.process import KillProcess, ProcessState
from chaosgrade.changes.target_registration import TargetRegistration
from chaosgrade.errors import UsageError

SETTINGS: Mapping[str, type[Setting]] = {
    kind.kind: kind for kind in (ProcessState, TargetRegistration)
}
STRIKES: Mapping[str, type[Strike]] = {kind.kind: kind for kind in (KillProcess, TerminateInstance)}


def setting(kind: str, address: str) -> Setting:
    """The Setting that a journal row is about.

    Args:
        kind: the row's kind.
        address: its fields as JSON.

    Raises:
        UsageError: a kind that this version does not know.
    """
    if kind not in SETTINGS:
        raise UsageError(
            f"the journal holds a change of kind {kind!r}, which this version does not know; "
            "undo it with the version that made it"
        )
    return SETTINGS[kind](**json.loads(address))
