"""Changes of Auto Scaling groups' processes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import batched
from typing import ClassVar, Self

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.model import Live, Reading, Resource
from chaosgrade.errors import UsageError
from chaosgrade.evidence import Json

PROCESSES = (
    "AZRebalance",
    "AddToLoadBalancer",
    "AlarmNotification",
    "HealthCheck",
    "InstanceRefresh",
    "Launch",
    "ReplaceUnhealthy",
    "ScheduledActions",
    "Terminate",
)

_NAMES = 100
"""How many groups one call describes. Source: DescribeAutoScalingGroups, MaxRecords."""


@dataclass(frozen=True, slots=True)
class SuspendedProcesses:
    """Which of some processes of a group are suspended, as a sorted list. Others are not touched.

    Suspending Launch or Terminate keeps others from working too. Source: Amazon EC2 Auto Scaling
    User Guide, "Suspend and resume Amazon EC2 Auto Scaling processes".

    Raises:
        UsageError: there is no such process.
    """

    group: str
    processes: tuple[str, ...]

    kind: ClassVar[str] = "autoscaling:suspended-processes"
    reads: ClassVar[tuple[str, ...]] = ("autoscaling:DescribeAutoScalingGroups",)
    writes: ClassVar[tuple[str, ...]] = (
        "autoscaling:ResumeProcesses",
        "autoscaling:SuspendProcesses",
    )

    def __post_init__(self) -> None:
        for process in self.processes:
            if process not in PROCESSES:
                raise UsageError(
                    f"process {process!r} is none of Auto Scaling's; there are: "
                    f"{', '.join(PROCESSES)}"
                )
        # JSON gives a list back.
        object.__setattr__(self, "processes", tuple(sorted(set(self.processes))))

    @property
    def resource(self) -> Resource:
        return Resource("autoscaling:group", self.group)

    @classmethod
    def read_all(cls, aws: Aws, settings: Sequence[Self]) -> Mapping[Self, Reading]:
        suspended: dict[str, set[str]] = {}
        for names in batched(dict.fromkeys(s.group for s in settings), _NAMES):
            call = Call(
                "autoscaling",
                "DescribeAutoScalingGroups",
                {"AutoScalingGroupNames": list(names), "MaxRecords": _NAMES},
            )
            for group in aws.pages(call, "AutoScalingGroups"):
                suspended[group["AutoScalingGroupName"]] = {
                    process["ProcessName"] for process in group["SuspendedProcesses"]
                }
        return {
            setting: Live(sorted(suspended[setting.group] & set(setting.processes)))
            for setting in settings
            if setting.group in suspended
        }

    def calls(self, value: Json, live: Live) -> tuple[Call, ...]:
        wanted, now = set(_names(value)), set(_names(live.value))
        steps = (("SuspendProcesses", wanted - now), ("ResumeProcesses", now - wanted))
        return tuple(
            Call(
                "autoscaling",
                operation,
                {"AutoScalingGroupName": self.group, "ScalingProcesses": sorted(processes)},
            )
            for operation, processes in steps
            if processes
        )

    def without_ours(self, before: Json, wanted: Json, now: Json) -> Json:
        former, given = set(_names(before)), set(_names(wanted))
        return sorted((set(_names(now)) - (given - former)) | (former - given))

    def summary(self, value: Json) -> str:
        names = _names(value)
        if not names:
            return f"resume {', '.join(self.processes)} of group {self.group}"
        return f"suspend {', '.join(names)} of group {self.group}"


def _names(value: Json) -> list[str]:
    return [str(name) for name in value] if isinstance(value, list) else []
