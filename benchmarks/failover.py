"""What failovers of the stage's databases cost, and that they lose nothing.

`python benchmarks/failover.py [--failovers 20] [--cluster 20] [--asynchronous 5] [--json]` brings
up a stage, has writers insert numbers through the database's endpoint name, each with a number of
its own, and reboots the Multi-AZ DB instance with a failover again and again, or fails the DB
cluster over. Afterwards it compares the ledger of the writers with the table:

- acknowledged and missing: lost; with a synchronous standby or a cluster there must be none;
- sent, and not answered when the connection broke: indeterminate, kept or not;
- measured seconds from the call to the first error, the first write after it, the name's change.

The same on a stage whose standby is asynchronous must lose something. The exit code is 1 when one
of these does not hold, or there were fewer than 200 writes/s before a failover.
"""

import argparse
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import boto3
import psycopg
from rich.console import Console
from rich.table import Table

from chaosgrade.stage.workload.resolver import Resolver

LEAST_PER_S = 200.0
RATE_PER_S = 260.0
WRITERS = 4
CALM_S = 2.5
DATABASE = "shop"
PARAMETERS = {
    "synchronous": "DatabaseReplication=synchronous",
    "cluster": "DatabaseKind=cluster",
    "asynchronous": "DatabaseReplication=asynchronous",
}
"""{what is failed over: the parameter of the template that makes it}."""
_TIMEOUT_S = 30.0
_ASK_S = 0.005


@dataclass
class Ledger:
    """What writers know of their numbers, with monotonic times."""

    acknowledged: dict[int, float] = field(default_factory=dict)
    indeterminate: dict[int, float] = field(default_factory=dict)
    errors: list[float] = field(default_factory=list)


class Writers:
    """Insert numbers at a steady rate through a name, until told to end.

    Args:
        dns: "address:port" of the stage's DNS server.
        name: the database's endpoint.
    """

    def __init__(self, dns: str, name: str) -> None:
        self.ledger = Ledger()
        self._dns = dns
        self._name = name
        self._done = threading.Event()
        with self.connect(Resolver(dns)) as connection:
            connection.execute("CREATE TABLE ledger (n int PRIMARY KEY)")
        self._threads = [
            threading.Thread(target=self._write, args=(first,), daemon=True)
            for first in range(WRITERS)
        ]
        for thread in self._threads:
            thread.start()

    def connect(self, resolver: Resolver) -> "psycopg.Connection[Any]":
        """To wherever the name leads."""
        return psycopg.connect(
            host=resolver.resolve(self._name), port=5432, user="shop", dbname="shop",
            password="only-on-the-stage", autocommit=True, connect_timeout=2,
        )  # fmt: skip

    def end(self) -> None:
        """Let each finish its write."""
        self._done.set()
        for thread in self._threads:
            thread.join()

    def kept(self) -> set[int]:
        """The numbers that the database has now."""
        with self.connect(Resolver(self._dns)) as connection:
            if connection.execute("SELECT to_regclass('ledger')").fetchone() == (None,):
                return set()
            return {n for (n,) in connection.execute("SELECT n FROM ledger")}

    def _write(self, number: int) -> None:
        ledger, resolver = self.ledger, Resolver(self._dns)
        while not self._done.is_set():
            try:
                connection = self.connect(resolver)
            except psycopg.OperationalError:
                ledger.errors.append(time.monotonic())
                time.sleep(0.01)
                continue
            with connection:
                due = time.monotonic()
                while not self._done.is_set():
                    number += WRITERS
                    try:
                        connection.execute("INSERT INTO ledger VALUES (%s)", (number,))
                    except psycopg.errors.ReadOnlySqlTransaction:  # a reader by now: refused
                        ledger.errors.append(time.monotonic())
                        break
                    except psycopg.Error:
                        ledger.indeterminate[number] = time.monotonic()
                        ledger.errors.append(ledger.indeterminate[number])
                        break
                    ledger.acknowledged[number] = time.monotonic()
                    due = max(due + WRITERS / RATE_PER_S, time.monotonic() - 0.1)
                    time.sleep(max(0.0, due - time.monotonic()))


@dataclass(frozen=True)
class Failover:
    """One failover, in measured seconds after the call.

    Args:
        per_s: acknowledged writes a second before it.
    """

    per_s: float
    first_error_s: float
    first_write_s: float
    name_changed_s: float


@dataclass(frozen=True)
class Result:
    """What came of a stage's failovers."""

    kind: str
    failovers: Sequence[Failover]
    acknowledged: int
    lost: int
    indeterminate: int
    indeterminate_kept: int


@contextmanager
def stage(kind: str, time_scale: float) -> Iterator[dict[str, Any]]:
    """A stage's description."""
    process = subprocess.Popen(
        [
            Path(sys.executable).parent / "chaosgrade", "stage", "up", "--json",
            "--fabric", "loopback",  # our own client reaches the database
            "--time-scale", f"{time_scale:g}", "--parameter", PARAMETERS[kind],
        ],
        stdout=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())
    finally:
        process.terminate()
        process.wait(timeout=10)


def fail_over(rds: Any, dns: str, name: str, ledger: Ledger) -> Failover:
    """Write for a while, fail over, and wait until writes go on.

    Raises:
        SystemExit: they do not.
    """
    began = time.monotonic()
    time.sleep(CALM_S)  # the old primary rejoins, and the rate is taken
    calm = [at for at in list(ledger.acknowledged.values()) if at >= began]
    per_s = len(calm) / (time.monotonic() - began)
    before, errors = Resolver(dns).resolve(name), len(ledger.errors)
    called = time.monotonic()
    _strike(rds)
    while Resolver(dns).resolve(name) == before:
        _wait(called)
    changed = time.monotonic()
    while not (first_error := min(ledger.errors[errors:], default=0.0)):
        _wait(called)
    while not (later := [at for at in list(ledger.acknowledged.values()) if at > first_error]):
        _wait(called)
    while {i["DBInstanceStatus"] for i in rds.describe_db_instances()["DBInstances"]} != {
        "available"
    }:
        _wait(called)
    return Failover(per_s, first_error - called, min(later) - called, changed - called)


def _strike(rds: Any) -> None:
    if rds.describe_db_clusters()["DBClusters"]:
        rds.failover_db_cluster(DBClusterIdentifier=DATABASE)
    else:
        rds.reboot_db_instance(DBInstanceIdentifier=DATABASE, ForceFailover=True)


def _wait(since: float) -> None:
    if time.monotonic() - since > _TIMEOUT_S:
        raise SystemExit(f"the failover was not over within {_TIMEOUT_S:g} s")
    time.sleep(_ASK_S)


def measure(kind: str, failovers: int, time_scale: float, console: Console) -> Result:
    """Fail over so many times under writes, and compare the books."""
    with stage(kind, time_scale) as document:
        rds = boto3.client(
            "rds",
            endpoint_url=document["endpoint"],
            region_name=document["region"],
            aws_access_key_id="stage",
            aws_secret_access_key="stage",
        )
        dns, name = document["dns"], document["databases"][DATABASE]
        writers, done = Writers(dns, name), []
        for number in range(failovers):
            done.append(fail_over(rds, dns, name, writers.ledger))
            console.print(f"{kind} failover {number + 1} of {failovers}", style="dim")
        writers.end()
        ledger, kept = writers.ledger, writers.kept()
    return Result(
        kind,
        done,
        acknowledged=len(ledger.acknowledged),
        lost=len(ledger.acknowledged.keys() - kept),
        indeterminate=len(ledger.indeterminate),
        indeterminate_kept=len(ledger.indeterminate.keys() & kept),
    )


def show(results: Sequence[Result], console: Console) -> None:
    """A column for each kind of database."""
    table = Table("", *(f"{r.kind}, {len(r.failovers)} failovers" for r in results))
    for title, attribute in (
        ("acknowledged writes", "acknowledged"),
        ("of these lost", "lost"),
        ("indeterminate", "indeterminate"),
        ("of these kept", "indeterminate_kept"),
    ):
        table.add_row(title, *(f"{getattr(result, attribute):,}" for result in results))
    rates = [[failover.per_s for failover in result.failovers] for result in results]
    least = (f"{statistics.median(each):.0f}, {min(each):.0f}" for each in rates)
    table.add_row("writes/s before a failover: median, least", *least)
    for title, attribute in (
        ("first error", "first_error_s"),
        ("first write", "first_write_s"),
        ("name changed", "name_changed_s"),
    ):
        seconds = [[getattr(f, attribute) for f in result.failovers] for result in results]
        most = (f"{statistics.median(each):.3f} s, {max(each):.3f} s" for each in seconds)
        table.add_row(f"call to {title}: median, most", *most)
    console.print(table)


def problems(results: Sequence[Result]) -> Iterator[str]:
    """What does not hold."""
    for result in results:
        least = min(failover.per_s for failover in result.failovers)
        if least < LEAST_PER_S:
            yield f"{result.kind}: {least:.0f} writes/s are fewer than {LEAST_PER_S:.0f}"
        if result.kind != "asynchronous" and result.lost:
            yield f"{result.kind}: {result.lost} acknowledged writes are lost"
        if result.kind == "asynchronous" and not result.lost:
            yield "asynchronous: nothing was lost"


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--failovers", type=int, default=20, help="with a synchronous standby")
    arguments.add_argument("--cluster", type=int, default=20, help="of a DB cluster")
    arguments.add_argument("--asynchronous", type=int, default=5, help="with an asynchronous one")
    arguments.add_argument("--time-scale", type=float, default=20.0)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    console = Console(stderr=options.json)
    results = [
        measure(kind, count, options.time_scale, console)
        for kind, count in (
            ("synchronous", options.failovers),
            ("cluster", options.cluster),
            ("asynchronous", options.asynchronous),
        )
        if count
    ]
    if options.json:
        rows = [
            {**vars(result), "failovers": [vars(failover) for failover in result.failovers]}
            for result in results
        ]
        print(json.dumps(rows))
    else:
        show(results, console)
    found = list(problems(results))
    for problem in found:
        print(problem, file=sys.stderr)
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
