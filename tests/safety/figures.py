"""What the safety tests have tried, for the summary that `make safety` prints."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence

WHOLE = bool(os.environ.get("SAFETY_WHOLE"))
"""Whether every case is tried, or a seeded sample."""


class Figures:
    """Counts by kind of attack."""

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()
        self.left_behind: Counter[str] = Counter()
        self.false_completed: Counter[str] = Counter()

    def tried(self, attack: str) -> None:
        """One more case."""
        self.cases[attack] += 1

    def left(self, attack: str) -> str:
        """Something was left changed after `recover`."""
        self.left_behind[attack] += 1
        return "left behind"

    def false(self, attack: str) -> str:
        """Something was called undone that was not."""
        self.false_completed[attack] += 1
        return "called undone, and is not"

    def counted(self) -> dict[str, list[int]]:
        """{attack: [cases, left behind, false "completed"]}."""
        counters = (self.cases, self.left_behind, self.false_completed)
        return {attack: [counter[attack] for counter in counters] for attack in self.cases}

    def add(self, counted: Mapping[str, Sequence[int]]) -> None:
        """What another process has counted."""
        for attack, (cases, left, false) in counted.items():
            self.cases[attack] += cases
            self.left_behind[attack] += left
            self.false_completed[attack] += false


FIGURES = Figures()
