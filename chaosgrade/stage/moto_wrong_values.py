"""Wrong values that moto keeps and AWS refuses, in methods of moto that the stage replaces.

Kept, they would have no consequence, or the stage's reconcilers would stumble over them.
"""

import functools
from collections.abc import Callable, Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend
from moto.ec2.exceptions import DependencyViolationError, EC2ClientError
from moto.ec2.models import EC2Backend
from moto.elbv2 import exceptions as elbv2_exceptions
from moto.elbv2.models import ELBv2Backend, FakeAction, FakeLoadBalancer, FakeTargetGroup

from chaosgrade.stage import balancing_attributes
from chaosgrade.stage.autoscaling import EC2, ELB, IN_SERVICE, PENDING, STANDBY
from chaosgrade.stage.moto_patching import complete, replace
from chaosgrade.stage.operations import NotPlayed

_PROCESSES = frozenset(
    {
        "AZRebalance", "AddToLoadBalancer", "AlarmNotification", "HealthCheck", "InstanceRefresh",
        "Launch", "ReplaceUnhealthy", "ScheduledActions", "Terminate",
    }
)  # fmt: skip
"""Amazon EC2 Auto Scaling API Reference, SuspendProcesses."""
_HEALTH_TYPES = frozenset({EC2, ELB, "EBS", "VPC_LATTICE"})
"""The same, UpdateAutoScalingGroup: one or more of them, with commas between them."""


def install(has_addresses: Callable[[str], bool]) -> None:
    """Replace them, in this process, for good; after those that carry out what is right.

    Args:
        has_addresses: whether the stage has given out addresses in a subnet.
    """
    _power()
    _subnets(has_addresses)
    _network_acls()
    _processes()
    _health_types()
    _members()
    _balancing()
    _attributes()


def _power() -> None:
    def checking(change: Any, done: str) -> Any:
        @functools.wraps(change)
        def checked(backend: Any, instance_ids: list[str]) -> Any:
            for instance in backend.get_multi_instances_by_id(instance_ids):
                if instance.state == "terminated":
                    raise EC2ClientError(
                        "IncorrectInstanceState",
                        f"The instance '{instance.id}' is not in a state from which it can be "
                        f"{done}.",
                    )
            return change(backend, instance_ids)

        return checked

    for name, done in (("start_instances", "started"), ("stop_instances", "stopped")):
        replace(EC2Backend, name, checking(getattr(EC2Backend, name), done))


def _subnets(has_addresses: Callable[[str], bool]) -> None:
    delete = EC2Backend.delete_subnet

    @functools.wraps(delete)
    def delete_subnet(backend: Any, subnet_id: str) -> Any:
        if has_addresses(subnet_id):
            raise DependencyViolationError(
                f"The subnet '{subnet_id}' has dependencies and cannot be deleted."
            )
        return delete(backend, subnet_id)

    replace(EC2Backend, "delete_subnet", delete_subnet)


def _network_acls() -> None:
    def checking(change: Any) -> Any:
        @functools.wraps(change)
        def checked(backend: Any, *args: Any, **kwargs: Any) -> Any:
            cidr = kwargs["cidr_block"] if "cidr_block" in kwargs else args[5]
            try:
                IPv4Network(cidr or "0.0.0.0/0", strict=False)
            except ValueError:
                raise EC2ClientError(
                    "InvalidParameterValue",
                    f"Value ({cidr}) for parameter cidrBlock is invalid. "
                    "This is not a valid CIDR block.",
                ) from None
            return change(backend, *args, **kwargs)

        return checked

    for name in ("create_network_acl_entry", "replace_network_acl_entry"):
        replace(EC2Backend, name, checking(getattr(EC2Backend, name)))


def _processes() -> None:
    def checking(change: Any) -> Any:
        @functools.wraps(change)
        def checked(backend: Any, group_name: str, scaling_processes: list[str]) -> Any:
            _found(backend, group_name)
            unknown = sorted(set(scaling_processes or ()) - _PROCESSES)
            if unknown:
                raise ValidationError(
                    f"{', '.join(unknown)} unknown; processes are {', '.join(sorted(_PROCESSES))}"
                )
            return change(backend, group_name, scaling_processes)

        return checked

    for name in ("suspend_processes", "resume_processes"):
        replace(AutoScalingBackend, name, checking(getattr(AutoScalingBackend, name)))


def _found(backend: Any, group_name: str) -> Any:
    if group_name not in backend.autoscaling_groups:
        raise ValidationError(f"AutoScalingGroup name not found - '{group_name}'")
    return backend.autoscaling_groups[group_name]


def _health_types() -> None:
    def checking(change: Any) -> Any:
        @functools.wraps(change)
        def checked(backend: Any, *args: Any, **kwargs: Any) -> Any:
            kinds = set((kwargs.get("health_check_type") or EC2).split(","))
            if unknown := sorted(kinds - _HEALTH_TYPES):
                raise ValidationError(
                    f"HealthCheckType {','.join(unknown)} unknown; there are "
                    f"{', '.join(sorted(_HEALTH_TYPES))}"
                )
            if unplayed := sorted(kinds - {EC2, ELB}):
                raise NotPlayed(f"with HealthCheckType {','.join(unplayed)}")
            return change(backend, *args, **kwargs)

        return checked

    for name in ("create_auto_scaling_group", "update_auto_scaling_group"):
        replace(AutoScalingBackend, name, checking(getattr(AutoScalingBackend, name)))


def _members() -> None:
    attach = AutoScalingBackend.attach_instances

    @functools.wraps(attach)
    def attach_instances(backend: Any, group_name: str, instance_ids: list[str]) -> None:
        group = _found(backend, group_name)
        for other in backend.autoscaling_groups.values():
            for state in other.instance_states:
                if state.instance.id in instance_ids:
                    raise ValidationError(
                        f"Instance {state.instance.id} is already part of "
                        f"AutoScalingGroup:{other.name}"
                    )
        wanted = group.desired_capacity + len(instance_ids)
        attach(backend, group_name, instance_ids)
        group.desired_capacity = wanted  # moto counts those as well that are on their way out

    replace(AutoScalingBackend, "attach_instances", attach_instances)

    def in_state(move: Any, *allowed: str) -> Any:
        @functools.wraps(move)
        def checked(backend: Any, group_name: str, instance_ids: list[str], *more: Any) -> Any:
            for state in _found(backend, group_name).instance_states:
                if state.instance.id in instance_ids and state.lifecycle_state not in allowed:
                    raise ValidationError(
                        f"The instance {state.instance.id} is in {state.lifecycle_state}, not in "
                        f"{' or '.join(allowed)}."
                    )
            return move(backend, group_name, instance_ids, *more)

        return checked

    for name, allowed in (
        ("enter_standby_instances", (IN_SERVICE, PENDING)),
        ("exit_standby_instances", (STANDBY,)),
    ):
        move = getattr(AutoScalingBackend, name)
        replace(AutoScalingBackend, name, in_state(move, *allowed))


def _balancing() -> None:
    modify_listener = ELBv2Backend.modify_listener

    @functools.wraps(modify_listener)
    def checked_listener(backend: Any, *args: Any, **kwargs: Any) -> Any:
        actions = kwargs["actions"] if "actions" in kwargs else args[5]
        backend._validate_actions([FakeAction(action) for action in actions or ()])
        return modify_listener(backend, *args, **kwargs)

    replace(ELBv2Backend, "modify_listener", checked_listener)
    create_group = ELBv2Backend.create_target_group

    @functools.wraps(create_group)
    def checked_group(backend: Any, name: str, **kwargs: Any) -> Any:
        _check_port(kwargs.get("health_check_port"))
        return create_group(backend, name, **kwargs)

    replace(ELBv2Backend, "create_target_group", checked_group)
    modify_group = ELBv2Backend.modify_target_group

    @functools.wraps(modify_group)
    def modify_target_group(
        backend: Any, arn: str, protocol: Any = None, port: Any = None, *args: Any, **kwargs: Any
    ) -> Any:
        _check_port(port)
        return modify_group(backend, arn, protocol, port, *args, **kwargs)

    replace(ELBv2Backend, "modify_target_group", modify_target_group)


def _check_port(given: Any) -> None:
    port = str(given)
    if given not in (None, "traffic-port") and not (port.isdecimal() and 0 < int(port) < 65536):
        raise elbv2_exceptions.ValidationError(
            f"Health check port '{given}' must be 'traffic-port' or in the range 1-65535"
        )


def _attributes() -> None:
    modify_group = ELBv2Backend.modify_target_group_attributes

    @functools.wraps(modify_group)
    def modify_target_group_attributes(
        backend: Any, target_group_arn: str, attributes: dict[str, str]
    ) -> None:
        _check_call(attributes)
        _check_known(attributes)
        modify_group(backend, target_group_arn, attributes)

    replace(ELBv2Backend, "modify_target_group_attributes", modify_target_group_attributes)
    modify_balancer = ELBv2Backend.modify_load_balancer_attributes

    @functools.wraps(modify_balancer)
    def modify_load_balancer_attributes(backend: Any, arn: str, attrs: dict[str, str]) -> Any:
        _check_call(attrs)
        return modify_balancer(backend, arn, attrs)

    replace(ELBv2Backend, "modify_load_balancer_attributes", modify_load_balancer_attributes)
    complete(FakeTargetGroup, _check_target_group)
    complete(FakeLoadBalancer, _check_balancer)


def _check_target_group(group: Any, properties: Mapping[str, Any]) -> None:
    attributes = properties.get("TargetGroupAttributes", ())
    _check_known(one["Key"] for one in attributes)
    _check_template(attributes)


def _check_balancer(balancer: Any, properties: Mapping[str, Any]) -> None:
    _check_template(properties.get("LoadBalancerAttributes", ()))


def _check_call(attributes: Mapping[str, str]) -> None:
    _check(attributes)
    if unplayed := balancing_attributes.unplayed(attributes):
        raise NotPlayed(f"with {unplayed}")


def _check_template(given: Iterable[Mapping[str, Any]]) -> None:
    # CloudFormation takes true for "true".
    attributes = {
        str(one["Key"]): str(value).lower() if isinstance(value, bool) else str(value)
        for one in given
        for value in (one["Value"],)
    }
    _check(attributes)
    if unplayed := balancing_attributes.unplayed(attributes):
        raise ValueError(f"the stage does not play {unplayed}")


def _check(attributes: Mapping[str, str]) -> None:
    try:
        balancing_attributes.check(attributes)
    except ValueError as error:
        raise elbv2_exceptions.ValidationError(str(error)) from None


def _check_known(attributes: Iterable[str]) -> None:
    for key in attributes:
        if not balancing_attributes.known(key):
            raise elbv2_exceptions.ValidationError(
                f"Target group attribute key '{key}' is not recognized"
            )
