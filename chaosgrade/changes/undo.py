"""Undo by compare-then-restore: put back what we changed, leave alone what others changed.

What has become of a change is decided by reading it, never by the answer to a call: an answer can
be lost after its effect, and an effect can come after the answer was lost.
"""

import itertools
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

from chaosgrade.aws import PARALLELISM, Aws, ResourceGone
from chaosgrade.changes import registry
from chaosgrade.changes.journal import Entry, Journal, JournalError, State
from chaosgrade.changes.model import Divisible, Live, Reading, Setting
from chaosgrade.changes.reading import wait_until
from chaosgrade.errors import AwsError, ChaosgradeError, in_words

RESTORE_TIMEOUT_S = 180.0
"""How long AWS may take until a restored setting reads back, in AWS seconds."""

IN_FLIGHT_S = {"aws": 10.0, "localstack": 1.0, "stage": 1.0}
"""How long a call may take to have its effect when nobody has waited for it, because who sent it
died or was told to stop: a setting that looks untouched is believed only after this."""

_CONFIRM_S = 0.5
"""Between the two looks that must agree before a resource counts as gone."""


@dataclass(frozen=True, slots=True)
class Undone:
    """How the undo of one change ended: `UNDONE`, `CONFLICT`, `VANISHED` or `UNREVERTED`."""

    entry: Entry
    state: State
    detail: str


def undo(entries: Iterable[Entry], journal: Journal | None, aws: Aws) -> list[Undone]:
    """Undo journalled settings: the last transaction first, and in each the last step first.

    Settings of one step are undone side by side. Never raises for a change: what could not be
    restored is `UNREVERTED` and stays outstanding, and so do the steps which it had needed.

    Args:
        entries: what to undo.
        journal: where the outcome is recorded; None when there is none (any more).
        aws: where.
    """
    results: list[Undone] = []
    stuck: dict[int, Entry] = {}
    held: dict[tuple[str, str], Entry] = {}
    ordered = sorted(entries, key=lambda entry: (entry.batch, entry.wave, entry.id), reverse=True)
    for (batch, _), step in itertools.groupby(ordered, key=lambda e: (e.batch, e.wave)):
        undone, free = [], []
        for entry in step:
            # What needs this one, or has changed the same setting later, goes first.
            first = stuck.get(batch) or held.get((entry.kind, entry.address))
            if first is None:
                free.append(entry)
            else:
                detail = f"has to wait: {first.summary} is not undone"
                undone.append(Undone(entry, State.UNREVERTED, detail))
        undone += _undo_step(free, aws)
        for one in undone:
            if one.state == State.UNREVERTED:
                stuck.setdefault(batch, one.entry)
                held.setdefault((one.entry.kind, one.entry.address), one.entry)
        _record(undone, journal)
        results += undone
    return results


def is_gone(kind: str, error: ChaosgradeError) -> bool:
    """Whether an error means that there is nothing left to undo: a stage ends with all on it."""
    return kind == "stage" and isinstance(error, AwsError) and error.unreachable


def _record(undone: Sequence[Undone], journal: Journal | None) -> None:
    """A journal that cannot be written must not keep the rest from being undone: what it goes on
    to call outstanding is compared again, and found to be as before."""
    if journal is None:
        return
    try:
        journal.record([replace(one.entry, state=one.state, detail=one.detail) for one in undone])
    except JournalError:
        return


def _undo_step(entries: Sequence[Entry], aws: Aws) -> list[Undone]:
    """Undo settings that do not need each other."""
    settings: dict[int, Setting] = {}
    over: dict[int, Undone] = {}
    for entry in entries:
        try:
            settings[entry.id] = registry.setting(entry.kind, entry.address)
        except ChaosgradeError as error:
            over[entry.id] = Undone(entry, State.UNREVERTED, str(error))
    open_ = [entry for entry in entries if entry.id in settings]
    live = _look(open_, settings, aws)
    to_restore = []
    for entry in (_ours(entry, settings[entry.id], live[settings[entry.id]]) for entry in open_):
        reading = live[settings[entry.id]]
        if isinstance(reading, Live) and reading.value == entry.wanted != entry.before:
            to_restore.append(entry)
        else:
            over[entry.id] = _judged(entry, reading, "was already as before", aws)
    failures = _restore(to_restore, settings, live, aws)
    for entry, reading in _read_back(to_restore, settings, failures, aws):
        over[entry.id] = _judged(
            entry, reading, "is as before again", aws, failures.get(entry.id, "")
        )
    return [_of_whole(entry, over[entry.id]) for entry in entries]


def _of_whole(entry: Entry, undone: Undone) -> Undone:
    """What the undo of our part of a change means for the whole."""
    left = undone.entry.before
    if undone.state is State.UNDONE and left != entry.before:
        return Undone(
            entry,
            State.CONFLICT,
            f"is {left!r} now, without what was ours: somebody else has changed the former "
            f"{entry.before!r}",
        )
    return replace(undone, entry=entry)


def _ours(entry: Entry, setting: Setting, reading: Reading) -> Entry:
    """The change as far as it is still ours: others may have changed parts of what we have set."""
    if not isinstance(setting, Divisible) or not isinstance(reading, Live):
        return entry
    if reading.value in (entry.before, entry.wanted):
        return entry
    ours = setting.without_ours(entry.before, entry.wanted, reading.value)
    return replace(entry, before=ours, wanted=reading.value)


def _look(
    entries: Sequence[Entry], settings: Mapping[int, Setting], aws: Aws
) -> dict[Setting, Reading]:
    """What the settings are, once calls under way have had their effect and AWS has settled."""
    kind = aws.environment.kind
    began = time.monotonic()
    before = {settings[e.id]: e.before for e in entries}
    gone: set[Setting] = set()

    def done(setting: Setting, reading: Reading) -> bool:
        passed = time.monotonic() - began
        if isinstance(reading, ResourceGone):
            twice = setting in gone
            if passed >= _CONFIRM_S:
                gone.add(setting)
            return twice
        if not isinstance(reading, Live):
            return True
        if reading.value == before[setting]:
            return passed >= IN_FLIGHT_S[kind]
        return reading.settled

    return wait_until(aws, before, done, timeout_s=_timeout_s(aws))


def _restore(
    entries: Sequence[Entry],
    settings: Mapping[int, Setting],
    live: Mapping[Setting, Reading],
    aws: Aws,
) -> dict[int, str]:
    """Send the calls that restore; what went wrong, by entry."""

    def restore(entry: Entry) -> str:
        setting = settings[entry.id]
        now = live[setting]
        try:
            assert isinstance(now, Live)  # noqa: S101 - only these are restored
            for call in setting.calls(entry.before, now):
                aws.send(call)
        except Exception as error:  # whatever it is, the change is not undone
            return in_words(error)
        return ""

    with ThreadPoolExecutor(PARALLELISM) as pool:
        failures = dict(zip((e.id for e in entries), pool.map(restore, entries), strict=True))
    return {id_: failure for id_, failure in failures.items() if failure}


def _read_back(
    entries: Sequence[Entry],
    settings: Mapping[int, Setting],
    failures: Mapping[int, str],
    aws: Aws,
) -> list[tuple[Entry, Reading]]:
    """What restored settings read, waiting for those whose calls were accepted."""
    before = {settings[e.id]: e.before for e in entries}
    accepted = {settings[e.id] for e in entries if e.id not in failures}

    def done(setting: Setting, reading: Reading) -> bool:
        if not isinstance(reading, Live) or setting not in accepted:
            return True
        return reading.value == before[setting] and reading.settled

    readings = wait_until(aws, before, done, timeout_s=_timeout_s(aws))
    return [(entry, readings[settings[entry.id]]) for entry in entries]


def _judged(entry: Entry, reading: Reading, as_before: str, aws: Aws, failure: str = "") -> Undone:
    """Where a change stands, by what its setting reads."""
    if isinstance(reading, ResourceGone):
        return Undone(entry, State.VANISHED, str(reading))
    if not isinstance(reading, Live):
        gone = is_gone(aws.environment.kind, reading)
        return Undone(entry, State.VANISHED if gone else State.UNREVERTED, failure or str(reading))
    if reading.value == entry.before and reading.settled:
        return Undone(entry, State.UNDONE, f"{as_before}: {reading.value!r}")
    if reading.value not in (entry.before, entry.wanted):
        return Undone(
            entry,
            State.CONFLICT,
            f"is {reading.value!r} now, neither our {entry.wanted!r} "
            f"nor the former {entry.before!r}",
        )
    still = f"reads back as {reading.value!r}, not settled as the former {entry.before!r}"
    return Undone(entry, State.UNREVERTED, failure or still)


def _timeout_s(aws: Aws) -> float:
    return RESTORE_TIMEOUT_S / aws.environment.time_scale
