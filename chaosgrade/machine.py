"""Identities and clocks of this machine that survive what wall clocks and process ids do not.

A wall clock can be set back, and a process id is used again. Since the machine started, time only
moves forward (also while it sleeps), and a process is its id together with the tick it began at.
"""

import os
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True, slots=True)
class Process:
    """One process, not a later one of the same id.

    Args:
        pid: its id.
        began: clock ticks from the machine's start to its own; 0 where /proc does not tell.
        boot: the start of the machine in which it lives.
    """

    pid: int
    began: int
    boot: str

    @classmethod
    def this(cls) -> "Process":
        """The calling process."""
        return cls(os.getpid(), _began(os.getpid()) or 0, boot_id())

    @property
    def alive(self) -> bool:
        """Whether it still runs; a zombie does not."""
        if self.boot != boot_id():
            return False
        if not _BOOT_ID.exists():
            return _answers(self.pid)
        return _began(self.pid) == self.began


@cache
def boot_id() -> str:
    """What tells this start of the machine from every other."""
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return "unknown"


def uptime_s() -> float:
    """Seconds since the machine started, sleep included. Nobody can set it."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _began(pid: int) -> int | None:
    """The start tick of a running process; None when there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *rest = fields.rpartition(")")[2].split()
    return None if state == "Z" else int(rest[18])


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
