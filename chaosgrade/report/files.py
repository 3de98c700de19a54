"""The files of a run folder."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from chaosgrade.report import html, junit, markdown, prometheus
from chaosgrade.score import Score, to_json
from chaosgrade.verdict import TrialVerdict

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 forbids or discourages (its section 2.2), and no report has a use for."""


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
        (folder / name).write_text(
            _UNPRINTABLE.sub("\N{REPLACEMENT CHARACTER}", text), encoding="utf-8"
        )
