"""The laboratory's picture of shuffle sharding: how far failures reach, and who shares what."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Canvas
from matplotlib.offsetbox import AnchoredOffsetbox, TextArea, VPacker
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from chaosgrade.errors import UsageError
from chaosgrade.lab.sharding import Experiment, Figure, Reach, Result
from chaosgrade.policies.shard_mathematics import request_failure

_FORMATS = (".pdf", ".png", ".svg")
_INK, _FAINT = "#222222", "#d9d9d9"
# Okabe and Ito's palette, which people tell apart whose colour vision differs.
_COLOURS: Mapping[str, str] = {
    "none": "#555555",
    "plain": "#d55e00",
    "shuffle": "#0072b2",
    "lattice": "#009e73",
    "stateful": "#aa4499",
}
_WORDS: Mapping[str, str] = {"none": "no sharding", "plain": "fixed groups", "shuffle": "shuffled"}
_LOWEST = 1e-9  # what is rarer is not drawn
_FONT = 10.5


@dataclass(frozen=True)
class _Curve:
    """One line and what was simulated of it.

    Args:
        words: its label.
        colour: of line, points and label.
        exact: (x, share) of the line.
        simulated: (x, mean, standard error) of the points.
        dashed: the line only joins the points.
    """

    words: str
    colour: str
    exact: Sequence[tuple[float, float]] = ()
    simulated: Sequence[tuple[float, float, float]] = field(default_factory=tuple)
    dashed: bool = False

    @property
    def drawn(self) -> list[tuple[float, float]]:
        """The part of the line that is not too rare to be seen."""
        return [(x, y) for x, y in self.exact if y >= _LOWEST]


def check_format(path: Path) -> None:
    """Whether a picture can be written under this name, as far as can be said before the work.

    Raises:
        UsageError: its ending is none of those that are known, or there is no such folder.
    """
    if path.suffix.lower() not in _FORMATS:
        raise UsageError(f"--plot must end in {', '.join(_FORMATS)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.absolute().parent}")


def draw(experiment: Experiment, results: Sequence[Result], path: Path) -> None:
    """Draw a simulation that was made with `sweep`.

    Raises:
        UsageError: the file cannot be written.
    """
    check_format(path)
    fleet = experiment.fleet
    canvas = Canvas(figsize=(16, 5), dpi=150)
    canvas.subplots_adjust(left=0.066, right=0.985, bottom=0.19, top=0.79, wspace=0.72)
    left, middle, right = canvas.subplots(1, 3)
    canvas.suptitle(
        f"Shards of {fleet.shard} of {fleet.workers:,} workers for {fleet.customers:,} customers",
        x=0.01,
        ha="left",
        fontsize=15,
        fontweight="bold",
        color=_INK,
    )
    canvas.supxlabel(
        f"Lines are exact. Circles are simulated: means of {experiment.trials} trials, with bars "
        "of two standard errors.",
        x=0.01,
        ha="left",
        fontsize=10,
        color="#555555",
    )
    _frame(left, "Customers with no worker left", "poisonous customers")
    _curves(left, _poison(results))
    sharded = next((r for r in results if r.sharding.name in ("shuffle", "lattice")), results[-1])
    _frame(middle, f"Requests failing, {_words(sharded)}", "workers that have failed")
    _curves(middle, _failures(experiment, sharded))
    _frame(right, "Pairs of customers", "workers that both have")
    _overlaps(right, [r for r in results if r.sharding.name != "none"] or results)
    try:
        canvas.savefig(path)
    except OSError as error:
        raise UsageError(f"picture {path} cannot be written: {error.strerror}") from None


def _poison(results: Sequence[Result]) -> list[_Curve]:
    """Customers fully out, by the number of poisonous ones."""
    curves = []
    for result in results:
        points = _simulated(result, "poison", lambda reach: reach.fully_out)
        most = max(count for kind, count in result.reach if kind == "poison")
        chances = [(m, result.sharding.poisoned(m)) for m in _counts(most)]
        exact = [(float(m), float(lost[-1])) for m, lost in chances if lost is not None]
        known = len(exact) == len(chances)
        line = exact if known else [(x, mean) for x, mean, _ in points]
        curves.append(_Curve(_words(result), _colour(result), line, points, dashed=not known))
    return curves


def _failures(experiment: Experiment, result: Result) -> list[_Curve]:
    """Requests failing, by the number of failed workers, for several kinds of client."""
    workers, tries = experiment.fleet.workers, experiment.tries
    lost = [
        (float(count), result.sharding.failed(count)) for count in _counts(max(1, workers // 2))
    ]

    def line(tries: int, *, distinct: bool) -> list[tuple[float, float]]:
        return [(x, float(request_failure(some, tries, distinct=distinct))) for x, some in lost]

    if tries == 1:
        points = _simulated(result, "failures", lambda reach: reach.distinct)
        return [_Curve("one try", _COLOURS["shuffle"], line(1, distinct=True), points)]
    return [
        _Curve("one try", _COLOURS["none"], line(1, distinct=True)),
        _Curve(
            f"{tries} tries, any worker",
            _COLOURS["plain"],
            line(tries, distinct=False),
            _simulated(result, "failures", lambda reach: reach.repeated),
        ),
        _Curve(
            f"{tries} different workers",
            _COLOURS["shuffle"],
            line(tries, distinct=True),
            _simulated(result, "failures", lambda reach: reach.distinct),
        ),
    ]


def _counts(most: int) -> list[int]:
    """Whole numbers from 1 on, as many as a line needs on a logarithmic axis."""
    return sorted({round(count) for count in np.geomspace(1, most, 60)})


def _simulated(
    result: Result, wanted: str, figure_of: Callable[[Reach], Figure]
) -> list[tuple[float, float, float]]:
    found = []
    for (kind, count), reach in result.reach.items():
        if kind == wanted and count:
            figure = figure_of(reach)
            found.append((float(count), figure.mean, figure.se))
    return sorted(found)


def _frame(axes: Axes, title: str, x_label: str) -> None:
    axes.set_title(title, loc="left", fontsize=12, color=_INK, pad=12)
    axes.set_xlabel(x_label, fontsize=10.5, color=_INK)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda share, _: _percent(share)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="y", color=_FAINT, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(which="both", colors=_INK, labelsize=9.5, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(_FAINT)


def _percent(share: float) -> str:
    text = f"{share * 100:.10f}".rstrip("0").rstrip(".")
    return f"{text}%"


def _limit(axes: Axes, shares: Sequence[float]) -> None:
    """From the power of ten below the smallest share, 10% at the most, to 100%."""
    lowest = min((share for share in shares if share >= _LOWEST), default=0.01)
    axes.set_ylim(10.0 ** min(-1, math.floor(math.log10(lowest))), 1.5)


def _curves(axes: Axes, curves: Sequence[_Curve]) -> None:
    axes.set_xscale("log")
    most = max((x for curve in curves for x, _ in curve.exact), default=1.0)
    steps = range(1, 10) if most < 10 else (1, 2, 5)
    ticks = [step * 10**power for power in range(6) for step in steps]
    axes.set_xlim(0.9, most * 1.1)
    axes.set_xticks([tick for tick in ticks if tick <= most])
    axes.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    _limit(axes, [y for curve in curves for _, y in curve.exact])
    for curve in curves:
        if curve.drawn:
            axes.plot(
                *zip(*curve.drawn, strict=True),
                color=curve.colour,
                linewidth=1.2 if curve.dashed else 2.2,
                linestyle="--" if curve.dashed else "-",
            )
        for x, mean, se in curve.simulated:
            if mean > 0:
                _point(axes, x, mean, se, curve.colour)
    _label(axes, curves)


def _point(axes: Axes, x: float, mean: float, se: float, colour: str) -> None:
    # On a logarithmic axis a bar that reaches below nothing ends at a tenth of the mean.
    axes.errorbar(
        x,
        mean,
        yerr=[[min(2 * se, 0.9 * mean)], [2 * se]],
        color=colour,
        marker="o",
        markersize=5.5,
        markerfacecolor="white",
        markeredgewidth=1.4,
        elinewidth=1.2,
        zorder=3,
    )


def _label(axes: Axes, curves: Sequence[_Curve]) -> None:
    """Write each curve's name to the right of its end, one above the other."""
    pixels = axes.figure.dpi / 72
    ends = [curve.drawn[-1] if curve.drawn else (axes.get_xlim()[1], 0.0) for curve in curves]
    floor = axes.get_ylim()[0]
    heights = [axes.transData.transform((x, max(y, floor)))[1] / pixels for x, y in ends]
    lowest = math.inf
    for number in sorted(range(len(curves)), key=lambda number: -heights[number]):
        curve = curves[number]
        lowest = min(heights[number], lowest - 1.5 * _FONT)
        seen = bool(curve.drawn)
        axes.annotate(
            curve.words if seen else f"{curve.words}: never",
            ends[number] if seen else (ends[number][0], floor),
            xytext=(axes.get_window_extent().x1 / pixels + 12, lowest),
            textcoords="figure points",
            va="center",
            color=curve.colour,
            fontsize=_FONT,
            fontweight="bold",
            annotation_clip=False,
            arrowprops={
                "arrowstyle": "-",
                "color": curve.colour,
                "linewidth": 0.8,
                "relpos": (0, 0.5),
                "shrinkB": 5,
            }
            if seen
            else None,
        )


def _overlaps(axes: Axes, results: Sequence[Result]) -> None:
    """How many pairs share so many: what is exact as a dash, what was simulated as a circle."""
    width = 0.8 / max(1, len(results))
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    _limit(axes, [figure.exact or 0.0 for result in results for figure in result.overlap])
    for number, result in enumerate(results):
        colour = _colour(result)
        for j, figure in enumerate(result.overlap):
            x = j + (number - (len(results) - 1) / 2) * width
            if figure.exact and figure.exact >= _LOWEST:
                axes.hlines(figure.exact, x - width * 0.45, x + width * 0.45, colour, linewidth=2.4)
            if figure.mean > 0:
                _point(axes, x, figure.mean, figure.se, colour)
    most = max((len(result.overlap) for result in results), default=1)
    for j in range(most - 1):
        axes.axvline(j + 0.5, color=_FAINT, linewidth=0.8)
    axes.set_xlim(-0.5, most - 0.5)
    names: list[Artist] = [
        TextArea(
            _words(result),
            textprops={"color": _colour(result), "fontsize": _FONT, "fontweight": "bold"},
        )
        for result in results
    ]
    # Few workers are shared by many: the corner below that is free.
    legend = AnchoredOffsetbox("lower left", child=VPacker(children=names, pad=4, sep=5))
    legend.patch.set(facecolor="white", edgecolor="none")
    axes.add_artist(legend)


def _words(result: Result) -> str:
    name = result.sharding.name
    if name == "lattice":
        return "zone by zone"
    if name.startswith("stateful"):
        return f"at most {name.rpartition('=')[2]} shared"
    return _WORDS[name]


def _colour(result: Result) -> str:
    return _COLOURS[result.sharding.name.partition(":")[0]]
