"""How fast logs are read and classified, beside the standard library reading the same lines.

A million attempts of 200,000 clients as JSON lines and as CSV. The peer reads with `json.loads`, or
`csv.DictReader`, line by line into lists by client, and does nothing else with them.
"""

import argparse
import csv
import json
import random
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

from chaosgrade.aws import Aws
from chaosgrade.probes import retry_log
from chaosgrade.probes.backoff import observe


def attempts(lines: int) -> list[tuple[float, str, int]]:
    """Clients with full jitter, five attempts each, in the order of time."""
    draw = random.Random(1)
    rows = []
    for client in range(lines // 5):
        time_s = draw.uniform(0, 3600)
        for retry in range(5):
            rows.append((time_s, f"client-{client}", 503))
            time_s += draw.uniform(0, 0.1 * 2**retry) + draw.uniform(0, 0.02)
    return sorted(rows)


def write(folder: Path, rows: list[tuple[float, str, int]]) -> tuple[Path, Path]:
    """The rows as JSON lines and as CSV."""
    lines, table = folder / "attempts.jsonl", folder / "attempts.csv"
    with lines.open("w") as file:
        for time_s, client, status in rows:
            file.write(json.dumps({"client": client, "time": round(time_s, 6), "status": status}))
            file.write("\n")
    with table.open("w") as file:
        file.write("client,time,status\n")
        file.writelines(f"{client},{time_s:.6f},{status}\n" for time_s, client, status in rows)
    return lines, table


def ours(path: Path) -> str:
    """Read and classify; the family."""
    return observe(retry_log.read([str(path)], aws=Aws)).behaviour.family


def by_json(path: Path) -> int:
    """Read only."""
    times = defaultdict(list)
    with path.open() as file:
        for line in file:
            row = json.loads(line)
            times[row["client"]].append((float(row["time"]), int(row["status"])))
    return len(times)


def by_csv(path: Path) -> int:
    """Read only."""
    times = defaultdict(list)
    with path.open() as file:
        for row in csv.DictReader(file):
            times[row["client"]].append((float(row["time"]), int(row["status"])))
    return len(times)


def taken_s(work: Callable[[Path], object], path: Path, repeats: int) -> float:
    """Seconds of the fastest of some runs."""
    times = []
    for _ in range(repeats):
        began = time.perf_counter()
        work(path)
        times.append(time.perf_counter() - began)
    return min(times)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--lines", type=int, default=1_000_000)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        lines, table = write(Path(folder), attempts(options.lines))
        family = ours(lines)
        rows = {
            "JSON lines": (
                taken_s(ours, lines, options.repeats), taken_s(by_json, lines, options.repeats)
            ),
            "CSV": (taken_s(ours, table, options.repeats), taken_s(by_csv, table, options.repeats)),
        }  # fmt: skip
    if options.json:
        print(json.dumps({k: {"ours_s": o, "stdlib_s": p} for k, (o, p) in rows.items()}))
        return
    print(f"{options.lines} lines, read and classified ({family}); the peer only reads them")
    print("               ours      standard library   ratio")
    for name, (ours_s, peer_s) in rows.items():
        print(f"{name:<12} {ours_s:6.2f} s   {peer_s:6.2f} s          {peer_s / ours_s:4.1f}×")


if __name__ == "__main__":
    main()
