"""What connects the stage's instances, and how an address of theirs falls silent."""

import select
import socket
from typing import Protocol

_FILLERS = 64
_LONGEST_QUEUE = 512
"""Connections that a stopped listener's queue may hold; PostgreSQL asks for twice its clients."""

_HANDSHAKE_S = 0.005
"""More than a hundred times what a connection on loopback takes."""


class Fabric(Protocol):
    """The network between instances."""

    name: str

    def attach(self, host: str, port: int) -> None:
        """The address is free to be listened on."""
        ...

    def vanish(self, host: str, port: int) -> None:
        """From now on nothing answers at the address: connecting hangs, it is never refused.

        To be called before the process that listens there is killed, so that no connection is
        refused in between.

        Raises:
            OSError: somebody else listens there.
        """
        ...

    def stall(self, host: str, port: int) -> None:
        """As `vanish`, for an address whose listener is stopped (SIGSTOP) and keeps its port."""
        ...


class Loopback:
    """Every instance has a loopback address of its own; works on every Linux machine.

    A host that is gone answers no SYN. On loopback the kernel would answer it with a reset, which
    is another fault: so a socket listens there whose queue of accepted connections is full, and
    Linux drops the SYN of what cannot be queued (listen(2), tcp(7) on tcp_abort_on_overflow).
    """

    name = "loopback"

    def __init__(self) -> None:
        self._silent: dict[tuple[str, int], list[socket.socket]] = {}

    def attach(self, host: str, port: int) -> None:
        for held in self._silent.pop((host, port), ()):
            held.close()

    def vanish(self, host: str, port: int) -> None:
        if (host, port) in self._silent:
            return
        listener = socket.socket()
        try:
            # The process that is about to die may still listen: both opt in to share the port.
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            listener.bind((host, port))
            listener.listen(0)
        except OSError:
            listener.close()
            raise
        # While the workload lives, Linux spreads connections over its socket and ours. Ours is
        # full when one hangs. Were it never so, the next customer would connect and wait in vain.
        self._silent[host, port] = [listener, *_fill(host, port, _FILLERS)]

    def stall(self, host: str, port: int) -> None:
        if (host, port) not in self._silent:
            self._silent[host, port] = _fill(host, port, _LONGEST_QUEUE)


def _fill(host: str, port: int, at_most: int) -> list[socket.socket]:
    """Connect until a connection hangs: nobody takes any out of the queue of this listener."""
    held = []
    for _ in range(at_most):
        filler = socket.socket()
        filler.setblocking(False)
        filler.connect_ex((host, port))
        if not select.select([], [filler], [], _HANDSHAKE_S)[1]:
            filler.close()
            break
        held.append(filler)
    return held
