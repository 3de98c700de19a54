"""Actions on processes of instances, through AWS Systems Manager."""

import re
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.selection import Selection, outcome
from chaosgrade.changes.model import Change
from chaosgrade.changes.process import RUNNING, STOPPED, KillProcess, ProcessState
from chaosgrade.errors import UsageError
from chaosgrade.session import Session, activity

__all__ = ["continue_process", "kill_process", "stop_process"]

_DEADLY = ("SIGKILL", "SIGTERM", "SIGINT", "SIGABRT", "SIGSEGV", "SIGQUIT")
# The name becomes part of a command on the instance: nothing that a shell could read.
_PROCESS_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.+@-]{0,63}")


def stop_process(
    process: str,
    group: str | None = None,
    tags: dict[str, str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Stop a process (SIGSTOP): its port stays open and nothing answers. Undone by continuing it.

    Arguments:
        process: its name, as `ps -C` knows it.
        group, tags, zone, count, share_percent: which instances, as `terminate_instances`.

    Returns: one object per instance: change, instance, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: hang-a-web-process
        provider:
          type: python
          module: chaosgrade.actions.processes
          func: stop_process
          arguments: {process: web, group: web, count: 1}
        ```
    """
    with activity(configuration) as session:
        selection = Selection(group, tags, zone, count, share_percent)
        return _set_state(session, selection, _named(process), STOPPED)


def continue_process(
    process: str,
    group: str | None = None,
    tags: dict[str, str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Continue a stopped process (SIGCONT), on every matching instance unless told how many.

    Arguments and return value: as `stop_process`.
    """
    with activity(configuration) as session:
        if count is None and share_percent is None:
            share_percent = 100.0
        selection = Selection(group, tags, zone, count, share_percent)
        return _set_state(session, selection, _named(process), RUNNING)


def kill_process(
    process: str,
    signal: str = "SIGKILL",
    group: str | None = None,
    tags: dict[str, str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Kill a process: its port is closed, the instance stays. Irreversible.

    Arguments:
        process: its name, as `ps -C` knows it.
        signal: SIGKILL, SIGTERM, SIGINT, SIGABRT, SIGSEGV or SIGQUIT.
        group, tags, zone, count, share_percent: which instances, as `terminate_instances`.

    Returns: one object per instance: change, instance, zone, summary, proven, detail.
    """
    with activity(configuration) as session:
        if signal not in _DEADLY:
            raise UsageError(f"signal must be one of {', '.join(_DEADLY)}, got {signal!r}")
        name = _named(process)
        selection = Selection(group, tags, zone, count, share_percent)
        chosen = selection.draw(session.aws, session.random)
        changes = [Change(KillProcess(i.id, i.zone, name, signal)) for i in chosen]
        return outcome(chosen, session.executor.apply(changes))


def _named(process: str) -> str:
    if not _PROCESS_NAME.fullmatch(process):
        raise UsageError(f"process must be the name of a program, got {process!r}")
    return process


def _set_state(
    session: Session, selection: Selection, process: str, state: str
) -> list[dict[str, Any]]:
    chosen = selection.draw(session.aws, session.random)
    presumed = RUNNING if state == STOPPED else STOPPED
    changes = [Change(ProcessState(i.id, i.zone, process), state, presumed) for i in chosen]
    return outcome(chosen, session.executor.apply(changes))
