"""Scores: points, interval, coverage, caps; and every lost point is explained."""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosgrade.baseline import compare
from chaosgrade.errors import Exit, UsageError
from chaosgrade.measurement import Measurement
from chaosgrade.policies.grading import load_grading
from chaosgrade.report.wording import grade_lines
from chaosgrade.score import Score, exit_code, grade, to_json
from chaosgrade.verdict import TrialVerdict, judge
from tests.synthetic import START, down, trial

GRADING = load_grading()
SOUND = judge(trial())
BROKEN = judge(trial(down(0, 4)))
HANG: dict[str, Any] = {"experiment": "web-process-hang", "pattern": "shallow-health-check"}
UNPROVEN = judge(trial(proven=False, pillar="high-availability", **HANG))


def score_of(*trials: TrialVerdict, days_later: float = 0.0) -> Score:
    return grade(trials, GRADING, now=lambda: START + days_later * 86_400)


def test_a_sound_trial_earns_all_points_and_a_wide_interval() -> None:
    """One run is no proof: the interval says so."""
    score = score_of(SOUND)
    assert score.value == 100
    assert score.earned == "A"
    assert score.lost == ()
    assert score.low is not None
    assert score.low < 60


def test_the_interval_narrows_with_trials() -> None:
    """Twenty sound trials say more than one."""
    few, many = score_of(SOUND), score_of(*[SOUND] * 20)
    assert few.low is not None
    assert few.high is not None
    assert many.low is not None
    assert many.high is not None
    assert many.high - many.low < (few.high - few.low) / 3
    assert many.low > 90


def test_more_figures_of_one_trial_are_no_more_trials() -> None:
    """Four objectives that fall together tell as much of the next trial as one of them."""
    alike = [
        {"metric": metric, "because": "x", **bound}
        for metric, bound in (
            ("availability", {"at_least": "97%"}),
            ("time_to_recover", {"at_most": "60s"}),
            ("outage_total", {"at_most": "60s"}),
            ("customers_affected", {"at_most": "10%"}),
        )
    ]
    few, many = (
        [
            judge(trial(outcome, objectives=alike[:count]))
            for outcome in (down(0, 4), lambda _: "ok")
        ]
        for count in (1, 4)
    )
    one, four = score_of(*few), score_of(*many)
    assert one.value == four.value == 50
    assert (four.low, four.high) == pytest.approx((one.low, one.high), abs=1)


def test_one_bad_trial_is_no_regression_however_many_figures_it_has() -> None:
    """Noise must not fail a build; three trials of three are none."""

    def worse(trials: int) -> bool:
        former = json.loads(json.dumps(to_json(score_of(*[SOUND] * trials))))
        return bool(compare(former, score_of(*[BROKEN] * trials), GRADING)["worse"])

    assert not worse(1)
    assert worse(3)


def test_the_same_evidence_has_the_same_interval() -> None:
    """Draws are seeded."""
    assert to_json(score_of(SOUND, BROKEN)) == to_json(score_of(SOUND, BROKEN))


_METRICS = ("availability", "time_to_recover", "outage_total", "customers_affected")


@st.composite
def _trials(draw: st.DrawFn) -> list[TrialVerdict]:
    """Trials of one to three experiments with objectives of any weight, sound or broken."""
    found = []
    for number in range(draw(st.integers(1, 3))):
        objectives: list[dict[str, Any]] = []
        for metric in draw(st.lists(st.sampled_from(_METRICS), min_size=1, unique=True)):
            bound = {"at_least": "97%"} if metric == "availability" else {"at_most": "60s"}
            if metric == "customers_affected":
                bound = {"at_most": "10%"}
            weight = draw(st.floats(0.1, 10))
            objectives.append({"metric": metric, "weight": weight, "because": "x", **bound})
        pattern = draw(st.sampled_from(sorted(GRADING.patterns)))
        for repeat in range(draw(st.integers(1, 3))):
            records = trial(
                down(0, draw(st.sampled_from([0.0, 0.2, 4.0]))),
                experiment=f"e{number}",
                pattern=pattern,
                pillar=GRADING.patterns[pattern].pillar,
                objectives=objectives,
                number=repeat + 1,
                proven=draw(st.booleans()),
                traffic_until=16,
            )
            found.append(judge(records))
    return found


@settings(max_examples=12, deadline=None)
@given(_trials())
def test_the_parts_sum_to_the_whole(trials: Sequence[TrialVerdict]) -> None:
    """Points lost in the list are exactly what is missing to 100, whatever was run."""
    score = score_of(*trials)
    if score.value is None:
        assert score.lost == ()
        assert score.grade is None
    else:
        assert sum(lost.points for lost in score.lost) == pytest.approx(100 - score.value)
        assert [x.points for x in score.lost] == sorted(
            (x.points for x in score.lost), reverse=True
        )
        assert all(lost.remedy and lost.section for lost in score.lost)


def test_no_rounding_lifts_a_score_over_a_band() -> None:
    """89.96 is no A, and nobody reads it as 90."""
    line = grade_lines(replace(score_of(SOUND), value=89.96, low=55.9, high=96.1))[0]
    assert line.startswith("Score 89.9 of 100, 90% interval 55 to 97 after")
    assert GRADING.grade_of(89.96) == "B"
    assert grade_lines(score_of(SOUND))[0].startswith("Score 100.0 of 100")


def test_points_follow_the_weights() -> None:
    """Weights 3 and 2: losing both objectives of one of two pillars of equal weight costs half."""
    score = score_of(SOUND, judge(trial(down(0, 4), pillar="high-availability", **HANG)))
    assert score.value == pytest.approx(50)
    assert [round(lost.points) for lost in score.lost] == [30, 20]


def test_inconclusive_objectives_neither_earn_nor_cost() -> None:
    """They are left out of credit, and out of coverage when nothing else is there."""
    score = score_of(SOUND, UNPROVEN)
    assert score.value == 100
    assert score.coverage == score_of(SOUND).coverage


def test_coverage_is_tested_weight_over_all_weight() -> None:
    """By hand, from the rules."""
    pillars, patterns = GRADING.pillars, GRADING.patterns
    within = sum(p.weight for p in patterns.values() if p.pillar == "elasticity")
    share = pillars["elasticity"].weight / sum(p.weight for p in pillars.values())
    expected = share * patterns["instance-loss"].weight / within
    assert score_of(SOUND).coverage == pytest.approx(expected)


def test_low_coverage_caps_the_grade_and_says_so() -> None:
    """A on what was tested, D altogether."""
    score = score_of(SOUND)
    assert (score.earned, score.grade) == ("A", "D")
    assert [cap.finding for cap in score.caps if cap.bites] == ["coverage is 4.1%, below 50%"]


def _caps(*trials: TrialVerdict) -> dict[str | None, str]:
    return {cap.grade: cap.finding for cap in score_of(*trials).caps}


def test_no_recovery_caps_at_d() -> None:
    """Somebody would have had to step in."""
    found = [c.finding for c in score_of(judge(trial(down(1, 99)))).caps if c.grade == "D"]
    assert any("not recovered without a person" in finding for finding in found)


def test_a_single_point_of_failure_caps_at_c() -> None:
    """Availability was zero for longer than the recovery objective."""
    assert "availability to zero for 80 s" in _caps(BROKEN)["C"]


def test_a_critical_objective_without_verdict_caps_at_b() -> None:
    """What matters most was not seen."""
    objectives = [
        {"metric": "availability", "at_least": "97%", "because": "x"},
        {"metric": "capacity_kept", "at_least": "80%", "critical": True, "because": "x"},
    ]
    assert "capacity_kept" in _caps(judge(trial(objectives=objectives, health=())))["B"]


def test_something_not_undone_leaves_no_grade() -> None:
    """A score would say: fine."""
    score = score_of(SOUND, judge(trial(undone=False, number=2)))
    assert score.grade is None
    assert [cap.finding for cap in score.caps if cap.bites] == ["a change was not undone"]
    assert exit_code(score, None, GRADING) == Exit.NOT_UNDONE


def test_old_evidence_reads_as_untested() -> None:
    """After thirty days the system is another one."""
    score = score_of(SOUND, days_later=31)
    assert score.value is None
    assert score.coverage == 0
    assert score.expired == ("instance-kill",)


@pytest.mark.parametrize(
    ("trials", "fail_under", "code"),
    [
        ([SOUND], None, Exit.HOLDS),
        ([SOUND], "D", Exit.HOLDS),
        ([SOUND], "A", Exit.WEAKNESS),  # coverage caps it
        ([BROKEN], None, Exit.WEAKNESS),
        ([SOUND, BROKEN], None, Exit.WEAKNESS),
        ([judge(trial(proven=False))], None, Exit.INCONCLUSIVE),
        ([judge(trial(proven=False))], "F", Exit.INCONCLUSIVE),
        ([BROKEN, UNPROVEN], None, Exit.WEAKNESS),
        ([BROKEN, UNPROVEN], "B", Exit.WEAKNESS),  # a weakness that was found stays one
        ([SOUND, UNPROVEN], "D", Exit.INCONCLUSIVE),
        ([judge(trial(status="halted"))], None, Exit.HALTED),
        ([judge(trial(status="halted", undone=False))], None, Exit.NOT_UNDONE),
    ],
)
def test_exit_codes(trials: list[TrialVerdict], fail_under: str | None, code: Exit) -> None:
    """What was not undone comes first, then what was halted, then weaknesses."""
    assert exit_code(score_of(*trials), fail_under, GRADING) == code


def test_a_baseline_is_undercut_only_credibly() -> None:
    """Three failures after three passes may be noise within weights; twenty are not."""
    former = json.loads(json.dumps(to_json(score_of(*[SOUND] * 20))))
    assert not compare(former, score_of(SOUND), GRADING)["worse"]
    row = compare(former, score_of(*[BROKEN] * 20), GRADING)
    assert row["worse"]
    assert row["experiments"]["instance-kill"]["probability_worse"] > 0.99


def test_the_order_of_trials_does_not_matter() -> None:
    """Each experiment draws from a stream of its own."""
    hang = judge(trial(down(0, 4), pillar="high-availability", **HANG))
    one, other = score_of(SOUND, hang), score_of(hang, SOUND)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


def test_an_old_halt_is_forgotten_with_its_evidence() -> None:
    """Expired evidence reads as untested, in the exit code too."""
    old = judge(trial(status="halted"))
    fresh = judge(trial(at=40 * 86_400.0))
    assert exit_code(score_of(old, fresh, days_later=40), None, GRADING) == Exit.HOLDS


@pytest.mark.parametrize(
    "former",
    [
        {},
        {"experiments": 3},
        {"experiments": [{}]},
        {"experiments": []},
        to_json(score_of(UNPROVEN)),
        {"experiments": [{"experiment": "instance-kill", "credit": 1.0, "objectives": [{}]}]},
    ],
)
def test_a_damaged_baseline_is_one_line(former: dict[str, Any]) -> None:
    """Somebody passed the wrong file."""
    with pytest.raises(UsageError, match=r"baseline .*chaosgrade score") as caught:
        compare(former, score_of(SOUND), GRADING)
    assert "\n" not in str(caught.value)


def test_a_baseline_names_what_can_no_longer_be_compared() -> None:
    """An experiment that is left out must not look unchanged."""
    former = json.loads(json.dumps(to_json(score_of(SOUND))))
    assert compare(former, score_of(UNPROVEN), GRADING)["missing"] == ["instance-kill"]


def test_a_baseline_is_compared_by_what_was_asked_then() -> None:
    """A bound that was lowered meanwhile is another question, and its answer no improvement."""
    former = json.loads(json.dumps(to_json(score_of(SOUND))))
    lower = [
        {"metric": "availability", "at_least": "50%", "because": "x"},
        {"metric": "time_to_recover", "at_most": "60s", "weight": 2, "because": "x"},
    ]
    found = compare(former, score_of(judge(trial(down(0, 4), objectives=lower))), GRADING)
    assert found["missing"] == ["instance-kill: availability ≥ 97%"]
    assert found["experiments"]["instance-kill"]["credit"] == 0
    assert compare(former, score_of(SOUND), GRADING)["missing"] == []


def test_a_lost_acknowledged_write_caps_at_f() -> None:
    """Whatever else held: customers were told that it was stored."""
    lost = Measurement("lost_acknowledged_writes", 2.0, "count")
    measurements = {**SOUND.measurements, lost.metric: lost}
    score = score_of(replace(SOUND, measurements=measurements))
    assert score.grade == "F"
    assert [cap.finding for cap in score.caps if cap.bites] == [
        "instance-kill lost acknowledged writes: 2"
    ]


def test_a_finding_is_a_weakness_though_no_objective_asked_for_it() -> None:
    """An F that a build does not notice is no gate."""
    lost = Measurement("lost_acknowledged_writes", 2.0, "count")
    score = score_of(replace(SOUND, measurements={**SOUND.measurements, lost.metric: lost}))
    assert score.experiments[0].verdict == "passed"
    assert exit_code(score, None, GRADING) == Exit.WEAKNESS
    objectives = [{"metric": "availability", "at_least": "50%", "because": "x"}]
    stuck = score_of(judge(trial(down(10, 99), objectives=objectives)))
    assert stuck.experiments[0].verdict == "passed"
    assert exit_code(stuck, None, GRADING) == Exit.WEAKNESS


def test_a_trial_of_which_nothing_was_written_is_inconclusive_and_not_old() -> None:
    """Its process was killed before the first record: that is no reason to forget it."""
    score = score_of(SOUND, judge([]))
    assert score.expired == ()
    assert exit_code(score, None, GRADING) == Exit.INCONCLUSIVE


def test_the_score_is_json() -> None:
    """Whatever is in it."""
    document = json.loads(json.dumps(to_json(score_of(SOUND, BROKEN))))
    assert document["score"] == pytest.approx(50)
    assert document["experiments"][0]["objectives"][0]["verdict"] == "failed"
