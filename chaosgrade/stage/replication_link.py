"""A connection between two servers on which what is said arrives late, or not at all.

Asynchronous replication over loopback lags by microseconds; between Availability Zones, or behind a
busy primary, it lags by what an experiment should be able to show. What is still on its way when
the sender ends is lost. On a link that does not pass connecting hangs, and what is established
stalls and goes on later.
"""

import asyncio
import contextlib
from pathlib import Path

from chaosgrade.stage.postgres import Replication, socket_in

_CHUNK = 1 << 16
_MOST_CHUNKS = 1024
_PORT = 5432


class ReplicationLink:
    """Stands before a server: who connects to the link reaches the server.

    Args:
        folder: empty, for its socket.
        source: the server's Unix socket.
        follower: address of whoever is behind the link.
        lag_s: measured seconds that the server's words take.
    """

    def __init__(self, folder: Path, source: Path, follower: str, lag_s: float) -> None:
        self.source = source
        self.follower = follower
        self._folder = folder
        self._lag_s = lag_s
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self._passing = asyncio.Event()
        self._passing.set()

    @property
    def passes(self) -> bool:
        """Whether anything gets through."""
        return self._passing.is_set()

    @passes.setter
    def passes(self, value: bool) -> None:
        if value:
            self._passing.set()
        else:
            self._passing.clear()

    def as_source(self, name: str, *, readable: bool) -> Replication:
        """What a standby behind the link follows, calling itself `name`."""
        return Replication(self._folder, _PORT, name, readable)

    async def start(self) -> None:
        """Accept connections."""
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, socket_in(self._folder, _PORT))

    def cut(self) -> None:
        """Drop every connection with what is on its way."""
        for connection in list(self._open):
            connection.cancel()

    async def close(self) -> None:
        """Drop everything and accept no more."""
        self.cut()
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio calls this in a task
        self._open.add(task)
        upstream: asyncio.StreamWriter | None = None
        try:
            await self._passing.wait()
            answers, upstream = await asyncio.open_unix_connection(self.source)
            speak = self._pump_late if self._lag_s else self._pump
            pumps = [
                asyncio.create_task(self._pump(reader, upstream)),
                asyncio.create_task(speak(answers, writer)),
            ]
            try:
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for pump in pumps:
                    pump.cancel()
        except (OSError, asyncio.CancelledError):
            pass  # the source does not run, or the link was cut: the standby tries again
        finally:
            self._open.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    end.transport.abort()

    async def _pump_late(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST_CHUNKS)

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await asyncio.sleep(due - loop.time())
                await self._passing.wait()
                writer.write(data)
                await writer.drain()

        delivery = asyncio.create_task(deliver())
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_CHUNK):
                    await queue.put((loop.time() + self._lag_s, data))
        finally:
            delivery.cancel()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                await self._passing.wait()
                writer.write(data)
                await writer.drain()
