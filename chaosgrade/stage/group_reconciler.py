"""Carries out what the rules of `autoscaling` decide, and keeps the groups' scaling activities."""

from collections import Counter, defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from chaosgrade.stage import autoscaling
from chaosgrade.stage.autoscaling import PENDING, TERMINATING, Group, Launch
from chaosgrade.stage.capacity_pools import ON_DEMAND, SPOT, InsufficientCapacity, Pool, no_capacity
from chaosgrade.stage.timing import HEALTH_EVALUATION_S, LAUNCH_RETRY_S
from chaosgrade.stage.world import Activity

if TYPE_CHECKING:
    from chaosgrade.stage.moto_world import MotoWorld

_KEPT_ACTIVITIES = 100
_LAUNCHING = "Launching a new EC2 instance"
_TERMINATING = "Terminating EC2 instance: "


class GroupReconciler:
    """All Auto Scaling groups of a stage.

    Args:
        world: the played AWS.
        runs: whether an instance has been started and not ended.
        drains: whether a balancer still drains an instance.
        refuses: whether a target group (ARN) has found an instance unhealthy.
        denied: whether launches of a group in a zone fail for want of capacity.
    """

    def __init__(
        self,
        world: "MotoWorld",
        *,
        runs: Callable[[str], bool],
        drains: Callable[[str], bool],
        refuses: Callable[[str, str], bool],
        denied: Callable[[str, str], bool],
    ) -> None:
        self._world = world
        self._denied = denied
        self._runs = runs
        self._drains = drains
        self._refuses = refuses
        self._activities: defaultdict[str, list[Activity]] = defaultdict(list)
        self._next_evaluation: dict[str, float] = {}
        self._no_launch_until: dict[tuple[str, bool], float] = {}
        self._causes: dict[str, str] = {}

    def groups(self, now: float) -> list[autoscaling.Group]:
        """The groups as they are at `now`, in AWS seconds."""
        return list(self._world.groups(self._refuses, now))

    def activities(self, group: str | None) -> list[Activity]:
        """Scaling activities of a group, or of all, the latest first."""
        groups = [group] if group else list(self._activities)
        noted = [activity for name in groups for activity in self._activities[name]]
        return sorted(noted, key=lambda activity: activity["StartTime"], reverse=True)

    def terminating(self, group: str, instance: str, cause: str) -> None:
        """Note that an instance is on its way out."""
        self._begin(
            group,
            f"{_TERMINATING}{instance}",
            f"it was taken out of service in response to {cause}",
        )

    def reconcile(self, now: float) -> None:
        """Do what is due at `now`, in AWS seconds."""
        for group in self.groups(now):
            self._move_on(group, now)
        for group in self.groups(now):
            if now >= self._next_evaluation.setdefault(group.name, now + HEALTH_EVALUATION_S):
                self._next_evaluation[group.name] = now + HEALTH_EVALUATION_S
                self._evaluate(group)
        for group in self.groups(now):
            for decision in autoscaling.decide(group):
                self._carry_out(group, decision, now)

    def _move_on(self, group: autoscaling.Group, now: float) -> None:
        for member in group.members:
            if member.lifecycle == PENDING and self._runs(member.instance):
                self._world.enter_service(group.name, member.instance, now)
                self._end(group.name, f"{_LAUNCHING}: {member.instance}")
            elif member.lifecycle == TERMINATING and not (
                self._runs(member.instance) and self._drains(member.instance)
            ):
                self._world.terminate(group.name, member.instance)
                self._end(group.name, f"{_TERMINATING}{member.instance}")

    def _evaluate(self, group: autoscaling.Group) -> None:
        pending = {member.instance for member in group.members if member.lifecycle == PENDING}
        for instance, cause in autoscaling.found_unhealthy(group).items():
            self._world.mark_unhealthy(group.name, instance)
            self._causes[instance] = cause
            if instance in pending:
                self._end(group.name, f"{_LAUNCHING}: {instance}", "it ended before it was ready")

    def _carry_out(
        self, group: autoscaling.Group, decision: autoscaling.Decision, now: float
    ) -> None:
        if isinstance(decision, Launch):
            if now >= self._no_launch_until.get((group.name, decision.elsewhere), 0.0):
                # What was launched a moment ago weighs in.
                current = next(g for g in self.groups(now) if g.name == group.name)
                self._launch(current, decision, now)
            return
        self._world.leave_service(group.name, decision.instance)
        cause = self._causes.pop(decision.instance, decision.cause)
        self.terminating(group.name, decision.instance, cause)

    def _launch(self, group: Group, decision: Launch, now: float) -> None:
        """Try one pool after the other until one has room."""
        cause = f"an instance was started in response to {decision.cause}"
        for pool in self._pools(group, decision):
            try:
                if self._denied(group.name, pool.zone):
                    raise no_capacity(pool, SPOT if decision.spot else ON_DEMAND)
                instance = self._world.launch(
                    group.name, pool.zone, pool.instance_type, spot=decision.spot
                )
            except InsufficientCapacity as error:
                self._begin(group.name, _LAUNCHING, cause)
                self._end(group.name, _LAUNCHING, f"{error} Launching EC2 instance failed.")
            except Exception as error:  # whatever moto raises when a part of the group was deleted
                self._begin(group.name, _LAUNCHING, cause)
                self._end(group.name, _LAUNCHING, f"{type(error).__name__}: {error}")
                break
            else:
                self._begin(group.name, f"{_LAUNCHING}: {instance}", cause)
                return
        self._no_launch_until[group.name, decision.elsewhere] = now + LAUNCH_RETRY_S

    def _pools(self, group: Group, decision: Launch) -> list[Pool]:
        """Where a launch is tried, in this order."""
        load = Counter(member.zone for member in group.counted())
        zones = [decision.zone]
        if decision.elsewhere:
            others = (zone for zone in group.zones if zone != decision.zone)
            zones += sorted(others, key=lambda zone: (load[zone], group.zones.index(zone)))
        shunned = {Pool(m.instance_type, m.zone) for m in group.members if m.at_risk}
        spots = [m for m in group.members if m.spot]
        everywhere = Counter(m.instance_type for m in spots)
        here = Counter(Pool(m.instance_type, m.zone) for m in spots)
        pools = []
        for zone in zones:
            of_type = {
                instance_type: Pool(instance_type, zone) for instance_type in group.mix.types
            }
            rooms = {
                instance_type: -1.0 if pool in shunned else self._world.room(pool, SPOT)
                for instance_type, pool in of_type.items()
            }
            running = {t: (here[pool], everywhere[t]) for t, pool in of_type.items()}
            order = group.mix.order(
                spot=decision.spot, room=rooms.__getitem__, running=running.__getitem__
            )
            pools += [of_type[instance_type] for instance_type in order]
        return pools

    def _begin(self, group: str, description: str, cause: str) -> None:
        notes = self._activities[group]
        notes.append(autoscaling.activity(group, description, cause))
        del notes[:-_KEPT_ACTIVITIES]

    def _end(self, group: str, description: str, failure: str | None = None) -> None:
        notes = self._activities[group]
        for index in reversed(range(len(notes))):
            if notes[index]["Description"] == description:
                notes[index] = autoscaling.ended(notes[index], failure)
                return
