"""What a process that is forked from another lets go of."""

import os
import signal


def leave_behind(keep: set[int]) -> None:
    """Let go of the parent's descriptors and signal handlers; input and output lead nowhere.

    Args:
        keep: descriptors that stay open.
    """
    signal.set_wakeup_fd(-1)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    highest = max(int(name) for name in os.listdir("/proc/self/fd"))
    for descriptor in set(range(highest + 1)) - keep:
        try:
            os.close(descriptor)
        except OSError:
            continue  # a gap
    nowhere = os.open(os.devnull, os.O_RDWR)  # becomes 0
    os.dup2(nowhere, 1)
