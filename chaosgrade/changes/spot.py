"""Changes through AWS Fault Injection Service: Spot Instances are interrupted as EC2 would do it.

An interruption needs an experiment template and a running experiment of FIS. Both are settings: the
undo stops the experiment and deletes the template. What has been announced to an instance happens.
Source: AWS FIS User Guide, "AWS FIS actions reference", Amazon EC2 actions.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import Any, ClassVar, Self

from chaosgrade.aws import Aws, Call, Lookup
from chaosgrade.changes.instance import described
from chaosgrade.changes.model import Effect, Live, Reading, Resource
from chaosgrade.changes.network_acl import PREFIX
from chaosgrade.evidence import Json
from chaosgrade.history import SPOT_INTERRUPTION

NAME_TAG = PREFIX + "fis"
"""Which experiment template it is: the tag finds it again whatever id FIS has given it."""

PRESENT, RUNNING = "present", "running"
TEMPLATE = "fis:experiment-template"

_ARNS = 5
"""How many ARNs one target takes. Source: AWS FIS User Guide, "Quotas"."""

_ON_ITS_WAY = ("pending", "initiating", "stopping")
_READS = ("fis:ListExperimentTemplates",)


@dataclass(frozen=True, slots=True)
class InterruptionTemplate:
    """An FIS experiment template of ours; null while it is not there.

    Args:
        name: its tag `chaosgrade:fis`, unlike any other's.
        role: ARN of the role that FIS assumes.
        instances: ARNs of the Spot Instances that it interrupts.
        warning_minutes: from the rebalance recommendation to the end, at least 2.
        group, zone, no_capacity_minutes: ARN of an Auto Scaling group whose launches in the zone
            fail meanwhile for so long; "", "" and 0 for none.
    """

    name: str
    role: str
    instances: tuple[str, ...]
    warning_minutes: int
    group: str = ""
    zone: str = ""
    no_capacity_minutes: int = 0

    kind: ClassVar[str] = TEMPLATE
    reads: ClassVar[tuple[str, ...]] = _READS
    writes: ClassVar[tuple[str, ...]] = (
        "fis:CreateExperimentTemplate",
        "fis:DeleteExperimentTemplate",
        "fis:TagResource",
        "iam:PassRole",
    )

    def __post_init__(self) -> None:
        # JSON gives a list back.
        object.__setattr__(self, "instances", tuple(self.instances))

    @property
    def resource(self) -> Resource:
        return Resource(TEMPLATE, self.name)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        ids = _templates(aws)
        return {
            setting: Live(PRESENT if found else None, {"ids": " ".join(found)})
            for setting in settings
            for found in [ids.get(setting.name, [])]
        }

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        if value is not None:
            return (Call("fis", "CreateExperimentTemplate", self._template()),)
        known: list[str | Lookup] = list(live.handles.get("ids", "").split())
        ids = known or [_template_id(self.name)]
        return tuple(Call("fis", "DeleteExperimentTemplate", {"id": id_}) for id_ in ids)

    def summary(self, value: Json) -> str:
        verb = "create" if value else "delete"
        return f"{verb} an FIS experiment template that interrupts {len(self.instances)} instances"

    def _template(self) -> dict[str, Any]:
        targets: dict[str, Any] = {}
        actions: dict[str, Any] = {}
        for number, some in enumerate(batched(self.instances, _ARNS)):
            targets[f"spot-{number}"] = {
                "resourceType": "aws:ec2:spot-instance",
                "resourceArns": list(some),
                "selectionMode": "ALL",
            }
            actions[f"interrupt-{number}"] = {
                "actionId": "aws:ec2:send-spot-instance-interruptions",
                "parameters": {"durationBeforeInterruption": f"PT{self.warning_minutes}M"},
                "targets": {"SpotInstances": f"spot-{number}"},
            }
        if self.no_capacity_minutes:
            targets["group"] = {
                "resourceType": "aws:ec2:autoscaling-group",
                "resourceArns": [self.group],
                "selectionMode": "ALL",
            }
            actions["no-capacity"] = {
                "actionId": "aws:ec2:asg-insufficient-instance-capacity-error",
                "parameters": {
                    "duration": f"PT{self.no_capacity_minutes}M",
                    "availabilityZoneIdentifiers": self.zone,
                },
                "targets": {"AutoScalingGroups": "group"},
            }
        return {
            "description": "chaosgrade: interrupts Spot Instances",
            "roleArn": self.role,
            "stopConditions": [{"source": "none"}],
            "targets": targets,
            "actions": actions,
            "tags": {NAME_TAG: self.name},
        }


@dataclass(frozen=True, slots=True)
class RunningInterruption:
    """Whether the experiment of a template of ours runs: "running" or null.

    Args:
        name: of the template.
        group: name of an Auto Scaling group that it denies capacity; "" for none.
    """

    name: str
    group: str = ""

    kind: ClassVar[str] = "fis:experiment"
    reads: ClassVar[tuple[str, ...]] = (*_READS, "fis:ListExperiments")
    writes: ClassVar[tuple[str, ...]] = ("fis:StartExperiment", "fis:StopExperiment")

    @property
    def resource(self) -> Resource:
        if self.group:
            return Resource("autoscaling:group", self.group)
        return Resource(TEMPLATE, self.name)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        templates = _templates(aws)
        active = list(_active(aws))
        found: dict[Self, Reading] = {}
        for setting in settings:
            ids = templates.get(setting.name, [])
            ours = [e for e in active if e["experimentTemplateId"] in ids]
            handles = {"experiments": " ".join(sorted(e["id"] for e in ours))}
            if ids:
                handles["template"] = ids[0]
            settled = all(e["state"]["status"] == "running" for e in ours)
            found[setting] = Live(RUNNING if ours else None, handles, settled=settled)
        return found

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        if value is not None:
            template = live.handles.get("template") or _template_id(self.name)
            return (Call("fis", "StartExperiment", {"experimentTemplateId": template}),)
        known: list[str | Lookup] = list(live.handles.get("experiments", "").split())
        ids = known or [self._experiment_id()]
        return tuple(Call("fis", "StopExperiment", {"id": id_}) for id_ in ids)

    def summary(self, value: Json) -> str:
        denial = f" and denies group {self.group} capacity" if self.group else ""
        verb = "start" if value else "stop"
        return f"{verb} the FIS experiment that interrupts Spot Instances{denial}"

    def _experiment_id(self) -> Lookup:
        # A template of ours has one experiment.
        parameters = {"experimentTemplateId": _template_id(self.name)}
        return Lookup(Call("fis", "ListExperiments", parameters), "experiments[0].id")


@dataclass(frozen=True, slots=True)
class SpotInterruption:
    """The end of one Spot Instance, by an experiment that another change has started.

    Source: Amazon EC2 User Guide, "Spot Instance request status".
    """

    instance_id: str
    zone: str

    kind: ClassVar[str] = SPOT_INTERRUPTION
    reads: ClassVar[tuple[str, ...]] = (
        "ec2:DescribeInstances",
        "ec2:DescribeSpotInstanceRequests",
    )
    writes: ClassVar[tuple[str, ...]] = ()

    @property
    def resource(self) -> Resource:
        return Resource("ec2:instance", self.instance_id, self.zone)

    def calls(self) -> tuple[Call, ...]:
        return ()

    def effect(self, aws: Aws) -> Effect:
        filters = [{"Name": "instance-id", "Values": [self.instance_id]}]
        call = Call("ec2", "DescribeSpotInstanceRequests", {"Filters": filters})
        codes = [r["Status"]["Code"] for r in aws.pages(call, "SpotInstanceRequests")]
        for code in codes:
            if code == "marked-for-termination" or code.startswith("instance-terminated"):
                return Effect(True, f"the Spot request of {self.instance_id} is {code}")
        states = [i["State"]["Name"] for i in described(aws, [self.instance_id])]
        seen = ", ".join([*states, *codes]) or "gone"
        return Effect("running" not in states, f"{self.instance_id} is {seen}")

    def summary(self) -> str:
        return f"interrupt the Spot Instance {self.instance_id} in {self.zone}"


def _templates(aws: Aws) -> dict[str, list[str]]:
    """{name: ids} of the experiment templates that are ours."""
    found: dict[str, list[str]] = {}
    call = Call("fis", "ListExperimentTemplates", {"maxResults": 100})
    for template in aws.pages(call, "experimentTemplates"):
        if name := template.get("tags", {}).get(NAME_TAG):
            found.setdefault(name, []).append(template["id"])
    return found


def _active(aws: Aws) -> Iterator[dict[str, Any]]:
    """Experiments that are not over."""
    call = Call("fis", "ListExperiments", {"maxResults": 100})
    for experiment in aws.pages(call, "experiments"):
        if experiment["state"]["status"] in (*_ON_ITS_WAY, "running"):
            yield experiment


def _template_id(name: str) -> Lookup:
    """How a person finds the id of a template of ours."""
    return Lookup(
        Call("fis", "ListExperimentTemplates"),
        f"""experimentTemplates[?tags."{NAME_TAG}"=='{name}'].id | [0]""",
    )
