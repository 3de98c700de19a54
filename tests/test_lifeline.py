"""A child is told when its parent ends, however it ends."""

import os
import signal
import subprocess
import sys
import time

_PARENT = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", '''
import time
from chaosgrade.lifeline import die_with_parent
die_with_parent()
print("tied", flush=True)
time.sleep(60)
'''])
print(child.pid, flush=True)
time.sleep(60)
"""

_ORPHAN = """
from chaosgrade.lifeline import die_with_parent
die_with_parent(parent=999999999)
print("survived", flush=True)
"""


def test_a_child_of_a_killed_parent_is_killed() -> None:
    """SIGKILL gives the parent no chance to say so: the kernel does."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    assert parent.stdout.readline() == "tied\n"
    parent.kill()
    parent.wait()
    deadline = time.monotonic() + 10
    while _runs(child):
        assert time.monotonic() < deadline, "the child outlived its parent"
        time.sleep(0.01)
    parent.stdout.close()


def test_a_parent_that_is_gone_already_is_noticed() -> None:
    """Between fork and the call the parent may have died: then it is over at once."""
    done = subprocess.run(
        [sys.executable, "-c", _ORPHAN], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
    except OSError:
        return os.path.exists(f"/proc/{pid}")
