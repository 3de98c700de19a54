"""Whole runs on real stages: grades, flaws, and every way of breaking off."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgrade.experiment import shipped
from tests.stage.conftest import Stage, descendants, eventually, running_stage

BIN = Path(sys.executable).parent
pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage() as running:
        yield running


@pytest.fixture
def hang(tmp_path: Path) -> Path:
    """The experiment web-process-hang with a window of 60 s, which is 3 s on the stage."""
    document = yaml.safe_load(shipped()["web-process-hang"].read_text())
    document["extensions"][0]["window"] = "60s"
    path = tmp_path / "hang.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def start(
    folder: Path, *command: str, environ: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "CHAOSGRADE_STATE_DIR": str(folder / "state"), **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *command: str) -> tuple[int, dict[str, Any]]:
    process = start(folder, *command, "--json")
    output, errors = process.communicate(timeout=150)
    assert "Traceback" not in errors
    return process.returncode, json.loads(output)


def verdicts(score: dict[str, Any]) -> dict[str, str]:
    return {e["experiment"]: e["verdict"] for e in score["experiments"]}


def failed(score: dict[str, Any]) -> set[str]:
    return {o["metric"] for e in score["experiments"] for o in e["objectives"] if o["failed"]}


def test_the_sound_template_earns_an_a_on_what_was_tested(tmp_path: Path) -> None:
    """Both experiments pass; coverage is stated and caps the grade."""
    code, score = run(tmp_path, "chaosgrade", "gameday")
    assert code == 0
    assert verdicts(score) == {"instance-kill": "passed", "web-process-hang": "passed"}
    assert (score["earned"], score["grade"]) == ("A", "D")
    assert 0 < score["coverage"] < 0.5
    folder = tmp_path / score["folder"]
    written = {path.name for path in folder.iterdir() if path.is_file()}
    assert written == {"score.json", "report.html", "junit.xml", "summary.md", "metrics.prom"}
    again_code, again = run(tmp_path, "chaosgrade", "score", str(folder))
    assert (again_code, again["score"], again["low"]) == (0, score["score"], score["low"])


def test_a_fixed_fleet_is_caught_by_instance_kill(tmp_path: Path) -> None:
    """Nothing replaces what is gone."""
    code, score = run(
        tmp_path, "chaosgrade", "run", "instance-kill", "--parameter", "FleetType=fixed"
    )
    assert code == 1
    assert failed(score) == {"time_to_replace"}


def test_a_tcp_health_check_is_caught_by_web_process_hang(tmp_path: Path) -> None:
    """The hung process keeps its port open, and stays in service."""
    code, score = run(
        tmp_path, "chaosgrade", "run", "web-process-hang", "--parameter", "HealthCheckProtocol=TCP"
    )
    assert code == 1
    assert "time_to_detect" in failed(score)


def test_plain_chaos_run_puts_the_same_grade_into_its_journal(tmp_path: Path, hang: Path) -> None:
    """The control does the work, whoever starts Chaos Toolkit."""
    with running_stage() as stage:
        process = start(
            tmp_path,
            *("chaos", "--no-version-check", "run", str(hang)),
            environ=stage.document["env"],
        )
        process.communicate(timeout=100)
    # Neither its exit code nor the verdict matter here: the window is too short for both.
    journal = json.loads((tmp_path / "journal.json").read_text())["chaosgrade"]
    folder = tmp_path / journal["folder"]
    assert (folder / "report.html").exists()
    _, again = run(tmp_path, "chaosgrade", "score", str(folder))
    assert verdicts(journal) == verdicts(again)
    assert journal["score"] is not None
    assert (journal["score"], journal["low"], journal["grade"]) == (
        again["score"],
        again["low"],
        again["grade"],
    )


def wait_for(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """Read standard error until a line has these words."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError(f"{words!r} never came: {seen}")


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


@pytest.mark.parametrize("moment", ["measuring the baseline", "watching what customers feel"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
    assert "halted" in halt_output
    assert "T" not in stats(stage)
    _until_whole(stage)
