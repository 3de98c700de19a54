"""AWS Fault Injection Service on the stage: experiments that do what they say.

Source: AWS FIS User Guide, "AWS FIS actions reference", "Targets for AWS FIS" and "Experiments".
"""

import random
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from chaosgrade.stage.interruptions import Interruptions
from chaosgrade.stage.timing import FIS_STATE_S

INTERRUPT = "aws:ec2:send-spot-instance-interruptions"
NO_CAPACITY = "aws:ec2:asg-insufficient-instance-capacity-error"

SPOT_INSTANCE, GROUP = "aws:ec2:spot-instance", "aws:ec2:autoscaling-group"
FILTERS = ("InstanceType", "Placement.AvailabilityZone", "State.Name", "SubnetId")

_ARNS = 5
_DURATION = re.compile(r"PT(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)S)?")
_MODE = re.compile(r"ALL|(COUNT|PERCENT)\(([1-9]\d*)\)")
_ROLE = re.compile(r"arn:[\w-]+:iam::\d{12}:role/.+")
ACTIVE = ("pending", "initiating", "running", "stopping")


@dataclass(frozen=True, slots=True)
class _Action:
    """What AWS FIS asks of an action: its kind of target, and parameters with their bounds."""

    target: str
    resource_type: str
    duration: str
    shortest_s: float
    longest_s: float
    parameters: tuple[str, ...] = ()


ACTIONS: Mapping[str, _Action] = {
    INTERRUPT: _Action("SpotInstances", SPOT_INSTANCE, "durationBeforeInterruption", 120.0, 900.0),
    NO_CAPACITY: _Action(
        "AutoScalingGroups", GROUP, "duration", 60.0, 43_200.0, ("availabilityZoneIdentifiers",)
    ),
}
"""The actions that are played."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Something that a target may resolve to.

    Args:
        type: "aws:ec2:spot-instance" or "aws:ec2:autoscaling-group".
        name: instance id, or name of the group.
        fields: by the paths of `FILTERS`.
    """

    type: str
    arn: str
    name: str
    tags: Mapping[str, str]
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Run:
    """One experiment. Times are AWS seconds.

    Args:
        id: its id.
        targets, actions, skips_empty: as the experiment template has them.
        began: when it was started.
    """

    id: str
    targets: Mapping[str, Mapping[str, Any]]
    actions: Mapping[str, Mapping[str, Any]]
    skips_empty: bool
    began: float
    status: str = "pending"
    reason: str = "Experiment is pending."
    resolved: dict[str, list[Resource]] = field(default_factory=dict)
    action_status: dict[str, str] = field(default_factory=dict)
    until: dict[str, float] = field(default_factory=dict)
    """When each started action is over."""


class FaultInjection:
    """All experiments of a stage.

    Args:
        interruptions: what an interruption does.
        resources: everything that targets may resolve to, now.
        chance: chooses among targets.
    """

    def __init__(
        self,
        interruptions: Interruptions,
        resources: Callable[[], Iterable[Resource]],
        chance: random.Random,
    ) -> None:
        self._interruptions = interruptions
        self._resources = resources
        self._chance = chance
        self.runs: dict[str, Run] = {}

    def start(self, run: Run) -> None:
        """Begin an experiment; it goes on with `tick`."""
        run.action_status = dict.fromkeys(run.actions, "pending")
        self.runs[run.id] = run

    def stop(self, id_: str, now: float) -> None:
        """End an experiment; what EC2 has announced to an instance it carries out."""
        run = self.runs[id_]
        if run.status not in ACTIVE:
            return
        for name, action in run.actions.items():
            if run.action_status[name] in ("pending", "running"):
                if run.action_status[name] == "running" and action["actionId"] == INTERRUPT:
                    for resource in self._targets(run, name):
                        self._interruptions.cancel(resource.name, now)
                run.action_status[name] = "stopped"
        run.status, run.reason = "stopping", "Experiment is stopping."

    def denied(self, group: str, zone: str) -> bool:
        """Whether launches of a group in a zone are denied for want of capacity."""
        return any(
            zone in _zones(action) and group in (r.name for r in self._targets(run, name))
            for run in self.runs.values()
            for name, action in run.actions.items()
            if action["actionId"] == NO_CAPACITY and run.action_status[name] == "running"
        )

    def tick(self, now: float) -> None:
        """Go on with what is due."""
        for run in self.runs.values():
            if run.status == "stopping":
                run.status, run.reason = "stopped", "Experiment stopped."
            elif run.status == "pending" and now >= run.began + FIS_STATE_S:
                run.status, run.reason = "initiating", "Experiment is initiating."
            elif run.status == "initiating" and now >= run.began + 2 * FIS_STATE_S:
                self._initiate(run)
            if run.status == "running":
                self._go_on(run, now)

    def _initiate(self, run: Run) -> None:
        found = list(self._resources())
        for name, target in run.targets.items():
            run.resolved[name] = _resolve(target, found, self._chance)
        empty = [name for name, resources in run.resolved.items() if not resources]
        if empty and not run.skips_empty:
            run.status = "failed"
            run.reason = f"Target resolution returned empty set: {', '.join(empty)}"
            run.action_status = dict.fromkeys(run.actions, "cancelled")
            return
        run.status, run.reason = "running", "Experiment is running."

    def _go_on(self, run: Run, now: float) -> None:
        for name, action in run.actions.items():
            status = run.action_status[name]
            if status == "running" and now >= run.until[name]:
                run.action_status[name] = "completed"
            elif status == "pending" and all(
                run.action_status[before] in ("completed", "skipped")
                for before in action.get("startAfter") or ()
            ):
                self._begin(run, name, action, now)
        if all(status in ("completed", "skipped") for status in run.action_status.values()):
            run.status, run.reason = "completed", "Experiment completed."

    def _begin(self, run: Run, name: str, action: Mapping[str, Any], now: float) -> None:
        targets = self._targets(run, name)
        length_s = seconds(action["parameters"][ACTIONS[action["actionId"]].duration])
        if action["actionId"] == INTERRUPT:
            for resource in targets:
                self._interruptions.begin(resource.name, now, length_s)
        run.until[name] = now + length_s
        run.action_status[name] = "running" if targets else "skipped"

    def _targets(self, run: Run, action: str) -> list[Resource]:
        names = run.actions[action]["targets"].values()
        return [resource for name in names for resource in run.resolved.get(name, ())]


def seconds(duration: str) -> float:
    """An ISO 8601 duration such as "PT2M", in seconds.

    Raises:
        ValueError: it is none of hours, minutes and seconds.
    """
    match = _DURATION.fullmatch(str(duration))
    if match is None or not any(match.groups()):
        raise ValueError(f"{duration!r} is no duration such as PT2M")
    hours, minutes, rest = (float(number or 0) for number in match.groups())
    return hours * 3600 + minutes * 60 + rest


def check(template: Mapping[str, Any]) -> None:
    """Refuse an experiment template that AWS would refuse, or that the stage cannot carry out.

    Args:
        template: {"roleArn", "stopConditions", "targets", "actions"}.

    Raises:
        ValueError: what is wrong.
    """
    targets, actions = template.get("targets") or {}, template.get("actions") or {}
    if not _ROLE.fullmatch(str(template.get("roleArn"))):
        raise ValueError(f"roleArn must be the ARN of an IAM role, got {template.get('roleArn')}")
    if not actions:
        raise ValueError("actions: at least one action is needed")
    for condition in template.get("stopConditions") or ():
        if condition.get("source") != "none":
            raise ValueError(
                f"the stage evaluates no alarms: stop condition {condition.get('source')}"
            )
    for name, target in targets.items():
        _check_target(name, target)
    for name, action in actions.items():
        _check_action(name, action, targets, actions)


def _check_target(name: str, target: Mapping[str, Any]) -> None:
    arns, tags = target.get("resourceArns") or (), target.get("resourceTags") or {}
    if bool(arns) == bool(tags):
        raise ValueError(f"target {name} must have either resourceArns or resourceTags")
    if len(arns) > _ARNS:
        raise ValueError(f"target {name} has {len(arns)} resourceArns, {_ARNS} are allowed")
    if not _MODE.fullmatch(str(target.get("selectionMode"))):
        raise ValueError(
            f"target {name}: selectionMode must be ALL, COUNT(n) or PERCENT(n), "
            f"got {target.get('selectionMode')}"
        )
    for filter_ in target.get("filters") or ():
        if filter_["path"] not in FILTERS:
            raise ValueError(
                f"target {name}: the stage filters by {', '.join(FILTERS)}, not {filter_['path']}"
            )
    if target.get("parameters"):
        raise ValueError(f"target {name}: the stage plays no parameters of targets")


def _check_action(
    name: str,
    action: Mapping[str, Any],
    targets: Mapping[str, Mapping[str, Any]],
    actions: Mapping[str, Any],
) -> None:
    known = ACTIONS.get(str(action.get("actionId")))
    if known is None:
        raise ValueError(
            f"the stage does not play the action {action.get('actionId')}; "
            f"it plays {', '.join(ACTIONS)}"
        )
    parameters = action.get("parameters") or {}
    needed = {known.duration, *known.parameters}
    if parameters.keys() != needed:
        raise ValueError(
            f"action {name} must have the parameters {', '.join(sorted(needed))}, "
            f"got {', '.join(sorted(parameters)) or 'none'}"
        )
    if not known.shortest_s <= seconds(parameters[known.duration]) <= known.longest_s:
        raise ValueError(
            f"action {name}: {known.duration} must be from {known.shortest_s:g} s to "
            f"{known.longest_s:g} s, got {parameters[known.duration]}"
        )
    named = action.get("targets") or {}
    if list(named) != [known.target] or named[known.target] not in targets:
        raise ValueError(f"action {name} must have one target {known.target} of the template's")
    kind = targets[named[known.target]].get("resourceType")
    if kind != known.resource_type:
        raise ValueError(f"action {name}: its target must be of {known.resource_type}, got {kind}")
    for before in action.get("startAfter") or ():
        if before not in actions or before == name:
            raise ValueError(f"action {name}: startAfter names no other action: {before}")


def _resolve(
    target: Mapping[str, Any], resources: Sequence[Resource], chance: random.Random
) -> list[Resource]:
    arns, tags = target.get("resourceArns") or (), target.get("resourceTags") or {}
    filters = target.get("filters") or ()
    found = [
        resource
        for resource in resources
        if resource.type == target["resourceType"]
        and (not arns or resource.arn in arns)
        and all(resource.tags.get(key) == value for key, value in tags.items())
        and all(resource.fields.get(f["path"]) in f["values"] for f in filters)
    ]
    match = _MODE.fullmatch(target["selectionMode"])
    if match is None or match[1] is None:
        return found
    number = int(match[2])
    count = number if match[1] == "COUNT" else len(found) * min(number, 100) // 100
    return chance.sample(found, min(count, len(found)))


def _zones(action: Mapping[str, Any]) -> list[str]:
    return re.split(r"\s*,\s*", str(action["parameters"]["availabilityZoneIdentifiers"]))
