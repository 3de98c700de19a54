"""Shows what backoff does, by simulation: as a table, a document, a picture."""

import json
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from rich import box
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from chaosgrade.errors import UsageError
from chaosgrade.lab.contention import DELAY_MEAN_S, DELAY_SD_S, contend
from chaosgrade.lab.herd import HERD_S, Outage, recover
from chaosgrade.lab.summary import ContentionRow, Figure, HerdRow, policy_to_json
from chaosgrade.policies.retry_notation import NO_RETRY, NotedPolicy, parse
from chaosgrade.report import terminal

CONTENTION, HERD = "contention", "herd"
_TITLES = {
    CONTENTION: "Clients that contend for one row, until all of them are done",
    HERD: "A dependency was down and comes back, and its clients with it",
}
_MOST_CLIENTS = 10_000

# As in AWS's simulator, whose base of 5 ms doubles before it is first used.
_CONTENTION_NUMBERS: Mapping[str, Mapping[str, float]] = {
    "": {"base": 0.010, "cap": 2.0},
    "decorrelated-jitter": {"base": 0.005},
    "additive-jitter": {"jitter": 0.010},
}
_CONTENTION_POLICIES = ("none", "exponential", "equal", "full", "decorrelated")
_CONTENTION_CLIENTS = (10, 20, 50, 100, 200)
_CONTENTION_TRIALS = 100

_HERD_NUMBERS: Mapping[str, Mapping[str, float]] = {"": {"base": 0.1, "cap": 5.0}}
_HERD_POLICIES = ("none:attempts=100", "fixed:base=1", "exponential", "equal", "full",
                  "decorrelated", "full:attempts=5")  # fmt: skip
_HERD_TRIALS = 10


@dataclass(frozen=True, slots=True)
class Question:
    """What to simulate, as it was asked.

    Args:
        scenario: "contention" or "herd".
        policies: in the notation of `policies.retry_notation`; none for the scenario's own.
        clients: numbers with commas between; None for the scenario's own.
        trials: None for the scenario's own.
        seed: None draws one.
        outage: what was said of the herd's outage, by the names of `Outage`.
        plot: where a picture goes.
    """

    scenario: str = CONTENTION
    policies: Sequence[str] = ()
    clients: str | None = None
    trials: int | None = None
    seed: int | None = None
    outage: Mapping[str, float] | None = None
    plot: Path | None = None


def show(question: Question, *, as_json: bool) -> None:
    """Simulate and print.

    Raises:
        UsageError: naming the first value that makes no sense.
    """
    if question.scenario not in (CONTENTION, HERD):
        raise UsageError(f"--scenario must be {CONTENTION} or {HERD}, got {question.scenario!r}")
    if question.trials is not None and question.trials < 1:
        raise UsageError(f"--trials must be at least 1, got {question.trials}")
    if question.seed is not None and question.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {question.seed}")
    if question.plot is not None:
        from chaosgrade.lab import backoff_plot

        backoff_plot.check(question.plot)
    seed = random.randrange(2**31) if question.seed is None else question.seed
    simulate = _contention if question.scenario == CONTENTION else _herd
    document, table = simulate(question, seed)
    if as_json:
        print(json.dumps(document, indent=2, allow_nan=False))
        return
    console = terminal.console()
    console.print(Text(_TITLES[question.scenario], style="bold"))
    console.print(table)
    trials = document["trials"]
    console.print(Text(f"trials: {trials}; --seed {seed} repeats them", style="dim"))
    if question.plot is not None:
        console.print(Text(f"picture: {question.plot}", style="dim"))


def _contention(question: Question, seed: int) -> tuple[dict[str, Any], Table]:
    if question.outage:
        option = next(iter(question.outage)).removesuffix("_s")
        raise UsageError(f"--{option} goes with --scenario {HERD}")
    policies = _policies(question.policies or _CONTENTION_POLICIES, _CONTENTION_NUMBERS)
    for policy in policies:
        if policy.quota is not None:
            raise UsageError(f"policy {policy.text!r}: a quota goes with --scenario {HERD}")
    sizes = _sizes(question.clients) or _CONTENTION_CLIENTS
    trials = question.trials or _CONTENTION_TRIALS
    rows: list[ContentionRow] = []
    with _Bar(len(policies) * len(sizes)) as bar:
        for policy in policies:
            for size in sizes:
                outcome = contend(policy.retry, size, trials, seed, bar.part(policy, size))
                rows.append(ContentionRow.of(policy, size, outcome))
    if question.plot is not None:
        from chaosgrade.lab import backoff_plot

        backoff_plot.draw_contention(rows, trials, question.plot)
    document = {
        **_header(CONTENTION, policies, trials, seed),
        "model": {
            "message_delay_ms": {"mean": DELAY_MEAN_S * 1000, "sd": DELAY_SD_S * 1000},
            "calls": "writes until every client is done, per trial",
            "time": "ms until the last answer",
        },
        "time_unit": "ms",
        "results": [row.to_json() for row in rows],
    }
    return document, _contention_table(rows)


def _herd(question: Question, seed: int) -> tuple[dict[str, Any], Table]:
    texts = list(question.policies or _HERD_POLICIES)
    if NO_RETRY not in texts:
        texts.insert(0, NO_RETRY)
    policies = _policies(texts, _HERD_NUMBERS)
    outage = Outage(**(question.outage or {}))  # type: ignore[arg-type] # none is `clients`
    sizes = _sizes(question.clients) or (outage.clients,)
    trials = question.trials or _HERD_TRIALS
    if question.plot is not None and len(sizes) > 1:
        raise UsageError(f"--plot draws one number of clients at a time, got {question.clients!r}")
    rows: list[HerdRow] = []
    results: list[dict[str, Any]] = []
    with _Bar(len(policies) * len(sizes)) as bar:
        for size in sizes:
            scene = replace(outage, clients=size)
            of_size = [
                HerdRow.of(
                    policy, size, recover(policy, scene, trials, seed, bar.part(policy, size))
                )
                for policy in policies
            ]
            baseline = next(row for row in of_size if row.policy.text == NO_RETRY)
            results += [row.to_json(baseline) for row in of_size]
            rows += of_size
    if question.plot is not None:
        from chaosgrade.lab import backoff_plot

        backoff_plot.draw_herd(rows, outage, trials, question.plot)
    document = {
        **_header(HERD, policies, trials, seed),
        "model": {**asdict(outage), "clients": list(sizes), "herd_s": HERD_S},
        "time_unit": "s",
        "results": results,
    }
    return document, _herd_table(rows)


def _header(
    scenario: str, policies: Sequence[NotedPolicy], trials: int, seed: int
) -> dict[str, Any]:
    return {
        "scenario": scenario,
        "trials": trials,
        "seed": seed,
        "policies": {policy.text: policy_to_json(policy) for policy in policies},
    }


def _policies(texts: Sequence[str], usual: Mapping[str, Mapping[str, float]]) -> list[NotedPolicy]:
    twice = next((text for number, text in enumerate(texts) if text in texts[:number]), None)
    if twice is not None:
        raise UsageError(f"policy {twice!r} is given twice")
    return [parse(text, usual) for text in texts]


def _sizes(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    sizes = []
    for word in text.split(","):
        if not word.strip().isdecimal():
            raise UsageError(f"--clients must be numbers such as 10,20,50, got {text!r}")
        sizes.append(int(word))
        if not 1 <= sizes[-1] <= _MOST_CLIENTS:
            raise UsageError(f"--clients must be 1 to {_MOST_CLIENTS}, got {word.strip()}")
    return tuple(dict.fromkeys(sizes))


class _Bar:
    """Progress on standard error, where that is a terminal.

    Args:
        parts: how many simulations there are.
    """

    def __init__(self, parts: int) -> None:
        console = Console(stderr=True)
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(),
            console=console, transient=True, disable=not console.is_terminal,
        )  # fmt: skip
        self._task = self._progress.add_task("", total=parts)
        self._begun = 0

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def part(self, policy: NotedPolicy, clients: int) -> Callable[[float], None]:
        """The next simulation begins; what it returns hears which share of it is done."""
        begun = self._begun
        self._begun += 1

        def hear(share: float) -> None:
            self._progress.update(
                self._task, completed=begun + share,
                description=f"{policy.text}, {clients} clients",
            )  # fmt: skip

        return hear


def _contention_table(rows: Sequence[ContentionRow]) -> Table:
    table = _table(
        *("policy", "clients", "calls", "time, ms"),
        *(("gave up",) if _anybody_gave_up(rows) else ()),
    )
    previous = rows[0].policy.text
    for row in rows:
        if row.policy.text != previous:
            table.add_section()
        cells = [
            row.policy.text,
            f"{row.clients:,}",
            _spread(row.calls, 0),
            _spread(row.time_ms, 0),
        ]
        if _anybody_gave_up(rows):
            cells.append(_spread(row.gave_up, 1))
        table.add_row(*map(Text, cells))
        previous = row.policy.text
    return table


def _anybody_gave_up(rows: Sequence[ContentionRow]) -> bool:
    return any(row.gave_up.mean for row in rows)


def _herd_table(rows: Sequence[HerdRow]) -> Table:
    table = _table(
        *("policy", "clients", "calls per\nrequest", "calls per\nsuccess", "saved"),
        *("peak to\nmean", "recovered\nafter, s", "drained\nafter, s"),
    )
    for row in rows:
        cells = [
            row.policy.text,
            f"{row.clients:,}",
            _number(row.calls_per_request, 2),
            _number(row.amplification, 2),
            _share(row.saved_share),
            _number(row.peak_to_mean, 1),
            "not" if row.not_recovered else _number(row.recovery_s, 1),
            "not" if row.not_drained else _number(row.drained_s, 1),
        ]
        table.add_row(*map(Text, cells))
    return table


def _table(*headings: str) -> Table:
    table = Table(box=box.SIMPLE, show_edge=False, pad_edge=False)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number > 0)
    return table


def _number(figure: Figure, digits: int) -> str:
    return "—" if figure.mean is None else f"{figure.mean:,.{digits}f}"


def _spread(figure: Figure, digits: int) -> str:
    spread = "" if figure.sd is None else f" ± {figure.sd:,.{digits}f}"
    return _number(figure, digits) + spread


def _share(figure: Figure) -> str:
    return "—" if figure.mean is None else f"{figure.mean:.1%}"
