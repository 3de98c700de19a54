"""Writes docs/mutation-testing.md from mutmut's results: `make mutation` runs it.

Each survivor has to match a reason in scripts/mutation_reasons.toml, by its name or by what the
mutant changes. Exits with 1 when one has none, when a reason has no survivor any more, or when
mutants were not run.
"""

import json
import re
import sys
import tomllib
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mutmut.mutation.diff_apply import get_diff_for_mutant
from mutmut.stats import status_by_exit_code

ROOT = Path(__file__).parent.parent
PACKAGE = Path("chaosgrade/changes")
PAGE = ROOT / "docs" / "mutation-testing.md"
REASONS = ROOT / "scripts" / "mutation_reasons.toml"
_FIGURES = "<!-- figures -->\n"
_DETECTED = ("killed", "timeout")


@dataclass(frozen=True, slots=True)
class Mutant:
    """One mutant: its module, its name, what became of it, and its diff in one line."""

    module: str
    name: str
    status: str
    diff: str

    @property
    def short(self) -> str:
        """As the page lists it: the function and the mutant's number."""
        function, _, number = self.name.rpartition("__mutmut_")
        plain = re.sub(r"^x_?", "", function.rpartition(".")[2]).strip("ǁ")
        return f"{plain.replace('ǁ', '.')}#{number}"

    @property
    def changes_case_only(self) -> bool:
        """Whether the code is the same but for upper and lower case."""
        lines = self.diff.casefold().splitlines()
        return [x[1:] for x in lines if x[0] == "-"] == [x[1:] for x in lines if x[0] == "+"]


@dataclass(frozen=True, slots=True)
class Reason:
    """Why mutants may survive: those whose name and diff match."""

    title: str
    text: str
    name: re.Pattern[str]
    diff: re.Pattern[str]
    case_only: bool

    def explains(self, mutant: Mutant) -> bool:
        """Whether it is the reason of this one."""
        where = f"{mutant.module}.{mutant.short}"
        if self.case_only and not mutant.changes_case_only:
            return False
        return bool(self.name.fullmatch(where) and self.diff.search(mutant.diff))


def mutants() -> Iterator[Mutant]:
    """Every mutant of the package, with its result."""
    for path in sorted((ROOT / "mutants" / PACKAGE).glob("*.meta")):
        module = path.name.removesuffix(".py.meta")
        codes = json.loads(path.read_text())["exit_code_by_key"]
        for name, code in codes.items():
            status = status_by_exit_code[code]
            diff = ""
            if status not in _DETECTED:
                lines = get_diff_for_mutant(name, path=PACKAGE / f"{module}.py").splitlines()
                changed = [line for line in lines if re.match(r"[-+](?![-+]{2} )", line)]
                diff = "\n".join(line[0] + line[1:].strip() for line in changed)
            yield Mutant(module, name, status, diff)


def reasons() -> list[Reason]:
    """Those on file, in their order: the first that matches counts."""
    listed = tomllib.loads(REASONS.read_text())["reason"]
    return [
        Reason(
            one["title"],
            one["text"],
            re.compile("|".join(one.get("names", [".*"]))),
            re.compile(one.get("diff", ""), re.DOTALL),
            one.get("case_only", False),
        )
        for one in listed
    ]


def table(found: list[Mutant]) -> str:
    """Figures by module, and of all."""
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for mutant in found:
        for row in (mutant.module, "all"):
            counts[row][mutant.status] += 1
    lines = [
        "| module | mutants | killed | timed out | survived | no test | score |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for module in [*sorted(set(counts) - {"all"}), "all"]:
        count = counts[module]
        detected = sum(count[status] for status in _DETECTED)
        lines.append(
            f"| {module} | {count.total()} | {count['killed']} | {count['timeout']} | "
            f"{count['survived']} | {count['no tests']} | {detected / count.total():.1%} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Write the page; 1 when something is not explained."""
    found = list(mutants())
    known = reasons()
    groups: dict[str, dict[str, list[Mutant]]] = {r.title: defaultdict(list) for r in known}
    complaints = []
    for mutant in found:
        if mutant.status in _DETECTED:
            continue
        reason = next((r for r in known if r.explains(mutant)), None)
        if mutant.status != "survived" or reason is None:
            complaints.append(f"{mutant.module}.{mutant.short} ({mutant.status}):\n{mutant.diff}\n")
        else:
            groups[reason.title][mutant.module].append(mutant)
    complaints += [f"no survivor has the reason {title!r}" for title in groups if not groups[title]]
    if complaints:
        print("\n".join(complaints), f"\n{len(complaints)} not explained", file=sys.stderr)
        return 1
    sections = []
    for reason in known:
        by_module = groups[reason.title]
        names = "; ".join(
            f"{module}: {', '.join(f'`{m.short}`' for m in listed)}"
            for module, listed in by_module.items()
        )
        count = sum(map(len, by_module.values()))
        sections.append(f"### {reason.title} ({count})\n\n{reason.text}\n\n{names}.\n")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    head, _, _ = PAGE.read_text().partition(_FIGURES)
    figures = f"Run on {today}.\n\n{table(found)}\n"
    PAGE.write_text("\n".join([head + _FIGURES, figures, "## Survivors\n", *sections]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
