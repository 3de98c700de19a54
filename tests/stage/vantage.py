"""Sockets at the addresses of a stage's instances: what tests see from there."""

import os
import socket
from pathlib import Path

from tests.stage.conftest import Stage, descendants


def socket_at(stage: Stage, address: str) -> socket.socket:
    """A TCP socket that connects from an address on the stage's network, where somebody runs."""
    if stage.document["fabric"] == "loopback":
        made = socket.socket()
        made.bind((address, 0))
        return made
    resident = _resident(stage, address)
    here, there = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        try:
            for kind in ("user", "net"):
                namespace = os.open(f"/proc/{resident}/ns/{kind}", os.O_RDONLY)
                os.setns(namespace, 0)
            made = socket.socket()
            socket.send_fds(there, [b"!"], [made.fileno()])
        finally:
            os._exit(0)
    there.close()
    os.waitpid(pid, 0)
    _, descriptors, _, _ = socket.recv_fds(here, 1, 1)
    here.close()
    assert descriptors, f"no socket at {address}"
    return socket.socket(fileno=descriptors[0])


def neighbour(stage: Stage, address: str = "") -> str:
    """The address of a running instance, another than this one."""
    running = stage.client("ec2").describe_instances(
        Filters=[{"Name": "instance-state-name", "Values": ["running"]}]
    )["Reservations"]
    others = (str(i["PrivateIpAddress"]) for r in running for i in r["Instances"])
    return next(other for other in others if other != address)


def _resident(stage: Stage, address: str) -> int:
    """The id of a process whose network namespace has the address."""
    for pid in descendants(stage.process.pid):
        try:
            addresses = Path(f"/proc/{pid}/net/fib_trie").read_text("ascii")
        except (FileNotFoundError, ProcessLookupError, OSError):
            continue
        if f"{address}\n" in addresses:
            return pid
    raise AssertionError(f"nobody runs at {address}")
