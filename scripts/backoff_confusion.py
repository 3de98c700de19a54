"""Tests the classifier of retries on synthetic clients: `make classifier` prints the matrix.

Clients of every family with parameters drawn at random (see `tests.synthetic_retries.drawn`), seen
through 0 to 20 ms of scheduling noise: 100 clients of five attempts each, then few clients, then
100 on a machine so busy that one gap in three is late by another 50 ms or more. Exit code 1 when
fewer than 98% of the conclusive answers at 100 clients are right, or fewer than 95% elsewhere.
"""

import argparse
import json
import os
import time
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from rich.text import Text

from chaosgrade.probes.backoff import observe
from chaosgrade.probes.backoff_families import FAMILIES
from tests.synthetic_retries import Client, arrivals, drawn

INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True)
class Trial:
    """One synthetic observation; the seed decides its parameters."""

    family: str
    clients: int
    busy_s: float
    seed: int

    @property
    def client(self) -> Client:
        """Whom it observes."""
        return drawn(self.family, self._draw())

    @property
    def noise_s(self) -> float:
        """How late its gaps are at most."""
        return float(self._draw().choice([0.0, 0.005, 0.01, 0.02]))

    def answer(self) -> str:
        """What the classifier makes of it."""
        seen = arrivals(
            self.client,
            self.clients,
            noise_s=self.noise_s,
            busy_s=self.busy_s,
            seed=self.seed,
        )
        return observe(seen).behaviour.family

    def _draw(self) -> np.random.Generator:
        return np.random.default_rng([self.seed, FAMILIES.index(self.family)])


def trials(clients: int, repeats: int, seed: int, busy_s: float = 0.0) -> list[Trial]:
    """As many of each family."""
    return [
        Trial(family, clients, busy_s, seed + repeat)
        for family in FAMILIES
        for repeat in range(repeats)
    ]


def _answer(trial: Trial) -> str:
    return trial.answer()


def answers(todo: list[Trial], workers: int, console: Console) -> list[tuple[Trial, str]]:
    """Each trial with its answer."""
    words = f"{todo[0].clients} clients"
    with ProcessPoolExecutor(workers) if workers > 1 else nullcontext() as pool:
        told: Iterable[str] = pool.map(_answer, todo, chunksize=2) if pool else map(_answer, todo)
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
    arguments.add_argument("--repeats", type=int, default=20, help="of each family")
    arguments.add_argument("--seed", type=int, default=int(time.time()), help="default: the clock")
    arguments.add_argument("--workers", type=int, default=os.cpu_count())
    arguments.add_argument("--only", type=int, help="so many clients only")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    progress, console = Console(stderr=True), Console(width=170)
    document: dict[str, Any] = {"seed": options.seed}
    bad = False
    for clients, busy_s in ((100, 0.0), (20, 0.0), (5, 0.0), (2, 0.0), (1, 0.0), (100, 0.05)):
        if options.only not in (None, clients):
            continue
        todo = trials(clients, options.repeats, options.seed, busy_s)
        told = answers(todo, options.workers, progress)
        right, conclusive = rates(told)
        bad |= right < (0.98 if (clients, busy_s) == (100, 0.0) else 0.95)
        wrong = [
            f"{answer}: {t.client}, {t.noise_s * 1000:g} ms, seed {t.seed}"
            for t, answer in told
            if answer not in (t.family, INCONCLUSIVE)
        ]
        name = f"{clients} clients × 5 attempts" + (", busy machine" if busy_s else "")
        document[name] = {"right": right, "conclusive": conclusive, "wrong": wrong}
        if options.json:
            continue
        if clients == 100:
            console.print(matrix(told))
        console.print(
            f"{name}: {right:.1%} right of {conclusive:.0%} conclusive, {len(told)} observations"
        )
        for line in wrong:
            console.print(f"      wrong: {line}")
    if options.json:
        print(json.dumps(document, indent=2))
    else:
        console.print(f"seed {options.seed}")
    return int(bad)


if __name__ == "__main__":
    raise SystemExit(main())
