"""The stage's child processes: orders down, events up, both as JSON lines."""

import contextlib
import itertools
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from typing import Any, Protocol

from chaosgrade.stage.timing import EXIT_TIMEOUT_S

_REPLY_TIMEOUT_S = 5.0

type OnEvent = Callable[[Mapping[str, Any]], None]


class Start(Protocol):
    """Starts `python -m MODULE` on a stage's fabric."""

    def __call__(self, module: str, on_event: OnEvent) -> "Child": ...


class Child:
    """`python -m MODULE`, started at once.

    Args:
        module: what to run.
        on_event: called with each event, on a thread of its own.
        arguments: after the module.
        descriptors: that it inherits.
    """

    def __init__(
        self,
        module: str,
        on_event: OnEvent,
        arguments: Sequence[str] = (),
        descriptors: Sequence[int] = (),
    ) -> None:
        self._on_event = on_event
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            pass_fds=tuple(descriptors),
        )
        self._write_lock = threading.Lock()
        self._ids = itertools.count()
        self._replies: dict[int, Future[Mapping[str, Any]]] = {}
        self._reader = threading.Thread(target=self._read, name=module, daemon=True)
        self._reader.start()

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    def send(self, order: Mapping[str, Any]) -> None:
        """Give an order; one to a dead child is lost."""
        line = json.dumps(order).encode() + b"\n"
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for above
        with self._write_lock:
            try:
                stdin.write(line)
                stdin.flush()
            except (BrokenPipeError, ValueError):
                return

    def ask(self, order: Mapping[str, Any]) -> Mapping[str, Any]:
        """Give an order that is answered, and wait for the answer.

        Raises:
            TimeoutError: no answer within some seconds.
        """
        number = next(self._ids)
        reply: Future[Mapping[str, Any]] = Future()
        self._replies[number] = reply
        self.send({**order, "id": number})
        try:
            return reply.result(_REPLY_TIMEOUT_S)
        finally:
            del self._replies[number]

    def close(self) -> None:
        """Tell it to leave, with everything that it started."""
        stdin = self._process.stdin
        assert stdin is not None  # noqa: S101 - it was asked for above
        with self._write_lock, contextlib.suppress(BrokenPipeError):
            stdin.close()

    def stop(self) -> None:
        """Tell it to leave and wait for that."""
        self.close()
        try:
            self._process.wait(EXIT_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _read(self) -> None:
        stdout = self._process.stdout
        assert stdout is not None  # noqa: S101 - it was asked for above
        # Not buffered line reading: a raw read returns what is there.
        rest = b""
        while chunk := os.read(stdout.fileno(), 1 << 16):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                event = json.loads(line)
                if event["event"] == "reply":
                    if future := self._replies.get(event["id"]):
                        future.set_result(event)
                else:
                    self._on_event(event)
