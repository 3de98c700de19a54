"""Pictures of the backoff laboratory: calls and time over clients, and the herd over time."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from chaosgrade.errors import UsageError
from chaosgrade.lab.herd import BEFORE_S, BIN_S, Outage
from chaosgrade.lab.summary import ContentionRow, HerdRow

FORMATS = (".svg", ".png")

# Okabe and Ito's palette, which everybody can tell apart; without its yellow, too pale for a line.
_BLUE, _RED = "#0072B2", "#D55E00"
_COLOURS = (_BLUE, _RED, "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_DASHES = ("-", "--", ":", "-.")
_GREY, _PALE, _INK = "#767676", "#e4e4e4", "#222222"
_STYLE: Any = {
    "font.family": "sans-serif",
    "font.size": 10.0,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": _PALE,
    "grid.linewidth": 0.8,
    "xtick.color": _GREY,
    "ytick.color": _GREY,
    "svg.hashsalt": "chaosgrade",
}
_POINTS_PER_LABEL = 12.5

type _End = tuple[float, float, str, str]
"""Where a line ends (x, y), its name and its colour."""


def check(file: Path) -> None:
    """Say before the work what would fail after it.

    Raises:
        UsageError: no picture can be written there.
    """
    if file.suffix.lower() not in FORMATS:
        raise UsageError(f"--plot must end in {' or '.join(FORMATS)}, got {str(file)!r}")
    if not file.absolute().parent.is_dir():
        raise UsageError(f"--plot {file}: there is no folder {file.absolute().parent}")


def draw_contention(rows: Sequence[ContentionRow], trials: int, file: Path) -> None:
    """Calls and completion time over clients, a line for each policy.

    Raises:
        UsageError: the file cannot be written.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 5.2), layout="constrained")
        left, right = figure.subplots(1, 2)
        figure.suptitle(
            "Clients that contend for one row", x=0.012, ha="left", fontsize=13, weight="bold"
        )
        figure.supxlabel(
            f"mean of {trials} trials, shaded ±1 standard deviation" if trials > 1 else "one trial",
            x=0.99, ha="right", fontsize=8.5, color=_GREY,
        )  # fmt: skip
        policies = list(dict.fromkeys(row.policy.text for row in rows))
        labels: list[tuple[Axes, list[_End]]] = []
        for axes, name, title in (
            (left, "calls", "calls until everybody is done"),
            (right, "time_ms", "time until everybody is done"),
        ):
            axes.set_title(title, loc="left", fontsize=11)
            axes.set_yscale("log")
            ends = []
            for number, policy in enumerate(policies):
                chosen = [row for row in rows if row.policy.text == policy]
                figures = [getattr(row, name) for row in chosen]
                clients = np.array([row.clients for row in chosen])
                mean = np.array([one.mean for one in figures])
                sd = np.array([one.sd or 0.0 for one in figures])
                colour, dash = _line(number)
                axes.plot(clients, mean, dash, color=colour, linewidth=2, marker="o", markersize=4)
                low = np.maximum(mean - sd, mean / 20)  # below zero is no place on this axis
                axes.fill_between(clients, low, mean + sd, color=colour, alpha=0.15, linewidth=0)
                if len(chosen) == 1:  # a band has no area then
                    axes.vlines(clients, low, mean + sd, color=colour, alpha=0.4)
                ends.append((float(clients[-1]), float(mean[-1]), policy, colour))
            sizes = sorted({row.clients for row in rows})
            axes.set_xlabel("clients")
            axes.set_xlim(0, sizes[-1] * 1.02 if len(sizes) > 1 else sizes[-1] * 2)
            axes.set_xticks(_apart(sizes))
            unit = _calls if name == "calls" else _milliseconds
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _, unit=unit: unit(value)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            labels.append((axes, ends))
        figure.draw_without_rendering()  # where pixels are is known only then
        for axes, ends in labels:
            _label_ends(axes, ends, figure.dpi / 72)
        _save(figure, file)


def draw_herd(rows: Sequence[HerdRow], outage: Outage, trials: int, file: Path) -> None:
    """Arrivals at the dependency over time, a panel for each policy on the same axes.

    Raises:
        UsageError: the file cannot be written.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(11, 1.0 + 1.45 * len(rows)), layout="constrained")
        panels = figure.subplots(len(rows), 1, sharex=True, sharey=True, squeeze=False)[:, 0]
        figure.suptitle(
            "Calls per second that reach a dependency which was down",
            x=0.012, ha="left", fontsize=13, weight="bold",
        )  # fmt: skip
        figure.legend(
            handles=[Patch(color=_BLUE, alpha=0.8), Patch(color=_RED, alpha=0.8)],
            labels=["within its capacity", f"above it: {outage.capacity:g} per second"],
            loc="upper right", ncols=2, frameon=False, fontsize=9, borderaxespad=0.2,
        )  # fmt: skip
        highest = max(max(row.arrivals_per_s) for row in rows)
        for axes, row in zip(panels, rows, strict=True):
            rate = np.maximum(row.arrivals_per_s, 0.1)  # nothing has no place on a logarithmic axis
            at_s = np.arange(rate.size) * BIN_S - BEFORE_S
            axes.set_yscale("log")
            axes.set_ylim(outage.capacity * outage.load / 10, highest * 2)
            axes.axvspan(0, outage.down_s, color=_PALE, linewidth=0)
            for low, high, colour in (
                (0.1, np.minimum(rate, outage.capacity), _BLUE),
                (outage.capacity, np.maximum(rate, outage.capacity), _RED),
            ):
                axes.fill_between(
                    at_s, low, high, step="post", color=colour, alpha=0.8, linewidth=0
                )
            axes.set_title(row.policy.text, loc="left", fontsize=11, weight="bold")
            axes.set_title(_said(row), loc="right", fontsize=9, color=_INK)
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: _calls(value)))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.grid(axis="x", visible=False)
        panels[0].text(
            outage.down_s / 2, highest * 1.4, "down", ha="center", va="top", color=_GREY, fontsize=9
        )
        panels[-1].set_xlim(-BEFORE_S, outage.down_s + outage.after_s)
        panels[-1].set_xlabel(
            f"seconds since the outage began ({rows[0].clients:,} clients, mean of {trials} trials)"
        )
        _save(figure, file)


def _said(row: HerdRow) -> str:
    said = [f"{row.calls_per_request.mean:.1f} calls per request"]
    if row.peak_to_mean.mean is not None:
        said.append(f"peak {row.peak_to_mean.mean:.1f} × mean")
    if row.saved_share.mean is not None:
        said.append(f"{row.saved_share.mean:.0%} saved")
    recovery_s = row.recovery_s.mean
    if recovery_s is None:
        said.append("not recovered")
    else:
        said.append("recovered at once" if recovery_s == 0 else f"recovered in {recovery_s:.1f} s")
    return " · ".join(said)


def _line(number: int) -> tuple[str, str]:
    return _COLOURS[number % len(_COLOURS)], _DASHES[number // len(_COLOURS) % len(_DASHES)]


def _label_ends(axes: Axes, ends: Sequence[_End], per_point: float) -> None:
    """Name each line where it ends, moving names apart that would cover each other."""
    placed = -np.inf
    for x, y, name, colour in sorted(ends, key=lambda end: end[1]):
        pixel = float(axes.transData.transform((x, y))[1])
        placed = max(pixel, placed + _POINTS_PER_LABEL * per_point)
        axes.annotate(
            name, (x, y), xytext=(8, (placed - pixel) / per_point), textcoords="offset points",
            va="center", color=colour, fontsize=10, annotation_clip=False,
        )  # fmt: skip


def _apart(sizes: Sequence[int]) -> list[int]:
    """The sizes that can be written under an axis without touching each other."""
    shown: list[int] = []
    for size in reversed(sizes):
        if not shown or shown[-1] - size >= sizes[-1] / 16:
            shown.append(size)
    return shown


def _calls(value: float) -> str:
    return f"{value:,.0f}" if value >= 1 else f"{value:g}"


def _milliseconds(value: float) -> str:
    return f"{value / 1000:,g} s" if value >= 1000 else f"{value:g} ms"


def _save(figure: Figure, file: Path) -> None:
    # Without a date, the same trials make the same file.
    metadata = {"Date": None} if file.suffix.lower() == ".svg" else {}
    try:
        figure.savefig(file, dpi=150, metadata=metadata)
    except OSError as error:
        raise UsageError(f"--plot {file} cannot be written: {error.strerror}") from None
