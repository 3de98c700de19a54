"""A picture of retries: gaps before each retry with the fitted family, and arrivals over time."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from chaosgrade.errors import UsageError
from chaosgrade.report.retries import seconds
from chaosgrade.retries import RetryBehaviour, RetryTrace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SUFFIXES = (".svg", ".png")

# Okabe and Ito's palette: told apart by people with any colour vision, and in grey.
_INK, _MUTED, _GRID = "#1f2328", "#6e7781", "#d8dee4"
_SEEN, _FITTED = "#0072b2", "#e69f00"
_RETRIES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00")
_BINS = 80


def checked(path: Path) -> Path:
    """The path, if a picture can be written there.

    Raises:
        UsageError: another suffix, or no such folder.
    """
    if path.suffix not in SUFFIXES:
        raise UsageError(f"--plot must end in {' or '.join(SUFFIXES)}, got {str(path)!r}")
    if not path.absolute().parent.is_dir():
        raise UsageError(f"--plot {path}: there is no folder {path.absolute().parent}")
    return path


def draw(seen: RetryBehaviour, trace: RetryTrace, path: Path) -> None:
    """Write the picture, in the format of the path's suffix.

    Raises:
        UsageError: it cannot be written.
    """
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    style: Any = {
        "font.family": "sans-serif", "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK,
        "axes.edgecolor": _MUTED, "xtick.color": _MUTED, "ytick.color": _MUTED,
        "axes.spines.top": False, "axes.spines.right": False, "svg.fonttype": "none",
        "svg.hashsalt": "chaosgrade",
    }  # fmt: skip
    with mpl.rc_context(style):
        figure, (left, right) = plt.subplots(
            1, 2, figsize=(11, 4.6), width_ratios=(1, 1.15), layout="constrained"
        )
        figure.suptitle(_title(seen), x=0.012, ha="left", fontsize=12, fontweight="bold")
        if trace.gaps_s:
            _gaps(left, trace, seen)
            _arrivals(right, trace)
        else:
            for axes in (left, right):
                axes.set_axis_off()
            left.text(0, 0.5, "; ".join(seen.reasons) or "no retries", wrap=True)
        try:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, dpi=150, metadata=metadata)
        except OSError as error:
            raise UsageError(f"--plot {path} cannot be written: {error.strerror}") from None
        finally:
            plt.close(figure)


def _title(seen: RetryBehaviour) -> str:
    parts = [
        f"{name} {seconds(value)}"
        for name, value in (("base", seen.base_s), ("cap", seen.cap_s), ("jitter", seen.jitter_s))
        if value
    ]
    if seen.attempts:
        parts.append(f"{seen.attempts} attempts")
    if seen.first_retry_immediate and seen.family != "none":
        parts.append("first retry at once")
    return " · ".join([seen.family, *parts, f"{seen.clients} clients"])


def _gaps(axes: "Axes", trace: RetryTrace, seen: RetryBehaviour) -> None:
    import numpy as np

    longest = max(max(gaps) for gaps in trace.gaps_s.values())
    unit, word = (1000.0, "ms") if longest < 1 else (1.0, "s")
    scatter = np.random.default_rng(0)
    for number, gaps in trace.gaps_s.items():
        if number in trace.ranges_s:
            low, high = trace.ranges_s[number]
            least = 0.006 * longest  # a range of one value is a line that can be seen
            axes.add_patch(_band(number, low * unit, max(high - low, least) * unit))
        across = number + scatter.uniform(-0.22, 0.22, len(gaps))
        axes.plot(
            across, np.array(gaps) * unit, "o", ms=3, mew=0, color=_SEEN, alpha=_fade(len(gaps))
        )
    axes.set_xticks(list(trace.gaps_s))
    axes.set_xlim(min(trace.gaps_s) - 0.6, max(trace.gaps_s) + 0.6)
    top = max([longest, *(high for _, high in trace.ranges_s.values())])
    axes.set_ylim(-0.02 * top * unit, 1.22 * top * unit)  # room for the legend
    axes.set_xlabel("retry")
    axes.set_title(f"gap before each retry, {word}", loc="left", fontsize=10, color=_INK)
    axes.yaxis.grid(visible=True, color=_GRID, lw=0.7)
    axes.set_axisbelow(True)
    label = f"{seen.family}, fitted" if trace.ranges_s else "no family fits for certain"
    handles = [
        axes.plot([], [], "o", ms=4, mew=0, color=_SEEN, label="observed")[0],
        *([_band(0, 0, 0, label=label)] if trace.ranges_s else []),
    ]
    axes.legend(handles=handles, loc="upper left", frameon=False, fontsize=9, labelcolor=_INK)


def _band(number: int, low: float, height: float, label: str = "") -> Any:
    from matplotlib.patches import Rectangle

    return Rectangle(
        (number - 0.34, low), 0.68, height, facecolor=_FITTED, alpha=0.35, edgecolor=_FITTED,
        lw=1.2, label=label, zorder=1,
    )  # fmt: skip


def _arrivals(axes: "Axes", trace: RetryTrace) -> None:
    import numpy as np

    since, number = np.array(trace.since_s), np.array(trace.number)
    end = float(since.max()) or 0.001
    unit, word = (1000.0, "ms") if end < 1 else (1.0, "s")
    edges = np.linspace(0.0, end * unit, _BINS + 1)
    shown = sorted(set(number.tolist()))[: len(_RETRIES) - 1]
    groups = [(f"retry {n}", since[number == n]) for n in shown]
    if rest := since[number > shown[-1]].size:
        groups.append((f"later ({rest})", since[number > shown[-1]]))
    bottom = np.zeros(_BINS)
    for colour, (name, times) in zip(_RETRIES, groups, strict=False):
        counts, _ = np.histogram(times * unit, bins=edges)
        share = counts / len(since) * 100.0
        axes.bar(
            edges[:-1], share, np.diff(edges), bottom, align="edge", color=colour, lw=0, label=name
        )
        bottom += share
    mean = 100.0 / _BINS
    axes.axhline(mean, color=_INK, lw=1, ls=(0, (4, 3)))
    axes.set_xlim(0, 1.12 * end * unit)
    axes.set_ylim(0, 1.15 * float(bottom.max()))
    axes.text(1.12 * end * unit, mean, "mean", ha="right", va="bottom", fontsize=9, color=_INK)
    axes.set_xlabel(f"time since the failure, {word}")
    axes.set_title(
        f"retries, had all failed at once, % of them per {seconds(end / _BINS)}",
        loc="left", fontsize=10, color=_INK,
    )  # fmt: skip
    axes.yaxis.grid(visible=True, color=_GRID, lw=0.7)
    axes.set_axisbelow(True)
    axes.legend(loc="upper right", frameon=False, fontsize=9, labelcolor=_INK)


def _fade(count: int) -> float:
    return 0.9 if count < 30 else 0.5 if count < 150 else 0.3
