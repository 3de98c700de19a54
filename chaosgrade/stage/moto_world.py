"""The played AWS as moto keeps it: what the control plane reads of it and writes to it.

Only this file and the other moto_*.py know moto's insides; its minor version is pinned for that.
"""

import math
import sys
from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from ipaddress import IPv4Network
from typing import Any

from moto.autoscaling.models import InstanceState
from moto.backends import get_backend
from moto.ec2.models.instances import StateReason

from chaosgrade.errors import UsageError
from chaosgrade.stage import autoscaling
from chaosgrade.stage.autoscaling import IN_SERVICE, PENDING, TERMINATING
from chaosgrade.stage.capacity_pools import ON_DEMAND, SPOT, Pool
from chaosgrade.stage.fault_injection import GROUP, SPOT_INSTANCE, Resource
from chaosgrade.stage.mixed_instances import Mix
from chaosgrade.stage.network_acls import Rule, Subnet
from chaosgrade.stage.template import Template
from chaosgrade.stage.user_data import read as read_user_data
from chaosgrade.stage.world import ACCOUNT, Hooks, Host

_CROSS_ZONE = "load_balancing.cross_zone.enabled"
_IDLE_TIMEOUT = "idle_timeout.timeout_seconds"
"""Of an application load balancer; moto leaves the default out."""
_ENDS_CONNECTIONS = "deregistration_delay.connection_termination.enabled"
"""Of a network load balancer, false by default."""


@cache
def _network(cidr: str) -> IPv4Network:
    return IPv4Network(cidr, strict=False)


def _rule(entry: Any) -> Rule:
    low, high = entry.port_range_from, entry.port_range_to
    return Rule(
        number=int(entry.rule_number),
        egress=str(entry.egress).lower() == "true",
        allow=entry.rule_action == "allow",
        protocol=str(entry.protocol),
        network=_network(entry.cidr_block),
        ports=None if low is None or high is None else (int(low), int(high)),
    )


def _script(instance: Any) -> str:
    """The user data of an instance; empty if there is none, or no text."""
    given = instance.user_data
    try:
        return b64decode(str(given)).decode() if given else ""
    except ValueError:
        return ""


class MotoWorld:
    """The state of the played AWS, in one account and Region."""

    def __init__(self, region: str, hooks: Hooks) -> None:
        self._hooks = hooks
        self._complained_of: set[str] = set()
        self._ec2: Any = get_backend("ec2")[ACCOUNT][region]
        self._autoscaling: Any = get_backend("autoscaling")[ACCOUNT][region]
        self._elbv2: Any = get_backend("elbv2")[ACCOUNT][region]
        self._cloudformation: Any = get_backend("cloudformation")[ACCOUNT][region]

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

    @property
    def zones(self) -> tuple[str, ...]:
        """Zones that the template has subnets in; all of the Region's without any."""
        subnets = self._ec2.describe_subnets()
        # The default VPC comes with a subnet in each zone.
        own = [s for s in subnets if str(s.default_for_az).lower() != "true"] or subnets
        return tuple(sorted({subnet.availability_zone for subnet in own}))

    def zone_of(self, subnet: str) -> str:
        """The Availability Zone of a subnet."""
        return str(self._ec2.get_subnet(subnet).availability_zone)

    def subnets(self, ids: Iterable[str]) -> Iterator[Subnet]:
        """Subnets with the rules of their network ACLs."""
        acl_of = {
            association.subnet_id: acl
            for acl in self._ec2.network_acls.values()
            for association in acl.associations
        }
        for id_ in ids:
            subnet = self._ec2.get_subnet(id_)
            rules = tuple(_rule(entry) for entry in acl_of[id_].entries if entry.cidr_block)
            yield Subnet(id_, _network(subnet.cidr_block), rules)

    def hosts(self) -> Iterator[Host]:
        """All instances, the terminated ones included."""
        for reservation in self._ec2.reservations.values():
            for instance in reservation.instances:
                yield self.host(instance)

    def host(self, instance: Any) -> Host:
        """One of moto's instances; it gets its address when it is first asked for."""
        nic = instance.nics[0]
        if not getattr(nic, "on_stage", False):
            address = self._hooks.address(instance.subnet_id)
            nic.private_ip_address = address
            nic.private_ip_addresses = [{"Primary": True, "PrivateIpAddress": address}]
            nic.on_stage = True
        tags = {
            **self._ec2.tags.get(instance.id, {})
        }  # instance.get_tags() reads those of everything
        return Host(
            instance.id,
            instance.state,
            instance.placement.zone,
            instance.subnet_id,
            nic.private_ip_address,
            self._boot_s(instance.id, tags.get("BootSeconds", "0")),
            instance.image_id,
            instance.instance_type,
            instance.lifecycle == SPOT,
            tags,
            read_user_data(_script(instance)),
        )

    def _boot_s(self, instance: str, text: str) -> float:
        try:
            seconds = float(text)
        except ValueError:
            seconds = math.nan
        if 0 <= seconds < math.inf:
            return seconds
        if instance not in self._complained_of:
            self._complained_of.add(instance)
            print(
                f"chaosgrade: tag BootSeconds of {instance} must be a number of seconds, "
                f"got {text!r}; it boots at once",
                file=sys.stderr,
            )
        return 0.0

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
                mix=_mix(group),
                rebalances=str(group.capacity_rebalance).lower() == "true",
                maximum=None if group.max_size is None else int(group.max_size),
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
                        instance_type=state.instance.instance_type,
                        spot=state.instance.lifecycle == SPOT,
                        at_risk=self._hooks.interruption(state.instance.id) is not None,
                        serving=all(
                            self._serves(arn, state.instance.id) for arn in group.target_group_arns
                        ),
                    )
                    for state in group.instance_states
                ),
            )

    def _serves(self, target_group: str, instance: str) -> bool:
        known = self._elbv2.target_groups.get(target_group)
        if known is None:
            return True
        port = int(known.targets.get(instance, {}).get("Port", known.port))
        return self._hooks.target_health(target_group, instance, port).state == "healthy"

    def launch(self, name: str, zone: str, instance_type: str = "", *, spot: bool = False) -> str:
        """Launch an instance of a group in a zone; returns its id.

        Args:
            instance_type: "" for that of the group's launch template or configuration.
            spot: a Spot Instance, not an On-Demand one.

        Raises:
            InsufficientCapacity: the pool has no room.
        """
        group = self._autoscaling.autoscaling_groups[name]
        subnets = (group.vpc_zone_identifier or "").split(",")
        subnet = next(
            (s for s in subnets if s and self._ec2.get_subnet(s).availability_zone == zone), None
        )
        if subnet is None and group.vpc_zone_identifier:
            raise LookupError(f"no subnet of the group is in {zone}")
        template = group.ec2_launch_template
        reservation = self._ec2.run_instances(
            group.image_id,
            1,
            group.user_data,
            group.security_groups,
            instance_type=instance_type or group.instance_type,
            instance_market_options=SPOT if spot else None,
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

    def fault_targets(self) -> Iterator[Resource]:
        """What Fault Injection Service may hit."""
        region = self._ec2.region_name
        for host in self.hosts():
            if host.spot and host.state == "running":
                fields = {
                    "InstanceType": host.instance_type,
                    "Placement.AvailabilityZone": host.zone,
                    "State.Name": host.state,
                    "SubnetId": host.subnet,
                }
                arn = f"arn:aws:ec2:{region}:{ACCOUNT}:instance/{host.id}"
                yield Resource(SPOT_INSTANCE, arn, host.id, host.tags, fields)
        for group in self._autoscaling.autoscaling_groups.values():
            tags = {tag["Key"]: tag["Value"] for tag in group.tags}
            yield Resource(GROUP, group.arn, group.name, tags)

    def interrupt(self, instance: str) -> None:
        """Take a Spot Instance back, if it still runs."""
        known = self._ec2.get_instance_by_id(instance)
        if known is not None and known.state == "running":
            known.terminate()
            reason = "Server.SpotInstanceTermination"
            known._reason = f"{reason}: Spot instance termination"
            known.state_reason = StateReason(known._reason, reason)

    def room(self, pool: Pool, option: str) -> float:
        """How many more instances of a purchase option a pool holds."""
        taken: int = sum(
            instance.instance_type == pool.instance_type
            and instance.placement.zone == pool.zone
            and (SPOT if instance.lifecycle == SPOT else ON_DEMAND) == option
            for reservation in self._ec2.reservations.values()
            for instance in reservation.instances
            if instance.state in ("pending", "running")
        )
        return self._hooks.pools.capacity(pool, option) - taken

    def enter_service(self, name: str, instance: str, now: float) -> None:
        """The instance runs: it counts, its grace period begins, balancers get it."""
        group, state = self._member(name, instance)
        state.lifecycle_state = IN_SERVICE
        state.in_service_at = now
        if "AddToLoadBalancer" not in {p["ProcessName"] for p in group.suspended_processes}:
            self.register(name, instance)

    def register(self, name: str, instance: str) -> None:
        """Register an instance with its group's target groups."""
        group, state = self._member(name, instance)
        for arn in group.target_group_arns:
            target_group = self._elbv2.target_groups.get(arn)
            if target_group is not None and state.instance.state == "running":
                target_group.register([{"Id": instance, "Port": int(target_group.port)}])

    def deregister(self, name: str, instance: str) -> None:
        """Take an instance out of its group's target groups; the balancer drains it."""
        group, _ = self._member(name, instance)
        for arn in group.target_group_arns:
            target_group = self._elbv2.target_groups.get(arn)
            if target_group is not None and instance in target_group.targets:
                target_group.deregister([{"Id": instance}])

    def lifecycle_targets(self) -> dict[str, str]:
        """{instance: the state that its group moves it to}, as its metadata names it."""
        targets = {PENDING: IN_SERVICE, TERMINATING: "Terminated"}
        return {
            state.instance.id: targets.get(state.lifecycle_state, state.lifecycle_state)
            for group in self._autoscaling.autoscaling_groups.values()
            for state in group.instance_states
        }

    def settle(self) -> None:
        """Have all members of groups in service for longer than any grace period."""
        for group in self._autoscaling.autoscaling_groups.values():
            for state in group.instance_states:
                state.in_service_at = -math.inf

    def mark_unhealthy(self, name: str, instance: str) -> None:
        """As SetInstanceHealth does."""
        self._member(name, instance)[1].health_status = "Unhealthy"

    def leave_service(self, name: str, instance: str) -> None:
        """Take an instance out of its group's balancers; it is terminated once it is drained."""
        self._member(name, instance)[1].lifecycle_state = TERMINATING
        self.deregister(name, instance)

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
            nodes = self.nodes(balancer)
            for listener in balancer.listeners.values():
                for action in listener.default_actions:
                    arns = self._elbv2._get_target_group_arns_from(action.data)
                    if action.type == "forward" and arns:
                        yield {
                            "name": balancer.name,
                            "arn": balancer.arn,
                            "dns_name": balancer.dns_name,
                            "nodes": nodes,
                            "cross_zone": self._crosses_zones(balancer, arns[0]),
                            "port": int(listener.port),
                            "protocol": "TCP" if balancer.type == "network" else "HTTP",
                            "target_group": arns[0],
                            "idle_timeout_s": float(balancer.attrs.get(_IDLE_TIMEOUT, 60)),
                            "access_logs": _access_logs(balancer),
                        }

    def nodes(self, balancer: Any) -> list[dict[str, str]]:
        """A balancer has a node in each of its subnets, which gets an address when first asked."""
        nodes = balancer.__dict__.setdefault("stage_nodes", {})
        for subnet in balancer.subnets:
            if subnet.id not in nodes:
                nodes[subnet.id] = {
                    "subnet": subnet.id,
                    "zone": subnet.availability_zone,
                    "host": self._hooks.address(subnet.id),
                }
        return [nodes[subnet.id] for subnet in balancer.subnets]

    def _crosses_zones(self, balancer: Any, target_group: str) -> bool:
        """Whether nodes use targets of other zones: the target group says so, or the balancer."""
        group = self._elbv2.target_groups[target_group]
        own = group.attributes.get(_CROSS_ZONE, "use_load_balancer_configuration")
        if own == "use_load_balancer_configuration":
            own = balancer.attrs.get(_CROSS_ZONE)
        return str(own).lower() == "true"

    def target_groups(self) -> Iterator[dict[str, Any]]:
        """Target groups with their registered targets, as the balancer takes them."""
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
                "ends_connections": str(group.attributes.get(_ENDS_CONNECTIONS)).lower() == "true",
                "slow_start_s": float(group.attributes["slow_start.duration_seconds"]),
                "targets": [
                    {"id": target["Id"], "port": int(target["Port"])}
                    for target in group.targets.values()
                ],
            }


def _access_logs(balancer: Any) -> dict[str, str] | None:
    """Where a load balancer's access logs go; None if there are none, as of one of layer 4 without
    TLS."""
    attributes = balancer.attrs
    if balancer.type != "application" or attributes.get("access_logs.s3.enabled") != "true":
        return None
    return {
        "bucket": str(attributes["access_logs.s3.bucket"]),
        "prefix": str(attributes["access_logs.s3.prefix"]).strip("/"),
    }


def _mix(group: Any) -> Mix:
    """What a group buys."""
    own_type = str(group.instance_type or "")
    if group.mixed_instances_policy:
        return Mix.of(group.mixed_instances_policy, own_type)
    template = group.ec2_launch_template
    data = template.get_version(group.launch_template_version).data if template else {}
    market = (data.get("InstanceMarketOptions") or {}).get("MarketType")
    return Mix((own_type,), on_demand_percent=0.0 if market == SPOT else 100.0)
