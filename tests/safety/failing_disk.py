"""A run whose journal is on a small disk that fails: `failing_disk.py WHAT WHEN FOLDER`.

Run within a mount namespace: `unshare --user --map-root-user --mount`. WHAT is "full" or
"read-only"; WHEN is "before" the run, "during" it, after its first change, or "after" its process
has died. A kernel makes no disk read-only during a run, while files on it are open for writing.
Prints one JSON object.
"""

import errno
import json
import subprocess
import sys
from pathlib import Path

from chaosgrade.changes import registry
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.journal import Journal, JournalError
from chaosgrade.changes.model import Change
from chaosgrade.clock import Clock
from tests.fake_aws import STAGE, Dial, FakeAws, guard, registered


def _fail(what: str, disk: Path) -> None:
    if what == "read-only":
        subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
        return
    with (disk / "ballast").open("wb", buffering=0) as file:
        for size in (1 << 16, 1 << 12, 1):
            while True:
                try:
                    file.write(b"x" * size)
                except OSError as error:
                    if error.errno != errno.ENOSPC:
                        raise
                    break


def _mend(what: str, disk: Path) -> None:
    if what == "read-only":
        subprocess.run(["mount", "-o", "remount,rw", disk], check=True)
    else:
        (disk / "ballast").unlink()


def main() -> None:
    """Make the disk, the run, the failure."""
    what, when, disk = sys.argv[1], sys.argv[2], Path(sys.argv[3])
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=True)
    registry.SETTINGS = registered(registry.SETTINGS)
    aws = FakeAws({"a": 1, "b": 1})
    told: dict[str, object] = {}
    if when == "before":
        _fail(what, disk)
    try:
        journal = Journal(disk / "journal.sqlite3")
        journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
        run = Engine(aws, guard(aws, journal), journal, "r1", Clock())  # type: ignore[arg-type]
        run.apply([Change(Dial("a"), 2)])
    except JournalError as error:
        print(json.dumps({"refused": str(error), "sent": len(aws.sent)}))
        return
    if when == "after":
        journal.close()
        _fail(what, disk)
        try:
            left = Journal(disk / "journal.sqlite3").entries("r1")
        except JournalError as error:
            print(json.dumps({"refused": str(error)}))
        else:
            print(json.dumps({"outstanding": sum(entry.outstanding for entry in left)}))
        return
    _fail(what, disk)
    try:
        run.apply([Change(Dial("b"), 2)])
    except JournalError as error:
        told["refused"] = str(error)
    told["sent"] = len(aws.sent)
    told["undone"] = [one.state for one in run.undo()]
    told["dials"] = aws.dials
    _mend(what, disk)
    sent = len(aws.sent)
    told["again"] = [one.state for one in run.undo()]
    told["sent_again"] = len(aws.sent) - sent
    told["outstanding"] = sum(entry.outstanding for entry in journal.entries("r1"))
    print(json.dumps(told))


if __name__ == "__main__":
    main()
