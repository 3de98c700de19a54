"""Drops packets in the kernel, by source address, on the sockets of processes, unprivileged.

A socket filter (socket(7), SO_ATTACH_FILTER) sees each TCP segment that arrives for a socket. On a
listening socket it drops SYNs, so that connecting hangs; on an established one it drops data and
acknowledgements alike, so that the connection stalls, and goes on by TCP's own retransmission once
the filter is gone. A connection inherits the filter of the socket that accepted it. Another
process's sockets are borrowed with pidfd_getfd(2), which a parent may do to its children.
"""

import ctypes
import os
import socket
import struct
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Network

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = 26, 27  # Linux, asm-generic/socket.h
_PIDFD_GETFD = 438

# Classic BPF (linux/bpf_common.h): load a word, and with it, jump if equal, return.
_LOAD, _AND, _JUMP_EQUAL, _RETURN = 0x20, 0x54, 0x15, 0x06
_SOURCE = (-0x100000 + 12) & 0xFFFFFFFF
"""SKF_NET_OFF and the offset of the source address in an IPv4 header."""
_DROP, _KEEP = 0, 0xFFFFFFFF

_libc = ctypes.CDLL(None, use_errno=True)

type Verdicts = Sequence[tuple[IPv4Network, bool]]
"""Networks with whether packets from there pass; the first that contains a source decides."""


def attach(held: socket.socket, verdicts: Verdicts, *, others: bool) -> None:
    """From now on drop what `verdicts` deny.

    Args:
        held: the socket.
        verdicts: by source network.
        others: whether packets from any other source pass.
    """
    if others and all(passes for _, passes in verdicts):
        _detach(held)
        return
    code = bytearray()
    for network, passes in verdicts:
        code += _instruction(_LOAD, 0, 0, _SOURCE)
        code += _instruction(_AND, 0, 0, int(network.netmask))
        code += _instruction(_JUMP_EQUAL, 0, 1, int(network.network_address))
        code += _instruction(_RETURN, 0, 0, _KEEP if passes else _DROP)
    code += _instruction(_RETURN, 0, 0, _KEEP if others else _DROP)
    buffer = ctypes.create_string_buffer(bytes(code))
    # struct sock_fprog: how many instructions, and where they are.
    program = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))
    held.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def possible() -> bool:
    """Whether the kernel lets this process drop packets: some let root only."""
    with socket.socket() as held:
        try:
            attach(held, (), others=False)
        except PermissionError:
            return False
    return True


def sockets_of(pid: int) -> Iterator[socket.socket]:
    """The IPv4 TCP sockets of a process, borrowed: each is closed here after its turn.

    A process that has ended has none.
    """
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in _socket_numbers(pid):
            descriptor = _libc.syscall(_PIDFD_GETFD, process, number, 0)
            if descriptor < 0:
                code = ctypes.get_errno()
                if code in (3, 9):  # ESRCH, EBADF: it has ended, or has closed it meanwhile
                    continue
                raise OSError(code, f"pidfd_getfd of process {pid}: {os.strerror(code)}")
            with socket.socket(fileno=descriptor) as held:
                if held.family == socket.AF_INET and held.type == socket.SOCK_STREAM:
                    yield held
    finally:
        os.close(process)


def listens(held: socket.socket) -> bool:
    """Whether it is a listening socket."""
    return bool(held.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


def _socket_numbers(pid: int) -> list[int]:
    folder = f"/proc/{pid}/fd"
    found = []
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, ProcessLookupError):
        return []
    for name in names:
        try:
            if os.readlink(f"{folder}/{name}").startswith("socket:"):
                found.append(int(name))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return found


def _detach(held: socket.socket) -> None:
    try:
        held.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
    except FileNotFoundError:
        return  # it had none


def _instruction(code: int, if_true: int, if_false: int, value: int) -> bytes:
    return struct.pack("@HBBI", code, if_true, if_false, value)
