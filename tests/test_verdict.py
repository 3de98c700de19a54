"""Verdicts: failed over inconclusive over passed, and nothing passes without data."""

from typing import Any

import pytest

from chaosgrade.policies.objectives import format_value
from chaosgrade.verdict import judge, worst
from tests.synthetic import FAULT, down, trial


def test_a_sound_trial_passes() -> None:
    """Everything held, and the fault is proven."""
    verdict = judge(trial())
    assert verdict.verdict == "passed"
    assert verdict.invalid == ()
    assert [o.verdict for o in verdict.objectives] == ["passed", "passed"]


def test_one_failed_objective_fails_the_trial() -> None:
    """Four of fifteen seconds of total outage: 73% available, recovered after 80 s."""
    verdict = judge(trial(down(0, 4)))
    assert verdict.verdict == "failed"
    assert {o.objective.metric: o.verdict for o in verdict.objectives} == {
        "availability": "failed",
        "time_to_recover": "failed",
    }


def test_the_worse_verdict_wins() -> None:
    """And nothing at all is inconclusive."""
    assert worst(["passed", "inconclusive", "failed"]) == "failed"
    assert worst(["passed", "inconclusive"]) == "inconclusive"
    assert worst(["passed"]) == "passed"
    assert worst([]) == "inconclusive"


@pytest.mark.parametrize(
    ("flaw", "reason"),
    [
        ({"met": False}, "steady state"),
        ({"proven": False}, "not proven"),
        ({"applied": False}, "no fault"),
        ({"problem": "the worker died"}, "the worker died"),
        ({"status": "halted"}, "halted"),
        ({"status": "aborted"}, "aborted"),
        ({"ends_at": 1.0}, "observed for 20 s of the 300 s that the experiment declares"),
        ({"fault": False, "applied": False}, "no fault"),
    ],
)
def test_an_invalid_trial_neither_passes_nor_fails(flaw: dict[str, Any], reason: str) -> None:
    """Sound or broken, nothing is concluded, and the reason is named."""
    for outcome in (down(-9, -9), down(0, 9)):
        verdict = judge(trial(outcome, **flaw))
        assert verdict.verdict == "inconclusive"
        assert reason in verdict.invalid[0]
        assert all(o.verdict == "inconclusive" for o in verdict.objectives)


def test_a_system_that_was_ill_before_proves_nothing() -> None:
    """A baseline of 90% would make any fault look harmless."""
    verdict = judge(trial(lambda at: "timeout" if at < 0 and round(at * 200) % 10 == 0 else "ok"))
    assert verdict.verdict == "inconclusive"
    assert "ill before the fault: 90%" in verdict.invalid[0]


def test_no_data_never_passes() -> None:
    """An objective about targets that nobody watched."""
    objectives = [{"metric": "capacity_kept", "at_least": "80%", "because": "x"}]
    (verdict,) = judge(trial(objectives=objectives, health=())).objectives
    assert verdict.verdict == "inconclusive"
    assert verdict.measurement.value is None
    assert verdict.reason


def test_a_bound_that_was_already_exceeded_fails_though_the_end_was_not_seen() -> None:
    """Not recovered within 300 s is more than 60 s."""
    verdict = judge(trial(down(1, 99)))
    recovery = verdict.objectives[1]
    assert recovery.measurement.censored
    assert recovery.verdict == "failed"
    assert recovery.measured.startswith("more than")


def test_a_bound_beyond_the_observation_is_inconclusive() -> None:
    """Not recovered within 300 s says nothing about 600 s."""
    objectives = [{"metric": "time_to_recover", "at_most": "600s", "because": "x"}]
    assert judge(trial(down(1, 99), objectives=objectives)).verdict == "inconclusive"


def test_a_figure_near_its_bound_says_so() -> None:
    """The verdict follows the figure; the doubt is told."""
    objectives = [{"metric": "availability", "at_least": "97%", "because": "x"}]
    verdict = judge(trial(down(0, 0.45), objectives=objectives)).objectives[0]
    assert verdict.verdict == "passed"
    assert "sampling error" in verdict.reason


@pytest.mark.parametrize(
    ("value", "unit", "beside", "text"),
    [
        (0.79996, "share", 0.8, "79.996%"),
        (0.8, "share", 0.8, "80%"),
        (0.999996, "share", None, "99.9996%"),
        (0.0004, "share", None, "0.04%"),
        (0.0, "share", None, "0%"),
        (60.4, "s", 60.0, "60.4 s"),
        (60.0, "s", 60.0, "60 s"),
        (0.04, "s", 0.0, "0.04 s"),
        (250.2, "ms", 250.0, "250.2 ms"),
        (3.001, "count", 3.0, "3.001"),
        (0.1 + 0.2, "share", 0.3, "30%"),
    ],
)
def test_a_figure_is_written_apart_from_its_bound(
    value: float, unit: str, beside: float | None, text: str
) -> None:
    """At 3 a.m. nobody should read that 80% is not ≥ 80%, or 100% of what failed once."""
    assert format_value(value, unit, beside=beside) == text


def test_a_verdict_writes_its_figure_apart_from_the_bound() -> None:
    """Three of 3,000 requests failed, 99.9002% are needed."""
    objectives = [{"metric": "availability", "at_least": "99.9002%", "because": "x"}]
    (verdict,) = judge(trial(down(0, 0.015), objectives=objectives)).objectives
    assert (verdict.verdict, verdict.objective.text) == ("failed", "≥ 99.9002%")
    assert verdict.measured.startswith("99.9% (")


def test_a_figure_on_its_bound_passes() -> None:
    """Three of 3,000 requests failed; 99.9 / 100 is a little more than 0.999 to a machine."""
    objectives = [{"metric": "availability", "at_least": "99.9%", "because": "x"}]
    assert judge(trial(down(0, 0.015), objectives=objectives)).verdict == "passed"


def test_a_trial_that_broke_off_at_once_is_inconclusive() -> None:
    """Even evidence without a start is judged."""
    verdict = judge([r for r in trial(problem="no such target") if r.kind == "problem"])
    assert verdict.verdict == "inconclusive"
    assert verdict.problems[0].detail == "no such target"
    assert verdict.undone


def test_traffic_without_a_baseline_proves_nothing() -> None:
    """Nobody knows whether the system was well before the fault."""
    found = []
    for record in trial():
        if record.kind == "traffic":
            kept = [r for r in record["requests"] if record["start"] + r[0] / 1e3 >= FAULT]
            record.data["requests"] = kept
        found.append(record)
    verdict = judge(found)
    assert verdict.verdict == "inconclusive"
    assert [o.verdict for o in verdict.objectives] == ["inconclusive", "inconclusive"]
    assert "before the fault" in verdict.invalid[0]


def test_a_trial_whose_change_was_not_undone_concludes_nothing() -> None:
    """What is left behind may have been there for the next measurement too."""
    verdict = judge(trial(undone=False))
    assert verdict.verdict == "inconclusive"
    assert "not undone" in verdict.invalid[0]
