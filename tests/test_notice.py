"""What was left of a Spot interruption notice, from evidence where it is known exactly."""

from typing import Any

import pytest

from chaosgrade.measurement import Measurement, measure
from chaosgrade.notice import NOTICE_S
from tests.synthetic import SCALE, records

LOOK_S = 0.2 * SCALE


def notice_left(**evidence: Any) -> Measurement:
    return measure(records(**{"traffic_until": 0.0, **evidence}), ["notice_left"])["notice_left"]


NOTICE = ((-3.0, ()), (1.0, ("i-5",)), (7.0, ()))
"""To the last of six targets, 1 s after the fault; it is over 6 s later, which are 120 s of AWS."""


def test_what_is_left_is_known_to_one_look() -> None:
    """Out of service at 5 s of a notice that is over at 7 s: 2 s are 40 s of AWS's."""
    figure = notice_left(notices=NOTICE, health=((-3, 6), (5.0, 5), (9.0, 6)))
    assert figure.value == pytest.approx(2 * SCALE)
    assert figure.low == pytest.approx(2 * SCALE - LOOK_S)
    assert figure.high == pytest.approx(2 * SCALE + LOOK_S)
    assert figure.projected
    assert not figure.censored


def test_the_least_of_all_instances_counts_with_its_own_records() -> None:
    """One leaves at 4 s, one at 6 s; the records named are the fault's, its notice, its health."""
    marked = ((-3.0, ()), (1.0, ("i-4", "i-5")))
    evidence = records(notices=marked, health=((-3, 6), (4.0, 5), (6.0, 4)))
    figure = measure(evidence, ["notice_left"])["notice_left"]
    assert figure.value == pytest.approx(1 * SCALE)
    assert figure.reason == "i-4 was the last of 2 to leave service"
    kinds = [record.kind for record in evidence if record.seq in figure.evidence]
    assert kinds == ["fault.start", "spot_notices", "target_health"]
    assert evidence[figure.evidence[-1]]["targets"]["i-4"]["state"] == "unhealthy"


@pytest.mark.parametrize("left_at", [7.1, 8.0])
def test_an_instance_in_service_to_the_end_leaves_nothing(left_at: float) -> None:
    """That a health check finds it dead afterwards is no draining."""
    figure = notice_left(notices=NOTICE, health=((-3, 6), (left_at, 5)))
    assert figure.value == 0
    assert figure.low == 0
    assert figure.reason == "in service until the end of the notice: 1 of 1"


def test_an_instance_that_comes_back_into_service_counts_from_its_last_leave() -> None:
    """Out at 3 s, in again at 4 s, out for good at 6.5 s."""
    figure = notice_left(notices=NOTICE, health=((-3, 6), (3.0, 5), (4.0, 6), (6.5, 5)))
    assert figure.value == pytest.approx(0.5 * SCALE)


def test_an_instance_that_is_out_before_its_notice_has_all_of_it_left() -> None:
    """Never more than there was; also when it had gone before EC2 could give one."""
    early = notice_left(notices=NOTICE, health=((-3, 6), (0.5, 5)))
    assert early.value == early.high == pytest.approx(NOTICE_S)
    gone = notice_left(notices=((-3.0, ()),), struck=("i-5",), health=((-3, 6), (0.5, 5)))
    assert gone.value == pytest.approx(NOTICE_S)


@pytest.mark.parametrize(
    ("evidence", "reason"),
    [
        ({"fault": False, "notices": NOTICE}, "no fault was injected"),
        ({}, "not observed"),
        ({"notices": ((-3.0, ()),)}, "no Spot Instance was interrupted"),
        ({"notices": ((-3.0, ("i-5",)),)}, "no Spot Instance was interrupted"),
        ({"notices": NOTICE, "health": ()}, "no target health was recorded before the fault"),
        ({"notices": ((1.0, ("i-9",)),)}, "no interrupted Spot Instance was a target in service"),
        ({"notices": ((10.0, ("i-5",)),)}, "the observation ended before the notice of i-5 did"),
        ({"notices": NOTICE, "struck": ("i-4",)}, "i-4 was in service and got no notice"),
    ],
)
def test_what_the_evidence_lacks_is_no_zero(evidence: dict[str, Any], reason: str) -> None:
    """No value, and why; an interruption of an earlier trial is not this one's."""
    figure = notice_left(**evidence)
    assert figure.value is None
    assert reason in figure.reason
