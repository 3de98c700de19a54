"""Shows a plan."""

import json
import random

from rich.table import Table
from rich.text import Text

from chaosgrade import experiment, session
from chaosgrade.cli.target import Target
from chaosgrade.plan import Plan, draw_up
from chaosgrade.report import terminal
from chaosgrade.trial import Halt


def show(name: str, target: Target, seed: int | None, *, as_json: bool) -> None:
    """Print the plan of an experiment.

    Raises:
        ChaosgradeError: the experiment or the target is wrong, or nothing matches.
    """
    file = experiment.load(name)
    with Halt().on_signals() as halt, target.reached(halt):
        aws = session.aws_of(file.document.get("configuration"))
        plan = draw_up(file.document, aws, random.randrange(2**31) if seed is None else seed)
    if as_json:
        print(json.dumps({"experiment": file.name, **plan.to_json()}, indent=2))
    else:
        _print(file.name, plan)


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
