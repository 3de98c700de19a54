"""Shows what an experiment would do: as a plan, as the privileges it needs, as a runbook."""

import contextlib
import json
import random
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

from rich.table import Table
from rich.text import Text

from chaosgrade import evidence, experiment, runbook, session
from chaosgrade.aws import Aws
from chaosgrade.cli.target import Target
from chaosgrade.clock import Clock
from chaosgrade.errors import UsageError
from chaosgrade.iam_policy import not_covered, policy_for
from chaosgrade.plan import Plan, draw_up
from chaosgrade.policies.grading import load_grading
from chaosgrade.policies.safety import load_safety
from chaosgrade.report import terminal
from chaosgrade.score import grade
from chaosgrade.trial import Halt
from chaosgrade.verdict import judge

_RUNS = Path("runs")


def show(name: str, target: Target, seed: int | None, *, as_json: bool) -> None:
    """Print the plan of an experiment.

    Raises:
        ChaosgradeError: the experiment or the target is wrong, or nothing matches.
    """
    file = experiment.load(name)
    with _aws_of(file, target.of(file)) as aws:
        plan = draw_up(file.document, aws, _drawn(seed))
    if as_json:
        print(json.dumps({"experiment": file.name, **plan.to_json()}, indent=2))
    else:
        _print(file.name, plan)


def show_iam_policy(name: str, target: Target, seed: int | None) -> None:
    """Print the IAM policy that an experiment needs; on standard error, what it cannot cover.

    Raises:
        ChaosgradeError: as `show`, or a probe failed.
    """
    file = experiment.load(name)
    with _aws_of(file, target.of(file)) as aws:
        policy = policy_for(file.document, aws, _drawn(seed))
    print(json.dumps(policy, indent=2))
    for activity in not_covered(file.document):
        print(f"chaosgrade: not covered: {activity} is not chaosgrade's", file=sys.stderr)


def show_runbook(
    name: str, target: Target, seed: int | None, out: Path | None, *, as_json: bool
) -> None:
    """Print the runbook of an experiment, or write it to a file.

    Raises:
        ChaosgradeError: as `show`, or the file cannot be written.
    """
    file = experiment.load(name)
    target = target.of(file)
    with _aws_of(file, target) as aws:
        plan = draw_up(file.document, aws, _drawn(seed))
        place = _place(name, target, aws)
    content = runbook.content(
        file,
        plan,
        load_safety()[plan.environment.kind],
        place,
        at=Clock().now(),
        last=_last_run(file.name),
    )
    text = json.dumps(content, indent=2) + "\n" if as_json else runbook.markdown(content)
    if out is None:
        print(text, end="")
        return
    try:
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"runbook {out} cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def _aws_of(file: experiment.ExperimentFile, target: Target) -> Iterator[Aws]:
    with Halt().on_signals() as halt, target.reached(halt):
        yield session.aws_of(file.document.get("configuration"))


def _drawn(seed: int | None) -> int:
    return random.randrange(2**31) if seed is None else seed


def _place(name: str, target: Target, aws: Aws) -> runbook.Place:
    aws_options = ["--region", aws.region]
    if aws.profile:
        aws_options += ["--profile", aws.profile]
    if aws.endpoint_url:
        aws_options += ["--endpoint-url", aws.endpoint_url]
    ours = [name]
    if target.stage_url:
        ours += ["--stage", target.stage_url]
    else:
        ours += ["--target", target.kind]
    if target.kind == "stage" and not target.stage_url:
        ours += ["--template", str(target.template), "--time-scale", f"{target.time_scale:g}"]
        ours += [word for parameter in target.parameters for word in ("--parameter", parameter)]
    return runbook.Place(
        aws_options=shlex.join(aws_options),
        ours=shlex.join(ours),
        role=aws.role_arn,
        lasting=target.kind != "stage" or target.stage_url is not None,
    )


def _last_run(name: str) -> runbook.LastRun | None:
    """The latest trial of an experiment under `runs/`; evidence that is damaged is passed over."""
    latest: tuple[float, Path] | None = None
    for file in _RUNS.rglob("evidence.jsonl"):
        with contextlib.suppress(OSError, KeyError, ValueError), file.open() as lines:
            start = next(evidence.parse(lines.readline()), None)
            if start is None or start.kind != "run.start" or start["experiment"] != name:
                continue
            if latest is None or start.at > latest[0]:
                latest = start.at, file
    if latest is None:
        return None
    at, file = latest
    try:
        trial = judge(evidence.read(file))
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{file} is damaged: {type(error).__name__}: {error}") from None
    # As graded then: evidence that has expired since still tells what to expect.
    score = grade([trial], load_grading(), now=lambda: at)
    return runbook.LastRun(str(file.parent), trial, score)


def _print(name: str, plan: Plan) -> None:
    console = terminal.console()
    where = plan.environment
    console.print(
        Text(f"{name} on {where.kind}, account {where.account}, {where.region}; seed {plan.seed}")
    )
    table = Table("change", "undo", "calls", box=None, header_style="dim", pad_edge=False)
    for change in plan.changes:
        table.add_row(
            Text(change.summary),
            Text("restored") if change.reversible else Text("irreversible", style="red"),
            Text(", ".join(f"{call.service}:{call.operation}" for call in change.calls)),
        )
    for action in plan.foreign:
        table.add_row(
            Text(action), Text("its own affair", style="yellow"), Text("not chaosgrade's")
        )
    console.print(table)
    for kind, radius in plan.blast_radius.items():
        zones = f" in {', '.join(radius['zones'])}" if radius["zones"] else ""
        console.print(Text(f"blast radius: {radius['count']} {kind}{zones}"))
    console.print(Text(f"needs: {', '.join(plan.permissions)}"))
    if plan.refusal:
        console.print(Text(f"would be refused: {plan.refusal}", style="red"))
