"""The result as one self-contained HTML page."""

from collections.abc import Sequence

from jinja2 import Environment, PackageLoader, StrictUndefined

from chaosgrade.policies.objectives import format_value
from chaosgrade.report import picture
from chaosgrade.report.wording import (
    customers_line,
    down,
    environment_label,
    grade_lines,
    when,
    zone_line,
)
from chaosgrade.score import Score
from chaosgrade.verdict import TrialVerdict


def render(score: Score, trials: Sequence[TrialVerdict]) -> str:
    """The page: grade, lost points, experiments, and a picture of each trial over time."""
    environment = Environment(
        loader=PackageLoader("chaosgrade.report", ""),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.get_template("report.html.j2")
    return template.render(
        score=score,
        trials=trials,
        lines=grade_lines(score),
        places=[environment_label(e) for e in score.environments],
        began=when(min((t.started for t in trials if t.started is not None), default=None)),
        pictures={id(trial): picture.draw(trial) for trial in trials},
        key=id,
        customers=customers_line,
        zones=lambda breakdown: ", ".join(map(zone_line, breakdown.zones)),
        place=lambda environment: environment_label(environment) if environment else "nowhere",
        down=down,
        share=lambda value: format_value(value, "share"),
        when=when,
    )
