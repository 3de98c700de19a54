"""Scaling policies of Amazon EC2 Auto Scaling, in methods of moto that the stage replaces.

moto keeps them by name, whatever their group, and knows no steps, cooldown or warmup.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import FakeScalingPolicy
from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.core.responses import ActionResult, EmptyResult

from chaosgrade.stage.autoscaling import IN_SERVICE
from chaosgrade.stage.moto_patching import add, replace
from chaosgrade.stage.operations import NotPlayed
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
from chaosgrade.stage.world import ACCOUNT


class ScalingPolicies:
    """Executes the scaling policies of the played AWS, in one account and Region.

    Args:
        now: AWS seconds since the stage began.
    """

    def __init__(self, region: str, now: Callable[[], float]) -> None:
        self._backend: Any = get_backend("autoscaling")[ACCOUNT][region]
        self._now = now

    def by_alarm(self, arn: str, distance: float) -> None:
        """Execute a policy because an alarm says so.

        Args:
            distance: of the alarm's metric to its threshold.

        Raises:
            LookupError: there is no such policy or group any more.
        """
        policy = next((p for p in self._backend.policies.values() if p.arn == arn), None)
        if policy is None or policy.auto_scaling_group_name not in self._backend.autoscaling_groups:
            raise LookupError(f"there is no scaling policy {arn}")
        group = self._backend.autoscaling_groups[policy.auto_scaling_group_name]
        if "AlarmNotification" not in {p["ProcessName"] for p in group.suspended_processes}:
            self.execute(policy, distance, waits=True)

    def execute(self, policy: Any, distance: float, *, waits: bool) -> None:
        """Execute one of moto's policies.

        Args:
            waits: whether a cooldown is respected.
        """
        group = self._backend.autoscaling_groups[policy.auto_scaling_group_name]
        rules, now = _rules(policy, group), self._now()
        in_service_at = [
            state.in_service_at
            for state in group.instance_states
            if state.lifecycle_state == IN_SERVICE and hasattr(state, "in_service_at")
        ]
        capacity = Capacity(
            desired=int(group.desired_capacity),
            minimum=int(group.min_size),
            maximum=int(group.max_size),
            settled=sum(now - at >= rules.wait_s for at in in_service_at),
            scaled_for_s=now - getattr(group, "scaled_at", -math.inf),
        )
        size = wanted(rules, capacity, distance, waits=waits)
        if size != capacity.desired:
            group.desired_capacity = size
            if rules.kind == SIMPLE:
                group.scaled_at = now


def _rules(policy: Any, group: Any) -> Policy:
    default_s = float(group.default_cooldown or 300)
    if policy.policy_type == SIMPLE:
        steps, given = [Step(int(policy.scaling_adjustment))], policy.cooldown
    else:
        steps = [_step(step) for step in policy.step_adjustments]
        given = policy.estimated_instance_warmup
    return Policy(
        policy.policy_type,
        policy.adjustment_type,
        steps,
        int(policy.min_adjustment_magnitude or 0),
        default_s if given is None else float(given),
    )


def _step(fields: Mapping[str, Any]) -> Step:
    low, high = fields.get("MetricIntervalLowerBound"), fields.get("MetricIntervalUpperBound")
    return Step(
        int(fields["ScalingAdjustment"]),
        -math.inf if low is None else float(low),
        math.inf if high is None else float(high),
    )


def install(policies: ScalingPolicies, alarms_of: Callable[[str], list[dict[str, str]]]) -> None:
    """Replace moto's methods, in this process, for good.

    Args:
        alarms_of: {"AlarmName", "AlarmARN"} of the alarms that execute a policy (ARN).
    """

    def put_scaling_policy(response: Any) -> Any:
        params, backend = response._get_params(), response.autoscaling_backend
        _check(backend, params)
        kind = params.get("PolicyType", SIMPLE)
        policy = FakeScalingPolicy(
            name=params["PolicyName"],
            policy_type=kind,
            metric_aggregation_type=params.get("MetricAggregationType"),
            adjustment_type=params["AdjustmentType"],
            as_name=params["AutoScalingGroupName"],
            min_adjustment_magnitude=params.get("MinAdjustmentMagnitude"),
            scaling_adjustment=params.get("ScalingAdjustment"),
            cooldown=params.get("Cooldown"),
            target_tracking_config={},
            step_adjustments=params.get("StepAdjustments", []),
            estimated_instance_warmup=params.get("EstimatedInstanceWarmup"),
            predictive_scaling_configuration="",
            autoscaling_backend=backend,
        )
        policy.cooldown = params.get("Cooldown")  # without one the group's, not moto's
        backend.policies[_key(policy.auto_scaling_group_name, policy.name)] = policy
        return ActionResult({"PolicyARN": policy.arn, "Alarms": []})

    replace(AutoScalingResponse, "put_scaling_policy", put_scaling_policy)

    def delete_policy(response: Any) -> Any:
        policy = _named(response)
        backend = response.autoscaling_backend
        del backend.policies[_key(policy.auto_scaling_group_name, policy.name)]
        return EmptyResult()

    replace(AutoScalingResponse, "delete_policy", delete_policy)

    def execute_policy(response: Any) -> Any:
        policy = _named(response)
        value, threshold = (
            response._get_param(name) for name in ("MetricValue", "BreachThreshold")
        )
        if policy.policy_type == STEP and (value is None or threshold is None):
            raise ValidationError("MetricValue and BreachThreshold are required for StepScaling")
        distance = 0.0 if value is None or threshold is None else float(value) - float(threshold)
        waits = response._get_bool_param("HonorCooldown", False)
        policies.execute(policy, distance, waits=waits)
        return EmptyResult()

    replace(AutoScalingResponse, "execute_policy", execute_policy)
    add(FakeScalingPolicy, "alarms", property(lambda policy: alarms_of(policy.arn)))


def _check(backend: Any, given: Mapping[str, Any]) -> None:
    """Refuse what AWS would refuse, and what the stage would not carry out.

    Args:
        given: as PutScalingPolicy takes it.

    Raises:
        ValidationError, NotPlayed: accordingly.
    """
    kind = given.get("PolicyType", SIMPLE)
    if kind not in (SIMPLE, STEP):
        raise NotPlayed(f"of type {kind}: there are {SIMPLE} and {STEP}")
    if (aggregation := given.get("MetricAggregationType", "Average")) != "Average":
        raise NotPlayed(f"with MetricAggregationType {aggregation}: the datapoint is the alarm's")
    if not given.get("Enabled", True) or given.get("MinAdjustmentStep"):
        raise NotPlayed("that is not enabled, or with MinAdjustmentStep")
    if given["AutoScalingGroupName"] not in backend.autoscaling_groups:
        raise ValidationError(f"Group {given['AutoScalingGroupName']} not found")
    if given.get("AdjustmentType") not in (EXACT, CHANGE, PERCENT):
        raise ValidationError(f"AdjustmentType must be {EXACT}, {CHANGE} or {PERCENT}")
    needed, other = "ScalingAdjustment", "StepAdjustments"
    if kind == STEP:
        needed, other = other, needed
    if given.get(needed) in (None, []) or given.get(other) not in (None, []):
        raise ValidationError(f"{kind} takes {needed} and not {other}")


def _key(group: str, name: str) -> str:
    return f"{group}/{name}"


def _named(response: Any) -> Any:
    """The policy that a call names, by name and group or by ARN.

    Raises:
        ValidationError: there is none.
    """
    name, group = response._get_param("PolicyName"), response._get_param("AutoScalingGroupName")
    for policy in response.autoscaling_backend.policies.values():
        if name in (policy.name, policy.arn) and group in (None, policy.auto_scaling_group_name):
            return policy
    raise ValidationError(f"PolicyARN or PolicyName does not exist: {name}")
