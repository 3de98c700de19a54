"""Carries out what the rules of `autoscaling` decide, and keeps the groups' scaling activities."""

from collections import defaultdict
from collections.abc import Callable
from typing import TYPE_CHECKING

from chaosgrade.stage import autoscaling
from chaosgrade.stage.autoscaling import PENDING, TERMINATING, Launch
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
    """

    def __init__(
        self,
        world: "MotoWorld",
        *,
        runs: Callable[[str], bool],
        drains: Callable[[str], bool],
        refuses: Callable[[str, str], bool],
    ) -> None:
        self._world = world
        self._runs = runs
        self._drains = drains
        self._refuses = refuses
        self._activities: defaultdict[str, list[Activity]] = defaultdict(list)
        self._next_evaluation: dict[str, float] = {}
        self._no_launch_until: dict[str, float] = {}
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
        for instance, cause in autoscaling.found_unhealthy(group).items():
            self._world.mark_unhealthy(group.name, instance)
            self._causes[instance] = cause

    def _carry_out(
        self, group: autoscaling.Group, decision: autoscaling.Decision, now: float
    ) -> None:
        if isinstance(decision, Launch):
            if now >= self._no_launch_until.get(group.name, 0.0):
                self._launch(group.name, decision, now)
            return
        self._world.leave_service(group.name, decision.instance)
        cause = self._causes.pop(decision.instance, decision.cause)
        self.terminating(group.name, decision.instance, cause)

    def _launch(self, group: str, decision: Launch, now: float) -> None:
        cause = f"an instance was started in response to {decision.cause}"
        try:
            instance = self._world.launch(group, decision.zone)
        except Exception as error:  # whatever moto raises when a part of the group was deleted
            self._no_launch_until[group] = now + LAUNCH_RETRY_S
            self._begin(group, _LAUNCHING, cause)
            self._end(group, _LAUNCHING, f"{type(error).__name__}: {error}")
        else:
            self._begin(group, f"{_LAUNCHING}: {instance}", cause)

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
