"""Children of a process and their signals, also across PID namespaces. Linux only."""

import contextlib
import os
import signal


def children(pid: int) -> list[int]:
    """Process ids, as this process may signal them, of the living children of one of its children.

    Args:
        pid: a child of this process.
    """
    return [number for outer in listed(pid)[1:] if (number := _own_number(outer))]


def listed(pid: int) -> list[int]:
    """Process ids, as `/proc` lists them, of a child of this process and its living children.

    `/proc` may be mounted from an outer PID namespace.

    Args:
        pid: a child of this process.
    """
    here = int(os.readlink("/proc/self"))
    for outer in _children(here):
        if _own_number(outer) == pid:
            return [outer, *_children(outer)]
    return []


def send(pids: list[int], number: signal.Signals) -> None:
    """Signal each of them that still lives."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _children(outer: int) -> list[int]:
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in os.listdir(f"/proc/{outer}/task"):
            with open(f"/proc/{outer}/task/{thread}/children", encoding="ascii") as file:
                found += map(int, file.read().split())
    return found


def _own_number(outer: int) -> int | None:
    """The number of a process in its innermost PID namespace; None if it has ended."""
    try:
        with open(f"/proc/{outer}/status", encoding="utf-8", errors="replace") as file:
            return next(int(line.split()[-1]) for line in file if line.startswith("NSpid:"))
    except (FileNotFoundError, ProcessLookupError, StopIteration):
        return None
