"""A trial over time as an SVG: success, zones, writes, latency and targets, on one time axis."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from markupsafe import Markup, escape

from chaosgrade.policies.objectives import format_value
from chaosgrade.report.wording import zone_line, zone_name
from chaosgrade.timeline import Bin, Timeline
from chaosgrade.verdict import TrialVerdict

_WIDTH, _LEFT, _RIGHT = 960, 64, 16
_TOP, _PANEL, _GAP = 56, 84, 30
_ROWS, _ROW, _CHARACTER = 3, 12, 6.2
_NUMBERED_ZONES = 4  # shares of more do not fit into one line
_STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600)


@dataclass(frozen=True, slots=True)
class _Axis:
    """Measured seconds to pixels."""

    start_s: float
    end_s: float

    def x(self, at_s: float) -> float:
        inner = _WIDTH - _LEFT - _RIGHT
        return _LEFT + inner * (at_s - self.start_s) / max(1e-9, self.end_s - self.start_s)


@dataclass(frozen=True, slots=True)
class _Panel:
    """One curve: values of bins between `low` and `high`."""

    name: str
    low: float
    high: float
    ticks: Sequence[tuple[float, str]]
    value: Callable[[Bin], float | None]
    style: str

    def y(self, value: float, top: float) -> float:
        clipped = min(max(value, self.low), self.high)
        return top + _PANEL * (1 - (clipped - self.low) / max(1e-9, self.high - self.low))


def draw(trial: TrialVerdict) -> Markup:
    """The SVG; empty markup when nothing was observed."""
    line = trial.timeline
    if not line.bins:
        return Markup("")
    axis = _Axis(line.bins[0].start_s, line.bins[-1].start_s + line.bin_s)
    rows = [partial(_panel, panel, line, axis) for panel in _panels(line)]
    if trial.breakdown.zones:
        rows.insert(1, partial(_zones, trial, axis))
    bottom = _TOP + len(rows) * (_PANEL + _GAP) - _GAP
    height = bottom + _GAP + 16
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {height}" role="img" class="timeline" '
        f'aria-label="{escape(_summary(trial))}">'
    ]
    for number, row in enumerate(rows):
        parts += row(_TOP + number * (_PANEL + _GAP))
    parts += _marks(trial, line, axis, bottom)
    parts += _time_axis(line, axis, bottom)
    parts.append("</svg>")
    return Markup("".join(parts))  # noqa: S704 - text in it is escaped above


def _summary(trial: TrialVerdict) -> str:
    figures = (
        ("availability", "availability"),
        ("time_to_detect", "detected after"),
        ("time_to_recover", "recovered after"),
    )
    parts = []
    for metric, words in figures:
        measurement = trial.measurements[metric]
        parts.append(f"{words} {format_value(measurement.value, measurement.unit)}")
    return f"{trial.experiment}, trial {trial.trial}, over time: {'; '.join(parts)}"


def _panels(line: Timeline) -> list[_Panel]:
    shares = [b.succeeded / b.offered for b in line.bins if b.offered]
    lowest = min(shares, default=1.0)
    floor = next(step for step in (0.9, 0.75, 0.5, 0.0) if lowest >= step or step == 0.0)
    latency = max((b.latency_p99_ms or 0.0 for b in line.bins), default=1.0) or 1.0
    healthy = max((b.healthy or 0 for b in line.bins), default=1) or 1
    writes = _Panel(
        "orders that were acknowledged",
        0.0,
        1.0,
        [(0.0, "0%"), (1.0, "100%")],
        lambda b: b.acknowledged / b.ordered if b.ordered else None,
        "success",
    )
    return [
        _Panel(
            "requests that succeeded",
            floor,
            1.0,
            [(floor, format_value(floor, "share")), (1.0, "100%")],
            lambda b: b.succeeded / b.offered if b.offered else None,
            "success",
        ),
        *([writes] if any(b.ordered for b in line.bins) else ()),
        _Panel(
            "latency, 99th percentile",
            0.0,
            latency,
            [(0.0, "0"), (latency, format_value(latency, "ms"))],
            lambda b: b.latency_p99_ms,
            "latency",
        ),
        _Panel(
            "targets in service",
            0.0,
            float(healthy),
            [(0.0, "0"), (float(healthy), str(healthy))],
            lambda b: None if b.healthy is None else float(b.healthy),
            "healthy",
        ),
    ]


def _panel(panel: _Panel, line: Timeline, axis: _Axis, top: float) -> Iterable[str]:
    yield from _frame(panel, top)
    for run in _runs(panel, line):
        steps = _steps(run, [value for _, value in run], panel, line, axis, top)
        base = f"{top + _PANEL:.1f}"
        first, last = steps[0].split(",")[0], steps[-1].split(",")[0]
        points = " ".join(steps)
        area = f"{first},{base} {points} {last},{base}"
        yield f'<polygon points="{area}" class="{panel.style}"/>'
        yield f'<polyline points="{points}" class="{panel.style}"/>'


def _frame(panel: _Panel, top: float) -> Iterable[str]:
    yield f'<text x="{_LEFT}" y="{top - 7:.1f}" class="name">{escape(panel.name)}</text>'
    for value, label in panel.ticks:
        y = panel.y(value, top)
        yield f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}" class="grid"/>'
        yield f'<text x="{_LEFT - 8}" y="{y + 4:.1f}" class="tick end">{escape(label)}</text>'


def _zones(trial: TrialVerdict, axis: _Axis, top: float) -> Iterable[str]:
    """Who served, one zone upon the other: what is missing at the top was not served."""
    line, zones = trial.timeline, trial.breakdown.zones
    named = [served.zone for served in zones if served.zone]
    styles = ["unknown" if not s.zone else f"zone{n}" for n, s in enumerate(zones)]
    whole = _panels(line)[0]
    panel = replace(
        whole, name="requests served, by zone", low=0.0, ticks=[(0.0, "0%"), (1.0, "100%")]
    )
    yield from _frame(panel, top)
    say = zone_line if len(zones) <= _NUMBERED_ZONES else zone_name
    legend = "   ".join(
        f'<tspan class="zone {style}">■</tspan> {escape(say(served))}'
        for served, style in zip(zones, styles, strict=True)
    )
    yield f'<text x="{_WIDTH - _RIGHT}" y="{top - 7:.1f}" class="end">{legend}</text>'

    def served_up_to(number: int, bin_: Bin) -> float:
        if not zones[number].zone:
            return bin_.succeeded / bin_.offered
        return sum(bin_.by_zone.get(zone, 0) for zone in named[: number + 1]) / bin_.offered

    for run in _runs(panel, line):
        lower = [0.0] * len(run)
        for number, style in enumerate(styles):
            upper = [served_up_to(number, bin_) for bin_, _ in run]
            there = _steps(run, upper, panel, line, axis, top)
            back = _steps(run, lower, panel, line, axis, top)[::-1]
            yield f'<polygon points="{" ".join([*there, *back])}" class="zone {style}"/>'
            lower = upper


def _steps(
    run: Sequence[tuple[Bin, float]],
    values: Sequence[float],
    panel: _Panel,
    line: Timeline,
    axis: _Axis,
    top: float,
) -> list[str]:
    """The points of a curve that keeps each bin's value for as long as the bin."""
    return [
        f"{axis.x(at_s):.1f},{panel.y(value, top):.1f}"
        for (bin_, _), value in zip(run, values, strict=True)
        for at_s in (bin_.start_s, bin_.start_s + line.bin_s)
    ]


def _runs(panel: _Panel, line: Timeline) -> Iterable[list[tuple[Bin, float]]]:
    """Stretches of bins with a value: a gap in the data is a gap in the curve."""
    run: list[tuple[Bin, float]] = []
    for bin_ in line.bins:
        value = panel.value(bin_)
        if value is not None:
            run.append((bin_, value))
        elif run:
            yield run
            run = []
    if run:
        yield run


def _marks(trial: TrialVerdict, line: Timeline, axis: _Axis, bottom: float) -> Iterable[str]:
    if not line.faulted:
        return
    marks = [(0.0, "fault", "fault")]
    for metric, word in (
        ("time_to_detect", "detected"),
        ("time_to_recover", "recovered"),
        ("time_to_replace", "replaced"),
    ):
        figure = trial.measurements[metric]
        if figure.value and not figure.censored:
            marks.append((figure.value / line.time_scale, word, "mark"))
    marks += [(e.at_s, e.text, "mark") for e in line.events if e.kind == "milestone"]
    if line.window_end_s is not None:
        marks.append((line.window_end_s, "end of window", "mark"))
    ends = [0.0] * _ROWS  # where the last label of each row ends
    for at_s, word, style in sorted(marks):
        x = axis.x(at_s)
        # Neighbouring labels would cover each other: a label goes to the first row with room.
        row = next((n for n, end in enumerate(ends) if end < x), _ROWS - 1)
        yield _vertical(x, _ROW * row + 4, bottom, style)
        last = x > _WIDTH - 120
        ends[row] = x + 8 + _CHARACTER * len(word)
        anchor, offset = ("end", -4) if last else ("start", 4)
        yield (
            f'<text x="{x + offset:.1f}" y="{_ROW * (row + 1)}" text-anchor="{anchor}" '
            f'class="label {style}">{escape(word)}</text>'
        )


def _vertical(x: float, top: float, bottom: float, style: str) -> str:
    return f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top:.1f}" y2="{bottom:.1f}" class="{style}"/>'


def _time_axis(line: Timeline, axis: _Axis, bottom: float) -> Iterable[str]:
    span = (axis.end_s - axis.start_s) * line.time_scale
    step = next((s for s in _STEPS_S if span / s <= 12), _STEPS_S[-1])
    first = int(axis.start_s * line.time_scale // step) + 1
    last = int(axis.end_s * line.time_scale // step)
    for number in range(first, last + 1):
        x = axis.x(number * step / line.time_scale)
        yield _vertical(x, bottom, bottom + 5, "grid")
        yield f'<text x="{x:.1f}" y="{bottom + 18:.1f}" class="tick middle">{number * step}</text>'
    words = "seconds after the fault, in AWS time"
    if line.projected:
        words += f" (projected: stage time × {line.time_scale:g})"
    yield (
        f'<text x="{_WIDTH - _RIGHT}" y="{bottom + 34:.1f}" class="tick end">{escape(words)}</text>'
    )
