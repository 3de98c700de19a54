"""What a scaling policy makes of a group's desired capacity: pure rules.

Source: Amazon EC2 Auto Scaling User Guide, "Step and simple scaling policies for Amazon EC2 Auto
Scaling" (scaling adjustment types, step adjustments, instance warmup, cooldown).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

SIMPLE, STEP = "SimpleScaling", "StepScaling"
EXACT, CHANGE, PERCENT = "ExactCapacity", "ChangeInCapacity", "PercentChangeInCapacity"


@dataclass(frozen=True, slots=True)
class Step:
    """An adjustment for metrics so far beyond the alarm's threshold.

    Args:
        low, high: bounds of the distance to the threshold.
    """

    adjustment: int
    low: float = -math.inf
    high: float = math.inf

    def takes(self, distance: float) -> bool:
        """Whether it is meant for this distance: the bound that is nearer to zero is included."""
        if distance >= 0:
            return self.low <= distance < self.high
        return self.low < distance <= self.high


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy of a group.

    Args:
        kind: `SIMPLE` or `STEP`.
        adjustment_type: `EXACT`, `CHANGE` or `PERCENT`.
        steps: of a simple policy one, for every distance.
        at_least: by how many instances a percentage changes the group.
        wait_s: AWS seconds: a simple policy's cooldown, a step policy's instance warmup.
    """

    kind: str
    adjustment_type: str
    steps: Sequence[Step]
    at_least: int
    wait_s: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """A group as a policy sees it.

    Args:
        desired, minimum, maximum: its sizes.
        settled: how many have been in service for the policy's warmup.
        scaled_for_s: AWS seconds since a simple policy scaled it last.
    """

    desired: int
    minimum: int
    maximum: int
    settled: int
    scaled_for_s: float


def wanted(policy: Policy, capacity: Capacity, distance: float, *, waits: bool = True) -> int:
    """The desired capacity that a policy comes to.

    Args:
        distance: of the metric to the alarm's threshold.
        waits: whether a cooldown is respected.
    """
    if policy.kind == SIMPLE and waits and capacity.scaled_for_s < policy.wait_s:
        return capacity.desired
    step = next((step for step in policy.steps if step.takes(distance)), None)
    if step is None:
        return capacity.desired
    size = _adjusted(policy, step.adjustment, capacity.desired)
    if policy.kind == STEP and policy.adjustment_type != EXACT:
        if step.adjustment < 0 and capacity.settled < capacity.desired:
            return capacity.desired  # not while it grows
        if step.adjustment > 0:
            # Instances that warm up are not counted yet, so that an alarm that goes on does not
            # add the same ones again.
            size = max(_adjusted(policy, step.adjustment, capacity.settled), capacity.desired)
    return min(max(size, capacity.minimum), capacity.maximum)


def _adjusted(policy: Policy, adjustment: int, size: int) -> int:
    if policy.adjustment_type == EXACT:
        return adjustment
    if policy.adjustment_type == CHANGE:
        return size + adjustment
    change = size * adjustment / 100
    # Between 0 and 1 counts as 1; beyond, towards zero.
    rounded = math.copysign(max(math.floor(abs(change)), 1), change) if change else 0.0
    if abs(rounded) < policy.at_least:
        rounded = math.copysign(policy.at_least, adjustment)
    return size + int(rounded)
