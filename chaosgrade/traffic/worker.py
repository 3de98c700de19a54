"""A probe's side of the worker process that offers its requests: starts, listens to, ends it."""

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from chaosgrade.errors import ChaosgradeError, Exit, UsageError
from chaosgrade.traffic.worker_spec import WorkerSpec

_START_S = 15.0
_GRACE_S = 5.0


class TrafficFailed(ChaosgradeError):
    """The worker cannot offer traffic, so that nothing is known of what customers feel."""

    exit_code = Exit.INCONCLUSIVE


class Spec(WorkerSpec, Protocol):
    """What the worker is told, as far as this side is concerned."""

    @property
    def patience_s(self) -> float:
        """The longest that one request can take from being sent to its last answer, in seconds."""
        ...

    def to_line(self) -> str:
        """One line of JSON."""
        ...


class TrafficWorker:
    """One worker process and the thread that reads it.

    Args:
        spec: the traffic to offer.
        receive: called on the thread with each line of the worker but the summary, which has an
            `end`; of the traffic probe's with each `{"start": …, "requests": [...]}`.
        died: called on the thread, once, when the worker ended without having been told to, or
            without reporting that it had sent everything; with one line that says how.
        client: the worker's module.
    """

    def __init__(
        self,
        spec: Spec,
        receive: Callable[[Mapping[str, Any]], None],
        died: Callable[[str], None],
        client: str = "chaosgrade.traffic.client",
    ) -> None:
        self.summary: Mapping[str, Any] | None = None
        self._spec = spec
        self._receive = receive
        self._died = died
        self._client = client
        self._process: subprocess.Popen[bytes] | None = None
        self._heard = threading.Event()  # the first batch is in, or there will be none
        self._batches = 0
        self._exit: tuple[int, str] | None = None
        # The thread starts the process and stays until its end: to the kernel it is the parent
        # whose death ends the worker.
        self._thread = threading.Thread(target=self._run, name="traffic", daemon=True)

    def start(self) -> None:
        """Start; returns when the first batch is in.

        Raises:
            UsageError: the worker finds that the traffic makes no sense on this machine.
            TrafficFailed: it ended, or said nothing.
        """
        self._thread.start()
        heard = self._heard.wait(_START_S + self._spec.patience_s)
        if heard and self._batches:
            return
        if self._exit is None:
            self.kill()
            raise TrafficFailed(f"the traffic worker sent nothing within {_START_S:.0f} s")
        code, text = self._exit
        if code == Exit.USAGE:
            raise UsageError(text)
        raise TrafficFailed(f"the traffic worker ended with code {code}: {text}")

    def stop(self) -> None:
        """Send no more; returns when what was in flight is received, in bounded time."""
        process = self._process
        if process is None or process.stdin is None:
            return
        try:
            process.stdin.write(b'{"op": "stop"}\n')
            process.stdin.flush()
        except (OSError, ValueError):
            pass  # it has ended, and the thread has said so
        self.wait(self._spec.ending_s + _GRACE_S)

    def wait(self, timeout_s: float) -> None:
        """Wait until everything is received; after `timeout_s` the worker is killed."""
        self._thread.join(timeout_s)
        if self._thread.is_alive():
            self.kill()

    def kill(self) -> None:
        """End the process at once."""
        if self._process is not None:
            self._process.kill()
        self._thread.join(_GRACE_S)

    def _run(self) -> None:
        with tempfile.TemporaryFile() as errors:
            try:
                self._process = process = subprocess.Popen(
                    [sys.executable, "-m", self._client],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                )
            except OSError as error:
                self._exit = (1, str(error))
                self._heard.set()
                return
            # Closing flushes: a "stop" that the worker did not live to read breaks the pipe again.
            with contextlib.suppress(BrokenPipeError), process:
                self._listen(process)
            errors.seek(0)
            lines = errors.read().decode(errors="replace").strip().splitlines()
        self._exit = (process.returncode, lines[-1] if lines else "it said nothing")
        # A worker that never began is start()'s to report.
        if self._batches and (self.summary is None or process.returncode != 0):
            self._died(f"the traffic worker ended with code {self._exit[0]}: {self._exit[1]}")
        self._heard.set()

    def _listen(self, process: "subprocess.Popen[bytes]") -> None:
        if process.stdin is None or process.stdout is None:
            raise AssertionError("both are pipes")
        try:
            process.stdin.write(self._spec.to_line().encode() + b"\n")
            process.stdin.flush()
        except BrokenPipeError:
            return  # its exit code and last words tell why
        for line in process.stdout:
            try:
                message = json.loads(line)
            except json.JSONDecodeError:
                return  # torn: it was killed in mid-line
            if "end" in message:
                self.summary = message
            else:
                self._receive(message)
                self._batches += 1
                self._heard.set()
