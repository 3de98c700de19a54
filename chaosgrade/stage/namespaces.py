"""User and network namespaces (namespaces(7)), which Linux gives to everybody.

In a user namespace of its own a process is root over the network namespaces that it makes, and over
nothing else. What is made here has no name in any file system: the kernel takes it apart when the
last process and the last descriptor that hold it are gone.
"""

import fcntl
import os
import socket
import struct
import threading
from collections.abc import Callable
from pathlib import Path

_THIS_NETWORK = "/proc/thread-self/ns/net"

# Netlink (rtnetlink(7)), for one question that must be answered before a library is imported.
_NEW_LINK, _REQUEST_ACK_EXCLUSIVE_CREATE = 16, 0x1 | 0x4 | 0x200 | 0x400
_LINK_INFO, _KIND = 18, 1
_SET_FLAGS, _UP = 0x8914, 0x1
_NEEDED_KINDS = ("bridge", "veth")


def possible() -> bool:
    """Whether this machine lets this process make networks of namespaces.

    It is tried, in a process that is thrown away: some machines allow a part of it only.
    """
    pid = os.fork()
    if pid == 0:
        try:
            enter_user_namespace()
            Path(__file__).read_bytes()  # root of a user namespace may not read what is another's
            os.unshare(os.CLONE_NEWNET)
            _set("ip_forward", "1")
            for kind in _NEEDED_KINDS:
                _make_link(kind)
        except BaseException:  # a child must never return into its parent's code
            os._exit(1)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def enter_user_namespace() -> None:
    """Make one and be root in it; its only user is the one that this process has outside.

    Call it while the process has one thread.

    Raises:
        OSError: this machine does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    os.unshare(os.CLONE_NEWUSER)
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"0 {user} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"0 {group} 1", "ascii")


def new_network() -> int:
    """A descriptor of a new, empty network namespace.

    Raises:
        OSError: this machine does not allow it.
    """

    def work() -> int:
        os.unshare(os.CLONE_NEWNET)
        return this_network()

    return _in_a_thread(work)


def this_network() -> int:
    """A descriptor of the network namespace that the calling thread is in."""
    return os.open(_THIS_NETWORK, os.O_RDONLY | os.O_CLOEXEC)


def inside[T](network: int, work: Callable[[], T]) -> T:
    """Do something in a network namespace, such as to make a socket: it stays there.

    Args:
        network: a descriptor of it.
        work: runs on a thread of its own, since there may be no way back.
    """

    def entered() -> T:
        os.setns(network, os.CLONE_NEWNET)
        return work()

    return _in_a_thread(entered)


def route_freely() -> None:
    """Have this network namespace forward whatever comes, wherever it came from.

    Sockets in it may be bound to addresses that it is yet to be given.
    """
    _set("ip_forward", "1")
    _set("ip_nonlocal_bind", "1")
    bring_up_loopback()  # without any route an address counts as none, and answers lack it
    for scope in ("all", "default"):
        _set(f"conf/{scope}/rp_filter", "0")
        _set(f"conf/{scope}/send_redirects", "0")


def bring_up_loopback() -> None:
    """Have this network namespace reach itself (netdevice(7))."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("=16sH14x", b"lo", _UP))


def answer_on_every_link() -> None:
    """Have this network namespace take packets that come by another link than answers would go."""
    for scope in ("all", "default"):
        _set(f"conf/{scope}/rp_filter", "0")


def _set(name: str, value: str) -> None:
    Path("/proc/sys/net/ipv4", name).write_text(value, "ascii")


def _in_a_thread[T](work: Callable[[], T]) -> T:
    done: list[T] = []
    failed: list[BaseException] = []

    def run() -> None:
        try:
            done.append(work())
        except BaseException as error:  # raised again below
            failed.append(error)

    thread = threading.Thread(target=run, name="namespace")
    thread.start()
    thread.join()
    if failed:
        raise failed[0]
    return done[0]


def _make_link(kind: str) -> None:
    """Make a network interface of a kind.

    Raises:
        OSError: the kernel does not know it, or does not allow it.
    """
    info = _attribute(_LINK_INFO, _attribute(_KIND, kind.encode()))
    body = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + info  # struct ifinfomsg
    head = struct.pack("=IHHII", 16 + len(body), _NEW_LINK, _REQUEST_ACK_EXCLUSIVE_CREATE, 1, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW) as netlink:
        netlink.send(head + body)
        # struct nlmsghdr, and after it an error number, 0 for none
        code = -struct.unpack_from("=i", netlink.recv(4096), 16)[0]
    if code:
        raise OSError(code, f"{kind}: {os.strerror(code)}")


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)
