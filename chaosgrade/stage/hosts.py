"""The instances of the stage: `python -m chaosgrade.stage.hosts` forks one process for each.

Its arguments are those of its fabric, see `fabric.of`.

One process imports the workload once and forks it for every instance, which takes milliseconds.
Orders come as JSON lines on standard input, events go out on standard output; times are measured
seconds:

    {"op": "launch", "instance", "host", "port", "workload", "boot_s", "restart_s", "environment"}
    {"op": "signal", "id", "instance", "process", "signal"}    {"op": "state", "id", "instance", "process"}
    {"op": "terminate" | "stop" | "release", "instance"}    {"op": "links", …}, see links.Links.of

    {"event": "ready"}    {"event": "started", "instance", "pid"}
    {"event": "exited", "instance", "code"}    {"event": "terminated", "instance"}
    {"event": "reply", "id", "ok", "state", "stat", "error"}

A killed process leaves its port closed: connecting is refused; where `restart_s` is not null, it is
started again after that, as systemd does with `Restart=always`. A terminated or stopped instance
leaves its address silent: connecting hangs. At the end of standard input everything is killed.
"""  # noqa: E501 - the orders, one column each

import gc
import math
import os
import selectors
import signal
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade import lifeline
from chaosgrade.stage import fabric, instance_process
from chaosgrade.stage.fabric import Fabric
from chaosgrade.stage.lines import Events, LineBuffer
from chaosgrade.stage.links import Links

_ORDERS, _CHILDREN = "orders", "children"


@dataclass(slots=True, eq=False)
class _Instance:
    name: str
    host: str
    port: int
    workload: str
    pid: int
    """0 when its process has ended."""
    ready: int | None
    """Read end of a pipe on which the process says that it listens."""
    environment: Mapping[str, str]
    restart_s: float | None
    """How long after its end the process is started again; None for never."""
    restart_at: float = math.inf
    """When that is, in monotonic seconds."""
    gone: bool = False
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
        self._links = Links()
        self._selector = selectors.DefaultSelector()
        self._wakeup, wakeup_write = os.pipe()
        os.set_blocking(self._wakeup, False)
        os.set_blocking(wakeup_write, False)
        signal.set_wakeup_fd(wakeup_write)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def run(self) -> None:
        """Take orders until the end of standard input, then kill every instance."""
        buffer = LineBuffer()
        self._selector.register(0, selectors.EVENT_READ, _ORDERS)
        self._selector.register(self._wakeup, selectors.EVENT_READ, _CHILDREN)
        self._events.emit("ready")
        while True:
            for key, _ in self._selector.select(self._restart_due()):
                if key.data == _ORDERS:
                    chunk = os.read(0, 65536)
                    if not chunk:
                        self._kill_all()
                        return
                    for order in buffer.feed(chunk):
                        self._obey(order)
                elif key.data == _CHILDREN:
                    os.read(self._wakeup, 4096)
                    self._reap()
                else:
                    self._listening(key.data, key.fd)

    def _obey(self, order: dict[str, Any]) -> None:
        if order["op"] == "links":
            self._links = Links.of(order)
            for known in self._instances.values():
                self._impose(known)
            return
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
            case unknown:
                raise ValueError(f"no order {unknown}")

    def _launch(self, name: str, order: dict[str, Any]) -> None:
        if (known := self._instances.get(name)) and known.pid:
            print(f"stage: {name} runs already as process {known.pid}", file=sys.stderr)
            return
        workload, host, port = order["workload"], order["host"], int(order["port"])
        if known:
            self._fabric.attach(known.host, known.port)
        instance_process.make_ready_for(order["environment"])
        pid, ready = instance_process.spawn(
            self._fabric, workload, host, port, order["environment"], float(order["boot_s"])
        )
        instance = _Instance(
            name, host, port, workload, pid, ready, order["environment"], order.get("restart_s")
        )
        self._instances[name] = instance
        self._selector.register(ready, selectors.EVENT_READ, instance)

    def _restart_due(self) -> float | None:
        """Start again what is due; returns the seconds until the next is, None without any."""
        now = time.monotonic()
        for instance in self._instances.values():
            if instance.restart_at <= now:
                instance.restart_at = math.inf
                instance.pid, instance.ready = instance_process.spawn(
                    self._fabric, instance.workload, instance.host, instance.port,
                    instance.environment, 0.0,
                )  # fmt: skip
                self._selector.register(instance.ready, selectors.EVENT_READ, instance)
        due = min((i.restart_at for i in self._instances.values()), default=math.inf)
        return None if due == math.inf else max(0.0, due - now)

    def _listening(self, instance: _Instance, pipe: int) -> None:
        if instance.ready != pipe:
            return  # it ended while this was on its way
        said = os.read(pipe, 1)
        self._forget_pipe(instance)
        if said:
            if self._links.cut:
                self._impose(instance)
            self._events.emit("started", instance=instance.name, pid=instance.pid)

    def _impose(self, instance: _Instance) -> None:
        """Have the network's state hold for its sockets."""
        if instance.pid:
            self._fabric.impose(self._links, instance.pid, {instance.port})

    def _forget_pipe(self, instance: _Instance) -> None:
        if instance.ready is not None:
            self._selector.unregister(instance.ready)
            os.close(instance.ready)
            instance.ready = None

    def _reap(self) -> None:
        """Bury processes that ended by themselves or by a signal."""
        for instance in list(self._instances.values()):
            if instance.pid:
                pid, status = os.waitpid(instance.pid, os.WNOHANG)
                if pid:
                    self._forget_pipe(instance)
                    instance.pid = 0
                    if instance.restart_s is not None:
                        instance.restart_at = time.monotonic() + instance.restart_s
                    code = os.waitstatus_to_exitcode(status)
                    self._events.emit("exited", instance=instance.name, code=code)

    def _silence(self, name: str) -> None:
        """The machine is gone: first the network forgets it, then its process dies."""
        instance = self._instances.get(name)
        if instance is None or instance.gone:
            return
        instance.gone = True
        instance.restart_at = math.inf
        self._fabric.vanish(instance.host, instance.port)
        if instance.pid:
            os.kill(instance.pid, signal.SIGKILL)
            # Waited for here, so that no later order finds it half dead.
            os.waitpid(instance.pid, 0)
            self._forget_pipe(instance)
            instance.pid = 0
            # Once more: it may have been just about to join.
            self._fabric.vanish(instance.host, instance.port)
        self._events.emit("terminated", instance=name)

    def _reply(self, order: dict[str, Any]) -> None:
        instance = self._instances.get(order["instance"])
        error, stat = None, ""
        if instance is None or instance.gone:
            error = f"{order['instance']} is not running"
        else:
            lives = instance.pid != 0 and order["process"] == instance.workload
            if order["op"] == "signal":
                if lives:
                    error = instance_process.send(instance.pid, str(order["signal"]))
                else:
                    error = f"no process {order['process']} on {instance.name}"
            stat = instance_process.stat(instance.pid) if lives else ""
        state = "absent" if stat in ("", "Z") else "stopped" if stat == "T" else "running"
        self._events.emit(
            "reply",
            id=order["id"],
            ok=error is None,
            state=state,
            stat="" if state == "absent" else stat,
            error=error,
        )

    def _kill_all(self) -> None:
        running = [instance.pid for instance in self._instances.values() if instance.pid]
        for pid in running:
            os.kill(pid, signal.SIGKILL)
        for pid in running:
            os.waitpid(pid, 0)


def main() -> None:
    """Run as a child of the stage."""
    lifeline.die_with_parent()
    lifeline.name_process("stage-hosts")
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the end of standard input is the word to leave
    instance_process.make_ready()
    gc.freeze()  # forked pages stay shared: the collector does not touch what is imported
    Hosts(fabric.of(sys.argv[1:]), Events()).run()


if __name__ == "__main__":
    main()
