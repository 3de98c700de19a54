"""Reports say the same everywhere, escape what users wrote, and fetch nothing."""

import io
import json
import re
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from chaosgrade.policies.grading import load_grading
from chaosgrade.report import terminal, write_reports
from chaosgrade.report.wording import grade_lines
from chaosgrade.score import Score, grade
from chaosgrade.verdict import TrialVerdict, judge
from tests.synthetic import START, down, trial

TRIALS = [
    judge(trial()),
    judge(trial(down(0, 4), number=2)),
    judge(
        trial(
            experiment="web-process-hang",
            pattern="shallow-health-check",
            pillar="high-availability",
            proven=False,
        )
    ),
]


@pytest.fixture
def score() -> Score:
    return grade(TRIALS, load_grading(), now=lambda: START)


@pytest.fixture
def folder(tmp_path: Path, score: Score) -> Path:
    write_reports(tmp_path, score, TRIALS)
    return tmp_path


def _families(folder: Path) -> dict[str, Metric]:
    text = (folder / "metrics.prom").read_text()
    return {f.name: f for f in text_string_to_metric_families(text)}


def test_the_page_is_whole_without_a_network(folder: Path) -> None:
    """No script, no font, no image from anywhere."""
    page = (folder / "report.html").read_text()
    assert not re.search(r"(src|href)\s*=|url\(|@import|https?://", page)
    assert page.count("<svg") == len(TRIALS)


def test_the_page_escapes_what_users_wrote(folder: Path) -> None:
    """A title is text."""
    page = (folder / "report.html").read_text()
    assert "&lt;b&gt;something" in page
    assert "<b>something" not in page


def test_the_page_tells_where_points_went(folder: Path, score: Score) -> None:
    """Objective, remedy and section of each lost point."""
    page = (folder / "report.html").read_text()
    for lost in score.lost:
        assert lost.metric in page
        assert lost.remedy in page
        assert lost.section in page
    assert "Nothing is concluded: the fault is not proven" in page


def test_the_page_does_not_call_a_conflict_as_it_was(tmp_path: Path) -> None:
    """What somebody else has changed was left alone, and whoever reads has to know."""
    change = replace(TRIALS[0].changes[0], outcome="conflict")
    trials = [TRIALS[1], replace(TRIALS[0], changes=(change,))]
    write_reports(tmp_path, grade(trials, load_grading(), now=lambda: START), trials)
    page = (tmp_path / "report.html").read_text()
    assert page.count("everything is as it was</p>") == 1
    assert page.count("everything is as it was, but for what somebody else has changed</p>") == 1


def test_a_picture_of_every_trial_marks_the_fault(folder: Path) -> None:
    """Each SVG is well-formed, labelled for screen readers, and says that time is projected."""
    page = (folder / "report.html").read_text()
    for picture in re.findall(r"<svg.*?</svg>", page, re.DOTALL):
        root = ET.fromstring(picture)
        assert "availability" in root.attrib["aria-label"]
        words = [node.text for node in root.iter("text")]
        assert "fault" in words
        assert any(word and "projected" in word for word in words)


def test_a_picture_shows_who_served_when_answers_tell(tmp_path: Path) -> None:
    """A layer for each zone with its share before and after, in the list too; names are text."""

    def zone(at: float, index: int) -> str:
        return "us-east-1b" if at >= 0 or index % 2 else "<b>a"

    trials = [judge(trial(down(1, 3), zone=zone)), TRIALS[2]]
    write_reports(tmp_path, grade(trials, load_grading(), now=lambda: START), trials)
    page = (tmp_path / "report.html").read_text()
    told, silent = map(ET.fromstring, re.findall(r"<svg.*?</svg>", page, re.DOTALL))

    def layers(picture: ET.Element) -> set[str]:
        return {p.attrib["class"] for p in picture.iter("polygon")} & {"zone zone0", "zone zone1"}

    assert layers(told) == {"zone zone0", "zone zone1"}
    assert layers(silent) == set()
    words = " ".join("".join(node.itertext()) for node in told.iter("text"))
    assert "<b>a 50% → 0%" in words
    assert "us-east-1b 50% → 100%" in words
    assert "<b>a" not in page
    assert page.count("Served by zone, before the fault") == 1
    assert "20 of 20 customers had a request fail; worst off: customer" in page


def test_junit_has_a_case_for_each_objective(folder: Path) -> None:
    """Failed ones fail, inconclusive ones are errors: neither reads as passed."""
    suites = {s.attrib["name"]: s for s in ET.parse(folder / "junit.xml").getroot()}
    kill, hang = suites["instance-kill"], suites["web-process-hang"]
    assert (kill.attrib["tests"], kill.attrib["failures"], kill.attrib["errors"]) == ("2", "2", "0")
    assert (hang.attrib["tests"], hang.attrib["failures"], hang.attrib["errors"]) == ("2", "0", "2")
    assert len(kill.findall("testcase/failure")) == 2


def test_metrics_parse_and_leave_out_what_has_no_value(folder: Path, score: Score) -> None:
    """A missing figure must not become 0."""
    families = _families(folder)
    assert families["chaosgrade_score"].samples[0].value == pytest.approx(score.value)
    measured = families["chaosgrade_measured"].samples
    assert not [s for s in measured if s.labels["metric"] == "time_to_replace"]
    assert [s for s in measured if s.labels["metric"] == "availability"]


def test_the_summary_cannot_be_broken_by_text(folder: Path) -> None:
    """Markdown for a pull request: tables keep their columns."""
    text = (folder / "summary.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| availability")]
    assert len(rows) == 2
    assert all(len(re.findall(r"(?<!\\)\|", row)) == 5 for row in rows)


def test_the_terminal_says_grade_reason_and_remedy(score: Score) -> None:
    """What a person at 3 a.m. needs is there at 100 columns."""
    out = Console(file=io.StringIO(), width=100, highlight=False)
    out.print(terminal.render(score, Path("runs/x")))
    text = out.file.getvalue()  # type: ignore[attr-defined]
    for words in ("grade F", "Coverage", "Lost points", "-30.0", "not proven", "runs/x"):
        assert words in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_the_document_equals_the_score(folder: Path, score: Score) -> None:
    """score.json is what baselines are compared with."""
    document = json.loads((folder / "score.json").read_text())
    assert document["score"] == score.value
    assert document["grade"] == score.grade
    assert len(document["lost"]) == len(score.lost)


def test_nothing_conclusive_reports_all_the_same(tmp_path: Path) -> None:
    """A folder without a grade is a result too."""
    trials: list[TrialVerdict] = [judge(trial(problem="no such target", applied=False))]
    score = grade(trials, load_grading(), now=lambda: START)
    write_reports(tmp_path, score, trials)
    assert "No grade" in (tmp_path / "summary.md").read_text()
    assert "Nothing was conclusive" in (tmp_path / "report.html").read_text()


def test_a_trial_of_which_nothing_was_written_is_reported(tmp_path: Path) -> None:
    """It has no time of day."""
    trials = [*TRIALS, judge([])]
    write_reports(tmp_path, grade(trials, load_grading(), now=lambda: START), trials)
    assert "no time on record" in (tmp_path / "report.html").read_text()


def test_text_that_no_document_may_hold_does_not_break_one(tmp_path: Path) -> None:
    """A library's error message may carry colours, zero bytes or half a character."""
    trials = [judge(trial(problem="bad \x1b[31m\x00 \ud800 ]]> end"))]
    write_reports(tmp_path, grade(trials, load_grading(), now=lambda: START), trials)
    text = (tmp_path / "junit.xml").read_text()
    assert "]]&gt; end" in text
    ET.fromstring(text)
    assert "\x1b" not in (tmp_path / "report.html").read_text()


def test_every_machine_readable_report_says_where_figures_come_from(folder: Path) -> None:
    """A figure from the stage must not be taken for one from AWS."""
    root = ET.parse(folder / "junit.xml").getroot()
    values = [p.attrib["value"] for p in root.iter("property")]
    assert "stage, loopback fabric, durations projected ×20" in values
    families = _families(folder)
    (info,) = families["chaosgrade_environment_info"].samples
    assert (info.labels["kind"], info.labels["time_scale"]) == ("stage", "20")
    assert {s.labels["kind"] for s in families["chaosgrade_measured"].samples} == {"stage"}


def test_objectives_pass_as_metrics_only_when_concluded(folder: Path) -> None:
    """1 passed, 0 failed, absent when inconclusive."""
    samples = _families(folder)["chaosgrade_objective_pass"].samples
    assert {(s.labels["experiment"], s.labels["metric"], s.value) for s in samples} == {
        ("instance-kill", "availability", 0.0),
        ("instance-kill", "time_to_recover", 0.0),
    }


def test_the_number_of_trials_is_not_rounded_down() -> None:
    """Two trials of one experiment and one of another are not one trial each."""
    hang = trial(experiment="h", pattern="shallow-health-check", pillar="high-availability")
    score = grade([*TRIALS[:2], judge(hang)], load_grading(), now=lambda: START)
    assert "1 to 2 trials" in grade_lines(score)[0]
