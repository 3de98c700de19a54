"""The instances of the stage: `python -m chaosgrade.stage.hosts` forks one process for each.

One process imports the workload once and forks it for every instance, which takes milliseconds.
Orders come as JSON lines on standard input, events go out on standard output:

    {"op": "launch", "instance", "host", "port", "workload", "boot_s", "environment"}
    {"op": "signal", "id", "instance", "process", "signal"}    {"op": "state", "id", "instance", "process"}
    {"op": "terminate" | "stop" | "release", "instance"}

    {"event": "ready"}    {"event": "started", "instance", "pid"}
    {"event": "exited", "instance", "code"}    {"event": "terminated", "instance"}
    {"event": "reply", "id", "ok", "state", "stat", "error"}

A killed process leaves its port closed: connecting is refused. A terminated or stopped instance
leaves its address silent: connecting hangs. At the end of standard input everything is killed.
"""

import asyncio
import gc
import os
import selectors
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, NoReturn

from chaosgrade import lifeline
from chaosgrade.stage.fabric import Fabric, Loopback
from chaosgrade.stage.lines import Events, LineBuffer
from chaosgrade.stage.workload import web

_WORKLOADS = {"web": web.serve}


@dataclass(slots=True)
class _Instance:
    host: str
    port: int
    workload: str
    pid: int
    ready: int | None
    """Read end of a pipe on which the process says that it listens."""
    leaving: bool = False
    """Terminated or stopped from outside, not dead by itself."""


class Hosts:
    """Starts, signals and buries processes.

    Args:
        fabric: where their addresses are.
        events: where events go.
    """

    def __init__(self, fabric: Fabric, events: Events) -> None:
        self._fabric = fabric
        self._events = events
        self._instances: dict[str, _Instance] = {}
        self._selector = selectors.DefaultSelector()
        self._wakeup, wakeup_write = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Take orders until the end of standard input."""
        buffer = LineBuffer()
        self._selector.register(0, selectors.EVENT_READ, "orders")
        self._selector.register(self._wakeup, selectors.EVENT_READ, "children")
        self._events.emit("ready")
        while True:
            for key, _ in self._selector.select():
                if key.data == "orders":
                    chunk = os.read(0, 65536)
                    if not chunk:
                        self._kill_all()
                        return
                    for order in buffer.feed(chunk):
                        self._obey(order)
                elif key.data == "children":
                    os.read(self._wakeup, 4096)
                    self._reap()
                else:
                    self._listening(key.data)

    def _obey(self, order: dict[str, Any]) -> None:
        name = order["instance"]
        match order["op"]:
            case "launch":
                self._launch(name, order)
            case "signal" | "state":
                self._reply(order)
            case "terminate" | "stop":
                self._silence(name)
            case "release":
                self._silence(name)
                if instance := self._instances.pop(name, None):
                    self._fabric.attach(instance.host, instance.port)

    def _launch(self, name: str, order: dict[str, Any]) -> None:
        host, port = str(order["host"]), int(order["port"])
        self._fabric.attach(host, port)
        ready, told = os.pipe()
        pid = os.fork()
        if pid == 0:
            self._become(order, told)
        os.close(told)
        self._instances[name] = _Instance(host, port, order["workload"], pid, ready)
        self._selector.register(ready, selectors.EVENT_READ, name)

    def _become(self, order: dict[str, Any], told: int) -> NoReturn:
        """The child's life."""
        code = 1
        try:
            parent = os.getppid()
            lifeline.die_with_parent(parent=parent)
            os.setsid()
            lifeline.name_process(order["workload"])
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.signal(number, signal.SIG_DFL)
            nowhere = os.open(os.devnull, os.O_RDWR)
            os.dup2(nowhere, 0)
            os.dup2(nowhere, 1)
            keep = {0, 1, 2, told}
            for descriptor in {int(fd) for fd in os.listdir("/dev/fd")} - keep:
                try:
                    os.close(descriptor)
                except OSError:
                    continue  # the one that listed them
            time.sleep(float(order["boot_s"]))
            serve = _WORKLOADS[order["workload"]]
            asyncio.run(
                serve(
                    order["host"],
                    int(order["port"]),
                    order["environment"],
                    lambda: (os.write(told, b"!"), os.close(told))[1],
                )
            )
        except BaseException as error:  # noqa: BLE001 - a child must never return into the parent
            print(f"instance {order['instance']}: {error}", file=sys.stderr)
        finally:
            os._exit(code)

    def _listening(self, name: str) -> None:
        instance = self._instances[name]
        if instance.ready is None:
            return
        said = os.read(instance.ready, 1)
        self._forget_pipe(instance)
        if said:
            self._events.emit("started", instance=name, pid=instance.pid)

    def _forget_pipe(self, instance: _Instance) -> None:
        if instance.ready is not None:
            self._selector.unregister(instance.ready)
            os.close(instance.ready)
            instance.ready = None

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for name, instance in self._instances.items():
                if instance.pid == pid:
                    self._buried(name, instance, os.waitstatus_to_exitcode(status))

    def _buried(self, name: str, instance: _Instance, code: int) -> None:
        self._forget_pipe(instance)
        instance.pid = 0
        if instance.leaving:
            self._fabric.vanish(instance.host, instance.port)
            self._events.emit("terminated", instance=name)
        else:
            self._events.emit("exited", instance=name, code=code)

    def _silence(self, name: str) -> None:
        instance = self._instances.get(name)
        if instance is None or instance.leaving:
            return
        instance.leaving = True
        if not instance.pid:
            self._fabric.vanish(instance.host, instance.port)
            self._events.emit("terminated", instance=name)
            return
        os.kill(instance.pid, signal.SIGKILL)
        # Waited for here, so that no later order finds it half dead.
        _, status = os.waitpid(instance.pid, 0)
        self._buried(name, instance, os.waitstatus_to_exitcode(status))

    def _reply(self, order: dict[str, Any]) -> None:
        instance = self._instances.get(order["instance"])
        error: str | None = None
        if instance is None or instance.leaving:
            self._events.emit(
                "reply", id=order["id"], ok=False, state="absent", stat="",
                error=f"{order['instance']} is not running",
            )  # fmt: skip
            return
        lives = instance.pid != 0 and order["process"] == instance.workload
        if order["op"] == "signal":
            if lives:
                error = _send(instance.pid, str(order["signal"]))
            else:
                error = f"no process {order['process']}"
        stat = _stat(instance.pid) if lives else ""
        state = "absent" if stat in ("", "Z") else "stopped" if stat == "T" else "running"
        self._events.emit(
            "reply", id=order["id"], ok=error is None, state=state, stat=stat, error=error
        )

    def _kill_all(self) -> None:
        for instance in self._instances.values():
            if instance.pid:
                os.kill(instance.pid, signal.SIGKILL)
        for instance in self._instances.values():
            if instance.pid:
                os.waitpid(instance.pid, 0)


def _send(pid: int, name: str) -> str | None:
    """Send a signal by name and wait until it has taken effect; why it could not be sent."""
    number = getattr(signal.Signals, name, None)
    if number is None:
        return f"no signal {name}"
    os.kill(pid, number)
    expected = {signal.SIGSTOP: "T", signal.SIGKILL: "Z"}.get(number)
    deadline = time.monotonic() + 1.0
    while expected and _stat(pid) != expected and time.monotonic() < deadline:
        time.sleep(0.001)
    return None


def _stat(pid: int) -> str:
    """The state letter as `ps` shows it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-hosts")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    gc.freeze()
    Hosts(Loopback(), Events()).run()


if __name__ == "__main__":
    main()
