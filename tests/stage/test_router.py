"""The router of a fabric of namespaces, in a process that has entered one."""

import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from ipaddress import IPv4Network
from pathlib import Path

import pytest

from chaosgrade.stage import namespaces

HOST = "10.16.8.10"
ROUNDS = 40


@pytest.mark.skipif(not namespaces.possible(), reason="this machine has no network namespaces")
def test_a_host_that_is_waited_for_joins_all_the_same() -> None:
    """Who is asked for while it joins knows its gateway from that, before it is told."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.stage.test_router"],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def _join_while_waited_for() -> None:
    """Raises what the router does."""
    from pyroute2 import IPRoute, NetlinkError

    from chaosgrade.stage.router import Router

    namespaces.enter_user_namespace()
    network = namespaces.new_network()
    over = threading.Event()

    def wait_for_it() -> None:
        os.setns(network, os.CLONE_NEWNET)
        with IPRoute() as netlink, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
            (bridge,) = netlink.link_lookup(ifname="zone0")
            while not over.is_set():
                with suppress(OSError, NetlinkError):
                    asking.sendto(b"?", (HOST, 9))
                with suppress(NetlinkError):  # so that the next one asks for it again
                    netlink.neigh("del", dst=HOST, ifindex=bridge)

    def join() -> None:
        router = Router([])
        router.add_subnet(IPv4Network("10.16.8.0/21"), "us-east-1a")
        waiting = threading.Thread(target=wait_for_it)
        waiting.start()
        try:
            for _ in range(ROUNDS):
                router.plug_in(HOST, namespaces.new_network())
                router.unplug(HOST)
        finally:
            over.set()
            waiting.join()

    namespaces.inside(network, namespaces.route_freely)
    namespaces.inside(network, join)


if __name__ == "__main__":
    _join_while_waited_for()
