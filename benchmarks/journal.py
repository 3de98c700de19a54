"""What the undo journal costs: committing intents and outcomes, on the disk of the state folder.

A transaction commits its intents once, and each change its outcome. Printed is the cost per change
of both together, for transactions of several sizes, beside a bare SQLite commit of the same rows.
"""

import argparse
import json
import sqlite3
import statistics
import tempfile
import time
from pathlib import Path

from chaosgrade.aws import Environment
from chaosgrade.changes.instance import InstanceState
from chaosgrade.changes.journal import Intent, Journal
from chaosgrade.changes.model import Change

_PLACE = Environment("stage", "123456789012", "us-east-1")


def journalled_ms(journal: Journal, size: int) -> float:
    """Milliseconds per change of one transaction."""
    changes = [Change(InstanceState(f"i-{n:017x}", "us-east-1a"), "stopped") for n in range(size)]
    began = time.perf_counter()
    entries = journal.intend(
        "r1", [Intent(change, "running") for change in changes], lease_s=600.0, now=time.time()
    )
    for entry in entries:
        journal.applied(entry)
    return (time.perf_counter() - began) * 1000 / size


def bare_ms(db: sqlite3.Connection, size: int) -> float:
    """The same commits of the same amount of data, by sqlite3 alone."""
    began = time.perf_counter()
    with db:
        db.executemany("INSERT INTO t VALUES (?)", [("x" * 300,)] * size)
    for _ in range(size):
        with db:
            db.execute("INSERT INTO t VALUES ('applied')")
    return (time.perf_counter() - began) * 1000 / size


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--transactions", type=int, default=50)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows = {}
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder, "journal.sqlite3"))
        journal.open_run("r1", experiment="e", environment=_PLACE, endpoint=None, started=0.0)
        db = sqlite3.connect(Path(folder, "bare.sqlite3"))
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE t (x)")
        for size in (1, 10, 100):
            ours = [journalled_ms(journal, size) for _ in range(options.transactions)]
            bare = [bare_ms(db, size) for _ in range(options.transactions)]
            rows[size] = (statistics.median(ours), statistics.median(bare))
    if options.json:
        print(json.dumps({size: {"ours_ms": o, "bare_ms": b} for size, (o, b) in rows.items()}))
        return
    print("journal, per change (median)     ours       bare SQLite   ratio")
    for size, (ours, bare) in rows.items():
        ratio = f"{ours / bare:4.1f}×"
        print(f"{size:>4} changes at once           {ours:6.3f} ms   {bare:6.3f} ms    {ratio}")


if __name__ == "__main__":
    main()
