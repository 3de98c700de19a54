"""Undo by compare-then-restore: put back what we changed, leave alone what others changed."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from chaosgrade.aws import PARALLELISM, Aws, ResourceGone
from chaosgrade.changes import registry
from chaosgrade.changes.journal import Entry, Journal, State
from chaosgrade.errors import AwsError, ChaosgradeError


@dataclass(frozen=True, slots=True)
class Undone:
    """How the undo of one change ended: `UNDONE`, `CONFLICT`, `VANISHED` or `UNREVERTED`."""

    entry: Entry
    state: State
    detail: str


def undo(entries: Sequence[Entry], journal: Journal, aws: Aws) -> list[Undone]:
    """Undo journalled settings, the last first, several resources side by side.

    Entries of the same address are undone one after another. Never raises for a single entry:
    what could not be restored is `UNREVERTED` and stays outstanding.
    """
    by_address: dict[tuple[str, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.id, reverse=True):
        by_address.setdefault((entry.kind, entry.address), []).append(entry)
    with ThreadPoolExecutor(PARALLELISM) as pool:
        groups = pool.map(
            lambda group: [_undo(e, journal, aws) for e in group], by_address.values()
        )
        return [undone for group in groups for undone in group]


def is_gone(kind: str, error: ChaosgradeError) -> bool:
    """Whether an error means that there is nothing left to undo: a stage ends with all on it."""
    return kind == "stage" and isinstance(error, AwsError) and error.unreachable


def _undo(entry: Entry, journal: Journal, aws: Aws) -> Undone:
    try:
        state, detail = _restore(entry, aws)
    except ResourceGone as error:
        state, detail = State.VANISHED, str(error)
    except ChaosgradeError as error:
        state, detail = State.UNREVERTED, str(error)
        if is_gone(aws.environment.kind, error):
            state = State.VANISHED
    except Exception as error:  # whatever it is, the change is not undone
        state, detail = State.UNREVERTED, f"{type(error).__name__}: {error}"
    journal.mark(entry.id, state, detail)
    return Undone(entry, state, detail)


def _restore(entry: Entry, aws: Aws) -> tuple[State, str]:
    setting = registry.setting(entry.kind, entry.address)
    live = setting.read(aws)
    if live == entry.before:
        return State.UNDONE, "was already as before"
    if live != entry.wanted:
        return State.CONFLICT, (
            f"is {live!r} now, neither our {entry.wanted!r} nor the former {entry.before!r}"
        )
    for call in setting.calls(aws, entry.before):
        aws.send(call)
    live = setting.read(aws)
    if live != entry.before:
        return State.UNREVERTED, f"reads back as {live!r}, not as the former {entry.before!r}"
    return State.UNDONE, f"is {live!r} again"
