"""What connects the stage's instances, and how an address of theirs falls silent."""

import errno
import socket
from typing import Protocol


class Fabric(Protocol):
    """The network between instances."""

    name: str

    def vanish(self, host: str, port: int) -> None:
        """From now on nothing answers at the address: connecting hangs, it is never refused."""
        ...

    def attach(self, host: str, port: int) -> None:
        """The address is free to be listened on again."""
        ...


class Loopback:
    """Every instance has a loopback address of its own; works on every machine.

    A host that is gone answers no SYN. On loopback the kernel would answer it with a reset, which
    is another fault: so a socket listens there whose queue of pending connections is full, and the
    kernel drops what cannot be queued.
    """

    name = "loopback"

    def __init__(self) -> None:
        self._silent: dict[tuple[str, int], list[socket.socket]] = {}

    def vanish(self, host: str, port: int) -> None:
        if (host, port) in self._silent:
            return
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        held = [listener]
        # The queue holds one or two more than asked for; what is beyond stays in SYN_SENT.
        for _ in range(8):
            filler = socket.socket()
            filler.setblocking(False)
            state = filler.connect_ex((host, port))
            held.append(filler)
            if state not in (0, errno.EINPROGRESS):
                break
        self._silent[host, port] = held

    def attach(self, host: str, port: int) -> None:
        for held in self._silent.pop((host, port), ()):
            held.close()
