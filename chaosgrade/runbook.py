"""One experiment by hand: what a person does, watches and takes back, and in which order.

`content` gathers it as one JSON object; `markdown` writes that out. Neither calls AWS: the commands
are the calls of the plan, as the AWS CLI takes them.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from chaosgrade.experiment import ExperimentFile
from chaosgrade.measurement import METRICS
from chaosgrade.plan import Plan, PlannedChange, only_reads
from chaosgrade.policies.grading import load_grading
from chaosgrade.policies.objectives import Objective, format_value, parse_extension
from chaosgrade.policies.safety import Profile
from chaosgrade.report.wording import environment_label, when
from chaosgrade.score import Score
from chaosgrade.verdict import TrialVerdict

type Content = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the commands are to work.

    Args:
        aws_options: of the AWS CLI, such as "--region us-east-1".
        ours: what follows a command of chaosgrade, such as "instance-kill --target aws".
        role: the role that the credentials have to be a session of; None: of none.
        lasting: False for a stage that ended with the plan, so that the commands only show the way.
    """

    aws_options: str
    ours: str
    role: str | None
    lasting: bool


@dataclass(frozen=True, slots=True)
class LastRun:
    """The latest trial of the same experiment.

    Args:
        folder: where its evidence is.
        trial: what it has shown.
        score: of that trial alone.
    """

    folder: str
    trial: TrialVerdict
    score: Score


def content(
    file: ExperimentFile,
    plan: Plan,
    profile: Profile,
    place: Place,
    *,
    at: float,
    last: LastRun | None,
) -> Content:
    """The runbook as one JSON object.

    Args:
        file: the experiment.
        plan: what it would change.
        profile: the rules of the place.
        place: where the commands are to work.
        at: when this is drawn up, in Unix seconds.
        last: the latest run; None when there is none on record.

    Raises:
        UsageError: the experiment's extension makes no sense.
    """
    document = file.document
    extension = parse_extension(document)
    where = plan.environment
    ours = f"{place.ours} --seed {plan.seed}"
    return {
        "experiment": file.name,
        "title": str(document["title"]),
        "description": str(document.get("description", "")),
        "pattern": extension.pattern,
        "pillar": extension.pillar,
        "drawn_up": when(at),
        "seed": plan.seed,
        "environment": {"kind": where.kind, "account": where.account, "region": where.region},
        "lasting": place.lasting,
        "refusal": plan.refusal,
        "preconditions": {
            "identity": f"aws sts get-caller-identity --query Account --output text "
            f"{place.aws_options}".rstrip(),
            "role": place.role,
            "permissions": f"chaosgrade iam-policy {ours}",
            "opt_in": "=".join(profile.opt_in) if profile.opt_in else None,
            "hypothesis": _hypothesis(document),
        },
        "blast_radius": plan.blast_radius,
        "irreversible": [c.summary for c in plan.changes if not c.reversible],
        "by_others": list(plan.foreign),
        "run": f"chaosgrade run {ours}",
        "forward": [
            {
                "summary": change.summary,
                "irreversible": not change.reversible,
                "commands": [
                    *(call.as_cli(place.aws_options) for call in change.calls),
                    *([change.by_hand] if change.by_hand else []),
                ],
            }
            for change in plan.changes
        ],
        "watch": {
            "window_s": extension.window_s,
            "window_here_s": extension.window_s / where.time_scale,
            "observers": [_observer(specification) for specification in extension.observers],
            "objectives": [_objective(objective) for objective in extension.objectives],
        },
        "abort": _abort(document, extension.objectives, profile),
        "back": [
            {
                "summary": change.summary,
                "needed": bool(change.calls),
                "commands": [call.as_cli(place.aws_options) for call in change.undo],
            }
            for change in reversed(plan.changes)
            if change.reversible
        ],
        "rollbacks": [str(a["name"]) for a in document.get("rollbacks") or ()],
        "as_before": [_before(change) for change in plan.changes if change.reversible],
        "expected": _expected(last) if last else None,
    }


def markdown(content: Content) -> str:
    """The runbook for a person, from its `content`."""
    environment = Environment(
        loader=PackageLoader("chaosgrade.report", ""),
        autoescape=False,  # noqa: S701 - Markdown: `text` and `code` escape
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "text": _text,
        "code": _code,
        "fenced": _fenced,
        "duration": _duration,
        "json": _json,
    }
    written = environment.get_template("runbook.md.j2").render(content)
    return re.sub(r"\n{3,}", "\n\n", written)


def tolerance_in_words(tolerance: Any) -> str:
    """What Chaos Toolkit asks of a probe's value, such as "`$.web.healthy` must be 6"."""
    if isinstance(tolerance, list) and len(tolerance) != 2:
        return f"must be one of {', '.join(_json(value) for value in tolerance)}"
    if isinstance(tolerance, list):
        tolerance = {"type": "range", "range": tolerance}
    if not isinstance(tolerance, Mapping):
        return f"must be {_json(tolerance)}"
    what = f"{tolerance['target']} " if tolerance.get("target") else ""
    match tolerance.get("type"):
        case "range":
            low, high = tolerance["range"]
            return f"{what}must be from {_json(low)} to {_json(high)}"
        case "regex":
            return f"{what}must match {tolerance['pattern']}"
        case "jsonpath":
            return f"{what}{tolerance['path']} {_found(tolerance)}"
        case _:
            provider = tolerance.get("provider", {})
            return f"must satisfy {provider.get('module', 'a probe')}.{provider.get('func', '')}"


def _found(tolerance: Mapping[str, Any]) -> str:
    """What a JSON path must find."""
    if "expect" in tolerance:
        expected = tolerance["expect"]
        values = expected if isinstance(expected, list) else [expected]
        return f"must be {', '.join(_json(value) for value in values) or 'nothing'}"
    if tolerance.get("count") is not None:
        return f"must be found {tolerance['count']} times"
    return "must be found"


def _hypothesis(document: Mapping[str, Any]) -> Content | None:
    hypothesis = document.get("steady-state-hypothesis")
    if not hypothesis:
        return None
    return {
        "title": str(hypothesis["title"]),
        "probes": [
            {
                "name": str(probe["name"]),
                "asks": _asks(probe["provider"]),
                "tolerance": tolerance_in_words(probe.get("tolerance")),
            }
            for probe in hypothesis.get("probes", ())
        ],
    }


def _asks(provider: Mapping[str, Any]) -> str:
    if provider.get("type") == "http":
        return f"{provider.get('method', 'GET')} {provider['url']}"
    if provider.get("type") == "process":
        arguments = provider.get("arguments", "")
        return f"{provider['path']} {arguments if isinstance(arguments, str) else _json(arguments)}"
    arguments = provider.get("arguments") or {}
    given = ", ".join(f"{name}={_json(value)}" for name, value in arguments.items())
    return f"{provider.get('module')}.{provider.get('func')}({given})"


def _observer(specification: Mapping[str, Any]) -> str:
    given = [f"{name} {_plain(value)}" for name, value in specification.items() if name != "probe"]
    return f"{specification['probe']}: {', '.join(given)}"


def _objective(objective: Objective) -> Content:
    return {
        "metric": objective.metric,
        "meaning": METRICS[objective.metric].meaning,
        "bound": objective.text,
        "weight": objective.weight,
        "critical": objective.critical,
        "because": " ".join(objective.because.split()),
    }


def _abort(
    document: Mapping[str, Any], objectives: Sequence[Objective], profile: Profile
) -> list[str]:
    criteria = []
    if hypothesis := document.get("steady-state-hypothesis"):
        criteria.append(f'Before the first command: "{hypothesis["title"]}" does not hold.')
    needed = format_value(load_grading().baseline_at_least, "share")
    criteria.append(f"Before the first command: fewer than {needed} of requests succeed.")
    criteria += [f"Stop condition: {getattr(c, 'text', c)}." for c in profile.stop_conditions]
    criteria += [
        f"Critical objective: {o.metric} must be {o.text}, and cannot be any more."
        for o in objectives
        if o.critical
    ]
    return criteria


def _before(change: PlannedChange) -> Content:
    return {
        "summary": change.summary,
        "kind": change.kind,
        "resource": change.resource.id,
        "value": change.before,
        # Reading some settings takes calls that are no mere reads: a plan does not make them.
        "read": all(only_reads(action) for action in change.reads),
    }


def _expected(last: LastRun) -> Content:
    trial = last.trial
    return {
        "run": trial.run,
        "folder": last.folder,
        "date": when(trial.started),
        "place": environment_label(trial.environment) if trial.environment else "nowhere",
        "verdict": trial.verdict,
        "grade": last.score.grade,
        "earned": last.score.earned,
        "invalid": list(trial.invalid),
        "figures": [
            {
                "metric": one.objective.metric,
                "measured": one.measured,
                "bound": one.objective.text,
                "verdict": one.verdict,
            }
            for one in trial.objectives
        ],
    }


def _duration(seconds: float) -> str:
    return format_value(seconds, "s")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _text(value: str) -> str:
    """Text that cannot become markup, on one line."""
    return " ".join(re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", value).split())


def _code(value: str) -> str:
    """A value as inline code, whatever is in it."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", value)), default=0))
    pad = " " if "`" in value else ""
    return f"{fence}{pad}{value}{pad}{fence}"


def _fenced(command: str) -> str:
    """A command in a block of its own, to be copied whole."""
    fence = "`" * (1 + max((len(run) for run in re.findall("`+", command)), default=2))
    return f"{fence}sh\n{command}\n{fence}"
