"""Caches are Valkey: a replica takes over with what it has, and what nobody has is gone."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkey import Valkey
from valkey.exceptions import ReadOnlyError
from valkey.exceptions import TimeoutError as NoAnswer

from tests.stage.children import (
    CACHES,
    PATIENCE_S,
    Child,
    child,
    free_address,
    runs,
    wait_until,
)
from tests.stage.conftest import descendants

PORT = 6379
_DETECTION_S = 0.2
_HANG_S = 0.5


@pytest.fixture(scope="module")
def caches() -> Iterator[Child]:
    """One process for all tests; each makes replication groups of its own."""
    with child(CACHES) as started:
        yield started


def create(caches: Child, group: str, nodes: str = "12", **changes: object) -> list[str]:
    """Create a replication group with these nodes; returns their addresses."""
    hosts = [free_address()[0] for _ in nodes]
    order: dict[str, object] = {
        "servers": [{"node": n, "host": h} for n, h in zip(nodes, hosts, strict=True)],
        "port": PORT, "detection_s": _DETECTION_S, "fails_over": len(nodes) > 1,
    }  # fmt: skip
    caches.send(op="create", group=group, **{**order, **changes})
    caches.wait_for("available", group=group, node=nodes[0])
    return hosts


def at(host: str, timeout_s: float = PATIENCE_S) -> Valkey:
    return Valkey(host, PORT, decode_responses=True, socket_timeout=timeout_s)


def write(host: str, key: str, value: str) -> None:
    """Wait until a replica has it too."""
    client = at(host)
    client.set(key, value)
    assert client.wait(1, 5000) == 1


def reach(host: str) -> str:
    try:
        with socket.create_connection((host, PORT), timeout=_HANG_S):
            return "connected"
    except TimeoutError:
        return "hangs"
    except ConnectionRefusedError:
        return "refused"


def crash(of: Child, host: str) -> None:
    """Kill the server at an address."""
    for pid in descendants(of.process.pid):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
        if b"valkey-server" in command and f"{host}:{PORT}".encode() in command:
            os.kill(pid, signal.SIGKILL)
            return
    raise AssertionError(f"no server at {host}")


@pytest.mark.parametrize("how", ["crash", "test"])
def test_a_replica_takes_over_with_what_it_has(caches: Child, how: str) -> None:
    """After the detection; the old primary comes back as a replica, at its address."""
    first, second = create(caches, how)
    write(first, "tea", "green")
    with pytest.raises(ReadOnlyError):
        at(second).set("tea", "black")
    began = time.monotonic()
    if how == "crash":
        crash(caches, first)
    else:
        caches.send(op="fail_over", group=how)
    caches.wait_for("down", group=how, node="1")
    assert reach(first) == "refused"
    caches.wait_for("failed_over", group=how, node="2", former="1")
    assert time.monotonic() - began >= _DETECTION_S
    assert at(second).get("tea") == "green"
    at(second).set("tea", "black")
    caches.wait_for("recovered", group=how, node="1")
    wait_until(lambda: at(first).get("tea") == "black", "replicated back")


def test_what_was_not_replicated_is_lost(caches: Child) -> None:
    """Replication is asynchronous: a stalled replica takes over with less than was acknowledged."""
    first, second = create(caches, "lossy", detection_s=1)
    write(first, "order", "1")
    cut(caches, (first, second))
    assert at(first).set("order", "2")
    crash(caches, first)
    caches.wait_for("failed_over", group="lossy", node="2")
    cut(caches)
    assert at(second).get("order") == "1"
    caches.wait_for("recovered", group="lossy", node="1")
    assert at(first).get("order") == "1"


def test_of_several_replicas_the_one_with_the_least_lag_takes_over(caches: Child) -> None:
    """And the others follow it."""
    first, second, third = create(caches, "three", nodes="123", detection_s=1)
    cut(caches, (first, second))
    at(first).set("tea", "white")
    wait_until(lambda: at(third).get("tea") == "white", "replicated to one")
    assert at(second).get("tea") is None
    crash(caches, first)
    caches.wait_for("failed_over", group="three", node="3")
    cut(caches)
    wait_until(lambda: at(second).get("tea") == "white", "followed")
    caches.wait_for("recovered", group="three", node="1")


@pytest.mark.parametrize("nodes", ["1", "12"])
def test_what_nobody_may_take_over_comes_back_empty(caches: Child, nodes: str) -> None:
    """A group without automatic failover: its primary is started again where it was."""
    group = f"plain-{nodes}"
    hosts = create(caches, group, nodes=nodes, fails_over=False)
    at(hosts[0]).set("tea", "oolong")
    crash(caches, hosts[0])
    caches.wait_for("available", group=group, node="1")
    assert [at(hosts[0]).get("tea"), at(hosts[0]).set("tea", "mint")] == [None, True]
    for host in hosts:
        wait_until(lambda host=host: at(host).get("tea") == "mint", "the same everywhere")  # type: ignore[misc]  # bound now


def cut(caches: Child, *pairs: tuple[str, str]) -> None:
    """Each host is a subnet; hosts of a pair do not reach each other, "" is outside."""
    hosts = {host for pair in pairs for host in pair if host}
    caches.send(
        op="links",
        subnets={host: f"{host}/32" for host in hosts},
        cut=[[*way, PORT] for a, b in pairs for way in ((a, b), (b, a))],
    )
    # Orders are carried out one after another: this one afterwards.
    name = f"after-{len(caches.events)}"
    create(caches, name, nodes="1")
    caches.send(op="delete", group=name)


def test_a_primary_that_nobody_reaches_is_succeeded(caches: Child) -> None:
    """Connecting to it goes on hanging; healed, it follows."""
    first, second = create(caches, "dark")
    write(first, "tea", "green")
    client = at(first, timeout_s=_HANG_S)
    client.ping()
    cut(caches, (first, second), (first, ""))
    with pytest.raises(NoAnswer):
        client.get("tea")
    caches.wait_until_seen("failed_over", group="dark", node="2")
    assert [reach(first), reach(second)] == ["hangs", "connected"]
    at(second).set("tea", "black")
    cut(caches)
    caches.wait_for("recovered", group="dark", node="1")
    wait_until(lambda: at(first).get("tea") == "black", "followed")


def test_a_short_cut_stalls_and_heals(caches: Child) -> None:
    """Healed before its detection, the primary stays, and has what it had."""
    first, second = create(caches, "blink", detection_s=5)
    at(first).set("tea", "green")
    cut(caches, (first, second), (first, ""))
    assert reach(first) == "hangs"
    cut(caches)
    assert at(first).get("tea") == "green"
    assert [e["event"] for e in caches.events if e.get("group") == "blink"] == ["available"]


def test_a_killed_process_leaves_nothing(tmp_path: Path) -> None:
    """SIGKILL, also while a fenced server is stopped: the kernel clears up."""
    caches = Child(CACHES, "env", f"TMPDIR={tmp_path}")
    first, second = create(caches, "shop")
    cut(caches, (first, second), (first, ""))
    caches.wait_until_seen("failed_over", group="shop")
    started = [caches.process.pid, *descendants(caches.process.pid)]
    assert sum(b"valkey" in Path(f"/proc/{pid}/cmdline").read_bytes() for pid in started) == 2
    caches.process.kill()
    caches.process.wait()
    wait_until(lambda: not any(map(runs, started)), "all processes gone")
    assert list(tmp_path.iterdir()) == []
    caches.leave()
