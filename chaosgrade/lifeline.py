"""Ties a process to the one that started it: when the parent dies, however, this one is told.

Linux only keeps such a promise in the kernel (`prctl(2)`, PR_SET_PDEATHSIG), so that it holds even
when the parent is killed with SIGKILL. Elsewhere a thread watches for the change of parent.
"""

import ctypes
import os
import signal
import sys
import threading
import time

_PR_SET_PDEATHSIG = 1
_PR_SET_NAME = 15
_WATCH_S = 0.5


def die_with_parent(number: int = signal.SIGKILL, *, parent: int | None = None) -> None:
    """Have `number` sent to this process when its parent ends.

    Call it early in a child, and start the child from a thread that lives as long as its process:
    to the kernel, the thread is the parent.

    Args:
        parent: the process id of who started this one, if the child was told: one that has ended
            before this call is then noticed as well.
    """
    parent = os.getppid() if parent is None else parent
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(_PR_SET_PDEATHSIG, int(number), 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
        # The parent may have ended before the kernel was told.
        if os.getppid() != parent:
            os.kill(os.getpid(), number)
        return
    threading.Thread(target=_watch, args=(parent, number), daemon=True).start()


def name_process(name: str) -> None:
    """Show this process under `name`, cut to 15 bytes, to `ps -C` and `top`. Linux only."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode()[:15], 0, 0, 0)


def _watch(parent: int, number: int) -> None:
    while os.getppid() == parent:
        time.sleep(_WATCH_S)
    os.kill(os.getpid(), number)
