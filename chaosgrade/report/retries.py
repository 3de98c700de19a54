"""How clients retry, as a terminal shows it."""

from collections.abc import Iterable

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from chaosgrade.policies.backoff import BackoffVerdict
from chaosgrade.retries import RetryBehaviour

_STYLES = {"passed": "green", "failed": "bold red", "inconclusive": "yellow", "unseen": "dim"}
_WIDTH = 100


def render(seen: RetryBehaviour, verdict: BackoffVerdict) -> RenderableType:
    """The family and what is known of it, then each rule."""
    style = _STYLES[verdict.verdict]
    title = Text(f" {seen.family} ", style=f"bold reverse {style}")
    body = Text("\n").join(Text(line) for line in _lines(seen))
    panel = Panel(
        body, title=title, title_align="left", border_style=style, width=_WIDTH,
        subtitle=Text(_observed(seen), style="dim"), subtitle_align="right",
    )  # fmt: skip
    parts: list[RenderableType] = [panel, Text(""), _rules(verdict)]
    parts += [Text(line, style="yellow") for line in seen.left_out]
    parts.append(Text.assemble("Verdict: ", (verdict.verdict, style)))
    return Group(*parts)


def _observed(seen: RetryBehaviour) -> str:
    return (
        f"{seen.clients} client{'s' * (seen.clients != 1)}, {seen.requests} requests, "
        f"{seen.failed} failed at first, {seen.retried} of them retried"
    )


def _lines(seen: RetryBehaviour) -> Iterable[str]:
    known = [
        ("base", seconds(seen.base_s)),
        ("factor", None if seen.factor is None else f"{seen.factor:.3g}"),
        ("step", seconds(seen.step_s)),
        ("cap", seconds(seen.cap_s)),
        ("jitter", seconds(seen.jitter_s)),
        ("attempts", None if seen.attempts is None else str(seen.attempts)),
        ("deadline", seconds(seen.deadline_s)),
        ("quota", None if seen.retry_quota is None else f"{seen.retry_quota} retries"),
    ]
    figures = [f"{name} {value}" for name, value in known if value is not None]
    if seen.first_retry_immediate and seen.family != "none":
        figures.append("first retry at once")
    if figures:
        yield ", ".join(figures)
    yield from seen.reasons
    if seen.family == "inconclusive" and seen.nearest:
        yield f"nearest: {seen.nearest}"


def _rules(verdict: BackoffVerdict) -> RenderableType:
    table = Table(box=None, padding=(0, 2), header_style="dim", width=_WIDTH)
    for heading, width in (("rule", 14), ("wanted", 16), ("measured", 16), ("verdict", 12)):
        table.add_column(heading, min_width=width)
    table.add_column("why")
    for one in verdict.rulings:
        why = one.because or (one.reason if one.verdict == "failed" else "")
        table.add_row(
            one.rule, one.bound, one.measured, Text(one.verdict, style=_STYLES[one.verdict]),
            Text(why, style="dim"),
        )  # fmt: skip
    return table


def seconds(value: float | None) -> str | None:
    """A time as people write it, such as "50 ms" or "1.2 s"; None stays None."""
    if value is None:
        return None
    return f"{value * 1000:.3g} ms" if value < 0.9995 else f"{value:.3g} s"
