"""Figures from synthetic evidence, where the true figure is known exactly."""

import random

import pytest

from chaosgrade.call_figures import CALL_FIGURES
from chaosgrade.errors import UsageError
from chaosgrade.evidence import Record
from chaosgrade.measurement import METRICS, Measurement, measure
from chaosgrade.outages import Baseline
from chaosgrade.timeline import timeline
from chaosgrade.write_figures import FIGURES
from tests.synthetic import (
    CUSTOMERS,
    FAULT,
    RATE,
    SCALE,
    WINDOW,
    Outcome,
    down,
    records,
)


def one(evidence: list[Record], metric: str) -> Measurement:
    return measure(evidence, [metric])[metric]


@pytest.mark.parametrize(("start", "end"), [(0.0, 2.0), (1.0, 1.25), (3.0, 9.5), (0.5, 0.52)])
def test_an_outage_of_known_length_is_measured_exactly(start: float, end: float) -> None:
    """Length, total and end of an outage come out to the microsecond, in AWS time."""
    figures = measure(
        records(down(start, end)),
        ["outage_longest", "outage_total", "total_outage_longest", "time_to_recover"],
    )
    for name in ("outage_longest", "outage_total", "total_outage_longest"):
        assert figures[name].value == pytest.approx((end - start) * SCALE, abs=1e-3), name
        assert figures[name].projected
        assert not figures[name].censored
    recovery = figures["time_to_recover"]
    assert recovery.value == pytest.approx(end * SCALE, abs=1e-3)
    assert recovery.low == pytest.approx((end - 1 / RATE) * SCALE, abs=1e-3)
    assert recovery.high == pytest.approx((end + 1 / RATE) * SCALE, abs=1e-3)


def test_a_partial_outage_is_measured_within_its_own_sampling_error() -> None:
    """One failing target of six: the interval holds the true length in nine runs of ten."""
    held = 0
    for seed in range(60):
        draw = random.Random(seed)
        evidence = records(partly(draw, 4.0))
        figure = one(evidence, "outage_longest")
        assert figure.low is not None
        assert figure.high is not None
        held += figure.low <= 4 * SCALE <= figure.high
        assert figure.high - figure.low < 8 * SCALE
    assert held >= 54


def partly(draw: random.Random, end: float) -> Outcome:
    return lambda at: "timeout" if 0 <= at < end and draw.random() < 1 / 6 else "ok"


def test_one_failed_request_is_noise() -> None:
    """A single failure neither starts an outage nor delays recovery."""
    figures = measure(records(down(7.0, 7.005)), ["time_to_recover", "outage_total"])
    assert figures["time_to_recover"].value == 0
    assert figures["outage_total"].value == 0


def test_a_stray_failure_does_not_shift_a_boundary() -> None:
    """Noise half a second before and after an outage is not part of it."""
    strays = (0.5, 3.5)
    base = down(1.0, 3.0)
    evidence = records(lambda at: "reset" if any(abs(at - s) < 1e-6 for s in strays) else base(at))
    assert one(evidence, "outage_longest").value == pytest.approx(2 * SCALE, abs=1e-3)
    assert one(evidence, "time_to_recover").value == pytest.approx(3 * SCALE, abs=1e-3)


def test_a_baseline_that_fails_now_and_then_is_not_an_outage() -> None:
    """Failures as frequent as before the fault are the baseline's level."""
    draw = random.Random(5)
    evidence = records(lambda _: "http_503" if draw.random() < 0.02 else "ok")
    assert one(evidence, "time_to_recover").value == 0


def test_failures_too_thin_for_one_stretch_are_found_all_the_same() -> None:
    """1% of failures for ever is no recovery, even if no single second is remarkable."""
    count = 0

    def outcome(at: float) -> str:
        nonlocal count
        count += at > 0
        return "http_503" if at > 0 and count % 100 == 0 else "ok"

    figure = one(records(outcome), "time_to_recover")
    assert figure.censored


def test_a_late_outage_counts_for_recovery() -> None:
    """A system that breaks after the fault began has recovered when that is over, not at once."""
    assert one(records(down(5, 6)), "time_to_recover").value == pytest.approx(6 * SCALE, abs=1e-3)


@pytest.mark.parametrize("end", [WINDOW + 1, WINDOW - 0.5])
def test_no_recovery_within_the_window_is_censored(end: float) -> None:
    """Without a whole good stretch the recovery time is at least the window."""
    figure = one(records(down(0, end)), "time_to_recover")
    assert figure.censored
    assert figure.value == pytest.approx(WINDOW * SCALE)
    assert figure.high is None


def test_availability_counts_what_was_due_in_the_window() -> None:
    """Two of fifteen seconds lost, whatever happened before and after."""
    figures = measure(
        records(lambda at: "refused" if 1 <= at + 1e-9 < 3 or at >= WINDOW else "ok", attempts=3),
        ["availability", "availability_per_attempt", "retry_amplification", "customers_affected"],
    )
    figure = figures["availability"]
    assert figure.value == pytest.approx(13 / 15)
    assert figure.low is not None
    assert figure.high is not None
    assert figure.low < 13 / 15 < figure.high
    assert figures["availability_per_attempt"].value == pytest.approx(13 / (13 + 2 * 3))
    assert figures["retry_amplification"].value == pytest.approx((13 + 2 * 3) / 15)
    assert figures["customers_affected"].value == 1


def test_customers_affected_is_a_share_of_those_seen() -> None:
    """A hundred milliseconds of outage meet one customer's turn each."""
    evidence = records(down(1.0, 1.025))
    assert one(evidence, "customers_affected").value == pytest.approx(5 / CUSTOMERS)


def test_the_baseline_ends_where_the_fault_can_reach() -> None:
    """A request in flight when the fault began says nothing about the time before."""
    assert one(records(down(-0.001, 2.0)), "baseline_availability").value == 1
    half = records(lambda at: "reset" if at < -1.5 else "ok")
    assert one(half, "baseline_availability").value == pytest.approx(0.5, abs=0.01)


def test_latency_is_never_projected() -> None:
    """Milliseconds are as measured: what AWS would add is unknown."""
    figure = one(records(), "latency_p99")
    assert figure.value == pytest.approx(2.0, rel=0.01)
    assert not figure.projected


def test_target_health_gives_detection_replacement_and_capacity() -> None:
    """Six targets, five from 1 s, four from 2 s, six again from 8 s."""
    evidence = records(health=((-3, 6), (1.0, 5), (2.0, 4), (8.0, 6)))
    figures = measure(evidence, ["time_to_detect", "time_to_replace", "capacity_kept"])
    assert figures["time_to_detect"].value == pytest.approx(1.0 * SCALE)
    assert figures["time_to_detect"].low == pytest.approx(0.8 * SCALE)
    assert figures["time_to_replace"].value == pytest.approx(8.0 * SCALE)
    assert figures["capacity_kept"].value == pytest.approx(4 / 6)
    decided = [record.at - FAULT for record in evidence if record.seq in
               figures["time_to_detect"].evidence]  # fmt: skip
    assert 1.0 in [pytest.approx(at) for at in decided]


def test_what_is_never_detected_or_replaced_is_no_pass() -> None:
    """An undetected fault is censored; capacity that stays low is censored."""
    detect = one(records(), "time_to_detect")
    assert detect.censored
    assert detect.value == WINDOW * SCALE
    replace = one(records(health=((-3, 6), (1, 5))), "time_to_replace")
    assert replace.censored
    assert one(records(), "time_to_replace").value is None


def test_without_a_fault_nothing_after_it_is_measured() -> None:
    """Only the baseline has a figure when nothing was broken."""
    figures = measure(records(fault=False), METRICS)
    assert figures.pop("baseline_availability").value == 1
    for figure in figures.values():
        assert figure.value is None
        assert figure.reason == "no fault was injected"


def test_missing_data_never_gives_a_value() -> None:
    """No traffic, no baseline, a worker that died in mid-window: None with a reason, for each."""
    others = ("time_to_detect", "time_to_replace", "notice_left", *FIGURES, *CALL_FIGURES)
    traffic = [m for m in METRICS if m not in others]
    bare = [r for r in records(health=()) if r.kind != "traffic"]
    for name, figure in measure(bare, METRICS).items():
        assert figure.value is None, name
        assert figure.reason, name
    dead = records(traffic_until=9.0)
    for name, figure in measure(dead, traffic).items():
        if name in ("baseline_availability", "capacity_kept"):
            continue
        assert figure.value is None, name
        assert "no traffic was offered" in figure.reason
    unfounded = [r for r in records() if r.kind != "traffic" or r.at > FAULT + 0.1]
    assert one(unfounded, "time_to_recover").value is None
    assert measure([], METRICS)["availability"].value is None


def test_away_from_the_stage_durations_are_as_measured() -> None:
    """On AWS a second is a second."""
    figure = one(records(down(0, 1), kind="aws"), "outage_longest")
    assert figure.value == pytest.approx(1.0, abs=1e-6)
    assert not figure.projected


def test_an_observation_that_ends_early_ends_the_window() -> None:
    """What happens after the observation, when things are undone, is not counted."""
    evidence = records(down(5.0, 9.0), ends_at=4.0)
    assert one(evidence, "availability").value == 1


def test_evidence_is_named_and_bounded() -> None:
    """Each figure names its deciding records, never thousands."""
    evidence = records(down(0, WINDOW + 1))
    fault = next(record.seq for record in evidence if record.kind == "fault.start")
    for name, figure in measure(evidence, METRICS).items():
        assert len(figure.evidence) <= 12, name
        if figure.value is not None and name != "baseline_availability":
            assert fault in figure.evidence, name


def test_an_unknown_metric_is_a_usage_error() -> None:
    """A misspelt objective must not become a missing figure."""
    with pytest.raises(UsageError, match="'availabilty' is unknown; there are: availability"):
        measure([], ["availabilty"])


@pytest.mark.parametrize(("failed", "before"), [(0, 600), (3, 600), (12, 600), (0, 30)])
def test_allowed_failures_are_rarely_exceeded_by_noise(failed: int, before: int) -> None:
    """Drawn from what the baseline leaves possible, one stretch in a hundred is beyond 1%."""
    draw = random.Random(failed)
    limit = Baseline(failed, before).allowed(200, 1e-2)
    beyond = 0
    for _ in range(2000):
        rate = draw.betavariate(failed + 0.5, before - failed + 0.5)
        beyond += sum(draw.random() < rate for _ in range(200)) > limit
    assert beyond / 2000 < 0.016
    assert limit < 200 * (failed + 10) / before + 10


def test_a_timeline_shows_bins_health_and_events_relative_to_the_fault() -> None:
    """A picture's data adds up to the evidence."""
    drawn = timeline(records(down(1.0, 2.0), health=((-3, 6), (1.5, 5))))
    assert drawn.faulted
    assert drawn.window_end_s == pytest.approx(WINDOW)
    assert drawn.aws_s(1.0) == SCALE
    assert sum(one.offered for one in drawn.bins) == round((3 + WINDOW + 1) * RATE)
    assert sum(one.offered - one.succeeded for one in drawn.bins) == RATE
    by_start = {round(one.start_s, 2): one for one in drawn.bins}
    assert by_start[1.25].succeeded == 0
    assert by_start[1.25].latency_p99_ms is None
    assert by_start[0.0].healthy == 6
    assert by_start[2.0].healthy == 5
    assert [event.kind for event in drawn.events] == ["fault"]
    assert timeline([]).bins == ()
