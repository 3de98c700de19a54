"""Instances are real processes, and each way of losing one looks different from outside."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from chaosgrade.stage import instance_process
from chaosgrade.stage.fabric import Loopback
from tests.stage.children import (
    HOSTS,
    Child,
    child,
    free_address,
    get,
    header,
    launch,
    runs,
    status,
    wait_until,
)

_HANG_S = 0.3


@pytest.fixture(scope="module")
def hosts() -> Iterator[Child]:
    """One zygote for all tests; each launches instances of its own."""
    with child(HOSTS) as started:
        yield started


def _connect(address: tuple[str, int]) -> str:
    try:
        with socket.create_connection(address, timeout=_HANG_S):
            return "connected"
    except TimeoutError:
        return "hangs"
    except ConnectionRefusedError:
        return "refused"


def test_an_instance_serves_the_web_tier_under_its_name(hosts: Child) -> None:
    """It says who it is over HTTP, and `ps` shows the process as web."""
    address = free_address()
    pid = launch(hosts, "i-name", address)
    home = get(address)
    assert (status(home), header(home, "X-Instance"), header(home, "X-Zone")) == (
        200, "i-name", "us-east-1a",
    )  # fmt: skip
    assert get(address, "/health").endswith(b"\r\n\r\nok")
    assert status(get(address, "/nowhere")) == 404
    shown = subprocess.run(
        ["ps", "-C", "web", "-o", "pid="], capture_output=True, text=True, check=True
    )
    assert pid in map(int, shown.stdout.split())


def test_a_killed_process_refuses(hosts: Child) -> None:
    """The machine is there, nobody listens: the kernel says so at once."""
    address = free_address()
    launch(hosts, "i-killed", address)
    reply = hosts.ask(op="signal", instance="i-killed", process="web", signal="SIGKILL")
    assert (reply["ok"], reply["state"]) == (True, "absent")
    assert hosts.wait_for("exited", instance="i-killed")["code"] == -signal.SIGKILL
    assert _connect(address) == "refused"
    assert hosts.ask(op="state", instance="i-killed", process="web")["state"] == "absent"


def test_a_paused_process_accepts_and_does_not_answer_until_continued(hosts: Child) -> None:
    """Its kernel still completes handshakes: the customer waits inside the request."""
    address = free_address()
    launch(hosts, "i-paused", address)
    reply = hosts.ask(op="signal", instance="i-paused", process="web", signal="SIGSTOP")
    assert (reply["ok"], reply["state"], reply["stat"]) == (True, "stopped", "T")
    with pytest.raises(TimeoutError):
        get(address, timeout_s=_HANG_S)
    reply = hosts.ask(op="signal", instance="i-paused", process="web", signal="SIGCONT")
    assert (reply["ok"], reply["state"]) == (True, "running")
    assert status(get(address)) == 200


@pytest.mark.parametrize("op", ["terminate", "stop"])
def test_an_instance_that_is_gone_answers_nothing(hosts: Child, op: str) -> None:
    """Connecting to it hangs for every customer, also for a second and third one."""
    address = free_address()
    pid = launch(hosts, f"i-{op}", address)
    hosts.send(op=op, instance=f"i-{op}")
    hosts.wait_for("terminated", instance=f"i-{op}")
    assert not runs(pid)
    assert {_connect(address) for _ in range(3)} == {"hangs"}
    reply = hosts.ask(op="signal", instance=f"i-{op}", process="web", signal="SIGKILL")
    assert (reply["ok"], reply["state"]) == (False, "absent")


def test_a_killed_process_hangs_once_its_instance_is_terminated(hosts: Child) -> None:
    """The two faults follow one another: first refused, then silent."""
    address = free_address()
    launch(hosts, "i-both", address)
    hosts.ask(op="signal", instance="i-both", process="web", signal="SIGKILL")
    hosts.wait_for("exited", instance="i-both")
    hosts.send(op="terminate", instance="i-both")
    hosts.wait_for("terminated", instance="i-both")
    assert _connect(address) == "hangs"


def test_a_stopped_instance_starts_again(hosts: Child) -> None:
    """At the same address, with a new process."""
    address = free_address()
    first = launch(hosts, "i-again", address)
    hosts.send(op="stop", instance="i-again")
    hosts.wait_for("terminated", instance="i-again")
    second = launch(hosts, "i-again", address)
    assert first != second
    assert {status(get(address)) for _ in range(10)} == {200}  # nothing of its silence is left


def test_a_released_address_is_free(hosts: Child) -> None:
    """Nothing is held back: connecting is refused, and somebody else may listen."""
    address = free_address()
    launch(hosts, "i-released", address)
    hosts.send(op="release", instance="i-released")
    hosts.wait_for("terminated", instance="i-released")
    hosts.ask(op="state", instance="i-released", process="web")  # orders are obeyed in turn
    assert _connect(address) == "refused"


def test_an_instance_listens_after_its_boot(hosts: Child) -> None:
    """Until then its port refuses."""
    address = free_address()
    began = time.monotonic()
    launch(hosts, "i-boot", address, boot_s=0.2)
    assert time.monotonic() - began >= 0.2
    assert status(get(address)) == 200


def test_customers_of_a_terminated_instance_are_never_refused() -> None:
    """Its address falls silent before its process dies, so there is no moment between the two."""
    fabric, address = Loopback(), free_address()
    with socket.socket() as workload:
        workload.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        workload.bind(address)
        workload.listen(512)
        fabric.vanish(*address)
    assert {_connect(address) for _ in range(2)} == {"hangs"}
    fabric.attach(*address)
    assert _connect(address) == "refused"


@pytest.mark.parametrize(("name", "process"), [("SIGNONSENSE", "web"), ("SIGTERM", "database")])
def test_an_impossible_signal_is_answered_with_the_reason(
    hosts: Child, name: str, process: str
) -> None:
    """The instance goes on as before."""
    address = free_address()
    instance = f"i-{name}"
    launch(hosts, instance, address)
    reply = hosts.ask(op="signal", instance=instance, process=process, signal=name)
    assert reply["ok"] is False
    assert (name if process == "web" else process) in reply["error"]
    assert status(get(address)) == 200


def test_nothing_is_left_at_the_end_of_standard_input() -> None:
    """Not even a paused instance."""
    with child(HOSTS) as hosts:
        pids = [launch(hosts, f"i-{n}", free_address()) for n in range(2)]
        hosts.ask(op="signal", instance="i-0", process="web", signal="SIGSTOP")
    assert hosts.process.returncode == 0
    assert not any(map(runs, pids))


_PARENT = """
import subprocess, sys
for module in sys.argv[1:]:
    child = subprocess.Popen([sys.executable, "-m", module], stdin=subprocess.PIPE)
    print(child.pid, flush=True)
sys.stdin.read()
"""


def test_nothing_outlives_a_killed_parent() -> None:
    """Neither child of the stage, not even one that is paused and cannot see its input end."""
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, HOSTS, "chaosgrade.stage.balancer"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert parent.stdin is not None
    assert parent.stdout is not None
    said: list[str] = []
    while len(said) < 4:  # two process ids, two times ready
        said.append(parent.stdout.readline())
    pids = [int(line) for line in said if line.strip().isdigit()]
    assert instance_process.send(pids[0], "SIGSTOP") is None
    parent.kill()
    parent.wait()
    parent.stdin.close()
    parent.stdout.close()
    wait_until(lambda: not any(map(runs, pids)), "gone")


def test_instances_outlive_no_killed_zygote() -> None:
    """SIGKILL gives it no chance to bury them: the kernel does."""
    hosts = Child(HOSTS)
    hosts.wait_for("ready")
    pid = launch(hosts, "i-orphan", free_address())
    hosts.process.kill()
    hosts.leave()
    wait_until(lambda: not runs(pid), "gone")


def test_what_a_supervisor_looks_after_is_started_again(hosts: Child) -> None:
    """As a new process, after its wait; a terminated instance stays away."""
    address = free_address()
    first = launch(hosts, "i-supervised", address, restart_s=0.05)
    assert hosts.ask(op="signal", instance="i-supervised", process="web", signal="SIGKILL")["ok"]
    hosts.wait_for("exited", instance="i-supervised")
    second = int(hosts.wait_for("started", instance="i-supervised")["pid"])
    assert second != first
    assert status(get(address)) == 200
    hosts.send(op="terminate", instance="i-supervised")
    hosts.wait_for("terminated", instance="i-supervised")
    time.sleep(0.2)  # four times its wait: nothing comes that could be waited for
    assert _connect(address) == "hangs"
    assert not runs(second)
