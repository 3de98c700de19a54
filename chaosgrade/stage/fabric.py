"""What connects the stage's instances, and how an address of theirs falls silent."""

import select
import socket
from typing import Protocol

_FILLERS = 64
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
        held = [listener]
        # While the workload lives, Linux spreads connections over its socket and ours. Ours is
        # full when one hangs. Were it never so, the next customer would connect and wait in vain.
        for _ in range(_FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex((host, port))
            if not select.select([], [filler], [], _HANDSHAKE_S)[1]:
                filler.close()
                break
            held.append(filler)
        self._silent[host, port] = held
