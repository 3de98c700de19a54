"""A web server whose outages are known exactly, to measure the traffic probe against.

`python benchmarks/traffic_server.py '[[MODE, AFTER_S, FOR_S, EVERY], …]'` prints
`{"port": …, "monotonic": …}`, answers 200 at once, and during each outage (AFTER_S after the
printed moment, for FOR_S seconds) treats every EVERY-th request as MODE says:

- `503`: an error page at once
- `reset`: the connection is cut
- `silent`: no answer, ever
- `frozen`: answered when the outage ends, as a stopped and continued process does

It decides on arrival by the clock, so an outage begins and ends when it says. At the end of its
standard input it prints the arrival times and leaves.
"""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from typing import cast

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True)
class Outage:
    """From `start` to `end`, monotonic seconds."""

    mode: str
    start: float
    end: float
    every: int


class Server(asyncio.Protocol):
    """One connection. Requests without a body, one at a time, which is what the probe sends."""

    def __init__(self, outages: list[Outage], arrivals: list[float]) -> None:
        self._outages = outages
        self._arrivals = arrivals
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # uvloop's does not inherit it

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\r\n\r\n" in self._buffer:
            _, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
            self._answer(time.monotonic())

    def _answer(self, now: float) -> None:
        self._arrivals.append(now)
        for outage in self._outages:
            if outage.start <= now < outage.end and len(self._arrivals) % outage.every == 0:
                self._fail(outage, now)
                return
        self._transport.write(_OK)

    def _fail(self, outage: Outage, now: float) -> None:
        if outage.mode == "503":
            self._transport.write(_UNAVAILABLE)
        elif outage.mode == "reset":
            self._transport.abort()
        elif outage.mode == "frozen":
            loop = asyncio.get_running_loop()
            loop.call_later(outage.end - now, self._thaw)

    def _thaw(self) -> None:
        if not self._transport.is_closing():  # the client may have lost its patience
            self._transport.write(_OK)


async def serve(schedule: list[tuple[str, float, float, int]]) -> None:
    """Serve until the end of standard input."""
    loop = asyncio.get_running_loop()
    commands = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    outages: list[Outage] = []
    arrivals: list[float] = []
    server = await loop.create_server(
        lambda: Server(outages, arrivals), "127.0.0.1", 0, backlog=4096
    )
    now = time.monotonic()
    outages += [Outage(mode, now + after, now + after + for_s, every)
                for mode, after, for_s, every in schedule]  # fmt: skip
    port = server.sockets[0].getsockname()[1]
    print(json.dumps({"port": port, "monotonic": now}), flush=True)
    await commands.read()
    print(json.dumps({"arrivals": [round(at, 6) for at in arrivals]}), flush=True)


if __name__ == "__main__":
    from uvloop import new_event_loop

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        runner.run(serve(json.loads(sys.argv[1])))
