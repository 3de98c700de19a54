"""The stage's control plane: keeps the played AWS, the processes and the balancers in agreement.

`tick` looks at the world and does what is due: instances that should run get processes, groups get
their capacity, balancers get their targets. All of it under one lock, which every API call holds
as well: a call sees a world that does not change under it.
"""

import time
from collections import defaultdict
from collections.abc import Mapping
from threading import RLock
from typing import TYPE_CHECKING, Any

from chaosgrade.errors import UsageError
from chaosgrade.stage import autoscaling
from chaosgrade.stage.addresses import Addresses
from chaosgrade.stage.autoscaling import IN_SERVICE, PENDING, TERMINATING, Launch
from chaosgrade.stage.children import Child
from chaosgrade.stage.ssm_documents import Invocation, invoke
from chaosgrade.stage.template import Template
from chaosgrade.stage.timing import (
    ADDRESS_SILENT_S,
    BALANCER_NOTICES_STATE_S,
    HEALTH_EVALUATION_S,
    AwsTime,
)
from chaosgrade.stage.world import Hooks, Host, TargetHealth, activity

if TYPE_CHECKING:
    from chaosgrade.stage.moto_world import MotoWorld

_WEB_PORT = 8080
_KEPT_ACTIVITIES = 100


class ControlPlane:
    """One played AWS.

    Args:
        template: what it is built from.
        region: where it plays.
        scale: AWS seconds per real second.
    """

    def __init__(self, template: Template, region: str, scale: float) -> None:
        self.lock = RLock()
        self.addresses = Addresses()
        self._template = template
        self._time = AwsTime(scale, time.monotonic())
        self._hosts = Child("chaosgrade.stage.hosts", self._on_host_event)
        self._balancer = Child("chaosgrade.stage.balancer", self._on_balancer_event)
        self._region = region
        self._running: dict[str, Host] = {}
        self._left_at: dict[str, float] = {}
        self._health: dict[tuple[str, str, int], TargetHealth] = {}
        self._draining: set[tuple[str, str, int]] = set()
        self._activities: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        self._next_evaluation: dict[str, float] = {}
        self._configured: dict[str, Any] | None = None
        self._listening: set[str] = set()
        self._errors: list[str] = []
        self.world: MotoWorld

    def build(self) -> None:
        """Create the stack. Called once, after moto has been imported."""
        from chaosgrade.stage.moto_world import MotoWorld  # late: see moto_import

        self.world = MotoWorld(
            self._region,
            Hooks(
                instance_address=self.addresses.for_instance,
                balancer_address=self.addresses.for_balancer,
                target_health=self._target_health,
                draining=self._draining_of,
                command=self._command,
                activities=lambda group: self._activities[group][::-1],
            ),
        )
        with self.lock:
            self.world.create_stack(self._template)

    @property
    def balancer_urls(self) -> dict[str, str]:
        """{name: URL} of every listener."""
        return {b["name"]: f"http://{b['host']}:{b['port']}" for b in self.world.balancers()}

    def ready(self) -> bool:
        """Whether every group is full, every target healthy, every listener open.

        Raises:
            UsageError: a listener cannot be opened, or a child has died.
        """
        if self._errors:
            raise UsageError(self._errors[0])
        for name, child in (("hosts", self._hosts), ("balancer", self._balancer)):
            if not child.alive:
                raise UsageError(f"the stage's process {name} has died; see the messages above")
        with self.lock:
            groups = self._groups()
            full = all(
                [m.lifecycle for m in group.members] == [IN_SERVICE] * group.desired
                for group in groups
            )
            targets = [
                (group["arn"], target["id"], target["port"])
                for group in self.world.target_groups()
                for target in group["targets"]
            ]
            healthy = all(self._target_health(*target).state == "healthy" for target in targets)
            listening = {b["name"] for b in self.world.balancers()} <= self._listening
        return full and healthy and listening

    def tick(self) -> None:
        """Do what is due."""
        with self.lock:
            now = self._time.at(time.monotonic())
            self.sync_hosts()
            for group in self._groups():
                self._scale(group, now)
            self.sync_hosts()
            self._configure_balancer(now)

    def sync_hosts(self) -> None:
        """Start and end processes as EC2 says. Also called after each API call."""
        now = self._time.at(time.monotonic())
        for host in self.world.hosts():
            runs = host.id in self._running
            if host.state == "running" and not runs:
                self._running[host.id] = host
                self._left_at.pop(host.id, None)
                self._hosts.send(
                    {
                        "op": "launch",
                        "instance": host.id,
                        "host": host.address,
                        "port": _WEB_PORT,
                        "workload": "web",
                        "boot_s": self._time.real(host.boot_s),
                        "environment": {"INSTANCE_ID": host.id, "AVAILABILITY_ZONE": host.zone},
                    }
                )
            elif host.state != "running" and runs:
                del self._running[host.id]
                self._left_at[host.id] = now
                self._hosts.send({"op": "terminate", "instance": host.id})
            elif self._left_at.get(host.id, now) + ADDRESS_SILENT_S < now:
                # Nobody can still be waiting for it: its silence need not be kept up.
                self._left_at[host.id] = float("inf")
                self._hosts.send({"op": "release", "instance": host.id})

    def stop(self) -> None:
        """End everything that was started."""
        self._balancer.stop()
        self._hosts.stop()

    # -- Auto Scaling

    def _groups(self) -> list[autoscaling.Group]:
        return list(self.world.groups(self._refused, self._time.at(time.monotonic())))

    def _scale(self, group: autoscaling.Group, now: float) -> None:
        for member in group.members:
            if member.lifecycle == PENDING and member.instance in self._running:
                self.world.enter_service(group.name, member.instance, now)
            elif member.lifecycle == TERMINATING and self._drained(member.instance):
                self.world.terminate(group.name, member.instance)
                self._note(group.name, f"Terminating EC2 instance: {member.instance}", "drained.")
        if now >= self._next_evaluation.setdefault(group.name, now + HEALTH_EVALUATION_S):
            self._next_evaluation[group.name] = now + HEALTH_EVALUATION_S
            for instance, cause in autoscaling.found_unhealthy(group).items():
                self.world.mark_unhealthy(group.name, instance)
                self._note(group.name, f"Marking instance {instance} unhealthy", f"{cause}.")
            group = next(g for g in self._groups() if g.name == group.name)
        for decision in [*autoscaling.replaced(group), *autoscaling.to_desired(group)]:
            if isinstance(decision, Launch):
                instance = self.world.launch(group.name, decision.zone)
                text = f"Launching a new EC2 instance: {instance}"
            else:
                self.world.leave_service(group.name, decision.instance)
                text = f"Taking instance {decision.instance} out of service"
            self._note(group.name, text, f"an instance was changed {decision.cause}.")

    def _drained(self, instance: str) -> bool:
        return instance not in self._running or not any(
            target == instance for _, target, _ in self._draining
        )

    def _note(self, group: str, description: str, cause: str) -> None:
        notes = self._activities[group]
        notes.append(activity(group, description, cause))
        del notes[:-_KEPT_ACTIVITIES]

    # -- Elastic Load Balancing

    def _configure_balancer(self, now: float) -> None:
        groups = list(self.world.target_groups())
        for group in groups:
            group["targets"] = [
                {**target, **self._place(target["id"])}
                for target in group["targets"]
                if not self._noticed_gone(target["id"], now)
            ]
        wanted = {
            "op": "configure",
            "time_scale": self._time.scale,
            "balancers": list(self.world.balancers()),
            "target_groups": groups,
        }
        if wanted == self._configured:
            return
        for key in _keys(self._configured) - _keys(wanted):
            self._draining.add(key)
        for key in _keys(wanted) - _keys(self._configured):
            self._draining.discard(key)
            self._health[key] = TargetHealth(
                "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
            )
        self._configured = wanted
        self._balancer.send(wanted)

    def _place(self, instance: str) -> dict[str, str]:
        host = self._running.get(instance) or next(h for h in self.world.hosts() if h.id == instance)
        return {"host": host.address, "zone": host.zone}

    def _noticed_gone(self, instance: str, now: float) -> bool:
        left = self._left_at.get(instance)
        return left is not None and now - left >= BALANCER_NOTICES_STATE_S

    def _target_health(self, arn: str, instance: str, port: int) -> TargetHealth:
        key = (arn, instance, port)
        registered = any(
            (target["id"], target["port"]) == (instance, port)
            for group in self.world.target_groups()
            if group["arn"] == arn
            for target in group["targets"]
        )
        if not registered and key in self._draining:
            return TargetHealth(
                "draining",
                "Target.DeregistrationInProgress",
                "Target deregistration is in progress",
            )
        if not registered:
            return TargetHealth(
                "unused", "Target.NotRegistered", "Target is not registered to the target group"
            )
        if self._noticed_gone(instance, self._time.at(time.monotonic())):
            return TargetHealth(
                "unused", "Target.InvalidState", "Target is in the stopped or terminated state"
            )
        if all(balancer["target_group"] != arn for balancer in self.world.balancers()):
            return TargetHealth(
                "unused",
                "Target.NotInUse",
                "Target group is not configured to receive traffic from the load balancer",
            )
        return self._health.get(
            key,
            TargetHealth(
                "initial", "Elb.RegistrationInProgress", "Target registration is in progress"
            ),
        )

    def _draining_of(self, arn: str) -> list[tuple[str, int]]:
        registered = {
            (target["id"], target["port"])
            for group in self.world.target_groups()
            if group["arn"] == arn
            for target in group["targets"]
        }
        return [(i, p) for a, i, p in list(self._draining) if a == arn and (i, p) not in registered]

    def _refused(self, arn: str, instance: str) -> bool:
        return any(
            health.state == "unhealthy"
            for (group, target, _), health in list(self._health.items())
            if (group, target) == (arn, instance)
        )

    # -- Systems Manager

    def _command(
        self, document: str, parameters: Mapping[str, list[str]], instance: str
    ) -> Invocation:
        try:
            return invoke(document, parameters, instance, self._hosts.ask)
        except TimeoutError:
            return Invocation("TimedOut", error="the instance did not answer", code=-1)

    # -- events: on the children's threads, so without the lock, by single assignments

    def _on_host_event(self, event: Mapping[str, Any]) -> None:
        """Nothing follows from a process's start or end: the balancer finds out as on AWS."""

    def _on_balancer_event(self, event: Mapping[str, Any]) -> None:
        match event["event"]:
            case "health":
                self._health[event["target_group"], event["id"], event["port"]] = TargetHealth(
                    event["state"], event["reason"], event["description"]
                )
            case "drained":
                self._draining.discard((event["target_group"], event["id"], event["port"]))
            case "listening":
                self._listening.add(event["name"])
            case "error":
                self._errors.append(
                    f"balancer {event['name']} cannot listen: {event['detail']}; "
                    "choose another listener port in the template"
                )


def _keys(configuration: Mapping[str, Any] | None) -> set[tuple[str, str, int]]:
    return {
        (group["arn"], target["id"], target["port"])
        for group in (configuration or {}).get("target_groups", ())
        for target in group["targets"]
    }
