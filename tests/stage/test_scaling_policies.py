"""Scaling policies: what they make of a group's desired capacity."""

import math
from dataclasses import replace

import pytest

from chaosgrade.stage.scaling_policies import (
    CHANGE,
    EXACT,
    PERCENT,
    SIMPLE,
    STEP,
    Capacity,
    Policy,
    Step,
    wanted,
)

TEN = Capacity(desired=10, minimum=1, maximum=20, settled=10, scaled_for_s=math.inf)
STEPS = Policy(STEP, PERCENT, [Step(10, 0, 10), Step(30, 10)], 0, 300)


@pytest.mark.parametrize(
    ("adjustment_type", "adjustment", "at_least", "size"),
    [
        (EXACT, 4, 0, 4),
        (CHANGE, 3, 0, 13),
        (CHANGE, -3, 0, 7),
        (CHANGE, 50, 0, 20),
        (CHANGE, -50, 0, 1),
        (PERCENT, 67, 0, 16),
        (PERCENT, 6, 0, 11),
        (PERCENT, -6, 0, 9),
        (PERCENT, -58, 0, 5),
        (PERCENT, 10, 2, 12),
    ],
)
def test_an_adjustment_is_rounded_and_bounded(
    adjustment_type: str, adjustment: int, at_least: int, size: int
) -> None:
    """Percentages towards zero, but by one at least; never beyond minimum and maximum."""
    policy = Policy(SIMPLE, adjustment_type, [Step(adjustment)], at_least, 0)
    assert wanted(policy, TEN, 0) == size


def test_a_step_is_chosen_by_how_far_the_metric_is_beyond() -> None:
    """The bound that is nearer to the threshold is included."""
    assert [wanted(STEPS, TEN, far) for far in (0, 9.9, 10, 99, -1)] == [11, 11, 13, 13, 10]
    shrinking = Policy(STEP, CHANGE, [Step(-1, -10, 0), Step(-3, high=-10)], 0, 300)
    assert [wanted(shrinking, TEN, far) for far in (-1, -9.9, -10)] == [9, 9, 7]


def test_instances_that_warm_up_are_not_added_twice() -> None:
    """The User Guide's example: one is added at the first step, two more at the second."""
    grown = replace(TEN, desired=11)
    assert wanted(STEPS, grown, 5) == 11
    assert wanted(STEPS, grown, 15) == 13
    assert wanted(Policy(STEP, CHANGE, [Step(-1, high=0)], 0, 300), grown, -5) == 11


def test_a_simple_policy_cools_down() -> None:
    """Unless whoever executes it does not want to wait."""
    policy = Policy(SIMPLE, CHANGE, [Step(1)], 0, 300)
    hot = replace(TEN, scaled_for_s=299)
    assert wanted(policy, hot, 0) == 10
    assert wanted(policy, hot, 0, waits=False) == 11
    assert wanted(policy, replace(TEN, scaled_for_s=300), 0) == 11
