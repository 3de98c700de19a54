"""The grade as a terminal shows it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chaosgrade.report.wording import environment_label, grade_lines
from chaosgrade.score import ExperimentScore, Score

STYLES = {"passed": "green", "failed": "bold red", "inconclusive": "yellow"}
_GRADE_STYLES = {"A": "green", "B": "green", "C": "yellow", "D": "yellow", "F": "red"}
_WIDTH = 100


def console() -> Console:
    """Standard output; as wide as the tables need when it is no terminal."""
    out = Console(highlight=False)
    return out if out.is_terminal else Console(highlight=False, width=_WIDTH)


def render(score: Score, folder: Path) -> RenderableType:
    """The grade, what was found, where points were lost, and where the reports are."""
    parts: list[RenderableType] = [_grade(score)]
    for experiment in score.experiments:
        parts += [Text(""), *_experiment(experiment)]
    if score.lost:
        parts += [Text(""), lost_points(score)]
    parts += [Text(""), Text(f"Evidence and reports: {folder}", style="dim")]
    return Group(*parts)


def lost_points(score: Score) -> RenderableType:
    """Each lost point, worst first, with its remedy."""
    table = Table(title="Lost points", title_justify="left", title_style="bold", width=_WIDTH)
    table.add_column("points", justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    table.add_column("what")
    for lost in score.lost:
        what = Text(f"{lost.measured} against {lost.target}", style="bold")
        if lost.reason:
            what.append(f": {lost.reason}", style="not bold")
        what.append(f"\n{lost.remedy}", style="not bold cyan")
        what.append(f"\n{lost.section}", style="not bold dim")
        if lost.evidence:
            records = ", ".join(str(seq) for seq in lost.evidence)
            what.append(f"\nevidence of run {lost.run}: records {records}", style="not bold dim")
        table.add_row(f"-{lost.points:.1f}", Text(f"{lost.experiment}\n{lost.metric}"), what)
    return table


def comparison(rows: Mapping[str, Any]) -> RenderableType:
    """Against a baseline: each experiment's credit then and now."""
    table = Table(title="Against the baseline", title_justify="left", title_style="bold")
    for heading in ("experiment", "credit then", "now", "probability of being worse"):
        table.add_column(heading)
    for name, row in rows["experiments"].items():
        table.add_row(
            Text(name),
            f"{row['former']:.2f}",
            f"{row['credit']:.2f}",
            f"{row['probability_worse']:.0%}",
        )
    for name in rows["missing"]:
        table.add_row(Text(name), "", "", "not conclusive now: cannot be compared")
    return table


def _grade(score: Score) -> RenderableType:
    style = _GRADE_STYLES.get(score.grade or "", "yellow")
    body = Text()
    for number, line in enumerate(grade_lines(score)):
        body.append(("\n" if number else "") + line, style="bold" if number == 0 else "")
    title = Text(f" grade {score.grade or '—'} ", style=f"bold reverse {style}")
    labels = "; ".join(environment_label(e) for e in score.environments)
    return Panel(
        body, title=title, title_align="left", subtitle=Text(labels, style="dim"),
        subtitle_align="right", border_style=style, width=_WIDTH,
    )  # fmt: skip


def _experiment(experiment: ExperimentScore) -> Iterable[RenderableType]:
    heading = Text(experiment.experiment, style="bold")
    heading.append(f"  {experiment.verdict}", style=STYLES[experiment.verdict])
    trials = f"{experiment.trials} trials" if experiment.trials > 1 else "1 trial"
    heading.append(f"  {experiment.pattern}, {trials}", style="dim not bold")
    yield heading
    for reason in experiment.invalid:
        yield Text(f"  nothing is concluded: {reason}", style="yellow")
    yield _objectives(experiment)


def _objectives(experiment: ExperimentScore) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim", width=_WIDTH)
    for heading, width in (("objective", 22), ("target", 10), ("measured", 28), ("verdict", None)):
        table.add_column(heading, min_width=width)
    for objective in experiment.objectives:
        counts: Sequence[tuple[int, str]] = (
            (objective.passed, "passed"),
            (objective.failed, "failed"),
            (objective.inconclusive, "inconclusive"),
        )
        shown = [(count, word) for count, word in counts if count]
        verdict = Text(", ").join(
            Text(word if experiment.trials == 1 else f"{count} {word}", style=STYLES[word])
            for count, word in shown
        )
        table.add_row(objective.metric, objective.target, objective.measured, verdict)
    return table
