"""Sentences that every report shares, so that they say the same in the same words."""

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from chaosgrade.breakdown import Breakdown, ZoneServed
from chaosgrade.policies.objectives import format_value
from chaosgrade.score import Score


def environment_label(environment: Mapping[str, Any]) -> str:
    """Where figures come from, such as "stage, loopback fabric, durations projected ×20"."""
    if environment["kind"] != "stage":
        return f"{environment['kind']}, account {environment['account']}, {environment['region']}"
    parts = [
        "stage",
        f"{environment['fabric']} fabric",
        f"durations projected ×{environment['time_scale']:g}",
    ]
    return ", ".join(parts)


def zone_line(served: ZoneServed) -> str:
    """A zone's part of what was served, such as "us-east-1a 33% → 2%"."""
    before, after = format_value(served.before, "share"), format_value(served.after, "share")
    return f"{zone_name(served)} {before} → {after}"


def zone_name(served: ZoneServed) -> str:
    """What a zone is called."""
    return served.zone or "other or unknown"


def customers_line(breakdown: Breakdown) -> str:
    """How many customers had requests fail, and who the most; "" when none was seen."""
    if not breakdown.customers:
        return ""
    line = f"{breakdown.affected} of {breakdown.customers} customers had a request fail"
    if not breakdown.worst:
        return line
    worst = ", ".join(
        f"customer {one.customer} with {one.failed} of {one.offered} requests"
        for one in breakdown.worst
    )
    return f"{line}; worst off: {worst}"


def _trials(score: Score) -> str:
    counts = [e.trials for e in score.experiments if e.credit is not None]
    fewest, most = min(counts), max(counts)
    if most == 1:
        return (
            "one trial each (more narrow it)" if len(counts) > 1 else "one trial (more narrow it)"
        )
    number = str(most) if fewest == most else f"{fewest} to {most}"
    return f"{number} trials of each experiment" if len(counts) > 1 else f"{number} trials"


def when(unix_s: float | None) -> str:
    """A moment as people write it."""
    if unix_s is None:
        return "no time on record"
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%d %H:%M:%S} UTC"


def down(points: float, digits: int = 0) -> float:
    """Rounded down: what is written must not be a better grade than what was earned."""
    return math.floor(round(points * 10.0**digits, 9)) / 10.0**digits


def grade_lines(score: Score) -> list[str]:
    """The grade in words, the most important line first."""
    if score.value is None or score.low is None or score.high is None:
        why = "nothing was conclusive" if score.undone else "a change was not undone"
        lines = [f"No grade: {why}"]
    else:
        lines = [
            f"Score {down(score.value, 1):.1f} of 100, {score.interval:.0%} interval "
            f"{down(score.low):.0f} to {-down(-score.high):.0f} after {_trials(score)}"
        ]
        if score.grade is None:
            lines.append("No grade")
        elif score.grade == score.earned:
            lines.append(f"Grade {score.grade}")
        else:
            lines.append(f"Grade {score.grade}: {score.earned} on what was tested, capped")
    lines.append(
        f"Coverage {format_value(score.coverage, 'share')} of the weight of all patterns was tested"
    )
    lines += [f"Cap {cap.grade or 'no grade'}: {cap.finding}" for cap in score.caps if cap.bites]
    lines += [
        f"Also found (cap {cap.grade or 'no grade'}): {cap.finding}"
        for cap in score.caps
        if not cap.bites
    ]
    lines += [f"Expired, reads as untested: {name}" for name in score.expired]
    return lines
