"""Databases are PostgreSQL: what is acknowledged is kept, or lost where the design loses it."""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.stage.children import (
    DATABASES,
    PATIENCE_S,
    Child,
    child,
    free_address,
    runs,
    traces,
    wait_until,
)
from tests.stage.conftest import descendants

PORT = 5432
_DETECTION_S = 0.2
_LAG_S = 0.3
_HANG_S = 0.5


@pytest.fixture(scope="module")
def databases() -> Iterator[Child]:
    """One process for all tests; each makes databases of its own."""
    with child(DATABASES) as started:
        yield started


def create(
    databases: Child, name: str, zones: str = "ab", hosts: Sequence[str] = (), **changes: object
) -> Sequence[str]:
    """Create a database with a server in each of these zones; returns their addresses."""
    hosts = hosts or [free_address()[0] for _ in zones]
    order: dict[str, object] = {
        "servers": [
            {"name": z, "zone": z, "host": h} for z, h in zip(zones, hosts, strict=True)
        ],
        "port": PORT, "user": "shop", "password": "secret", "name": "shop",
        "detection_s": _DETECTION_S, "replication": "synchronous", "lag_s": _LAG_S,
        "readable": False, "patience_s": changes.get("detection_s", _DETECTION_S),
        "keepalive_idle_s": 300, "keepalive_interval_s": 30,
    }  # fmt: skip
    databases.send(op="create", database=name, **{**order, **changes})
    assert databases.wait_for("available", database=name)["host"] == hosts[0]
    return hosts


def connect(host: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(
        host=host, port=PORT, user="shop", password="secret", dbname="shop", autocommit=True,
        connect_timeout=2,
    )  # fmt: skip


def rows(host: str) -> set[int]:
    """Orders there; none as well when the table was lost, or not made yet."""
    with connect(host) as connection:
        try:
            return {n for (n,) in connection.execute("SELECT n FROM orders")}
        except psycopg.errors.UndefinedTable:
            return set()


def reach(host: str) -> str:
    try:
        with socket.create_connection((host, PORT), timeout=_HANG_S):
            return "connected"
    except TimeoutError:
        return "hangs"
    except ConnectionRefusedError:
        return "refused"


def servers(of: Child) -> dict[int, str]:
    """{process id: command line} of the first processes of PostgreSQL servers."""
    found = {}
    for pid in descendants(of.process.pid):
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if command[0].endswith(b"/bin/postgres"):
            found[pid] = b" ".join(command).decode()
    return found


def crash(of: Child, host: str) -> None:
    """Kill the first process of the server at an address."""
    # It comes before its children, which have its command line until they have set their own.
    pid = next(p for p, command in servers(of).items() if f"listen_addresses={host} " in command)
    os.kill(pid, signal.SIGKILL)


class Writers:
    """Customers who write numbers, each to its connection, until that breaks.

    Args:
        host: where they write.
    """

    def __init__(self, host: str, first: int = 0) -> None:
        self.acknowledged: set[int] = set()
        self._connections = [connect(host) for _ in range(3)]
        self._connections[0].execute("CREATE TABLE IF NOT EXISTS orders (n int PRIMARY KEY)")
        self._began = time.monotonic()
        self.threads = [
            threading.Thread(target=self._write, args=(connection, first + number), daemon=True)
            for number, connection in enumerate(self._connections)
        ]
        for thread in self.threads:
            thread.start()

    def have_written(self, count: int) -> None:
        """Wait until so many writes are acknowledged, at 200 or more a second."""
        wait_until(lambda: len(self.acknowledged) >= count, f"{count} writes acknowledged")
        assert len(self.acknowledged) / (time.monotonic() - self._began) > 200

    def write_on(self) -> None:
        """Wait until some more are acknowledged."""
        before = len(self.acknowledged)
        wait_until(lambda: len(self.acknowledged) > before + 10, "writes go on")

    def end(self) -> set[int]:
        """Wait until all connections have broken; what was acknowledged."""
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive()
        for connection in self._connections:
            connection.close()
        return self.acknowledged

    def _write(self, connection: "psycopg.Connection[Any]", number: int) -> None:
        try:
            while True:
                connection.execute("INSERT INTO orders VALUES (%s)", (number,))
                self.acknowledged.add(number)
                number += len(self._connections)
        except psycopg.OperationalError:
            return


@contextmanager
def failing_over(databases: Child, name: str, host: str, how: str) -> Iterator[Writers]:
    """Writers at work, then the loss of the primary under them, and the standby's promotion."""
    writers = Writers(host, first=max(rows(host), default=-1) + 1)
    writers.have_written(300)
    if how == "crash":
        crash(databases, host)
    else:
        databases.send(op="fail_over", database=name, down_s=_DETECTION_S)
    databases.wait_for("failed_over", database=name)
    yield writers


@pytest.mark.parametrize("how", ["crash", "reboot"])
def test_no_acknowledged_write_is_lost_when_the_standby_takes_over(
    databases: Child, how: str
) -> None:
    """Also when the old primary, which has rejoined, takes over in its turn."""
    first, second = create(databases, how)
    with failing_over(databases, how, first, how) as writers:
        assert writers.end() <= rows(second)
    databases.wait_for("standby", database=how, zone="a")
    kept = rows(second)
    with failing_over(databases, how, second, how) as writers:
        assert kept | writers.end() <= rows(first)


def test_an_asynchronous_standby_loses_acknowledged_writes(databases: Child) -> None:
    """What it lagged behind with is gone, and nothing says so."""
    first, second = create(databases, "async", replication="asynchronous")
    with failing_over(databases, "async", first, "crash") as writers:
        lost = writers.end() - rows(second)
        assert len(lost) > 0
    databases.wait_for("standby", database="async", zone="a")


def test_a_server_without_a_standby_restarts_in_place(databases: Child) -> None:
    """After a reboot and after a crash; meanwhile its living host refuses."""
    (host,) = create(databases, "single", zones="a", detection_s=1)
    with connect(host) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        connection.execute("INSERT INTO orders VALUES (1)")
    databases.send(op="restart", database="single", down_s=1)
    databases.wait_for("down", database="single", zone="a")
    assert reach(host) == "refused"
    databases.wait_for("available", database="single", host=host)
    crash(databases, host)
    databases.wait_for("down", database="single")
    assert reach(host) == "refused"
    databases.wait_for("available", database="single", host=host)
    assert rows(host) == {1}


def test_a_standby_takes_no_connections(databases: Child) -> None:
    """Who has kept the address of an old primary is turned away, not served old data."""
    _, second = create(databases, "closed")
    with pytest.raises(psycopg.OperationalError, match="not accepting connections"):
        connect(second)


def test_commits_go_on_without_a_standby_that_is_gone(databases: Child) -> None:
    """They wait for its detection; it rejoins and can be promoted again."""
    first, second = create(databases, "alone")
    with connect(first) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        crash(databases, second)
        connection.execute("INSERT INTO orders VALUES (1)")
    databases.wait_for("standby", database="alone", zone="b")
    databases.send(op="fail_over", database="alone", down_s=0)
    databases.wait_for("failed_over", database="alone", host=second)
    assert rows(second) == {1}


def test_followers_that_can_be_read_from_are_promoted_by_tier_and_follow_anew(
    databases: Child,
) -> None:
    """Nobody waits for a dead one; of two the lower tier writes next, and the others follow it."""
    hosts = [free_address()[0] for _ in "abc"]
    servers = [
        {"name": f"db-{z}", "zone": z, "host": h, "tier": tier}
        for z, h, tier in zip("abc", hosts, (1, 15, 0), strict=True)
    ]
    first, second, third = create(
        databases, "cluster", "abc", hosts,
        servers=servers, readable=True, detection_s=10 * PATIENCE_S, patience_s=0,
    )  # fmt: skip
    writers = Writers(first)
    crash(databases, second)
    databases.wait_for("down", database="cluster", server="db-b")
    writers.write_on()
    databases.wait_for("standby", database="cluster", server="db-b")
    writers.write_on()
    databases.send(op="fail_over", database="cluster", down_s=_DETECTION_S)
    assert databases.wait_for("failing_over", database="cluster")["to"] == "db-c"
    databases.wait_for("failed_over", database="cluster", host=third)
    acknowledged = writers.end()
    assert acknowledged <= rows(third)
    followed = {databases.wait_for("standby", database="cluster")["server"] for _ in "ab"}
    assert followed == {"db-a", "db-b"}
    for host in (first, second):
        wait_until(lambda host=host: acknowledged <= rows(host), "read from")  # type: ignore[misc]
        with connect(host) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("INSERT INTO orders VALUES (-1)")


def cut(databases: Child, *hosts: str, alone: str = "") -> None:
    """Each host is a subnet; `alone` is cut off from all others and from outside."""
    others = ["", *(host for host in hosts if host != alone)]
    databases.send(
        op="links",
        subnets={host: f"{host}/32" for host in hosts},
        cut=[[*pair, PORT] for o in others for pair in ((o, alone), (alone, o)) if alone],
    )


@pytest.mark.parametrize("replication", ["synchronous", "asynchronous"])
def test_a_primary_that_nobody_reaches_is_succeeded(databases: Child, replication: str) -> None:
    """Its clients hang, what they were told is kept if it was synchronous; healed, it follows."""
    name = f"cut-{replication}"
    first, second = create(databases, name, replication=replication)
    writers = Writers(first)
    writers.have_written(100)
    cut(databases, first, second, alone=first)
    databases.wait_for("failing_over", database=name, zone="a")
    databases.wait_for("failed_over", database=name, host=second)
    assert [reach(first), reach(second)] == ["hangs", "connected"]
    assert all(writer.is_alive() for writer in writers.threads)
    lost = writers.acknowledged - rows(second)
    assert (len(lost) > 0) == (replication == "asynchronous")
    cut(databases, first, second)
    databases.wait_for("standby", database=name, zone="a")
    writers.end()
    assert reach(first) == "connected"


def test_a_failover_is_called_for_while_the_primary_is_cut_off(databases: Child) -> None:
    """It is done once, before detection, and connecting to the old primary goes on hanging."""
    first, second = create(databases, "called", detection_s=1)
    cut(databases, first, second, alone=first)
    databases.send(op="fail_over", database="called", down_s=0)
    databases.wait_for("failed_over", database="called", host=second)
    assert reach(first) == "hangs"
    time.sleep(_HANG_S + _DETECTION_S)  # detection would be now
    cut(databases, first, second)
    databases.wait_for("standby", database="called", zone="a")
    events = [e["event"] for e in databases.events if e.get("database") == "called"]
    assert events == ["standby", "available", "down", "failing_over", "failed_over", "standby"]


def test_a_short_cut_stalls_and_heals(databases: Child) -> None:
    """Healed before its detection, the primary stays, and its clients go on where they were."""
    first, second = create(databases, "blink", detection_s=1.5)
    with connect(first) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        cut(databases, first, second, alone=first)
        wait_until(lambda: reach(first) == "hangs", "cut")
        began = time.monotonic()
        threading.Timer(_HANG_S, cut, (databases, first, second)).start()
        connection.execute("INSERT INTO orders VALUES (1)")
        assert time.monotonic() - began >= _HANG_S
    assert rows(first) == {1}
    databases.send(op="fail_over", database="blink", down_s=0)
    databases.wait_for("down", database="blink")
    events = [e["event"] for e in databases.events if e.get("database") == "blink"]
    assert events[:3] == ["standby", "available", "down"]


def _serves(databases: Child, connection: "psycopg.Connection[Any]") -> bool:
    """Whether the server still has a process for a connection; in a PID namespace, seen outside."""
    for pid in descendants(databases.process.pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            lines = Path(f"/proc/{pid}/status").read_text("utf-8").splitlines()
            (numbers,) = (line.split() for line in lines if line.startswith("NSpid:"))
            if numbers[-1] == str(connection.info.backend_pid):
                return True
    return False


def test_a_connection_whose_client_is_gone_without_a_word_ends(databases: Child) -> None:
    """What a dead machine has left open must not use up the connections that there are."""
    (host,) = create(databases, "left", "a", keepalive_idle_s=1, keepalive_interval_s=1)
    with connect(host) as connection:
        assert _serves(databases, connection)
        cut(databases, host, alone=host)
        wait_until(lambda: not _serves(databases, connection), "ended")
        cut(databases, host)
    databases.send(op="delete", database="left")


def test_commits_wait_for_a_standby_that_is_cut_off_and_then_go_on(databases: Child) -> None:
    """As long as its detection takes; healed, it has it all and can be promoted."""
    first, second = create(databases, "far")
    with connect(first) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        cut(databases, first, second, alone=second)
        began = time.monotonic()
        connection.execute("INSERT INTO orders VALUES (1)")
        assert time.monotonic() - began >= _DETECTION_S / 2
        connection.execute("INSERT INTO orders VALUES (2)")
    cut(databases, first, second)
    databases.wait_for("standby", database="far", zone="b")
    databases.send(op="fail_over", database="far", down_s=0)
    databases.wait_for("failed_over", database="far", host=second)
    assert rows(second) == {1, 2}


def test_a_read_replica_lags_and_can_be_promoted(databases: Child) -> None:
    """It has a write only after its lag; promoted, it takes its own and gets no more."""
    source, _ = create(databases, "source")
    host = free_address()[0]
    with connect(source) as connection:
        connection.execute("CREATE TABLE orders (n int)")
        databases.send(
            op="replicate", database="replica", port=PORT, source="source", lag_s=_LAG_S,
            servers=[{"name": "c", "zone": "c", "host": host}], detection_s=_DETECTION_S,
            keepalive_idle_s=300, keepalive_interval_s=30,
        )  # fmt: skip
        databases.wait_for("available", database="replica", host=host)
        began = time.monotonic()
        connection.execute("INSERT INTO orders VALUES (1)")
        wait_until(lambda: rows(host) == {1}, "replicated")
        assert time.monotonic() - began >= _LAG_S
        with connect(host) as reader, pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            reader.execute("INSERT INTO orders VALUES (2)")
        databases.send(op="promote", database="replica")
        databases.wait_for("available", database="replica")
        connection.execute("INSERT INTO orders VALUES (3)")
    with connect(host) as writer:
        writer.execute("INSERT INTO orders VALUES (2)")
    assert rows(host) == {1, 2}


def test_a_replica_follows_the_new_primary(databases: Child) -> None:
    """After a failover of its source it goes on replicating."""
    first, second = create(databases, "moving")
    host = free_address()[0]
    databases.send(
        op="replicate", database="moving-replica", port=PORT, source="moving", lag_s=0.05,
        servers=[{"name": "c", "zone": "c", "host": host}], detection_s=_DETECTION_S,
        keepalive_idle_s=300, keepalive_interval_s=30,
    )  # fmt: skip
    databases.wait_for("available", database="moving-replica")
    with failing_over(databases, "moving", first, "reboot") as writers:
        acknowledged = writers.end()
    with connect(second) as connection:
        connection.execute("INSERT INTO orders VALUES (-1)")
    wait_until(lambda: acknowledged | {-1} <= rows(host), "replicated after the failover")


_AS_ROOT = ("unshare", "--user", "--map-root-user")
_AS_SOMEBODY = ("unshare", "--user", "--map-user=1000", "--map-group=1000", "--keep-caps")
_WITHOUT_NAMESPACES = (
    *_AS_SOMEBODY, "sh", "-c", 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
)  # fmt: skip


@pytest.mark.parametrize("through", [_AS_ROOT, _AS_SOMEBODY, _WITHOUT_NAMESPACES])
def test_it_works_for_root_and_others_and_leaves_nothing(through: tuple[str, ...]) -> None:
    """Told to leave, it takes processes, folders and shared memory along."""
    before = traces()
    with child(DATABASES, *through) as databases:
        _, second = create(databases, "shop")
        databases.send(op="fail_over", database="shop", down_s=0)
        databases.wait_for("failed_over", database="shop", host=second)
        databases.wait_for("standby", database="shop")
        started = [databases.process.pid, *descendants(databases.process.pid)]
    assert not any(map(runs, started))
    wait_until(lambda: traces() <= before, "everything gone")


def test_a_killed_process_leaves_nothing() -> None:
    """SIGKILL, also while a fenced server is stopped: the kernel clears up."""
    before = traces()
    databases = Child(DATABASES)
    first, second = create(databases, "shop")
    cut(databases, first, second, alone=first)
    databases.wait_for("failed_over", database="shop")
    started = [databases.process.pid, *descendants(databases.process.pid)]
    assert len(started) > 10
    databases.process.kill()
    databases.process.wait()
    wait_until(lambda: not any(map(runs, started)), "all processes gone")
    wait_until(lambda: traces() <= before, "everything gone")
    databases.leave()


def test_root_without_namespaces_is_told_what_to_do(capfd: pytest.CaptureFixture[str]) -> None:
    """One line, and no server."""
    no_more = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    refused = Child(DATABASES, *_AS_ROOT, "sh", "-c", no_more, "sh")
    assert refused.leave() == 2
    assert "run the stage as an ordinary user" in capfd.readouterr().err
