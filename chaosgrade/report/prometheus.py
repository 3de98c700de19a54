"""The result as Prometheus metrics, for the node exporter's textfile collector."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from chaosgrade.score import Score
from chaosgrade.verdict import INCONCLUSIVE, PASSED, TrialVerdict

_UNITS = {"share": "ratio", "s": "seconds", "ms": "milliseconds", "count": "ratio"}


def render(score: Score, trials: Sequence[TrialVerdict]) -> str:
    """The exposition. What has no value is absent, never 0."""
    registry = CollectorRegistry()
    if score.value is not None:
        Gauge("chaosgrade_score", "Resilience score, 0 to 100.", registry=registry).set(score.value)
    Gauge(
        "chaosgrade_coverage_ratio", "Tested weight over applicable weight.", registry=registry
    ).set(score.coverage)
    grades = Gauge("chaosgrade_grade_info", "The grade, after caps.", ["grade"], registry=registry)
    grades.labels(score.grade or "none").set(1)
    places = Gauge(
        "chaosgrade_environment_info",
        "Where the figures come from.",
        ["kind", "region", "fabric", "time_scale"],
        registry=registry,
    )
    for environment in score.environments:
        places.labels(
            environment["kind"], environment["region"], environment["fabric"] or "none",
            f"{environment['time_scale']:g}",
        ).set(1)  # fmt: skip
    holds = Gauge(
        "chaosgrade_objective_pass",
        "1 when an objective held in all its trials, 0 when it failed in one; absent when unknown.",
        ["experiment", "metric", "target"],
        registry=registry,
    )
    outcomes = Gauge(
        "chaosgrade_objective_trials",
        "Trials of an objective by verdict.",
        ["experiment", "metric", "target", "verdict"],
        registry=registry,
    )
    lost = Gauge(
        "chaosgrade_lost_points",
        "Points of the score that an objective cost.",
        ["experiment", "metric", "target"],
        registry=registry,
    )
    for experiment in score.experiments:
        for o in experiment.objectives:
            for verdict, count in (
                ("passed", o.passed), ("failed", o.failed), ("inconclusive", o.inconclusive),
            ):  # fmt: skip
                outcomes.labels(experiment.experiment, o.metric, o.target, verdict).set(count)
            if o.verdict != INCONCLUSIVE:
                holds.labels(experiment.experiment, o.metric, o.target).set(o.verdict == PASSED)
    for point in score.lost:
        lost.labels(point.experiment, point.metric, point.target).set(point.points)
    measured = Gauge(
        "chaosgrade_measured",
        "Figures of a trial; durations in AWS time, shares from 0 to 1.",
        ["experiment", "trial", "metric", "unit", "kind", "projected"],
        registry=registry,
    )
    for trial in trials:
        for figure in trial.measurements.values():
            if figure.value is not None:
                measured.labels(
                    trial.experiment, str(trial.trial), figure.metric, _UNITS[figure.unit],
                    str(trial.environment.get("kind", "unknown")), str(figure.projected).lower(),
                ).set(figure.value)  # fmt: skip
    return generate_latest(registry).decode()
