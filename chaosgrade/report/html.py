"""The result as one self-contained HTML page."""

from collections.abc import Sequence
from datetime import UTC, datetime

from jinja2 import Environment, PackageLoader, StrictUndefined

from chaosgrade.policies.objectives import format_value
from chaosgrade.report import picture
from chaosgrade.report.wording import customers_line, environment_label, grade_lines, zone_line
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
        began=_when(min((t.started for t in trials), default=0.0)),
        pictures={id(trial): picture.draw(trial) for trial in trials},
        key=id,
        customers=customers_line,
        zones=lambda breakdown: ", ".join(map(zone_line, breakdown.zones)),
        place=lambda environment: environment_label(environment) if environment else "nowhere",
        share=lambda value: format_value(value, "share"),
        when=_when,
    )


def _when(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"
