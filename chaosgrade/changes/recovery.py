"""Finds what dead or overdue runs have left changed, and undoes it.

`recover`, the watchdog and the start of every run use it. It is safe to run at any time, by several
processes at once: one of them works, the others find nothing left to do.
"""

import os
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from chaosgrade.aws import Aws, Environment
from chaosgrade.changes import registry
from chaosgrade.changes.journal import Entry, Journal, RunRow, State
from chaosgrade.changes.undo import Undone, is_gone, undo
from chaosgrade.errors import ChaosgradeError, NotUndone

_START_TOLERANCE_S = 2.0


@dataclass(frozen=True, slots=True)
class OpenRun:
    """A run that has changes outstanding, or whose process still lives.

    Args:
        row: who it is, and where.
        alive: whether the process that made the changes still runs.
        entries: its outstanding changes, the last first.
    """

    row: RunRow
    alive: bool
    entries: tuple[Entry, ...]


def open_runs(journal: Journal) -> list[OpenRun]:
    """Every run of this journal that is not over, the oldest first."""
    found = []
    for row in journal.runs():
        entries = tuple(journal.outstanding(row.id))
        alive = owner_alive(row)
        if alive or entries:
            found.append(OpenRun(row, alive, entries))
    return found


def recover(
    run: OpenRun,
    journal: Journal,
    *,
    reach: Callable[[RunRow], Aws] | None = None,
    entries: Sequence[Entry] | None = None,
) -> list[Undone]:
    """Undo what a run has outstanding.

    Args:
        run: whose changes.
        journal: where they are on record.
        reach: gives the account and Region of the run.
        entries: only these; all outstanding ones by default.

    Never raises for a change: what could not be restored is `UNREVERTED` and stays outstanding.
    """
    with journal.exclusive():
        # Looked up again under the lock: somebody may have undone them since.
        wanted = {entry.id for entry in (run.entries if entries is None else entries)}
        left = [entry for entry in journal.outstanding(run.row.id) if entry.id in wanted]
        if not left:
            return []
        try:
            aws = (reach or reach_run)(run.row)
            account = aws.environment.account
        except ChaosgradeError as error:
            return list(_unreachable(run.row, left, journal, error))
        if account != run.row.account:
            reason = (
                f"these credentials belong to account {account}; "
                f"use those of {run.row.account}, where the change was made"
            )
            return [_marked(entry, State.UNREVERTED, reason, journal) for entry in left]
        return undo(left, journal, aws)


def refuse_while_outstanding(
    journal: Journal, environment: Environment, endpoint: str | None
) -> None:
    """Recover what dead runs have left in a place; raise if something stays.

    Args:
        environment, endpoint: the place.

    Raises:
        NotUndone: a change of an earlier run could not be undone.
    """
    here = (endpoint, environment.account, environment.region)
    for run in open_runs(journal):
        if run.alive or (run.row.endpoint, run.row.account, run.row.region) != here:
            continue
        for undone in recover(run, journal):
            if undone.state == State.UNREVERTED:
                raise NotUndone(
                    f"run {run.row.id} has left something changed: {undone.entry.summary} "
                    f"({undone.detail}); no new fault before `chaosgrade recover` succeeds"
                )


def reach_run(row: RunRow) -> Aws:
    """The account and Region that a run worked in.

    Raises:
        UsageError: the SDK finds no such profile.
    """
    stage = row.environment in ("stage", "localstack")
    return Aws(
        region=row.region,
        endpoint_url=row.endpoint,
        # An emulator takes any key; the variables of the run's own shell are gone.
        access_key=("stage", "stage") if stage else None,
    )


def by_hand(entry: Entry, row: RunRow) -> list[str]:
    """The AWS CLI commands that undo a change, for a person to run."""
    setting = registry.setting(entry.kind, entry.address)
    place = f" --region {row.region}"
    if row.endpoint:
        place += f" --endpoint-url {row.endpoint}"
    try:
        calls = setting.calls(reach_run(row), entry.before)
    except ChaosgradeError as error:
        return [f"# {entry.summary}: restore {entry.before!r} ({error})"]
    return [call.as_cli() + place for call in calls]


def owner_alive(row: RunRow) -> bool:
    """Whether the process that opened a run still is that process, not a later one of its id."""
    try:
        fields = Path(f"/proc/{row.pid}/stat").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return _answers(row.pid) if not Path("/proc/self/stat").exists() else False
    except (ProcessLookupError, PermissionError):
        return False
    state, *rest = fields.rpartition(")")[2].split()
    ticks = int(rest[18])
    started = _boot_time() + ticks / os.sysconf("SC_CLK_TCK")
    return state != "Z" and started <= row.started + _START_TOLERANCE_S


def _boot_time() -> float:
    """Unix seconds at which the machine started, on the clock that is shown now."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _unreachable(
    row: RunRow, entries: Iterable[Entry], journal: Journal, error: ChaosgradeError
) -> Iterable[Undone]:
    for entry in entries:
        if is_gone(row.environment, error):
            yield _marked(entry, State.VANISHED, f"the stage at {row.endpoint} is gone", journal)
        else:
            yield _marked(entry, State.UNREVERTED, str(error), journal)


def _marked(entry: Entry, state: State, detail: str, journal: Journal) -> Undone:
    journal.mark(entry.id, state, detail)
    return Undone(entry, state, detail)
