"""What runs have left: shows it, undoes it, stops what still runs."""

import json
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from chaosgrade import session
from chaosgrade.changes import manifest
from chaosgrade.changes.journal import Entry, Journal, State
from chaosgrade.changes.recovery import OpenRun, by_hand, open_runs, recover
from chaosgrade.changes.undo import Undone, undo
from chaosgrade.cli.target import Target
from chaosgrade.errors import Exit, UsageError
from chaosgrade.report import terminal
from chaosgrade.trial import Halt

_HALT_TIMEOUT_S = 120.0
_STYLES = {State.UNDONE: "green", State.UNREVERTED: "bold red"}


def show_status(*, as_json: bool) -> Exit:
    """Print runs that are under way and changes that are outstanding."""
    journal = Journal()
    runs = open_runs(journal)
    if as_json:
        print(json.dumps({"journal": str(journal.path), "runs": [_run(r) for r in runs]}, indent=2))
    elif not runs:
        print("Nothing is under way, nothing is outstanding.")
    else:
        console = terminal.console()
        for run in runs:
            state = "under way" if run.alive else "its process is gone"
            console.print(Text(f"{run.row.id}, {_where(run)}: {state}", style="bold"))
            console.print(_outstanding(run))
    orphaned = any(run.entries for run in runs if not run.alive)
    return Exit.NOT_UNDONE if orphaned else Exit.HOLDS


def recover_all(*, as_json: bool) -> Exit:
    """Undo what runs have left whose process is gone."""
    journal = Journal()
    runs = [run for run in open_runs(journal) if not run.alive]
    return _report([(run, recover(run, journal)) for run in runs], as_json=as_json)


def halt_all(*, as_json: bool) -> Exit:
    """Stop every run of this user on this machine, and undo."""
    journal = Journal()
    runs = open_runs(journal)
    for run in runs:
        if run.alive:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(run.row.process.pid, signal.SIGTERM)
    deadline = time.monotonic() + _HALT_TIMEOUT_S
    while any(run.row.process.alive for run in runs) and time.monotonic() < deadline:
        time.sleep(0.1)
    results = []
    for run in runs:
        if run.row.process.alive:
            # It does not end; what it has changed is undone all the same, and nothing is changed
            # after that, because its journal entries are taken from under it.
            with suppress(ProcessLookupError):
                os.kill(run.row.process.pid, signal.SIGKILL)
        results.append((run, recover(run, journal)))
    return _report(results, as_json=as_json, verb="halted")


def recover_from_aws(target: Target, run: str | None, *, as_json: bool) -> Exit:
    """Undo what AWS itself remembers, where the journal is lost.

    Args:
        target: where.
        run: this run only, and even if its time is not over; all that are overdue by default.
        as_json: print one document.
    """
    with Halt().on_signals() as halt, target.reached(halt):
        aws = session.aws_of(None)
        found = [t for t in manifest.traces(aws) if run is None or t.run == run]
        if run is not None and not found:
            raise UsageError(f"AWS remembers nothing of run {run!r} in {aws.region}")
        over = [t for t in found if run is not None or t.expires <= time.time()]
        results = [(trace, undo(trace.entries, None, aws)) for trace in over]
    waiting = [trace for trace in found if trace not in over]
    left = [one for _, undone in results for one in undone if not _over(one)]
    unreadable = [acl for trace in over for acl in trace.unreadable]
    if as_json:
        document = {
            "runs": [
                {"run": trace.run, "undone": [_undone(one) for one in undone]}
                for trace, undone in results
            ],
            "not_yet_over": [{"run": t.run, "expires": t.expires} for t in waiting],
            "unreadable": unreadable,
            "left": len(left) + len(unreadable),
        }
        print(json.dumps(document, indent=2))
    else:
        _tell_traces(results, waiting, unreadable)
    return Exit.NOT_UNDONE if left or unreadable else Exit.HOLDS


def _tell_traces(
    results: Sequence[tuple[manifest.Trace, Sequence[Undone]]],
    waiting: Sequence[manifest.Trace],
    unreadable: Sequence[str],
) -> None:
    console = terminal.console()
    if not results and not waiting:
        console.print("AWS remembers nothing that had to be recovered.")
    for trace, undone in results:
        console.print(Text(f"{trace.run}: recovered from AWS", style="bold"))
        for one in undone:
            console.print(_line(one))
    for trace in waiting:
        until = datetime.fromtimestamp(trace.expires, UTC)
        console.print(
            Text(
                f"{trace.run} may be under way until {until:%Y-%m-%d %H:%M:%S} UTC; "
                f"to undo it now: chaosgrade recover --from-aws --run {trace.run}",
                style="yellow",
            )
        )
    for acl in unreadable:
        console.print(
            Text(
                f"network ACL {acl} is chaosgrade's, but its tags do not tell what to restore: "
                "give its subnets their network ACLs by hand, then delete it",
                style="bold red",
            )
        )


def _report(
    results: Sequence[tuple[OpenRun, Sequence[Undone]]], *, as_json: bool, verb: str = "recovered"
) -> Exit:
    left = [(run, one) for run, undone in results for one in undone if not _over(one)]
    if as_json:
        document = {
            "runs": [{**_run(run), "undone": [_undone(one) for one in u]} for run, u in results],
            "left": len(left),
        }
        print(json.dumps(document, indent=2))
        return Exit.NOT_UNDONE if left else Exit.HOLDS
    console = terminal.console()
    if not results:
        console.print(f"Nothing had to be {verb}.")
    for run, undone in results:
        console.print(Text(f"{run.row.id}, {_where(run)}: {verb}", style="bold"))
        for one in undone:
            console.print(_line(one))
    if left:
        _say_by_hand([(run, one.entry) for run, one in left])
    return Exit.NOT_UNDONE if left else Exit.HOLDS


def _line(one: Undone) -> Text:
    line = Text(f"  {one.entry.summary}: ")
    line.append(f"{one.state}", style=_STYLES.get(one.state, "yellow"))
    return line.append(f", {one.detail}", style="dim")


def say_what_is_left() -> None:
    """On standard error, the commands that undo by hand what dead runs have left."""
    _say_by_hand([(run, e) for run in open_runs(Journal()) if not run.alive for e in run.entries])


def _say_by_hand(left: Sequence[tuple[OpenRun, Entry]]) -> None:
    console = Console(stderr=True, highlight=False)
    console.print(Text("NOT UNDONE. `chaosgrade recover` tries again; by hand:", style="bold red"))
    for run, entry in left:
        for command in by_hand(entry, run.row):
            console.print(Text(command), soft_wrap=True)


def _over(one: Undone) -> bool:
    return one.state != State.UNREVERTED


def _where(run: OpenRun) -> str:
    place = run.row.endpoint or "AWS"
    return f"{run.row.experiment} on {run.row.environment} ({place}, {run.row.account})"


def _outstanding(run: OpenRun) -> Table:
    table = Table("change", "state", "lease until", box=None, header_style="dim", padding=(0, 2))
    for entry in run.entries:
        lease = datetime.fromtimestamp(entry.lease_until, UTC)
        table.add_row(Text(entry.summary), str(entry.state), f"{lease:%Y-%m-%d %H:%M:%S} UTC")
    return table


def _run(run: OpenRun) -> dict[str, Any]:
    return {
        "run": run.row.id,
        "experiment": run.row.experiment,
        "environment": run.row.environment,
        "endpoint": run.row.endpoint,
        "account": run.row.account,
        "region": run.row.region,
        "alive": run.alive,
        "outstanding": [
            {
                "change": entry.id,
                "summary": entry.summary,
                "state": str(entry.state),
                "lease_until": entry.lease_until,
                "detail": entry.detail,
                "by_hand": by_hand(entry, run.row),
            }
            for entry in run.entries
        ],
    }


def _undone(one: Undone) -> dict[str, Any]:
    return {"change": one.entry.id, "summary": one.entry.summary, "state": str(one.state),
            "detail": one.detail}  # fmt: skip
