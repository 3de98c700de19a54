"""The command line as a person meets it: one line for each mistake, and the right exit code."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from chaoslib.experiment import ensure_experiment_is_valid
from chaoslib.loader import load_experiment

from chaosgrade.cli.gate import Gate, present
from chaosgrade.errors import Exit
from chaosgrade.experiment import shipped
from chaosgrade.verdict import judge
from tests.synthetic import START, trial

CHAOSGRADE = str(Path(sys.executable).parent / "chaosgrade")


def chaosgrade(
    folder: Path, *arguments: str, timeout_s: float = 60
) -> "subprocess.CompletedProcess[str]":
    environ = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    environ["CHAOSGRADE_STATE_DIR"] = str(folder / "state")
    return subprocess.run(
        [CHAOSGRADE, *arguments],
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def last_line(done: "subprocess.CompletedProcess[str]") -> str:
    """The one line that counts; a traceback anywhere fails the test."""
    assert "Traceback" not in done.stderr + done.stdout
    return done.stderr.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("run instance-kil", "did you mean instance-kill"),
        ("run nowhere.yaml", "nowhere.yaml"),
        ("run instance-kill --target moon", "'moon'"),
        ("run instance-kill --target aws --stage http://127.0.0.1:1", "exclude each other"),
        ("run instance-kill --stage http://127.0.0.1:1", "chaosgrade stage up"),
        ("run instance-kill --stage ftp://x", "'ftp://x'"),
        ("run instance-kill --template nope", "nope"),
        ("run instance-kill --parameter Colour=red", "Colour"),
        ("run instance-kill --parameter FleetType=rented", "rented"),
        ("run instance-kill --time-scale 0", "0"),
        ("run instance-kill --trials 0", "--trials must be at least 1, got 0"),
        ("run instance-kill --trials many", "--trials"),
        ("run instance-kill --fail-under Z", "'Z'"),
        ("run instance-kill --baseline nowhere.json", "nowhere.json"),
        ("run", "EXPERIMENT"),
        ("runn", "runn"),
        ("gameday --suite nightmare", "'nightmare'"),
        ("plan instance-kil", "instance-kill"),
        ("score", "chaosgrade gameday"),
        ("score nowhere", "nowhere"),
        ("explain .", "no evidence.jsonl"),
        ("stage up --port 99999", "99999"),
        ("stage up --time-scale 1000", "1000"),
        ("stage", "command"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(tmp_path: Path, arguments: str, named: str) -> None:
    """It names the value; nothing was run, nothing is left."""
    done = chaosgrade(tmp_path, *arguments.split())
    assert done.returncode == 2
    assert last_line(done).startswith("chaosgrade: ")
    assert named in last_line(done)
    assert done.stdout == ""
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize(
    ("status", "undone", "halted", "code"),
    [
        ("halted", True, False, Exit.HALTED),  # by `chaosgrade halt`
        ("aborted", True, True, Exit.HALTED),
        ("aborted", False, True, Exit.NOT_UNDONE),
    ],
)
def test_what_was_told_to_stop_ends_with_4_whatever_went_wrong(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    status: str,
    undone: bool,
    halted: bool,
    code: Exit,
) -> None:
    """Nothing broken and a problem is 3 else; the document and the exit code agree."""
    figures = {"applied": not undone, "status": status, "undone": undone, "problem": "gone"}
    verdicts = [judge(trial(**figures, at=time.time() - START))]
    assert present(verdicts, tmp_path, Gate(), as_json=True, halted=halted) == code
    assert json.loads(capsys.readouterr().out)["exit_code"] == code


def test_a_taken_port_is_named(tmp_path: Path) -> None:
    """With the remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = chaosgrade(tmp_path, "stage", "up", "--port", str(port))
    assert done.returncode == 2
    assert f"port {port}" in last_line(done)


def test_a_template_beyond_the_stage_is_refused(tmp_path: Path) -> None:
    """Before anything starts, with the resource's name."""
    (tmp_path / "mine.yaml").write_text("Resources:\n  Function: {Type: 'AWS::Lambda::Function'}\n")
    done = chaosgrade(tmp_path, "stage", "up", "--template", "mine.yaml")
    assert done.returncode == 2
    assert "Function has type AWS::Lambda::Function" in last_line(done)


def test_malformed_yaml_is_one_line(tmp_path: Path) -> None:
    """Line and column, no stage."""
    (tmp_path / "mine.yaml").write_text("title: [\n")
    done = chaosgrade(tmp_path, "run", "mine.yaml")
    assert done.returncode == 2
    assert "line 2, column 1" in last_line(done)


def test_real_aws_is_refused_without_credentials_or_region(tmp_path: Path) -> None:
    """One line, nothing changed."""
    done = chaosgrade(tmp_path, "run", "instance-kill", "--target", "aws")
    assert done.returncode == 2
    assert "AWS_REGION" in last_line(done)


def test_help_and_version(tmp_path: Path) -> None:
    """They are quick because they import nothing of AWS."""
    done = chaosgrade(tmp_path, "--help")
    assert done.returncode == 0
    for command in ("gameday", "run", "plan", "score", "explain", "stage"):
        assert command in done.stdout
    assert chaosgrade(tmp_path, "--version").stdout.startswith("chaosgrade ")
    bare = chaosgrade(tmp_path)
    assert bare.returncode == 2
    assert "Commands:" in bare.stdout


def test_help_imports_no_aws(tmp_path: Path) -> None:
    """What makes --help quick, without a clock."""
    code = "import sys; from chaosgrade.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('boto3','numpy','aiohttp','chaoslib','moto') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, "--help"], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip().endswith("[]")


def test_chaos_toolkit_discovers_everything() -> None:
    """`chaos discover chaosgrade` lists actions, probes and controls with their arguments."""
    from chaosgrade import discover

    found = discover()
    by_type: dict[str, set[str]] = {}
    for activity in found["activities"]:
        by_type.setdefault(activity["type"], set()).add(activity["name"])
    assert {"terminate_instances", "stop_process", "deregister_targets"} <= by_type["action"]
    assert {"availability", "healthy_targets", "group_capacity"} <= by_type["probe"]
    assert "after_experiment_control" in by_type["control"]
    json.dumps(found)


def test_shipped_experiments_are_valid_for_plain_chaos_toolkit() -> None:
    """What `chaos validate` asks of them."""
    for path in shipped().values():
        ensure_experiment_is_valid(load_experiment(str(path)))
