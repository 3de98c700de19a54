"""The stage's children for tests: real processes, and who plays their clients and targets."""

import itertools
import json
import os
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HOSTS, BALANCER = "chaosgrade.stage.hosts", "chaosgrade.stage.balancer"
DATABASES, DNS = "chaosgrade.stage.databases", "chaosgrade.stage.dns"
CACHES = "chaosgrade.stage.caches"
PATIENCE_S = 15.0
_numbers = itertools.count(1)


def free_address() -> tuple[str, int]:
    """A loopback address that no other test uses, and a port that is free there."""
    number = next(_numbers)
    host = f"127.{10 + os.getpid() % 5}.{number // 200}.{10 + number % 200}"
    with socket.socket() as probe:
        probe.bind((host, 0))
        return host, probe.getsockname()[1]


class Child:
    """A child of the stage: orders down, events up.

    Args:
        through: a command that runs what follows it, such as `unshare`.
    """

    def __init__(self, module: str, *through: str) -> None:
        self.process = subprocess.Popen(
            [*through, sys.executable, "-m", module], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.events: list[dict[str, Any]] = []
        self._rest = b""
        self._next = 0

    def send(self, **order: object) -> None:
        """Give an order."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order).encode() + b"\n")
        self.process.stdin.flush()

    def wait_for(self, event: str, **fields: object) -> dict[str, Any]:
        """The next event, in order, that has these fields; those before it are passed over."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            while self._next < len(self.events):
                found = self.events[self._next]
                self._next += 1
                if {"event": event, **fields}.items() <= found.items():
                    return found
            assert self._read(deadline - time.monotonic()), (event, fields, self.events)

    def wait_until_seen(self, event: str, **fields: object) -> None:
        """Such an event, with these fields, has come, now or before."""
        deadline = time.monotonic() + PATIENCE_S
        wanted = {"event": event, **fields}.items()
        while not any(wanted <= seen.items() for seen in self.events):
            assert self._read(deadline - time.monotonic()), (event, self.events)

    def ask(self, **order: object) -> dict[str, Any]:
        """Give an order that is answered; returns the answer."""
        number = next(_numbers)
        self.send(id=number, **order)
        return self.wait_for("reply", id=number)

    def _read(self, timeout_s: float) -> bool:
        assert self.process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            if timeout_s <= 0 or not selector.select(timeout_s):
                return False
        chunk = os.read(self.process.stdout.fileno(), 1 << 16)
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        self.events += map(json.loads, lines)
        return bool(chunk)

    def leave(self) -> int:
        """Close its standard input and wait until it has left; returns its exit code."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.close()
        try:
            return self.process.wait(PATIENCE_S)
        finally:
            self.process.kill()
            self.process.stdout.close()


@contextmanager
def child(module: str, *through: str) -> Iterator[Child]:
    """A child that is ready, and gone afterwards."""
    started = Child(module, *through)
    try:
        started.wait_for("ready")
        yield started
    finally:
        started.leave()


def launch(
    hosts: Child, instance: str, address: tuple[str, int], boot_s: float = 0.0,
    restart_s: float | None = None,
) -> int:  # fmt: skip
    """Launch the web workload and wait until it listens; returns its process id."""
    host, port = address
    hosts.send(
        op="launch", instance=instance, host=host, port=port, workload="web", boot_s=boot_s,
        restart_s=restart_s,
        environment={"INSTANCE_ID": instance, "AVAILABILITY_ZONE": "us-east-1a"},
    )  # fmt: skip
    return int(hosts.wait_for("started", instance=instance)["pid"])


def exchange(address: tuple[str, int], request: bytes, timeout_s: float = PATIENCE_S) -> bytes:
    """Send a request on a connection of its own; everything that comes back."""
    with socket.create_connection(address, timeout=timeout_s) as connection:
        connection.sendall(request)
        return read_all(connection)


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes."""
    received = b""
    while chunk := connection.recv(65536):
        received += chunk
    return received


def get(address: tuple[str, int], path: str = "/", timeout_s: float = PATIENCE_S) -> bytes:
    """GET, closing the connection; the whole answer."""
    request = f"GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n"
    return exchange(address, request.encode(), timeout_s)


def status(answer: bytes) -> int:
    """The status code of an answer."""
    return int(answer.split(b" ", 2)[1])


def header(answer: bytes, name: str) -> str:
    """A header of an answer."""
    head = answer.partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
    return dict(line.split(": ", 1) for line in head)[name]


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition of another process."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, f"never {what}"
        time.sleep(0.005)


def runs(pid: int) -> bool:
    """Whether the process exists and is no zombie."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def traces() -> set[str]:
    """What PostgreSQL could leave: temporary files, shared memory of POSIX and SysV.

    Other tests may be at it at the same time.
    """
    files = {
        f"{folder}/{name}"
        for folder in ("/tmp", "/dev/shm")
        for name in os.listdir(folder)
        if "chaosgrade-databases" in name or "PGSQL" in name or "PostgreSQL" in name
    }
    segments = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    return files | {f"segment {line.split()[1]}" for line in segments}


class ScriptedTarget:
    """A target that answers health checks, and everything else as its test says.

    Args:
        behave: called with (connection, the bytes of one request), on a thread per connection;
            when it returns False the connection is closed.
    """

    def __init__(self, behave: Callable[[socket.socket, bytes], bool]) -> None:
        self.address = free_address()
        self.health = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        self._behave = behave
        self._listener = socket.create_server(self.address)
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Stop listening: from now on it refuses."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection:
            try:
                while request := connection.recv(65536):
                    if request.startswith(b"GET /health "):
                        connection.sendall(self.health)
                        return
                    if not self._behave(connection, request):
                        return
            except OSError:
                return


_CHECK = {
    "protocol": "HTTP", "port": None, "path": "/health", "interval_s": 0.1, "timeout_s": 0.3,
    "healthy": 2, "unhealthy": 2, "matcher": "200",
}  # fmt: skip


def target_group(
    targets: Mapping[str, tuple[str, int]], *, arn: str = "tg", check: Mapping[str, object] = {},
    **changes: object,
) -> dict[str, Any]:  # fmt: skip
    """A target group as `configure` takes it, in measured seconds."""
    group: dict[str, Any] = {
        "arn": arn, "name": arn, "health_check": {**_CHECK, **check},
        "deregistration_delay_s": 0.3, "ends_connections": False, "slow_start_s": 0,
        "targets": [
            {"id": id_, "host": host, "port": port, "zone": "us-east-1a"}
            for id_, (host, port) in targets.items()
        ],
    }  # fmt: skip
    return {**group, **changes}


def configure(
    balancer: Child, address: tuple[str, int], *groups: dict[str, Any], protocol: str = "HTTP",
    time_scale: float = 1.0, **changes: object,
) -> None:  # fmt: skip
    """One balancer with one node, at `address`, for the first of these groups.

    Args:
        changes: of the balancer's fields.
    """
    host, port = address
    balancer.send(
        op="configure", time_scale=time_scale,
        balancers=[{"name": "web", "arn": "lb", "port": port, "protocol": protocol,
                    "target_group": "tg", "cross_zone": True, "idle_timeout_s": 60,
                    "nodes": [{"subnet": "subnet-a", "zone": "us-east-1a", "host": host}],
                    **changes}],
        target_groups=list(groups),
    )  # fmt: skip
