"""Whole runs on real stages: the sound template's grade, and flaws that are caught."""

import json
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.experiment import suite
from scripts.flaw_matrix import shortcomings
from tests.commands import run, short_hang, start
from tests.stage.conftest import running_stage

pytestmark = pytest.mark.stage


def verdicts(score: dict[str, Any]) -> dict[str, str]:
    return {e["experiment"]: e["verdict"] for e in score["experiments"]}


def not_passed(score: dict[str, Any]) -> dict[str, list[str]]:
    """By experiment that did not pass, why."""
    return {
        e["experiment"]: shortcomings(e) for e in score["experiments"] if e["verdict"] != "passed"
    }


def failed(score: dict[str, Any]) -> set[str]:
    return {o["metric"] for e in score["experiments"] for o in e["objectives"] if o["failed"]}


def test_the_sound_template_earns_an_a_on_what_was_tested(tmp_path: Path) -> None:
    """The experiment passes; coverage is stated and caps the grade."""
    code, score = run(tmp_path, "chaosgrade", "run", "web-process-hang")
    assert not_passed(score) == {}
    assert (code, verdicts(score)) == (0, {"web-process-hang": "passed"})
    assert (score["earned"], score["grade"]) == ("A", "D")
    assert 0 < score["coverage"] < 0.5
    folder = tmp_path / score["folder"]
    written = {path.name for path in folder.iterdir() if path.is_file()}
    reports = {"score.json", "report.html", "junit.xml", "summary.md", "metrics.prom"}
    assert written == reports | {"evidence.jsonl", "journal.json", "chaostoolkit.log"}
    again_code, again = run(tmp_path, "chaosgrade", "score", str(folder))
    assert (again_code, again["score"], again["low"]) == (0, score["score"], score["low"])


@pytest.mark.nightly
@pytest.mark.timeout(600)
def test_a_game_day_on_the_sound_template_earns_an_a(tmp_path: Path) -> None:
    """Every experiment of the default suite passes."""
    code, score = run(tmp_path, "chaosgrade", "gameday")
    assert not_passed(score) == {}
    assert verdicts(score) == dict.fromkeys(suite("default"), "passed")
    assert (code, score["earned"], score["grade"]) == (0, "A", "D")


@pytest.mark.nightly
def test_a_fixed_fleet_is_caught_by_instance_kill(tmp_path: Path) -> None:
    """Nothing replaces what is gone."""
    code, score = run(
        tmp_path, "chaosgrade", "run", "instance-kill", "--parameter", "FleetType=fixed"
    )
    assert code == 1
    assert failed(score) == {"time_to_replace"}


@pytest.mark.nightly
def test_a_tcp_health_check_is_caught_by_web_process_hang(tmp_path: Path) -> None:
    """The hung process keeps its port open, and stays in service."""
    code, score = run(
        tmp_path, "chaosgrade", "run", "web-process-hang", "--parameter", "HealthCheckProtocol=TCP"
    )
    assert code == 1
    assert "time_to_detect" in failed(score)


def test_plain_chaos_run_puts_the_same_grade_into_its_journal(tmp_path: Path) -> None:
    """The control does the work, whoever starts Chaos Toolkit."""
    with running_stage() as stage:
        process = start(
            tmp_path,
            *("chaos", "--no-version-check", "run", str(short_hang(tmp_path))),
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
