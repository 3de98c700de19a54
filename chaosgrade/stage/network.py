"""The network of namespaces: `python -m chaosgrade.stage.network ROUTER REQUESTS ADDRESS…` runs it.

ADDRESS is where the stage itself serves, in no subnet; ROUTER a descriptor of the network namespace
to route in; REQUESTS a Unix socket that keeps messages apart. Orders come as JSON lines on standard
input, events go out on standard output:

    {"op": "subnet", "network", "zone"}    {"op": "links", …}, see links.Links.of
    {"event": "ready"}

Requests are JSON, and carry descriptors: one to write the answer to, "done" or what went wrong, and
to close; and with "plug_in" one of the host's network namespace.

    {"op": "plug_in" | "unplug", "host"}
"""

import gc
import json
import os
import selectors
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Network
from typing import Any

from pyroute2 import NetlinkError

from chaosgrade import lifeline
from chaosgrade.stage.fabric import DONE
from chaosgrade.stage.lines import Events, LineBuffer
from chaosgrade.stage.links import Links
from chaosgrade.stage.router import Router

_LONGEST_REQUEST = 4096
_MOST_DESCRIPTORS = 2


class Network:
    """Obeys orders and answers requests.

    Args:
        router: what it does it with.
        requests: where requests arrive.
    """

    def __init__(self, router: Router, requests: socket.socket) -> None:
        self._router = router
        self._requests = requests
        self._orders = LineBuffer()

    def run(self) -> None:
        """Until the end of standard input."""
        os.set_blocking(0, False)
        selector = selectors.DefaultSelector()
        selector.register(0, selectors.EVENT_READ)
        selector.register(self._requests, selectors.EVENT_READ)
        while True:
            ready = selector.select()
            # Orders first: whoever asks to be plugged in was told to after its subnet was added.
            if not self._obey():
                return
            if any(key.fileobj is self._requests for key, _ in ready):
                self._answer()

    def _obey(self) -> bool:
        """Carry out what has been ordered; false at the end of standard input."""
        while True:
            try:
                chunk = os.read(0, 1 << 16)
            except BlockingIOError:
                return True
            if not chunk:
                return False
            for order in self._orders.feed(chunk):
                match order["op"]:
                    case "subnet":
                        self._router.add_subnet(IPv4Network(order["network"]), order["zone"])
                    case "links":
                        self._router.cut(Links.of(order))
                    case unknown:
                        raise ValueError(f"no order {unknown}")

    def _answer(self) -> None:
        request, descriptors, _, _ = socket.recv_fds(
            self._requests, _LONGEST_REQUEST, _MOST_DESCRIPTORS
        )
        if not request:
            return  # everybody who could ask is gone
        answer, *networks = descriptors
        said = DONE
        try:
            self._serve(json.loads(request), networks)
        except (NetlinkError, OSError, LookupError) as error:
            said = f"{type(error).__name__}: {error}"
        with suppress(BrokenPipeError):  # it has died meanwhile
            os.write(answer, said.encode())
        os.close(answer)

    def _serve(self, request: Mapping[str, Any], networks: list[int]) -> None:
        if request["op"] == "plug_in":
            self._router.plug_in(request["host"], networks[0])
        else:
            self._router.unplug(request["host"])


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-network")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    router, requests, *services = sys.argv[1:]
    os.setns(int(router), os.CLONE_NEWNET)
    gc.freeze()  # the collector need not look at what is imported
    network = Network(Router(services), socket.socket(fileno=int(requests)))
    Events().emit("ready")
    network.run()


if __name__ == "__main__":
    main()
