"""Finds what dead or overdue runs have left changed, and undoes it.

`recover`, the watchdog and the start of every run use it. It is safe to run at any time, by several
processes at once: one of them works, the others find nothing left to do.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from chaosgrade.aws import ROLE_SESSION, Aws, Environment
from chaosgrade.changes import registry
from chaosgrade.changes.journal import Entry, Journal, RunRow, State
from chaosgrade.changes.model import Live
from chaosgrade.changes.undo import Undone, is_gone, undo
from chaosgrade.errors import ChaosgradeError, NotUndone


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
        alive = row.process.alive
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
        entries: only these; by default all that are outstanding now, whatever `run` has seen.

    Never raises for a change: what could not be restored is `UNREVERTED` and stays outstanding.
    """
    with journal.exclusive():
        # Looked up again under the lock: somebody may have undone them since.
        left = journal.outstanding(run.row.id)
        if entries is not None:
            wanted = {entry.id for entry in entries}
            left = [entry for entry in left if entry.id in wanted]
        if not left:
            return []
        try:
            aws = (reach or reach_run)(run.row)
            account, kind = aws.environment.account, aws.environment.kind
        except ChaosgradeError as error:
            return list(_unreachable(run.row, left, journal, error))
        if account != run.row.account:
            reason = (
                f"these credentials belong to account {account}; "
                f"use those of {run.row.account}, where the change was made"
            )
            return [_marked(entry, State.UNREVERTED, reason, journal) for entry in left]
        if kind != run.row.environment:
            reason = (
                f"{aws.endpoint_url or 'what answers'} is {kind}, the change was made on "
                f"{run.row.environment}: see AWS_ENDPOINT_URL"
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
        if run.alive or run.row.place != here:
            continue
        for undone in recover(run, journal):
            if undone.state == State.UNREVERTED:
                raise NotUndone(
                    f"run {run.row.id} has left something changed: {undone.entry.summary} "
                    f"({undone.detail}); no new fault before `chaosgrade recover` succeeds"
                )


def reach_run(row: RunRow) -> Aws:
    """The account and Region that a run worked in, with the credentials that it used.

    Raises:
        UsageError: the SDK finds no such profile.
    """
    emulated = row.environment in ("stage", "localstack")
    return Aws(
        region=row.region,
        profile=row.profile,
        role_arn=row.role,
        role_session_name=row.role_session or ROLE_SESSION,
        endpoint_url=row.endpoint,
        # An emulator takes any key; the variables of the run's own shell are gone.
        access_key=("stage", "stage") if emulated else None,
    )


def by_hand(entry: Entry, row: RunRow) -> list[str]:
    """The AWS CLI commands that undo a change, for a person to run."""
    place = f"--region {row.region}"
    if row.profile:
        place += f" --profile {row.profile}"
    if row.endpoint:
        place += f" --endpoint-url {row.endpoint}"
    try:
        setting = registry.setting(entry.kind, entry.address)
    except ChaosgradeError as error:
        return [f"# {entry.summary}: restore {entry.before!r} ({error})"]
    role = [f"# as {row.role}"] if row.role else []
    return role + [call.as_cli(place) for call in setting.calls(entry.before, Live(entry.wanted))]


def _unreachable(
    row: RunRow, entries: Iterable[Entry], journal: Journal, error: ChaosgradeError
) -> Iterable[Undone]:
    for entry in entries:
        if is_gone(row.environment, error):
            yield _marked(entry, State.VANISHED, f"the stage at {row.endpoint} is gone", journal)
        else:
            yield _marked(entry, State.UNREVERTED, str(error), journal)


def _marked(entry: Entry, state: State, detail: str, journal: Journal) -> Undone:
    journal.mark([entry], state, detail)
    return Undone(entry, state, detail)
