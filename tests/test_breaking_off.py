"""Every way of breaking off a run leaves nothing broken."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from chaosgrade.experiment import shipped
from tests.commands import short_hang, start, wait_for
from tests.stage.conftest import Stage, descendants, eventually, running_stage

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage() as running:
        yield running


@pytest.fixture
def hang(tmp_path: Path) -> Path:
    # A minute on the stage: on a busy machine, what breaks it off must not come after its end.
    return short_hang(tmp_path, "1200s")


def stats(stage: Stage) -> list[str]:
    """State letters of all web processes of a stage, as the kernel says."""
    found = []
    for pid in descendants(stage.process.pid):
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:
            continue
        if "(web)" in text:
            found.append(text.rpartition(")")[2].split()[0])
    return found


_BASELINE, _FAULT = "measuring the baseline", "watching what customers feel"


@pytest.mark.parametrize(
    ("number", "moment"),
    [
        (signal.SIGINT, _BASELINE),
        (signal.SIGINT, _FAULT),
        pytest.param(signal.SIGTERM, _FAULT, marks=pytest.mark.nightly),
        pytest.param(signal.SIGTERM, _BASELINE, marks=pytest.mark.nightly),
        pytest.param(signal.SIGHUP, _BASELINE, marks=pytest.mark.nightly),
        pytest.param(signal.SIGHUP, _FAULT, marks=pytest.mark.nightly),
    ],
)
def test_told_to_stop_it_undoes_and_exits_with_4(
    tmp_path: Path, hang: Path, stage: Stage, moment: str, number: int
) -> None:
    """Whatever the signal and the moment: no process is left stopped, and the run says halted."""
    process = start(
        tmp_path,
        *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"], "--json"),
    )
    wait_for(process, moment)
    process.send_signal(number)
    process.send_signal(number)  # the impatient second one must not cut the undo short
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors
    assert "Traceback" not in errors + output
    score = json.loads(output)
    assert score["undone"]
    assert score["statuses"] == {"halted": 1}
    assert "T" not in stats(stage)
    _until_whole(stage)


def test_a_stop_that_chaos_toolkit_swallows_is_told_again(
    tmp_path: Path, hang: Path, stage: Stage
) -> None:
    """Before the run begins: whatever a control raises while it is set up is noted, not obeyed."""
    (tmp_path / "slow.py").write_text(
        "import pathlib, time\n"
        "def configure_control():\n"
        "    pathlib.Path('slow').touch()\n"
        "    time.sleep(60)\n"
    )
    document = yaml.safe_load(hang.read_text())
    document["controls"].insert(
        0, {"name": "slow", "provider": {"type": "python", "module": "slow"}}
    )
    hang.write_text(yaml.safe_dump(document))
    process = start(
        tmp_path,
        *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"], "--json"),
        environ={"PYTHONPATH": str(tmp_path)},
    )
    eventually((tmp_path / "slow").exists)
    process.send_signal(signal.SIGTERM)
    output, errors = process.communicate(timeout=60)
    assert process.returncode == 4, errors
    score = json.loads(output)
    assert score["statuses"] == {"halted": 1}
    assert "no fault was injected" in score["experiments"][0]["invalid"]


def test_told_to_stop_at_once_it_leaves_no_stage(tmp_path: Path) -> None:
    """While its private stage is still coming up."""
    process = start(tmp_path, "chaosgrade", "run", "instance-kill")
    wait_for(process, "starting")
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 4
    assert "Traceback" not in errors
    assert not list((tmp_path / "runs").iterdir())


def _child_of(pid: int, words: bytes) -> int:
    for entry in Path("/proc").iterdir():
        try:
            if not entry.name.isdigit() or words not in (entry / "cmdline").read_bytes():
                continue
            if int((entry / "stat").read_text().rpartition(")")[2].split()[1]) == pid:
                return int(entry.name)
        except (FileNotFoundError, ProcessLookupError):
            continue
    return 0


def test_a_killed_chaos_toolkit_is_undone_by_the_command(
    tmp_path: Path, hang: Path, stage: Stage
) -> None:
    """SIGKILL leaves it no chance: the journal has what was changed."""
    process = start(
        tmp_path,
        *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"], "--json"),
    )
    wait_for(process, "watching what customers feel")
    os.kill(eventually(lambda: _child_of(process.pid, b"chaostoolkit")), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 3
    score = json.loads(output)
    assert score["undone"]
    assert "Chaos Toolkit died" in score["experiments"][0]["invalid"][0]
    assert "T" not in stats(stage)
    _until_whole(stage)


@pytest.mark.nightly
def test_a_killed_command_is_undone_by_chaos_toolkit(
    tmp_path: Path, hang: Path, stage: Stage
) -> None:
    """The run in its process notices that nobody waits for it, undoes and ends, however often it is
    told to: the kernel says so once for each thread of the parent."""
    process = start(
        tmp_path, *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"])
    )
    wait_for(process, "watching what customers feel")
    child = eventually(lambda: _child_of(process.pid, b"chaostoolkit"))
    process.kill()
    with suppress(ProcessLookupError):
        for _ in range(100):
            os.kill(child, signal.SIGTERM)
            time.sleep(0.003)
    process.communicate()
    eventually(lambda: not _lives(child))
    assert "T" not in stats(stage)
    (evidence,) = (tmp_path / "runs").rglob("evidence.jsonl")
    last = json.loads(evidence.read_text().splitlines()[-1])
    assert (last["kind"], last["status"], last["undone"]) == ("run.end", "halted", True)
    _until_whole(stage)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


@pytest.mark.nightly
def test_a_selector_that_matches_nothing_changes_nothing(tmp_path: Path, stage: Stage) -> None:
    """Exit code 3: nothing could be broken, so nothing is proven."""
    text = shipped()["instance-kill"].read_text().replace("Tier: web", "Tier: nothing")
    (tmp_path / "mine.yaml").write_text(text)
    before = sorted(descendants(stage.process.pid))
    process = start(
        tmp_path, "chaosgrade", "run", "mine.yaml", "--stage", stage.document["endpoint"]
    )
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 3
    assert "0 running instances match tags" in errors.splitlines()[-1]
    assert "Traceback" not in errors
    assert sorted(descendants(stage.process.pid)) == before


def test_a_plan_names_targets_and_changes_nothing(tmp_path: Path, stage: Stage) -> None:
    """With the run's seed it names the run's targets."""
    plans = []
    before = sorted(descendants(stage.process.pid))
    for _ in range(2):
        process = start(
            tmp_path, "chaosgrade", "plan", "instance-kill", "--seed", "7", "--json",
            "--stage", stage.document["endpoint"],
        )  # fmt: skip
        output, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        plans.append(json.loads(output))
    assert plans[0] == plans[1]
    (change,) = plans[0]["changes"]
    assert plans[0]["irreversible"] == [change["summary"]]
    assert plans[0]["permissions"] == ["ec2:DescribeInstances", "ec2:TerminateInstances"]
    assert plans[0]["blast_radius"]["ec2:instance"]["count"] == 1
    assert sorted(descendants(stage.process.pid)) == before


def _until_whole(stage: Stage) -> None:
    """Let the shared stage recover: six healthy targets, for the next test's steady state."""
    client = stage.client("elbv2")
    arn = client.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"]

    def whole() -> bool:
        described = client.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return [d["TargetHealth"]["State"] for d in described] == ["healthy"] * 6

    deadline = time.monotonic() + 60
    steady = 0
    while steady < 20:
        # A process that was just continued may have failed checks on their way: look for a while.
        steady = steady + 1 if whole() else 0
        assert time.monotonic() < deadline
        time.sleep(0.1)


def _kill_both(process: "subprocess.Popen[str]") -> None:
    child = eventually(lambda: _child_of(process.pid, b"chaostoolkit"))
    process.kill()
    os.kill(child, signal.SIGKILL)
    process.communicate()
    eventually(lambda: not _lives(child))


def test_when_everything_is_killed_the_watchdog_undoes(
    tmp_path: Path, hang: Path, stage: Stage
) -> None:
    """Command and Chaos Toolkit die at once; nobody is left but the watchdog."""
    process = start(
        tmp_path, *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"])
    )
    wait_for(process, "watching what customers feel")
    assert "T" in stats(stage)
    _kill_both(process)
    eventually(lambda: "T" not in stats(stage))
    eventually(lambda: "undone" in (tmp_path / "state" / "watchdog.log").read_text())
    status = start(tmp_path, "chaosgrade", "status", "--json")
    output, _ = status.communicate(timeout=60)
    assert (status.returncode, json.loads(output)["runs"]) == (0, [])
    _until_whole(stage)


def test_when_even_the_watchdog_is_killed_recover_undoes(
    tmp_path: Path, hang: Path, stage: Stage
) -> None:
    """`status` says 5 until then; a second `recover` finds nothing."""
    process = start(
        tmp_path, *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"])
    )
    wait_for(process, "watching what customers feel")
    child = eventually(lambda: _child_of(process.pid, b"chaostoolkit"))
    os.kill(eventually(lambda: _child_of(child, b"chaosgrade.watchdog")), signal.SIGKILL)
    _kill_both(process)
    codes = {}
    for command in ("status", "recover", "recover", "status"):
        done = start(tmp_path, "chaosgrade", command, "--json")
        output, errors = done.communicate(timeout=60)
        assert "Traceback" not in errors
        codes.setdefault(command, []).append((done.returncode, len(json.loads(output)["runs"])))
    assert codes == {"status": [(5, 1), (0, 0)], "recover": [(0, 1), (0, 0)]}
    assert "T" not in stats(stage)
    _until_whole(stage)


def test_halt_stops_a_run_and_undoes(tmp_path: Path, hang: Path, stage: Stage) -> None:
    """From another terminal."""
    process = start(
        tmp_path, *("chaosgrade", "run", str(hang), "--stage", stage.document["endpoint"])
    )
    wait_for(process, "watching what customers feel")
    halt = start(tmp_path, "chaosgrade", "halt")
    halt_output, _ = halt.communicate(timeout=60)
    process.communicate(timeout=60)
    assert (halt.returncode, process.returncode) == (0, 4)
    assert halt_output.splitlines()[0].endswith(": halted")
    assert "T" not in stats(stage)
    _until_whole(stage)
