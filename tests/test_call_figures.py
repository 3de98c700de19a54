"""Figures of calls to a dependency, from evidence whose truth is known."""

from collections.abc import Iterable
from random import Random

import pytest

from chaosgrade.evidence import Record
from chaosgrade.measurement import Measurement, measure
from chaosgrade.retries import RetryBehaviour

START = 1_790_000_000.0
FAULT, HEALED, END = START + 3, START + 9, START + 15
RATE = 40
FIGURES = (
    "call_amplification", "call_attempts", "call_peak", "retry_jitter", "time_to_serve_calls",
)  # fmt: skip

type Call = tuple[int, float, int]
"""Its number, seconds from START, status."""


def measured(
    calls: Iterable[Call],
    *,
    undone: bool = True,
    retries: RetryBehaviour | None = None,
    took_s: float = 0.001,
) -> dict[str, Measurement]:
    rows = [
        [call, at * 1e3, took_s * 1e3, status]
        for call, at, status in sorted(calls, key=lambda c: c[1])
    ]
    told = [
        (
            START,
            "run.start",
            {"window_s": 120.0, "environment": {"kind": "stage", "time_scale": 20}},
        ),
        (FAULT, "fault.start", {}),
        (FAULT, "change.applied", {"reversible": True}),
        *([(HEALED, "undo.start", {})] if undone else []),
        (END, "calls", {"start": START, "calls": rows}),
        *([(END, "retries", retries.to_json())] if retries else []),
    ]
    return measure([Record(seq, *one) for seq, one in enumerate(told)], FIGURES)  # type: ignore[arg-type]  # (at, kind, data)


def traffic(attempts: int = 1, gap_s: float = 0.1, late_s: float = 0.0) -> list[Call]:
    """`RATE` calls a second; those that fail are tried again until they succeed or give up.

    Args:
        late_s: gaps are by up to so much longer.
    """
    made = []
    chance = Random(1)
    for call in range(int((END - START) * RATE)):
        at = call / RATE
        for _ in range(attempts):
            away = FAULT - START <= at < HEALED - START
            made.append((call, at, 503 if away else 200))
            if not away:
                break
            at += gap_s + chance.uniform(0.0, late_s)
    return made


def test_attempts_are_counted_by_call() -> None:
    """Three of each call that the fault met; those before it say what is usual."""
    found = measured(traffic(attempts=3))
    assert found["call_amplification"].value == pytest.approx(3, abs=0.02)
    assert found["call_attempts"].value == 3
    assert found["call_peak"].value == pytest.approx(1.4, abs=0.3)
    assert found["time_to_serve_calls"].value == 0
    assert not found["call_amplification"].projected


def test_attempts_without_a_trace_are_not_taken_for_calls_of_their_own() -> None:
    """Three times the calls of before and one attempt of each: nobody has passed on the trace."""
    traceless = [(number, at, s) for number, (_, at, s) in enumerate(traffic(attempts=3))]
    found = measured(traceless, retries=RetryBehaviour("no-retry"))
    for name in ("call_amplification", "call_attempts", "retry_jitter"):
        assert found[name].value is None
        assert "trace id" in found[name].reason


def test_calls_that_the_fault_has_met_on_their_way_are_no_baseline() -> None:
    """They take 1.9 s: most of those before it fail. Every other one fails for ever after."""
    calls = [
        (n, at, 200 if at < 1.2 or (at >= HEALED - START and n % 2) else 503)
        for n, at, _ in traffic()
    ]
    assert measured(calls, took_s=1.9)["time_to_serve_calls"].censored


def test_what_has_waited_comes_at_once() -> None:
    """Calls without an end, all of which try again within half a second of the return."""
    found = measured(traffic(attempts=1000, gap_s=0.5))
    attempts = found["call_attempts"].value
    peak = found["call_peak"].value
    assert attempts is not None
    assert attempts >= 12
    assert peak is not None
    assert peak > 10
    assert "attempts within 0.5 s, 20.0 were usual" in found["call_peak"].reason


def test_the_time_to_serve_is_from_the_undo_on_and_projected() -> None:
    """Two more seconds of refusals are forty projected."""
    calls = [(n, at, 503 if FAULT - START <= at < HEALED - START + 2 else s)
             for n, at, s in traffic()]  # fmt: skip
    found = measured(calls)["time_to_serve_calls"]
    assert found.value == pytest.approx(40, abs=1)
    assert found.projected


def test_a_fault_that_met_no_call_proves_nothing() -> None:
    """No value, not a good one."""
    well = [(n, at, 200) for n, at, _ in traffic()]
    found = measured(well)
    assert found["call_amplification"].value is None
    assert found["call_attempts"].value is None
    assert "has not reached the dependency" in found["call_attempts"].reason
    nobody = measured([])
    assert {one.value for one in nobody.values()} == {None}


def test_without_an_undo_nothing_is_known_of_the_return() -> None:
    found = measured(traffic(attempts=3), undone=False)
    assert found["call_peak"].value is None
    assert found["time_to_serve_calls"].value is None


def test_whoever_leaves_before_the_answer_was_not_served() -> None:
    """The load balancer says 460; a client's own mistakes are answers."""
    calls = [(n, at, 460 if s == 503 else 404) for n, at, s in traffic()]
    assert measured(calls)["call_attempts"].value == 1


def test_the_share_of_the_gap_that_is_random_comes_with_the_familys_name() -> None:
    """What could not be told has no value, and says why."""
    for behaviour, value, named in (
        (RetryBehaviour("full-jitter", jitter_share=1.0), 1.0, "full-jitter"),
        (RetryBehaviour("exponential", jitter_share=0.0), 0.0, "exponential"),
        (RetryBehaviour("no-retry", reasons=("none of 9 was retried",)), 1.0, "none of 9"),
        (RetryBehaviour("inconclusive", reasons=("4 gaps",)), None, "inconclusive: 4 gaps"),
        (
            RetryBehaviour("inconclusive", nearest="fixed", jitter_share=0.0), 0.0,
            "clients back off by fixed",
        ),
    ):  # fmt: skip
        found = measured(traffic(), retries=behaviour)["retry_jitter"]
        assert found.value == value
        assert named in found.reason
    assert measured(traffic(attempts=3))["retry_jitter"].value is None


def test_gaps_that_hardly_differ_are_not_random_whatever_the_family() -> None:
    """A busy machine makes fixed gaps look like others; it does not make them jitter."""
    doubt = RetryBehaviour("inconclusive", nearest="additive-jitter", reasons=("busy",))
    found = measured(traffic(attempts=3, gap_s=0.2, late_s=0.03), retries=doubt)["retry_jitter"]
    assert found.value == 0.0
    assert found.high == pytest.approx(0.12, abs=0.02)
    found = measured(traffic(attempts=3, gap_s=0.2, late_s=0.2), retries=doubt)["retry_jitter"]
    assert found.value is None
