"""What connects the stage's instances, and how an address of theirs falls silent.

There are two. Namespaces: each instance has a network namespace and a cable to its zone's bridge.
Loopback, which works on every Linux machine: each has a loopback address. The stage chooses one and
tells its children by their arguments.
"""

import json
import os
import select
import socket
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

from chaosgrade.errors import UsageError
from chaosgrade.stage import namespaces, packet_filter
from chaosgrade.stage.links import Links

AUTO, NAMESPACES, LOOPBACK = "auto", "namespaces", "loopback"
NAMES = (AUTO, NAMESPACES, LOOPBACK)

_FILLERS = 64
_HANDSHAKE_S = 0.005
"""More than a hundred times what a connection on loopback takes."""
_BACKLOG = 1024
_LONGEST_ANSWER = 4096

DONE = "done"
"""What an answer to a request says when nothing went wrong."""


class Fabric(Protocol):
    """The network between instances."""

    name: str
    network: int
    """First number of every address on it."""
    cuts: bool
    """Whether it can drop what network ACLs deny."""

    def arguments(self) -> Sequence[str]:
        """What `of` makes the same fabric from, in a child process."""
        ...

    def descriptors(self) -> Sequence[int]:
        """What the child has to inherit for that."""
        ...

    def within[T](self, work: Callable[[], T]) -> T:
        """Make sockets that instances reach; the stage's own, at any address."""
        ...

    def join(self, host: str) -> None:
        """Be at an address from now on, with this process and what it starts.

        Raises:
            OSError: this machine does not allow it.
        """
        ...

    def join_too(self, host: str) -> None:
        """Be at one more address.

        Raises:
            OSError: this machine does not allow it.
        """
        ...

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

    def impose(self, links: Links, pid: int, served: Iterable[int]) -> None:
        """Have what is cut hold for the sockets of a process, if nothing else sees to that.

        Args:
            links: the state of the network.
            pid: the process.
            served: ports that it listens on.

        Raises:
            OSError: its sockets may not be borrowed.
        """
        ...


def choose(name: str) -> "Fabric":
    """The fabric of that name, AUTO being the best that this machine allows.

    Call it while the process has one thread: namespaces change what this process is.

    Raises:
        UsageError: this machine does not allow it.
    """
    if name == LOOPBACK:
        return Loopback()
    if namespaces.possible():
        return Namespaces.create()
    if name == AUTO:
        return Loopback()
    raise UsageError(
        "this machine gives no network namespaces to this user; choose --fabric loopback"
    )


def of(arguments: Sequence[str]) -> "Fabric":
    """In a child process: the fabric that its parent has chosen."""
    if not arguments:
        return Loopback()
    router, requests = map(int, arguments)
    return Namespaces(router, socket.socket(fileno=requests))


class Loopback:
    """Every instance has a loopback address of its own.

    A host that is gone answers no SYN. On loopback the kernel would answer it with a reset, which
    is another fault: so a socket listens there whose queue of accepted connections is full, and
    Linux drops the SYN of what cannot be queued (listen(2), tcp(7) on tcp_abort_on_overflow).
    """

    name = LOOPBACK
    network = 127

    def __init__(self) -> None:
        self.cuts = packet_filter.possible()
        self._silent: dict[tuple[str, int], list[socket.socket]] = {}

    def arguments(self) -> Sequence[str]:
        return ()

    def descriptors(self) -> Sequence[int]:
        return ()

    def within[T](self, work: Callable[[], T]) -> T:
        return work()

    def join(self, host: str) -> None:
        return

    def join_too(self, host: str) -> None:
        return

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

    def impose(self, links: Links, pid: int, served: Iterable[int]) -> None:
        links.impose(pid, served)


class Namespaces:
    """Every instance has a network namespace of its own.

    `chaosgrade.stage.network` connects them and drops what is cut. Customers are in the network
    namespace that the stage was started in.

    Args:
        router: descriptor of the network namespace that routes.
        requests: where `chaosgrade.stage.network` is asked for something.
        answering: the other end of that, if nobody has it yet.
    """

    name = NAMESPACES
    network = 10
    cuts = True

    def __init__(
        self, router: int, requests: socket.socket, answering: socket.socket | None = None
    ) -> None:
        self.router = router
        self._requests = requests
        self._outside: ThreadPoolExecutor | None = None
        self._own = -1
        self._answering = answering

    @classmethod
    def create(cls) -> "Namespaces":
        """A new one, in a user namespace that this process enters.

        Raises:
            OSError: this machine does not allow it.
        """
        namespaces.enter_user_namespace()
        router = namespaces.new_network()
        namespaces.inside(router, namespaces.route_freely)
        requests, answering = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(router, requests, answering)

    def answering(self) -> socket.socket:
        """Where requests arrive, for whoever answers them; to be asked for once."""
        held, self._answering = self._answering, None
        assert held is not None  # noqa: S101 - made by `create`, and asked for once
        return held

    def arguments(self) -> Sequence[str]:
        return [str(descriptor) for descriptor in self.descriptors()]

    def descriptors(self) -> Sequence[int]:
        return self.router, self._requests.fileno()

    def within[T](self, work: Callable[[], T]) -> T:
        return namespaces.inside(self.router, work)

    def join(self, host: str) -> None:
        os.unshare(os.CLONE_NEWNET)
        here = namespaces.this_network()
        try:
            self._ask("plug_in", host, here)
        finally:
            os.close(here)

    def join_too(self, host: str) -> None:
        if self._outside is None:
            # A thread that stays where customers are; there is no way back to that.
            self._outside = ThreadPoolExecutor(1, "outside")
            self._outside.submit(int).result()
            os.unshare(os.CLONE_NEWNET)
            self._own = namespaces.this_network()
        self._ask("plug_in", host, self._own)

    def listen(self, host: str, port: int) -> socket.socket:
        """A socket for customers, who are outside, for a process that has joined.

        Raises:
            OSError: the port is taken.
        """
        assert self._outside is not None  # noqa: S101 - made when it joined
        return self._outside.submit(_listen, host, port).result()

    def attach(self, host: str, port: int) -> None:
        return  # joining replaces whoever was there

    def vanish(self, host: str, port: int) -> None:
        self._ask("unplug", host)

    def impose(self, links: Links, pid: int, served: Iterable[int]) -> None:
        return  # the router does

    def _ask(self, operation: str, host: str, *networks: int) -> None:
        """Have something done, and wait for it.

        Raises:
            OSError: it was not done.
        """
        answer, answering = os.pipe()
        try:
            request = json.dumps({"op": operation, "host": host}).encode()
            try:
                socket.send_fds(self._requests, [request], [answering, *networks])
            finally:
                os.close(answering)
            said = os.read(answer, _LONGEST_ANSWER).decode()
        finally:
            os.close(answer)
        if said != DONE:
            raise OSError(f"{operation} {host}: {said or 'the network has ended'}")


def _listen(host: str, port: int) -> socket.socket:
    listener = socket.socket()
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener
