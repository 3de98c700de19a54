"""What an experiment would do: its actions run against an executor that only remembers.

Targets are resolved with read calls, exactly as in a run; no write call is made. With the seed of a
run, the plan names the targets that the run will hit.
"""

import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from chaoslib.configuration import load_configuration
from chaoslib.exceptions import ChaosException
from chaoslib.provider.python import run_python_activity
from chaoslib.secret import load_secrets

from chaosgrade import session
from chaosgrade.aws import Aws, Call, Environment
from chaosgrade.changes import guard
from chaosgrade.changes.engine import Planner
from chaosgrade.changes.model import Change, Resource
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError, Refused, UsageError

_OURS = "chaosgrade.actions."


@dataclass(frozen=True, slots=True)
class PlannedChange:
    """One change and the calls that would make it."""

    summary: str
    kind: str
    reversible: bool
    resource: Resource
    calls: tuple[Call, ...]
    permissions: tuple[str, ...]


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
        """IAM actions that the changes need."""
        return tuple(sorted({p for change in self.changes for p in change.permissions}))

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
            "environment": {
                **asdict(self.environment),
                "parameters": dict(self.environment.parameters),
            },
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
    try:
        guard.check(planner.changes, aws.environment)
        refusal = ""
    except Refused as error:
        refusal = str(error)
    return Plan(
        environment=aws.environment,
        seed=seed,
        changes=tuple(_planned(change, aws) for change in planner.changes),
        foreign=tuple(foreign),
        refusal=refusal,
    )


def _planned(change: Change, aws: Aws) -> PlannedChange:
    return PlannedChange(
        summary=change.summary,
        kind=change.subject.kind,
        reversible=change.reversible,
        resource=change.subject.resource,
        calls=change.calls(aws),
        permissions=tuple(dict.fromkeys((*change.subject.reads, *change.subject.writes))),
    )


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
