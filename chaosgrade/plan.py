"""What an experiment would do: its actions run against an executor that only remembers.

Targets are resolved with read calls, exactly as in a run; no write call is made. With the seed of a
run, the plan names the targets that the run will hit.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from chaoslib.configuration import load_configuration
from chaoslib.exceptions import ChaosException
from chaoslib.provider.python import run_python_activity
from chaoslib.secret import load_secrets

from chaosgrade import session
from chaosgrade.aws import Aws, Call, Environment
from chaosgrade.changes.engine import Planner
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.model import Change, Lasting, Live, Resource, Setting
from chaosgrade.changes.reading import read
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError, Refused, UsageError
from chaosgrade.evidence import Json
from chaosgrade.policies.safety import load_safety

_OURS = "chaosgrade.actions."


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One change and the calls that would make it and undo it.

    Args:
        before: the value that its setting has now; None for a strike.
        calls, undo: in order. Names that AWS gives anew with each change are lookups in them.
        by_hand: a shell command with which a person does what is no call of AWS; "" for nothing.
    """

    summary: str
    kind: str
    reversible: bool
    resource: Resource
    before: Json
    calls: tuple[Call, ...]
    undo: tuple[Call, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    by_hand: str = ""


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that a run would change.

    Args:
        environment: where.
        seed: what the targets were drawn from.
        changes: in the order of the method.
        foreign: names of actions that are not chaosgrade's: not planned, not undone by it.
        refusal: why the guard would refuse; "" when it would not.
    """

    environment: Environment
    seed: int
    changes: tuple[PlannedChange, ...]
    foreign: tuple[str, ...]
    refusal: str

    @property
    def permissions(self) -> tuple[str, ...]:
        """IAM actions that the changes and their undo need."""
        return tuple(
            sorted({p for change in self.changes for p in (*change.reads, *change.writes)})
        )

    @property
    def blast_radius(self) -> dict[str, dict[str, Any]]:
        """{resource kind: {count, zones}}."""
        kinds: dict[str, dict[str, Any]] = {}
        for resource in {change.resource for change in self.changes}:
            entry = kinds.setdefault(resource.kind, {"count": 0, "zones": set()})
            entry["count"] += 1
            entry["zones"] |= {resource.zone} - {None}
        return {kind: {**e, "zones": sorted(e["zones"])} for kind, e in sorted(kinds.items())}

    def to_json(self) -> dict[str, Any]:
        """The plan as one JSON object."""
        return {
            "environment": self.environment.to_json(),
            "seed": self.seed,
            "changes": [asdict(change) for change in self.changes],
            "irreversible": [c.summary for c in self.changes if not c.reversible],
            "blast_radius": self.blast_radius,
            "foreign_actions": list(self.foreign),
            "permissions": list(self.permissions),
            "refusal": self.refusal,
        }


def draw_up(document: Mapping[str, Any], aws: Aws, seed: int) -> Plan:
    """The plan of an experiment against `aws`.

    Raises:
        TargetNotFound: a selector matches nothing.
        UsageError: an action does not accept its arguments.
        AwsError: a read was refused.
    """
    planner = Planner()
    configuration = load_configuration(document.get("configuration") or {})
    secrets = load_secrets(document.get("secrets") or {}, configuration)
    foreign = []
    session.activate(session.Session(aws, planner, random.Random(seed), Clock()))
    try:
        for activity in document["method"]:
            if activity.get("type") != "action":
                continue
            if not str(activity["provider"].get("module", "")).startswith(_OURS):
                foreign.append(str(activity["name"]))
                continue
            _run(activity, configuration, secrets)
    finally:
        session.activate(None)
    refusal = ""
    try:
        profile = load_safety()[aws.environment.kind]
        Guard(profile, aws, None, planner.run, Clock()).check(planner.changes)
    except Refused as error:
        refusal = str(error)
    return Plan(
        environment=aws.environment,
        seed=seed,
        changes=tuple(_planned(planner.changes, aws)),
        foreign=tuple(foreign),
        refusal=refusal,
    )


def _planned(changes: Sequence[Change], aws: Aws) -> Iterator[PlannedChange]:
    readable = [
        change.subject
        for change in changes
        if isinstance(change.subject, Setting)
        and all(only_reads(action) for action in change.subject.reads)
    ]
    live = read(aws, readable)
    for change in changes:
        before, undo = change.presumed, tuple[Call, ...]()
        if isinstance(change.subject, Setting):
            reading = live.get(change.subject)
            before = reading.value if isinstance(reading, Live) else before
            if before is not None or isinstance(reading, Live):
                undo = change.subject.calls(before, Live(change.wanted))
        yield PlannedChange(
            summary=change.summary,
            kind=change.subject.kind,
            reversible=change.reversible,
            resource=change.subject.resource,
            before=before,
            calls=change.calls(Live(before)),
            undo=undo,
            reads=change.subject.reads,
            writes=change.subject.writes,
            by_hand=change.subject.by_hand() if isinstance(change.subject, Lasting) else "",
        )


def only_reads(action: str) -> bool:
    """Whether an IAM action, such as "ec2:DescribeInstances", changes nothing, by its verb."""
    verbs = ("BatchGet", "Describe", "Get", "List", "Lookup", "Scan")
    return action.partition(":")[2].startswith(verbs)


def _run(activity: Mapping[str, Any], configuration: Any, secrets: Any) -> None:
    try:
        run_python_activity(activity, configuration, secrets)
    except ChaosException as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ChaosgradeError):
                raise cause from None
            cause = cause.__cause__ or cause.__context__
        raise UsageError(f"action {activity['name']}: {error}") from None
