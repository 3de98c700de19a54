"""Methods of moto that the stage replaces, because their answers would be untrue here.

moto keeps what it is told: it calls every target healthy, replaces instances at once, runs no
command. With these replacements capacity is the affair of the stage's Auto Scaling, the health of
targets is what the balancer saw, commands act on processes, DNS names lead to balancers.
docs/stage-operations.md lists the operations.
"""

import functools
from collections.abc import Callable, Mapping
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import (
    AutoScalingBackend,
    DetachInstanceActivity,
    EnterStandbyActivity,
    ExitStandbyActivity,
    FakeAutoScalingGroup,
    TerminateInstanceActivity,
)
from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult, EmptyResult
from moto.ec2.exceptions import EC2ClientError, InvalidAssociationIdError
from moto.ec2.models import EC2Backend
from moto.ec2.models.instances import Instance
from moto.elbv2.exceptions import InvalidConfigurationRequest, InvalidTargetError
from moto.elbv2.models import ELBv2Backend, FakeHealthStatus, FakeLoadBalancer, FakeTargetGroup
from moto.ssm.exceptions import InvalidDocument
from moto.ssm.models import Command, SimpleSystemManagerBackend

from chaosgrade.stage.autoscaling import IN_SERVICE, PENDING, STANDBY
from chaosgrade.stage.moto_patching import add as _add
from chaosgrade.stage.moto_patching import complete as _complete
from chaosgrade.stage.moto_patching import replace as _replace
from chaosgrade.stage.moto_world import MotoWorld
from chaosgrade.stage.ssm_documents import DOCUMENTS
from chaosgrade.stage.world import ACCOUNT, Hooks


def install(hooks: Hooks, world: MotoWorld) -> None:
    """Replace them, in this process, for good."""
    _instances(hooks, world)
    _network_acls()
    _capacity()
    _health_and_history(hooks)
    _members(hooks, world)
    _standby(world)
    _balancing(hooks, world)
    _commands(hooks)


# -- EC2


def _instances(hooks: Hooks, world: MotoWorld) -> None:
    _replace(Instance, "reboot", lambda instance: hooks.reboot(instance.id))
    run = EC2Backend.run_instances

    @functools.wraps(run)
    def run_instances(backend: Any, *args: Any, **kwargs: Any) -> Any:
        reservation = run(backend, *args, **kwargs)
        for instance in reservation.instances:
            world.host(instance)  # has its address from the beginning
        return reservation

    _replace(EC2Backend, "run_instances", run_instances)
    from_template: Any = Instance.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]  # a class method

    def create_from_cloudformation_json(
        cls: Any, /, name: str, document: Any, account: str, region: str, **kwargs: Any
    ) -> Any:
        properties = document["Properties"]
        if wanted := properties.get("LaunchTemplate"):
            backend = get_backend("ec2")[account][region]
            data = backend._get_template_from_args(wanted).data
            for key in ("ImageId", "InstanceType", "UserData"):
                if data.get(key):
                    properties.setdefault(key, data[key])
        return from_template(cls, name, document, account, region, **kwargs)

    _replace(
        Instance, "create_from_cloudformation_json", classmethod(create_from_cloudformation_json)
    )


def _network_acls() -> None:
    create = EC2Backend.create_network_acl

    @functools.wraps(create)
    def create_network_acl(backend: Any, *args: Any, **kwargs: Any) -> Any:
        acl = create(backend, *args, **kwargs)
        if not acl.default:
            for egress in (True, False):  # the rule that AWS shows as "*"
                backend.create_network_acl_entry(
                    acl.id, 32767, "-1", "deny", egress, "0.0.0.0/0", None, None, None, None, None
                )
        return acl

    replace = EC2Backend.replace_network_acl_association

    @functools.wraps(replace)
    def replace_network_acl_association(
        backend: Any, association_id: str, network_acl_id: str
    ) -> Any:
        if all(association_id not in a._associations for a in backend.network_acls.values()):
            raise InvalidAssociationIdError(association_id)
        backend.get_network_acl(network_acl_id)  # raises before anything is changed
        return replace(backend, association_id, network_acl_id)

    delete = EC2Backend.delete_network_acl_entry

    @functools.wraps(delete)
    def delete_network_acl_entry(
        backend: Any, network_acl_id: str, rule_number: Any, egress: Any
    ) -> Any:
        try:
            return delete(backend, network_acl_id, rule_number, egress)
        except StopIteration:
            direction = "egress" if str(egress).lower() == "true" else "ingress"
            raise EC2ClientError(
                "InvalidNetworkAclEntry.NotFound",
                f"The {direction} entry of the network ACL {network_acl_id!r} with rule number "
                f"'{rule_number}' does not exist",
            ) from None

    _replace(EC2Backend, "create_network_acl", create_network_acl)
    _replace(EC2Backend, "replace_network_acl_association", replace_network_acl_association)
    _replace(EC2Backend, "delete_network_acl_entry", delete_network_acl_entry)


# -- Auto Scaling: how many


def _capacity() -> None:
    def set_desired_capacity(group: Any, new_capacity: int | None) -> None:
        wanted = group.min_size if new_capacity is None else new_capacity
        group.desired_capacity = int(wanted)  # CloudFormation hands over text
        group.min_size, group.max_size = int(group.min_size), int(group.max_size)

    _replace(FakeAutoScalingGroup, "set_desired_capacity", set_desired_capacity)
    _replace(AutoScalingBackend, "notify_terminate_instances", lambda backend, ids: None)
    _replace(AutoScalingBackend, "update_attached_target_groups", lambda backend, name: None)

    create = AutoScalingBackend.create_auto_scaling_group

    @functools.wraps(create)
    def create_auto_scaling_group(backend: Any, *args: Any, **kwargs: Any) -> Any:
        # AWS: no grace unless one is given (the console alone proposes 300 s). As text, because
        # moto takes the number 0 for "not given".
        kwargs["health_check_period"] = str(kwargs.get("health_check_period") or 0)
        _within(kwargs["desired_capacity"], kwargs["min_size"], kwargs["max_size"])
        return create(backend, *args, **kwargs)

    _replace(AutoScalingBackend, "create_auto_scaling_group", create_auto_scaling_group)

    update = FakeAutoScalingGroup.update

    @functools.wraps(update)
    def update_group(group: Any, *args: Any, **kwargs: Any) -> None:
        low, high = (
            getattr(group, size) if kwargs.get(size) is None else kwargs[size]
            for size in ("min_size", "max_size")
        )
        wanted = kwargs.get("desired_capacity")
        if wanted is None:
            # moto would count the instances of the moment, which may be down.
            wanted = min(max(group.desired_capacity, int(low)), int(high))
        _within(wanted, low, high)
        update(group, *args, **{**kwargs, "desired_capacity": wanted})

    _replace(FakeAutoScalingGroup, "update", update_group)

    def set_desired(response: Any) -> Any:
        group = _group(response, response._get_param("AutoScalingGroupName"))
        wanted = int(response._get_param("DesiredCapacity"))
        _within(wanted, group.min_size, group.max_size)
        group.set_desired_capacity(wanted)
        return EmptyResult()

    _replace(AutoScalingResponse, "set_desired_capacity", set_desired)

    delete = AutoScalingBackend.delete_auto_scaling_group

    @functools.wraps(delete)
    def delete_auto_scaling_group(backend: Any, group_name: str) -> None:
        group = backend.autoscaling_groups.get(group_name)
        delete(backend, group_name)
        for state in group.instance_states if group else ():
            state.instance.terminate()

    _replace(AutoScalingBackend, "delete_auto_scaling_group", delete_auto_scaling_group)


def _within(wanted: object, low: object, high: object) -> None:
    """Refuse a capacity that AWS would refuse.

    Raises:
        ValidationError: as the API answers it.
    """
    if int(str(low)) > int(str(high)):
        raise ValidationError(f"Min size {low} must not be above max size {high}.")
    if wanted is None:
        return
    for ok, side in (
        (int(str(wanted)) <= int(str(high)), f"above max value {high}"),
        (int(str(wanted)) >= int(str(low)), f"below min value {low}"),
    ):
        if not ok:
            raise ValidationError(f"Desired capacity {wanted} is {side} for the AutoScalingGroup.")


def _group(response: Any, name: str) -> Any:
    group = response.autoscaling_backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}'")
    return group


# -- Auto Scaling: which ones


def _health_and_history(hooks: Hooks) -> None:
    def set_instance_health(response: Any) -> Any:
        status = response._get_param("HealthStatus")
        if status not in ("Healthy", "Unhealthy"):
            raise ValidationError(f"HealthStatus must be Healthy or Unhealthy, got {status}")
        group, state = _state(response.autoscaling_backend, response._get_param("InstanceId"))
        respects = response._get_bool_param("ShouldRespectGracePeriod", True)
        in_service_for_s = hooks.now() - getattr(state, "in_service_at", hooks.now())
        if respects and in_service_for_s < float(group.health_check_grace_period or 0):
            return EmptyResult()
        state.health_status = status
        return EmptyResult()

    _replace(AutoScalingResponse, "set_instance_health", set_instance_health)

    def describe_scaling_activities(response: Any) -> Any:
        return ActionResult(
            {"Activities": hooks.activities(response._get_param("AutoScalingGroupName"))}
        )

    _replace(AutoScalingResponse, "describe_scaling_activities", describe_scaling_activities)


def _members(hooks: Hooks, world: MotoWorld) -> None:
    def terminate_instance(backend: Any, instance_id: str, should_decrement: bool) -> Any:
        group, state = _state(backend, instance_id)
        before = group.desired_capacity
        if should_decrement:
            _within(before - 1, group.min_size, group.max_size)
            group.desired_capacity = before - 1
        world.leave_service(group.name, instance_id)
        done = TerminateInstanceActivity(state.instance, before)
        hooks.terminating(group.name, instance_id, "a user request")
        return done

    _replace(AutoScalingBackend, "terminate_instance", terminate_instance)

    attach = AutoScalingBackend.attach_instances

    @functools.wraps(attach)
    def attach_instances(backend: Any, group_name: str, instance_ids: list[str]) -> None:
        attach(backend, group_name, instance_ids)
        for id_ in instance_ids:
            world.enter_service(group_name, id_, hooks.now())

    _replace(AutoScalingBackend, "attach_instances", attach_instances)

    def attach_target_groups(backend: Any, group_name: str, target_group_arns: list[str]) -> None:
        group = backend.autoscaling_groups.get(group_name)
        if group is None:
            raise ValidationError(f"AutoScalingGroup name not found - '{group_name}'")
        group.append_target_groups(target_group_arns)
        if "AddToLoadBalancer" not in {p["ProcessName"] for p in group.suspended_processes}:
            members = [
                {"Id": state.instance.id}
                for state in group.instance_states
                if state.lifecycle_state == IN_SERVICE
            ]
            for arn in target_group_arns:
                backend.elbv2_backend.register_targets(arn, members)

    _replace(AutoScalingBackend, "attach_load_balancer_target_groups", attach_target_groups)

    def detach_instances(
        backend: Any, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[Any]:
        done = []
        for id_ in instance_ids:
            group, state = _state(backend, id_, group_name)
            if should_decrement:
                _within(group.desired_capacity - 1, group.min_size, group.max_size)
                group.desired_capacity -= 1
            world.deregister(group_name, id_)
            group.instance_states.remove(state)
            backend.ec2_backend.delete_tags([id_], {"aws:autoscaling:groupName": group_name})
            done.append(DetachInstanceActivity(state.instance))
        return done

    _replace(AutoScalingBackend, "detach_instances", detach_instances)


def _standby(world: MotoWorld) -> None:
    def enter_standby(
        backend: Any, group_name: str, instance_ids: list[str], should_decrement: bool
    ) -> list[Any]:
        done = []
        for id_ in instance_ids:
            group, state = _state(backend, id_, group_name)
            before = group.desired_capacity
            if should_decrement:
                _within(before - 1, group.min_size, group.max_size)
                group.desired_capacity = before - 1
            world.deregister(group_name, id_)
            state.lifecycle_state = STANDBY
            done.append(EnterStandbyActivity(state.instance, before))
        return done

    _replace(AutoScalingBackend, "enter_standby_instances", enter_standby)

    def exit_standby(backend: Any, group_name: str, instance_ids: list[str]) -> list[Any]:
        done = []
        for id_ in instance_ids:
            group, state = _state(backend, id_, group_name)
            before = group.desired_capacity
            _within(before + 1, group.min_size, group.max_size)
            group.desired_capacity = before + 1
            state.lifecycle_state = PENDING  # the reconciler puts it into service
            done.append(ExitStandbyActivity(state.instance, before))
        return done

    _replace(AutoScalingBackend, "exit_standby_instances", exit_standby)


def _state(backend: Any, instance: str, group_name: str | None = None) -> tuple[Any, Any]:
    for group in backend.autoscaling_groups.values():
        for state in group.instance_states:
            if state.instance.id == instance and group_name in (None, group.name):
                return group, state
    where = f"group {group_name}" if group_name else "any Auto Scaling group"
    raise ValidationError(f"Instance Id not found - instance {instance} is not part of {where}")


# -- Elastic Load Balancing


def _balancing(hooks: Hooks, world: MotoWorld) -> None:
    create = ELBv2Backend.create_load_balancer

    @functools.wraps(create)
    def create_load_balancer(backend: Any, *args: Any, **kwargs: Any) -> Any:
        balancer = create(backend, *args, **kwargs)
        _name_kind(balancer)
        # Never a name that another resolver than the stage's leads off this machine: RFC 6761.
        balancer.dns_name = f"{balancer.name}-1.{backend.region_name}.elb.localhost"
        if balancer.type == "application":  # its default, unlike a network load balancer's
            balancer.attrs["load_balancing.cross_zone.enabled"] = "true"
        balancer.activate()
        return balancer

    _replace(ELBv2Backend, "create_load_balancer", create_load_balancer)
    # A terminated instance stays registered, as unused, until somebody deregisters it.
    _replace(ELBv2Backend, "notify_terminate_instances", lambda backend, ids: None)

    def describe_target_health(
        backend: Any, target_group_arn: str, targets: list[dict[str, Any]]
    ) -> list[Any]:
        group = backend.describe_target_groups(None, [target_group_arn], None)[0]
        asked = [(t["Id"], int(t.get("Port") or group.port)) for t in targets]
        if not asked:
            asked = [(t["Id"], int(t["Port"])) for t in group.targets.values()]
            asked += hooks.draining(target_group_arn)
        return [
            FakeHealthStatus(
                id_, str(port), str(group.health_check_port), health.state, health.reason,
                health.description,
            )
            for id_, port in asked
            for health in [hooks.target_health(target_group_arn, id_, port)]
        ]  # fmt: skip

    _replace(ELBv2Backend, "describe_target_health", describe_target_health)
    register = FakeTargetGroup.register

    @functools.wraps(register)
    def register_targets(group: Any, targets: list[dict[str, Any]]) -> None:
        for target in targets:
            id_ = target["Id"]
            if id_.startswith("i-") and group.ec2_backend.get_instance_by_id(id_) is None:
                raise InvalidTargetError
        register(group, targets)

    _replace(FakeTargetGroup, "register", register_targets)
    modify = ELBv2Backend.modify_load_balancer_attributes

    @functools.wraps(modify)
    def modify_load_balancer_attributes(backend: Any, arn: str, attrs: dict[str, str]) -> Any:
        if balancer := backend.load_balancers.get(arn):
            _check_access_logs({**balancer.attrs, **attrs}, hooks.has_bucket)
        return modify(backend, arn, attrs)

    _replace(ELBv2Backend, "modify_load_balancer_attributes", modify_load_balancer_attributes)

    def complete_balancer(balancer: Any, properties: dict[str, Any]) -> None:
        _complete_balancer(balancer, properties)
        _check_access_logs(balancer.attrs, hooks.has_bucket)

    _full_names()
    _complete(FakeLoadBalancer, complete_balancer)
    _complete(FakeTargetGroup, _complete_target_group)


def _name_kind(balancer: Any) -> None:
    """moto calls all of them "app" in their ARNs."""
    if balancer.type == "network":
        backend = get_backend("elbv2")[ACCOUNT][balancer.subnets[0].ec2_backend.region_name]
        former, balancer.arn = balancer.arn, balancer.arn.replace("/app/", "/net/")
        backend.load_balancers[balancer.arn] = backend.load_balancers.pop(former)
        backend.tagging_service.copy_tags(former, balancer.arn)


def _full_names() -> None:
    """Attributes for Fn::GetAtt that metrics need as dimensions."""
    known = FakeLoadBalancer.get_cfn_attribute

    @functools.wraps(known)
    def of_balancer(balancer: Any, attribute_name: str) -> Any:
        if attribute_name == "LoadBalancerFullName":
            return balancer.arn.partition(":loadbalancer/")[2]
        return known(balancer, attribute_name)

    _replace(FakeLoadBalancer, "get_cfn_attribute", of_balancer)

    def of_target_group(group: Any, attribute_name: str) -> Any:
        if attribute_name == "TargetGroupFullName":
            return group.arn.rpartition(":")[2]
        raise UnformattedGetAttTemplateException

    _add(FakeTargetGroup, "get_cfn_attribute", of_target_group)


def _complete_balancer(balancer: Any, properties: dict[str, Any]) -> None:
    balancer.type = properties.get("Type", "application")
    _name_kind(balancer)
    for attribute in properties.get("LoadBalancerAttributes", ()):
        balancer.attrs[attribute["Key"]] = attribute["Value"]


def _check_access_logs(attributes: Mapping[str, str], has_bucket: Callable[[str], bool]) -> None:
    """Refuse to log where nothing can be written, as AWS does; a bucket's policy is not looked at.

    Raises:
        InvalidConfigurationRequest: there is no such bucket.
    """
    bucket = attributes.get("access_logs.s3.bucket", "")
    if attributes.get("access_logs.s3.enabled") == "true" and not has_bucket(bucket):
        raise InvalidConfigurationRequest(
            f"Access Denied for bucket: {bucket}. Please check S3bucket permission"
        )


def _complete_target_group(group: Any, properties: dict[str, Any]) -> None:
    for attribute in properties.get("TargetGroupAttributes", ()):
        group.attributes[attribute["Key"]] = attribute["Value"]
    targets = properties.get("Targets") or ()
    group.register([{"Id": t["Id"], "Port": int(t.get("Port", group.port))} for t in targets])


# -- Systems Manager


def _commands(hooks: Hooks) -> None:
    send = SimpleSystemManagerBackend.send_command

    def send_command(backend: Any, **kwargs: Any) -> Any:
        document = kwargs["document_name"]
        if document not in DOCUMENTS:
            raise InvalidDocument(
                f"the stage has no document {document}; it has {', '.join(DOCUMENTS)}"
            )
        for id_ in kwargs["instance_ids"]:
            if not hooks.runs(id_):
                raise JsonRESTError(
                    "InvalidInstanceId",
                    f"Instances [[{id_}]] not in a valid state for account {ACCOUNT}",
                )
        command = send(backend, **kwargs)
        for invocation in command.invocations:
            ended = hooks.command(document, kwargs["parameters"] or {}, invocation["InstanceId"])
            invocation["Status"] = invocation["StatusDetails"] = ended.status
            invocation["ResponseCode"] = ended.code
            invocation["StandardOutputContent"] = ended.output
            invocation["StandardErrorContent"] = ended.error
            if ended.status != "Success":
                command.status = "Failed"
                command.error_count += 1
        return command

    _replace(SimpleSystemManagerBackend, "send_command", send_command)
    by_targets = Command._get_instance_ids_from_targets
    # Without targets moto's empty filter would match every instance; those that are not running
    # do not take part in a command by tags.
    _replace(
        Command,
        "_get_instance_ids_from_targets",
        lambda command: (
            [i for i in by_targets(command) if hooks.runs(i)] if command.targets else []
        ),
    )
