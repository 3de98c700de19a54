"""What a person sees while trials run: what is broken, and what customers feel right now."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live as RichLive
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from chaosgrade.evidence import Record
from chaosgrade.experiment import ExperimentFile
from chaosgrade.verdict import TrialVerdict

_RECENT_S = 1.0
_SPARK_BIN_S = 0.5
_BLOCKS = "▁▂▃▄▅▆▇█"
_STYLES = {"passed": "green", "failed": "red", "inconclusive": "yellow"}


@dataclass(slots=True)
class _Now:
    """What is known of the trial under way."""

    phase: str = "starting the stage"
    began: float = field(default_factory=time.monotonic)
    environment: str = ""
    window_s: float = 0.0
    fault_at: float | None = None
    broken: list[str] = field(default_factory=list)
    healthy: int | None = None
    before: int = 0
    recent: deque[tuple[float, bool, float]] = field(default_factory=deque)
    """(intended, succeeded, latency_ms) of the last second."""
    spark: dict[int, list[int]] = field(default_factory=dict)
    """Bin number → [offered, succeeded]."""


class Live:
    """A live view on standard error at a terminal; elsewhere one line per milestone.

    Args:
        files: the experiments of a campaign.
        trials: how often each is run.
    """

    def __init__(
        self, files: Sequence[ExperimentFile], trials: int, console: Console | None = None
    ) -> None:
        self._console = console or Console(stderr=True)
        self._rows = {
            (file.name, number): Text("waiting", style="dim")
            for number in range(1, trials + 1)
            for file in files
        }
        self._current: tuple[str, int] | None = None
        self._now = _Now()
        self._live = (
            RichLive(get_renderable=self.render, console=self._console, refresh_per_second=8)
            if self._console.is_terminal
            else None
        )

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()

    def begin(self, experiment: str, number: int) -> None:
        """The next trial is being prepared."""
        self._current = (experiment, number)
        self._now = _Now()
        self._milestone("starting")

    def end(self, verdict: TrialVerdict | None) -> None:
        """The trial is over."""
        if self._current is None:
            return
        word = "halted" if verdict is None else verdict.verdict
        self._rows[self._current] = Text(word, style=_STYLES.get(word, "yellow"))
        self._milestone(word)
        self._current = None

    def watch(self, record: Record) -> None:
        """Take in one record of the trial under way."""
        now = self._now
        match record.kind:
            case "run.start":
                environment = record["environment"]
                scale = environment["time_scale"]
                now.environment = environment["kind"] + (
                    f", {environment['fabric']} fabric, time ×{scale:g}" if scale != 1 else ""
                )
                now.window_s = record["window_s"] / scale
                self._enter("measuring the baseline")
            case "fault.start":
                now.fault_at = record.at
                self._enter("breaking")
            case "change.applied":
                now.broken.append(record["summary"])
                self._milestone(record["summary"])
            case "change.effect":
                if record["proven"]:
                    self._enter("watching what customers feel")
            case "observation.end":
                self._enter("undoing")
            case "aftermath.start":
                self._enter("watching what follows")
            case "logs.awaited":
                self._enter(f"waiting {record['wait_s']:.0f} s for access logs")
            case "change.undone":
                self._milestone(f"{record['summary']}: {record['outcome']}")
            case "problem":
                self._milestone(f"problem: {record['detail']}")
            case "target_health":
                states = [target["state"] for target in record["targets"].values()]
                now.healthy = states.count("healthy")
                now.before = now.before if now.fault_at else now.healthy
            case "traffic":
                self._take_traffic(record)

    def _take_traffic(self, record: Record) -> None:
        now = self._now
        start: float = record["start"]
        for offset_ms, _customer, outcome, latency_ms, *_ in record["requests"]:
            at, fine = start + offset_ms / 1000, outcome == "ok"
            now.recent.append((at, fine, latency_ms))
            counts = now.spark.setdefault(int(at / _SPARK_BIN_S), [0, 0])
            counts[0] += 1
            counts[1] += fine
        newest = max((at for at, _, _ in now.recent), default=0.0)
        while now.recent and now.recent[0][0] < newest - _RECENT_S:
            now.recent.popleft()

    def _enter(self, phase: str) -> None:
        if self._now.phase != phase:
            self._now.phase = phase
            self._milestone(phase)

    def _milestone(self, text: str) -> None:
        if self._live is None and self._current is not None:
            name, number = self._current
            elapsed = time.monotonic() - self._now.began
            self._console.print(
                f"{name} #{number} {elapsed:5.1f} s  {text}", markup=False, highlight=False,
                soft_wrap=True,
            )  # fmt: skip

    def render(self) -> RenderableType:
        """The view as it is now."""
        table = Table.grid(padding=(0, 2))
        for (name, number), past in self._rows.items():
            under_way = (name, number) == self._current
            state = Text(self._now.phase, style="bold cyan") if under_way else past
            label = (
                name if len(self._rows) == len({n for n, _ in self._rows}) else f"{name} #{number}"
            )
            table.add_row(Text(label, style="bold"), state)
        if self._current is None:
            return table
        return Panel(
            Group(table, Text(""), self._figures()),
            title="chaosgrade",
            title_align="left",
            subtitle=Text(self._now.environment, style="dim"),
            subtitle_align="right",
            border_style="cyan",
            width=min(self._console.width, 100),
        )

    def _figures(self) -> RenderableType:
        now = self._now
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim", width=10)
        grid.add_column()
        grid.add_row("broken", Text("; ".join(now.broken) or "nothing yet"))
        if now.recent:
            share = sum(fine for _, fine, _ in now.recent) / len(now.recent)
            style = "green" if share >= 0.999 else "yellow" if share >= 0.9 else "red"
            grid.add_row("success", Text.assemble((f"{share:.2%}", style), "  ", self._sparkline()))
            answers = sorted(latency for _, fine, latency in now.recent if fine)
            if answers:
                p50, p99 = answers[len(answers) // 2], answers[int(len(answers) * 0.99)]
                grid.add_row("latency", f"p50 {p50:.1f} ms   p99 {p99:.1f} ms")
        if now.healthy is not None:
            style = "green" if now.healthy >= now.before else "yellow"
            grid.add_row("in service", Text(f"{now.healthy} of {now.before} targets", style))
        if now.fault_at is not None and now.window_s:
            done = min(time.time() - now.fault_at, now.window_s)
            grid.add_row("window", ProgressBar(total=now.window_s, completed=done, width=40))
        return grid

    def _sparkline(self) -> str:
        """One block per half second: full when all requests succeeded, lowest at 80% or less."""
        bins = [counts for _, counts in sorted(self._now.spark.items())][-40:]
        marks = []
        for offered, succeeded in bins:
            height = max(0.0, (succeeded / offered - 0.8) / 0.2)
            marks.append(_BLOCKS[min(len(_BLOCKS) - 1, int(height * (len(_BLOCKS) - 1) + 0.001))])
        return "".join(marks)
