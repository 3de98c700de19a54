"""The result as Markdown, for a pull request or a job summary."""

from chaosgrade.report.wording import environment_label, grade_lines
from chaosgrade.score import Score

_MARKS = {"passed": "✅ passed", "failed": "❌ failed", "inconclusive": "⚠️ inconclusive"}


def render(score: Score) -> str:
    """The document."""
    lines = [f"# Resilience grade {score.grade or '—'}", ""]
    lines += [f"- {_text(line)}" for line in grade_lines(score)]
    lines += [f"- Measured on: {_text(environment_label(e))}" for e in score.environments]
    for experiment in score.experiments:
        lines += ["", f"## {_text(experiment.experiment)}: {experiment.verdict}", ""]
        lines += [f"> Nothing is concluded: {_text(reason)}" for reason in experiment.invalid]
        lines += ["", "| objective | target | measured | verdict |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {_text(o.metric)} | {_text(o.target)} | {_text(o.measured)} | {_MARKS[o.verdict]} |"
            for o in experiment.objectives
        ]
    if score.lost:
        lines += ["", "## Lost points", "", "| points | where | measured | remedy |"]
        lines += ["| ---: | --- | --- | --- |"]
        lines += [
            f"| {lost.points:.1f} | {_text(lost.experiment)}: {_text(lost.metric)} "
            f"| {_text(lost.measured)}, must be {_text(lost.target)} | {_text(lost.remedy)} |"
            for lost in score.lost
        ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    """Text that cannot break a table or become markup."""
    for mark in ("\\", "|", "<", ">", "`", "*", "_", "[", "]"):
        value = value.replace(mark, "\\" + mark)
    return " ".join(value.split())
