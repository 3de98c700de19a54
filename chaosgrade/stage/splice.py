"""Bytes both ways between a client and one target, as a network load balancer passes them on."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Protocol, cast

from chaosgrade.stage.proxy import ELB_TIMEOUTS, Connection

_RESET = struct.pack("ii", 1, 0)
"""SO_LINGER on, for 0 s: closing sends a reset."""


class Target(Protocol):
    """Where a connection can go."""

    @property
    def host(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def source(self) -> str:
        """The address to connect from."""
        ...

    @property
    def open(self) -> set[Connection]:
        """All connections to it."""
        ...


class Splice(asyncio.Protocol):
    """One side of a spliced connection.

    A real one passes on the SYN itself, so that its client sees the target's refusal or silence.
    Here the connection is accepted first, and reset when the target does not take it.

    Args:
        choose: the target of a new connection; None when there is none.
        clients: where the client's side is listed while it is open.
        peer: the other side; None for the client's, which then looks for a target.
    """

    def __init__(
        self,
        choose: Callable[[], Target | None],
        clients: set[Connection],
        peer: "Splice | None" = None,
    ) -> None:
        self._choose = choose
        self._clients = clients
        self._peer = peer
        self._work: asyncio.Task[None] | None = None
        self._target: Target | None = None
        self._transport: asyncio.Transport | None = None
        self._early = b""
        self._ended = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        if self._peer is None:
            self._clients.add(self)
            self._transport.pause_reading()
            self._work = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        target = self._choose()
        if target is None:
            self.abort()
            return
        peer = Splice(self._choose, self._clients, self)
        try:
            async with asyncio.timeout(ELB_TIMEOUTS.connect_s):
                await asyncio.get_running_loop().create_connection(
                    lambda: peer, target.host, target.port, local_addr=(target.source, 0)
                )
            self._peer, self._target = peer, target
        except (OSError, TimeoutError):
            self.abort()
            return
        finally:
            if self._peer is None:  # also when the client has left meanwhile
                peer.abort()
        target.open.add(self)
        if self._transport is not None and not self._transport.is_closing():
            early, self._early = self._early, b""
            self._transport.resume_reading()
            if early:
                self.data_received(early)

    def abort(self) -> None:
        """Reset this side; the other follows."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.get_extra_info("socket").setsockopt(
                socket.SOL_SOCKET, socket.SO_LINGER, _RESET
            )
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._peer is None or self._peer._transport is None:
            self._early += data
        else:
            self._peer._transport.write(data)

    def eof_received(self) -> bool:
        """One side has said all that it had to say; the other may go on."""
        self._ended = True
        peer = self._peer
        if peer is None or peer._transport is None or peer._transport.is_closing() or peer._ended:
            return False
        peer._transport.write_eof()
        return True

    def pause_writing(self) -> None:
        if self._peer is not None and self._peer._transport is not None:
            self._peer._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._peer is not None and self._peer._transport is not None:
            self._peer._transport.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        self._clients.discard(self)
        if self._work is not None:
            self._work.cancel()
        if self._target is not None:
            self._target.open.discard(self)
        peer = self._peer
        if peer is not None and peer._transport is not None and not peer._transport.is_closing():
            # What was said before the end still arrives; a reset is passed on as one.
            if error is None:
                peer._transport.close()
            else:
                peer.abort()
