"""One run per target on one machine: whoever dies gives it back."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.clock import Clock
from chaosgrade.errors import Refused
from tests.fake_aws import STAGE, FakeAws

_HOLDER = """
import sys, time
from pathlib import Path
from tests.test_target_lock import lock
held = lock(Path(sys.argv[1]))
held.acquire("r1", 60.0)
print("held", flush=True)
time.sleep(60)
"""


def lock(folder: Path, **environment: str) -> TargetLock:
    place = replace(STAGE, **environment)  # type: ignore[arg-type]
    return TargetLock(folder, place, "http://a", aws=FakeAws(), table=None, clock=Clock())  # type: ignore[arg-type]


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    """Also in the same process; another Region is another target."""
    held = lock(tmp_path)
    held.acquire("r1", 60.0)
    with pytest.raises(Refused, match=rf"run r1 \(process {os.getpid()}, since 20.*halt"):
        lock(tmp_path).acquire("r2", 60.0)
    lock(tmp_path, region="eu-west-1").acquire("r2", 60.0)
    held.confirm(60.0)
    held.release()
    lock(tmp_path).acquire("r3", 60.0)


def test_a_killed_holder_has_let_go(tmp_path: Path) -> None:
    """The kernel sees to it."""
    root = Path(__file__).parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Refused, match="run r1"):
        lock(tmp_path).acquire("r2", 60.0)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    lock(tmp_path).acquire("r2", 60.0)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """With what to set."""
    (tmp_path / "file").touch()
    with pytest.raises(Refused, match="CHAOSGRADE_STATE_DIR"):
        lock(tmp_path / "file").acquire("r1", 60.0)
