"""The files of a run folder."""

import json
from collections.abc import Sequence
from pathlib import Path

from chaosgrade.report import html, junit, markdown, prometheus
from chaosgrade.score import Score, to_json
from chaosgrade.verdict import TrialVerdict


def write_reports(folder: Path, score: Score, trials: Sequence[TrialVerdict]) -> None:
    """Write score.json, report.html, junit.xml, summary.md and metrics.prom into a run folder."""
    documents = {
        "score.json": json.dumps(to_json(score), indent=2) + "\n",
        "report.html": html.render(score, trials),
        "junit.xml": junit.render(score),
        "summary.md": markdown.render(score),
        "metrics.prom": prometheus.render(score, trials),
    }
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")
