"""Tests the classifier of retries on synthetic clients: `make classifier` prints the matrix.

Every family with every modifier and 0, 5 and 20 ms of scheduling noise, at 100 clients of five
attempts each, then at few clients. Exit code 1 when fewer than 98% of the conclusive answers at 100
clients are right, or fewer than 95% at any smaller number.
"""

import argparse
import json
import os
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from chaosgrade.probes.backoff import observe
from tests.synthetic_retries import FAMILIES, MODIFIERS, arrivals, with_modifier

INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Trial:
    """One synthetic observation."""

    family: str
    modifier: str
    noise_s: float
    clients: int
    seed: int

    def answer(self) -> str:
        """What the classifier makes of it."""
        client = with_modifier(self.family, self.modifier)
        seen = arrivals(client, self.clients, noise_s=self.noise_s, seed=self.seed)
        return observe(seen).behaviour.family


def trials(clients: int, repeats: int) -> list[Trial]:
    """All families, modifiers and levels of noise."""
    return [
        Trial(family, modifier, noise_s, clients, seed)
        for family in FAMILIES
        for modifier in (MODIFIERS if family not in ("no-retry", "none") else ("plain",))
        for noise_s in (0.0, 0.005, 0.02)
        for seed in range(repeats)
    ]


def _answer(trial: Trial) -> str:
    return trial.answer()


def answers(todo: list[Trial], console: Console) -> list[tuple[Trial, str]]:
    """Each trial with its answer, side by side."""
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        told: Iterable[str] = pool.map(_answer, todo, chunksize=2)
        clients = todo[0].clients
        words = f"{clients} clients"
        return list(zip(todo, track(told, words, len(todo), console=console), strict=True))


def rates(told: list[tuple[Trial, str]]) -> tuple[float, float]:
    """Share of right answers among conclusive ones, and share of conclusive ones."""
    conclusive = [(trial, answer) for trial, answer in told if answer != INCONCLUSIVE]
    right = sum(trial.family == answer for trial, answer in conclusive)
    return right / max(1, len(conclusive)), len(conclusive) / len(told)


def matrix(told: list[tuple[Trial, str]]) -> Table:
    """Families by answers."""
    counts = {family: Counter[str]() for family in FAMILIES}
    for trial, answer in told:
        counts[trial.family][answer] += 1
    table = Table("it is", title="rows: what it is; columns: what it is taken for")
    columns = (*FAMILIES, INCONCLUSIVE)
    for name in columns:
        table.add_column(name.replace("-jitter", "").replace("multiplicative", "multipl."))
    for family, row in counts.items():
        style = {family: "green", INCONCLUSIVE: "yellow"}
        cells = [
            Text(str(row[name] or "·"), style=style.get(name, "red" if row[name] else "dim"))
            for name in columns
        ]
        table.add_row(family, *cells)
    return table


def main() -> int:
    """Run and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--repeats", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    progress = Console(stderr=True)
    document = {}
    bad = False
    for clients in (100, 20, 5, 2, 1):
        told = answers(trials(clients, options.repeats), progress)
        right, conclusive = rates(told)
        bad |= right < (0.98 if clients == 100 else 0.95)
        wrong = [
            f"{t.family}, {t.modifier}, {t.noise_s * 1000:g} ms: {answer}"
            for t, answer in told
            if answer not in (t.family, INCONCLUSIVE)
        ]
        document[clients] = {"right": right, "conclusive": conclusive, "wrong": wrong}
        if options.json:
            continue
        console = Console(width=170)
        if clients == 100:
            console.print(matrix(told))
        console.print(
            f"{clients:>4} clients × 5 attempts: {right:.1%} right of {conclusive:.0%} conclusive, "
            f"{len(told)} observations"
        )
        for line in wrong:
            console.print(f"      wrong: {line}")
    if options.json:
        print(json.dumps(document, indent=2))
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
