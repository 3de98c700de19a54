"""The process of one instance: its birth by fork, its signals, its state."""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import NoReturn

from chaosgrade import lifeline
from chaosgrade.stage import event_loop, forking
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.workload import quote, recommend, web, worker
from chaosgrade.stage.workload.aws_client import read_ahead

Serve = Callable[[str, int, Mapping[str, str], Callable[[], None]], Coroutine[object, object, None]]

WORKLOADS: Mapping[str, Serve] = {
    "quote": quote.serve,
    "recommend": recommend.serve,
    "web": web.serve,
    "worker": worker.serve,
}
"""What an instance can run, imported before the fork so that a start takes milliseconds."""

_AWS_SERVICES = ("dynamodb", "s3", "sqs")
"""That the workloads call."""

_CALLING_SERVICES = frozenset({"QUOTE_WORKERS", "RECOMMENDATIONS_URL"})

_EFFECT_S = 1.0


def make_ready() -> None:
    """What every instance would do at its start, done once before the forks."""
    read_ahead(*_AWS_SERVICES)


def make_ready_for(environment: Mapping[str, str]) -> None:
    """What an instance with this environment would import at its start, and not every stage needs.

    Done once before the fork: an import in each of them is a second before they listen.
    """
    if not _CALLING_SERVICES.isdisjoint(environment):
        importlib.import_module("chaosgrade.stage.workload.service_client")


def spawn(
    fabric: Fabric,
    workload: str,
    host: str,
    port: int,
    environment: Mapping[str, str],
    boot_s: float,
) -> tuple[int, int]:
    """Fork a process that joins a fabric and listens after `boot_s` seconds.

    Returns:
        its process id, and the end of a pipe: one byte when it listens, end of file if it dies
        before.
    """
    ready, told = os.pipe()
    os.set_blocking(ready, False)
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        _live(parent, told, fabric, workload, host, port, environment, boot_s)
    os.close(told)
    return pid, ready


def _live(
    parent: int,
    told: int,
    fabric: Fabric,
    workload: str,
    host: str,
    port: int,
    environment: Mapping[str, str],
    boot_s: float,
) -> NoReturn:
    try:
        lifeline.die_with_parent(parent=parent)
        os.setsid()
        lifeline.name_process(workload)
        fabric.join(host)
        forking.leave_behind(keep={2, told})
        os.environ.update(environment)
        time.sleep(boot_s)

        def say() -> None:
            os.write(told, b"!")
            os.close(told)

        event_loop.run(WORKLOADS[workload](host, port, environment, say), source=host)
    except BaseException as error:
        # Whatever happens, a child must never return into its parent's code.
        print(f"{workload} on {host}:{port}: {error!r}", file=sys.stderr)
    finally:
        os._exit(1)


def send(pid: int, name: str) -> str | None:
    """Send a signal by name and wait until it has taken effect.

    Returns:
        why it could not be sent, None if it was.
    """
    number = getattr(signal.Signals, name, None)
    if number is None:
        return f"no signal {name}"
    os.kill(pid, number)
    deadline = time.monotonic() + _EFFECT_S
    while not _shows_effect(number, stat(pid)):
        if time.monotonic() > deadline:
            return f"{name} had no effect on process {pid} within {_EFFECT_S:g} s"
        time.sleep(0.0005)
    return None


def _shows_effect(number: int, letter: str) -> bool:
    match number:
        case signal.SIGKILL:
            return letter in ("Z", "")
        case signal.SIGSTOP:
            return letter in ("T", "Z", "")
        case signal.SIGCONT:
            return letter != "T"
        case _:
            return True


def stat(pid: int) -> str:
    """The state letter as `ps` shows it; "" when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""
