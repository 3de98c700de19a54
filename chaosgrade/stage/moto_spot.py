"""Spot Instances and the capacity of pools, in methods of moto that the stage replaces.

moto has room for everything and never takes an instance back. docs/stage-operations.md lists the
operations.
"""

import functools
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models import EC2Backend

from chaosgrade.stage.capacity_pools import (
    ON_DEMAND,
    SPOT,
    InsufficientCapacity,
    Pool,
    no_capacity,
)
from chaosgrade.stage.mixed_instances import Mix
from chaosgrade.stage.moto_patching import complete, replace
from chaosgrade.stage.moto_world import MotoWorld
from chaosgrade.stage.world import Hooks

_INTERRUPTED = "Server.SpotInstanceTermination"


def install(hooks: Hooks, world: MotoWorld) -> None:
    """Replace them, in this process, for good."""
    _launches(world)
    _power(world)
    _requests(hooks)
    _groups()


class InsufficientInstanceCapacity(EC2ClientError, InsufficientCapacity):
    """What RunInstances and StartInstances answer."""

    def __init__(self, message: str) -> None:
        super().__init__("InsufficientInstanceCapacity", message)

    def __str__(self) -> str:
        return str(self.message)


def _need(world: MotoWorld, pool: Pool, option: str, count: int) -> None:
    """Go on only when a pool has room for so many more.

    Raises:
        InsufficientInstanceCapacity: it has not.
    """
    if world.room(pool, option) < count:
        raise InsufficientInstanceCapacity(str(no_capacity(pool, option)))


def _launches(world: MotoWorld) -> None:
    run = EC2Backend.run_instances

    @functools.wraps(run)
    def run_instances(backend: Any, image_id: Any, count: int, *args: Any, **kwargs: Any) -> Any:
        option = SPOT if kwargs.get("instance_market_options") else ON_DEMAND
        type_, subnet = kwargs.get("instance_type"), kwargs.get("subnet_id")
        if kwargs.get("launch_template"):
            data = backend._get_template_from_args(kwargs["launch_template"]).data
            if kwargs.get("is_instance_type_default"):
                type_ = data.get("InstanceType", type_)
            market = (data.get("InstanceMarketOptions") or {}).get("MarketType")
            if market == SPOT and "instance_market_options" in kwargs:
                option = kwargs["instance_market_options"] = SPOT
        zone = (
            backend.get_subnet(subnet).availability_zone
            if subnet
            else kwargs.get("placement") or f"{backend.region_name}a"
        )
        _need(world, Pool(str(type_), zone), option, int(count))
        reservation: Any = run(backend, image_id, count, *args, **kwargs)
        for instance in reservation.instances:
            if instance.lifecycle == SPOT:
                instance.spot_instance_request_id = f"sir-{secrets.token_hex(4)}"
        return reservation

    replace(EC2Backend, "run_instances", run_instances)


def _power(world: MotoWorld) -> None:
    start, stop = EC2Backend.start_instances, EC2Backend.stop_instances

    @functools.wraps(start)
    def start_instances(backend: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if instance.state == "stopped":
                _need(world, Pool(instance.instance_type, instance.placement.zone), ON_DEMAND, 1)
        return start(backend, instance_ids)

    @functools.wraps(stop)
    def stop_instances(backend: Any, instance_ids: list[str]) -> Any:
        for instance in backend.get_multi_instances_by_id(instance_ids):
            if instance.lifecycle == SPOT:
                raise EC2ClientError(
                    "UnsupportedOperation",
                    f"You can't stop the Spot Instance '{instance.id}' because it is associated "
                    "with a one-time Spot Instance request. You can only stop Spot Instances "
                    "associated with persistent Spot Instance requests.",
                )
        return stop(backend, instance_ids)

    replace(EC2Backend, "start_instances", start_instances)
    replace(EC2Backend, "stop_instances", stop_instances)


@dataclass(frozen=True, slots=True)
class _Request:
    """A Spot Instance request as DescribeSpotInstanceRequests tells it, one for each instance."""

    spot_instance_request_id: str
    instance_id: str
    instance_type: str
    state: str
    status: Mapping[str, str | datetime]
    launched_availability_zone: str
    create_time: datetime
    type: str = "one-time"
    instance_interruption_behavior: str = "terminate"

    @property
    def id(self) -> str:
        """As moto's answers call it."""
        return self.spot_instance_request_id

    def get_filter_value(self, name: str, method: str | None = None) -> str:
        """By moto's protocol for filters."""
        known = {
            "spot-instance-request-id": self.spot_instance_request_id,
            "instance-id": self.instance_id,
            "state": self.state,
            "status-code": str(self.status["Code"]),
            "launched-availability-zone": self.launched_availability_zone,
        }
        if name not in known:
            raise EC2ClientError(
                "InvalidParameterValue", f"the stage does not play the filter '{name}'"
            )
        return known[name]


def _requests(hooks: Hooks) -> None:
    def request(instance: Any) -> _Request:
        told = hooks.interruption(instance.id)
        if instance.state == "running":
            state = "active"
            marked = told is not None and hooks.now() >= told.notice_at
            code = "marked-for-termination" if marked else "fulfilled"
            if getattr(instance, "spot_request_cancelled", False):
                code = "request-canceled-and-instance-running"
        else:
            state = "closed"
            interrupted = instance.state_reason.code == _INTERRUPTED
            # Source: Amazon EC2 User Guide, "Spot Instance request status".
            code = (
                "instance-terminated-by-experiment"
                if interrupted
                else "instance-terminated-by-user"
            )
        if getattr(instance, "spot_request_cancelled", False):
            state = "cancelled"
        status = {"Code": code, "Message": code, "UpdateTime": instance.launch_time}
        return _Request(
            instance.spot_instance_request_id,
            instance.id,
            instance.instance_type,
            state,
            status,
            instance.placement.zone,
            instance.launch_time,
        )

    def describe(backend: Any, filters: Any = None, spot_instance_ids: Any = None) -> list[Any]:
        requests = [
            request(instance)
            for reservation in backend.reservations.values()
            for instance in reservation.instances
            if instance.lifecycle == SPOT
        ]
        known = {one.spot_instance_request_id for one in requests}
        for id_ in spot_instance_ids or ():
            if id_ not in known:
                raise EC2ClientError(
                    "InvalidSpotInstanceRequestID.NotFound",
                    f"The spot instance request ID '{id_}' does not exist",
                )
        return [
            one
            for one in requests
            if (not spot_instance_ids or one.spot_instance_request_id in spot_instance_ids)
            and all(one.get_filter_value(k) in v for k, v in (filters or {}).items())
        ]

    def cancel(backend: Any, request_ids: list[str]) -> list[Any]:
        """The instance goes on running: whoever wants its end terminates it as well."""
        requests = describe(backend, spot_instance_ids=request_ids)
        for one in requests:
            backend.get_instance(one.instance_id).spot_request_cancelled = True
        return requests

    replace(EC2Backend, "describe_spot_instance_requests", describe)
    replace(EC2Backend, "cancel_spot_instance_requests", cancel)


def _groups() -> None:
    create = AutoScalingBackend.create_auto_scaling_group

    @functools.wraps(create)
    def create_group(backend: Any, *args: Any, **kwargs: Any) -> Any:
        _check(kwargs.get("mixed_instances_policy"))
        return create(backend, *args, **kwargs)

    update = FakeAutoScalingGroup.update

    @functools.wraps(update)
    def update_group(group: Any, *args: Any, **kwargs: Any) -> None:
        _check(kwargs.get("mixed_instances_policy"))
        former = group.mixed_instances_policy
        update(group, *args, **kwargs)
        kept = ("mixed_instances_policy", "launch_config_name", "launch_template")
        if not any(kwargs.get(name) for name in kept):
            group.mixed_instances_policy = former  # moto forgets what a call leaves out

    update_call = AutoScalingResponse.update_auto_scaling_group

    @functools.wraps(update_call)
    def update_auto_scaling_group(response: Any) -> Any:
        answer = update_call(response)
        rebalance = response._get_bool_param("CapacityRebalance")
        if rebalance is not None:
            name = response._get_param("AutoScalingGroupName")
            response.autoscaling_backend.autoscaling_groups[name].capacity_rebalance = rebalance
        return answer

    replace(AutoScalingBackend, "create_auto_scaling_group", create_group)
    replace(FakeAutoScalingGroup, "update", update_group)
    replace(AutoScalingResponse, "update_auto_scaling_group", update_auto_scaling_group)
    complete(FakeAutoScalingGroup, _complete_group)


def _check(policy: Mapping[str, Any] | None) -> None:
    """Refuse a policy that the stage cannot carry out.

    Raises:
        ValidationError: as the API answers it.
    """
    if policy:
        try:
            Mix.of(policy, "")
        except (KeyError, ValueError) as error:
            raise ValidationError(f"MixedInstancesPolicy: {error}") from None


def _complete_group(group: Any, properties: Mapping[str, Any]) -> None:
    group.capacity_rebalance = str(properties.get("CapacityRebalance", "false")).lower() == "true"
