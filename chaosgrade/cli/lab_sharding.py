"""Shows what the laboratory finds of shuffle sharding."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console, Group, RenderableType
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from chaosgrade.lab.sharding import Event, Experiment, Figure, Reach, Result, simulate
from chaosgrade.lab.shardings import Fleet

_COMPARED = ("none", "plain", "shuffle")


def show(
    *,
    workers: int,
    shard: int,
    customers: int,
    failures: int,
    tries: int,
    poison: int,
    zones: int,
    shardings: Sequence[str] | None,
    trials: int,
    seed: int,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Simulate, and print exact and simulated figures beside each other.

    Args:
        shardings: the ways to compare; None for the usual ones.
        plot: where to put a picture.
        as_json: one document instead of tables.
        workers, shard, customers, failures, tries, poison, zones, trials, seed: as of `Experiment`.

    Raises:
        UsageError: an option makes no sense, or the picture cannot be written.
    """
    if plot is not None:
        from chaosgrade.lab.sharding_picture import check_format

        check_format(plot)
    experiment = Experiment(
        Fleet(workers, shard, customers, zones),
        failures,
        poison,
        tries,
        trials,
        seed,
        sweep=plot is not None,
    )
    ways = list(dict.fromkeys(shardings or [*_COMPARED, *(["lattice"] if zones > 1 else [])]))
    errors = Console(stderr=True)
    with Progress(console=errors, transient=True, disable=not errors.is_terminal) as progress:
        task = progress.add_task("trials", total=trials * len(ways))
        results = simulate(experiment, ways, lambda done: progress.update(task, completed=done))
    if plot is not None:
        from chaosgrade.lab.sharding_picture import draw

        draw(experiment, results, plot)
    if as_json:
        given = {**asdict(experiment), "fleet": asdict(experiment.fleet)}
        given = {**given.pop("fleet"), **given}
        del given["sweep"]
        print(json.dumps({**given, "results": [result.to_json() for result in results]}, indent=2))
        return
    from chaosgrade.report import terminal  # late: it brings all reports with it

    console = terminal.console()
    for event in experiment.events[: 3 if zones > 1 else 2]:
        console.print(_reach_table(experiment, event, results))
        console.print()
    console.print(_overlap_table(results))
    console.print(Text(f"\nSimulated: mean ± standard error of {trials} trials.", style="dim"))
    if plot is not None:
        console.print(Text(f"picture: {plot}"))


def _reach_table(experiment: Experiment, event: Event, results: Sequence[Result]) -> RenderableType:
    fleet, tries = experiment.fleet, experiment.tries
    kind, count = event
    title = {
        "failures": f"Failed workers: {count} of {fleet.workers}, at random",
        "poison": f"Poisonous customers: {count} of {fleet.customers}, whose workers are all lost",
        "zone": f"Lost zones: 1 of {fleet.zones}",
    }[kind]
    table = _table("", "exact", "simulated", "worst trial")
    different = "tried once" if tries == 1 else f"{tries} different workers tried"
    measures: list[tuple[str, Callable[[Reach], Figure]]] = [
        ("customers fully out", lambda reach: reach.fully_out),
        (f"requests failing, {different}", lambda reach: reach.distinct),
    ]
    if tries > 1:
        words = f"requests failing, {tries} tries of any worker of the shard"
        measures.append((words, lambda reach: reach.repeated))
    for words, figure_of in measures:
        table.add_row(Text(words, style="cyan"))
        for result in results:
            figure = figure_of(result.reach[event])
            table.add_row(f"  {result.sharding.name}", *_cells(figure), percent(figure.worst))
    return Group(Text(title, style="bold"), table)


def _overlap_table(results: Sequence[Result]) -> RenderableType:
    """Pairs of customers by the workers they share; what neither is nor can be is left out."""
    table = _table("", "exact", "simulated")
    for result in results:
        table.add_row(Text(result.sharding.name, style="cyan"))
        for j, figure in enumerate(result.overlap):
            if figure.exact or figure.mean:
                table.add_row(f"  {j}", *_cells(figure))
    title = "Pairs of customers, by the workers that both have"
    return Group(Text(title, style="bold"), table)


def _table(*headings: str) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="right" if number else "left", no_wrap=True)
    return table


def _cells(figure: Figure) -> tuple[str, str]:
    """Exact and simulated, as people write them."""
    exact = "—" if figure.exact is None else percent(figure.exact)
    if not figure.se:
        return exact, percent(figure.mean)
    digits = max(0, 1 - math.floor(math.log10(figure.se * 100)))  # two of the error's
    return exact, f"{figure.mean * 100:.{digits}f} ± {figure.se * 100:.{digits}f}%"


def percent(share: float) -> str:
    """A share in percent with five digits that count, such as 0.00063091%."""
    return f"{share * 100:.5g}%"
