"""Namespaces of their own for processes that must leave nothing behind, whatever kills them.

PostgreSQL keeps a data directory, sockets and shared memory, and detaches its processes. Here they
live in a mount, IPC and PID namespace (namespaces(7)) that the kernel takes apart when the first
process in it has died: every process is killed, and the memory file system with all files is freed.
A user namespace makes this possible without root, and gives root another id inside, because
PostgreSQL refuses to run as root. Linux only.
"""

import ctypes
import json
import os
import shutil
import socket
import tempfile
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

from chaosgrade import lifeline

type Outside = Callable[[Mapping[str, Any]], None]

_CLONE_NEWNS = 0x00020000
_CLONE_NEWIPC = 0x08000000
_CLONE_NEWUSER = 0x10000000
_CLONE_NEWPID = 0x20000000
_MS_REC_PRIVATE = 0x4000 | 0x40000
_NOBODY = 65534
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private mount covers it
_WITHOUT = 3


class NoIsolation(Exception):
    """Root, on a machine without user namespaces."""


def run(work: Callable[[Path, Outside], None], outside: Outside) -> NoReturn:
    """Run `work` on an empty folder and end with it.

    The folder is in memory and private to this process and its children. Where user namespaces are
    not allowed it is a temporary folder, which `work` outlives only if it is not killed itself.

    Args:
        work: must start whatever it starts as children of its own process. It is given a function
            that has `outside` run in this process, outside of the namespaces, and waits for that.
        outside: takes a JSON object; an OSError of its is raised in `work`.

    Raises:
        NoIsolation: as the name says.
    """
    if not _possible():
        if os.geteuid() == 0:
            raise NoIsolation(
                "PostgreSQL does not run as root, and this machine does not let root become "
                "another user in a user namespace; run the stage as an ordinary user"
            )
        folder = Path(tempfile.mkdtemp(prefix="chaosgrade-databases-"))
        try:
            work(folder, outside)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        os._exit(0)
    here, there = socket.socketpair()
    keeper = os.fork()
    if keeper:
        there.close()
        lifeline.die_with_parent()
        _serve(here, outside)
        _end_with(keeper)
    here.close()
    parent = os.getppid()
    _enter()
    first = os.fork()
    if first:
        there.close()
        # After the change of user, which makes the kernel forget this wish.
        lifeline.die_with_parent(parent=parent)
        _end_with(first)
    lifeline.die_with_parent(parent=0)  # its parent is outside, and so has no number here
    worker = os.fork()
    if worker:
        there.close()
        _reap_until(worker)
    code = 0
    try:
        work(_SHARED_MEMORY, _through(there))
    except BaseException:  # this process ends here: nobody above could tell it
        traceback.print_exc()
        code = 1
    finally:
        os._exit(code)


def _serve(requests: socket.socket, outside: Outside) -> None:
    """Answer each request with an empty line, or with what went wrong, until nobody is left."""
    with requests, requests.makefile("rb") as lines:
        for line in lines:
            said = ""
            try:
                outside(json.loads(line))
            except OSError as error:
                said = str(error)
            requests.sendall(f"{said}\n".encode())


def _through(connection: socket.socket) -> Outside:
    answers = connection.makefile("rb")

    def ask(request: Mapping[str, Any]) -> None:
        connection.sendall(json.dumps(request).encode() + b"\n")
        if said := answers.readline().decode().strip():
            raise OSError(said)

    return ask


def _end_with(child: int) -> NoReturn:
    os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 0xFF)


def _reap_until(worker: int) -> NoReturn:
    """The first process of a PID namespace inherits the orphans, and its end is theirs."""
    while True:
        pid, status = os.wait()
        if pid == worker:
            os._exit(os.waitstatus_to_exitcode(status) & 0xFF)


def _possible() -> bool:
    """Try in a process that is thrown away: some machines allow a part of it only."""
    pid = os.fork()
    if pid == 0:
        try:
            _enter()
        except OSError:
            os._exit(_WITHOUT)
        os._exit(0)
    return os.waitpid(pid, 0)[1] == 0


def _enter() -> None:
    """Into the namespaces; the PID namespace begins with the next child.

    Raises:
        OSError: this machine does not allow it.
    """
    user, group = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)

    def check(result: int, what: str) -> None:
        if result != 0:
            raise OSError(ctypes.get_errno(), what)

    flags = _CLONE_NEWUSER | _CLONE_NEWNS | _CLONE_NEWIPC | _CLONE_NEWPID
    check(libc.unshare(flags), "unshare")
    Path("/proc/self/setgroups").write_text("deny", "ascii")
    Path("/proc/self/uid_map").write_text(f"{user or _NOBODY} {user} 1", "ascii")
    Path("/proc/self/gid_map").write_text(f"{group or _NOBODY} {group} 1", "ascii")
    check(libc.mount(b"none", b"/", None, _MS_REC_PRIVATE, None), "mount /")
    target = os.fsencode(_SHARED_MEMORY)
    check(libc.mount(b"tmpfs", target, b"tmpfs", 0, b"mode=0700"), "mount tmpfs")
