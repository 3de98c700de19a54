"""What the stage knows of moto: the only file that touches its insides.

moto keeps what it is told and answers the AWS API. Where its answers would be untrue here, the
methods behind them are replaced: capacity is launched by the stage's Auto Scaling, the health of
targets is what the balancer saw, commands run on instances, DNS names lead to balancers. moto's
minor version is pinned for that reason. docs/stage-operations.md lists what is replaced.
"""

import functools
from collections.abc import Callable, Iterator
from typing import Any

from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup, InstanceState
from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.core.responses import ActionResult
from moto.elbv2.models import (
    ELBv2Backend,
    FakeHealthStatus,
    FakeLoadBalancer,
    FakeTargetGroup,
)
from moto.ssm.exceptions import InvalidDocument
from moto.ssm.models import Command, SimpleSystemManagerBackend

from chaosgrade.errors import UsageError
from chaosgrade.stage import autoscaling
from chaosgrade.stage.autoscaling import IN_SERVICE, PENDING, TERMINATING
from chaosgrade.stage.ssm_documents import DOCUMENTS
from chaosgrade.stage.template import Template
from chaosgrade.stage.world import ACCOUNT, Hooks, Host

class MotoWorld:
    """The state of the played AWS, in one account and Region."""

    def __init__(self, region: str, hooks: Hooks) -> None:
        self._hooks = hooks
        self._ec2: Any = get_backend("ec2")[ACCOUNT][region]
        self._autoscaling: Any = get_backend("autoscaling")[ACCOUNT][region]
        self._elbv2: Any = get_backend("elbv2")[ACCOUNT][region]
        self._cloudformation: Any = get_backend("cloudformation")[ACCOUNT][region]
        self._replace_autoscaling()
        self._replace_elbv2()
        self._replace_ssm()
        self.zones: tuple[str, ...] = tuple(
            sorted(zone.name for zone in self._ec2.describe_availability_zones())
        )

    # -- CloudFormation

    def create_stack(self, template: Template) -> None:
        """Build the template's resources; instances and groups become real afterwards.

        Raises:
            UsageError: the template cannot be built.
        """
        name = template.name.rsplit("/", 1)[-1].removesuffix(".yaml").replace(".", "-")
        try:
            self._cloudformation.create_stack(name, template.body, dict(template.parameters))
        except Exception as error:  # moto's own, and whatever a wrong property raises in it
            reason = " ".join(str(error).split()) or type(error).__name__
            raise UsageError(f"template {template.name} cannot be built: {reason}") from None

    # -- EC2

    def hosts(self) -> Iterator[Host]:
        """All instances, the terminated ones included."""
        for reservation in self._ec2.reservations.values():
            for instance in reservation.instances:
                yield self._host(instance)

    def _host(self, instance: Any) -> Host:
        nic = instance.nics[0]
        if not getattr(nic, "on_stage", False):
            address = self._hooks.instance_address(instance.placement.zone)
            nic.private_ip_address = address
            nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
            nic.on_stage = True
        tags = {tag["key"]: tag["value"] for tag in instance.get_tags()}
        return Host(
            instance.id,
            instance.state,
            instance.placement.zone,
            nic.private_ip_address,
            float(tags.get("BootSeconds", 0)),
        )

    # -- Auto Scaling

    def groups(
        self, health_of: Callable[[str, str], bool], now: float
    ) -> Iterator[autoscaling.Group]:
        """All groups.

        Args:
            health_of: whether a target group (ARN) refuses an instance as unhealthy.
            now: AWS seconds.
        """
        for group in self._autoscaling.autoscaling_groups.values():
            subnets = (group.vpc_zone_identifier or "").split(",")
            zones = {
                self._ec2.get_subnet(subnet).availability_zone for subnet in subnets if subnet
            } or set(group.availability_zones)
            yield autoscaling.Group(
                name=group.name,
                desired=int(group.desired_capacity or 0),
                zones=tuple(sorted(zones)),
                suspended=frozenset(p["ProcessName"] for p in group.suspended_processes),
                health_type=group.health_check_type,
                grace_s=float(group.health_check_grace_period or 0),
                members=tuple(
                    autoscaling.Member(
                        instance=state.instance.id,
                        zone=state.availability_zone,
                        lifecycle=state.lifecycle_state,
                        in_service_for_s=now - getattr(state, "in_service_at", now),
                        healthy=state.health_status == "Healthy",
                        running=state.instance.state == "running",
                        refused=any(
                            health_of(arn, state.instance.id) for arn in group.target_group_arns
                        ),
                        protected=bool(state.protected_from_scale_in),
                    )
                    for state in group.instance_states
                ),
            )

    def launch(self, name: str, zone: str) -> str:
        """Launch an instance of a group in a zone; returns its id."""
        group = self._autoscaling.autoscaling_groups[name]
        subnets = (group.vpc_zone_identifier or "").split(",")
        subnet = next(
            (s for s in subnets if s and self._ec2.get_subnet(s).availability_zone == zone), None
        )
        template = group.ec2_launch_template
        reservation = self._ec2.run_instances(
            group.image_id,
            1,
            group.user_data,
            group.security_groups,
            instance_type=group.instance_type,
            tags={
                "instance": {
                    **group.instance_tags,
                    **group.get_propagated_tags(),
                    "aws:autoscaling:groupName": name,
                }
            },
            placement=zone,
            launch_config=group.launch_config,
            launch_template={"LaunchTemplateId": template.id} if template else None,
            is_instance_type_default=False,
            associate_public_ip=None,
            subnet_id=subnet,
        )
        instance = reservation.instances[0]
        instance.autoscaling_group = group
        group.instance_states.append(
            InstanceState(
                instance,
                lifecycle_state=PENDING,
                protected_from_scale_in=group.new_instances_protected_from_scale_in,
            )
        )
        return str(instance.id)

    def enter_service(self, name: str, instance: str, now: float) -> None:
        """The instance runs: it counts, its grace period begins, balancers get it."""
        group, state = self._member(name, instance)
        state.lifecycle_state = IN_SERVICE
        state.in_service_at = now
        if "AddToLoadBalancer" not in {p["ProcessName"] for p in group.suspended_processes}:
            for arn in group.target_group_arns:
                target_group = self._elbv2.target_groups[arn]
                target_group.register([{"Id": instance, "Port": int(target_group.port)}])

    def mark_unhealthy(self, name: str, instance: str) -> None:
        """As SetInstanceHealth does."""
        self._member(name, instance)[1].health_status = "Unhealthy"

    def leave_service(self, name: str, instance: str) -> None:
        """Take an instance out of its group's balancers; it is terminated once it is drained."""
        group, state = self._member(name, instance)
        state.lifecycle_state = TERMINATING
        for arn in group.target_group_arns:
            target_group = self._elbv2.target_groups.get(arn)
            if target_group is not None and instance in target_group.targets:
                target_group.deregister([{"Id": instance}])

    def terminate(self, name: str, instance: str) -> None:
        """Terminate an instance of a group and take it off the group's books."""
        group, state = self._member(name, instance)
        group.instance_states.remove(state)
        if state.instance.state != "terminated":
            state.instance.terminate()

    def _member(self, name: str, instance: str) -> tuple[Any, Any]:
        group = self._autoscaling.autoscaling_groups[name]
        for state in group.instance_states:
            if state.instance.id == instance:
                return group, state
        raise KeyError(instance)

    # -- Elastic Load Balancing

    def balancers(self) -> Iterator[dict[str, Any]]:
        """Listeners, as the balancer process takes them."""
        for balancer in self._elbv2.load_balancers.values():
            for listener in balancer.listeners.values():
                for action in listener.default_actions:
                    arns = self._elbv2._get_target_group_arns_from(action.data)
                    if action.type == "forward" and arns:
                        yield {
                            "name": balancer.name,
                            "host": balancer.dns_name,
                            "port": int(listener.port),
                            "protocol": "TCP" if balancer.type == "network" else "HTTP",
                            "target_group": arns[0],
                        }

    def target_groups(self) -> Iterator[dict[str, Any]]:
        """Target groups with their running or lately running targets, as the balancer takes them."""
        for group in self._elbv2.target_groups.values():
            port = group.health_check_port
            yield {
                "arn": group.arn,
                "name": group.name,
                "health_check": {
                    "protocol": group.health_check_protocol,
                    "port": None if port in (None, "traffic-port") else int(port),
                    "path": group.health_check_path,
                    "interval_s": float(group.health_check_interval_seconds),
                    "timeout_s": float(group.health_check_timeout_seconds),
                    "healthy": int(group.healthy_threshold_count),
                    "unhealthy": int(group.unhealthy_threshold_count),
                    "matcher": (getattr(group, "matcher", None) or {}).get("HttpCode", "200"),
                },
                "deregistration_delay_s": float(
                    group.attributes["deregistration_delay.timeout_seconds"]
                ),
                "slow_start_s": float(group.attributes["slow_start.duration_seconds"]),
                "targets": [
                    {"id": target["Id"], "port": int(target["Port"])}
                    for target in group.targets.values()
                ],
            }

    # -- what is replaced in moto

    def _replace_autoscaling(self) -> None:
        def set_desired_capacity(group: Any, new_capacity: int | None) -> None:
            wanted = group.min_size if new_capacity is None else new_capacity
            group.desired_capacity = int(wanted)  # CloudFormation hands over text
            group.min_size, group.max_size = int(group.min_size), int(group.max_size)

        FakeAutoScalingGroup.set_desired_capacity = set_desired_capacity
        AutoScalingBackend.notify_terminate_instances = lambda backend, ids: None
        AutoScalingBackend.update_attached_target_groups = lambda backend, name: None

        delete = AutoScalingBackend.delete_auto_scaling_group

        def delete_auto_scaling_group(backend: Any, group_name: str) -> None:
            group = backend.autoscaling_groups.get(group_name)
            delete(backend, group_name)
            for state in group.instance_states if group else ():
                state.instance.terminate()

        AutoScalingBackend.delete_auto_scaling_group = delete_auto_scaling_group

        hooks = self._hooks

        def describe_scaling_activities(response: Any) -> Any:
            name = response._get_param("AutoScalingGroupName")
            return ActionResult({"Activities": hooks.activities(name)})

        AutoScalingResponse.describe_scaling_activities = describe_scaling_activities

    def _replace_elbv2(self) -> None:
        hooks = self._hooks
        create = ELBv2Backend.create_load_balancer

        @functools.wraps(create)
        def create_load_balancer(backend: Any, *args: Any, **kwargs: Any) -> Any:
            balancer = create(backend, *args, **kwargs)
            balancer.dns_name = hooks.balancer_address()
            balancer.activate()
            return balancer

        ELBv2Backend.create_load_balancer = create_load_balancer
        ELBv2Backend.notify_terminate_instances = lambda backend, ids: None

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

        ELBv2Backend.describe_target_health = describe_target_health
        _complete(FakeLoadBalancer, _complete_balancer)
        _complete(FakeTargetGroup, _complete_target_group)

    def _replace_ssm(self) -> None:
        hooks = self._hooks
        send = SimpleSystemManagerBackend.send_command
        ec2 = self._ec2

        def send_command(backend: Any, **kwargs: Any) -> Any:
            document = kwargs["document_name"]
            if document not in DOCUMENTS:
                raise InvalidDocument(
                    f"the stage has no document {document}; it has {', '.join(DOCUMENTS)}"
                )
            for id_ in kwargs["instance_ids"]:
                instance = ec2.get_instance_by_id(id_)
                if instance is None or instance.state != "running":
                    raise _invalid_instance(id_)
            command = send(backend, **kwargs)
            for invocation in command.invocations:
                ended = hooks.command(
                    document, kwargs["parameters"] or {}, invocation["InstanceId"]
                )
                invocation["Status"] = invocation["StatusDetails"] = ended.status
                invocation["ResponseCode"] = ended.code
                invocation["StandardOutputContent"] = ended.output
                invocation["StandardErrorContent"] = ended.error
                if ended.status != "Success":
                    command.status = "Failed"
                    command.error_count += 1
            return command

        SimpleSystemManagerBackend.send_command = send_command
        by_targets = Command._get_instance_ids_from_targets
        # Without targets moto's empty filter would match every instance.
        Command._get_instance_ids_from_targets = lambda command: (
            by_targets(command) if command.targets else []
        )


def _invalid_instance(id_: str) -> Exception:
    from moto.core.exceptions import JsonRESTError

    return JsonRESTError(
        "InvalidInstanceId", f"Instances [[{id_}]] not in a valid state for account {ACCOUNT}"
    )


def _complete(kind: Any, finish: Callable[[Any, dict[str, Any], str, str], None]) -> None:
    """Have CloudFormation also take what moto's constructors of resources pass over."""
    create = kind.create_from_cloudformation_json.__func__

    def create_from_cloudformation_json(
        cls: Any,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        made = create(cls, resource_name, cloudformation_json, account_id, region_name, **kwargs)
        finish(made, cloudformation_json["Properties"], account_id, region_name)
        return made

    kind.create_from_cloudformation_json = classmethod(create_from_cloudformation_json)


def _complete_balancer(balancer: Any, properties: Any, account: str, region: str) -> None:
    balancer.type = properties.get("Type", "application")
    for attribute in properties.get("LoadBalancerAttributes", ()):
        balancer.attrs[attribute["Key"]] = attribute["Value"]


def _complete_target_group(group: Any, properties: Any, account: str, region: str) -> None:
    for attribute in properties.get("TargetGroupAttributes", ()):
        group.attributes[attribute["Key"]] = attribute["Value"]
    targets = properties.get("Targets") or ()
    group.register([{"Id": t["Id"], "Port": int(t.get("Port", group.port))} for t in targets])


