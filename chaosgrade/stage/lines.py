"""JSON lines between the stage and its children: orders on standard input, events on output."""

import json
import os
from contextlib import suppress
from typing import Any


class Events:
    """Writes events, a whole line at a time."""

    def __init__(self, descriptor: int = 1) -> None:
        self._descriptor = descriptor

    def emit(self, event: str, **fields: object) -> None:
        """Write one event."""
        data = memoryview((json.dumps({"event": event, **fields}) + "\n").encode())
        # When nobody listens any more, the end of standard input is on its way as well.
        with suppress(BrokenPipeError):
            while data:
                data = data[os.write(self._descriptor, data) :]


class LineBuffer:
    """Cuts chunks of bytes into JSON objects."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> list[dict[str, Any]]:
        """The objects that are whole now."""
        *lines, self._rest = (self._rest + chunk).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]


class Stdin:
    """Standard input as asyncio wants it: unbuffered, and not closed by the interpreter."""

    def fileno(self) -> int:
        return 0

    def close(self) -> None:
        return
