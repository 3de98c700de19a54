"""Tests the score itself: experiments on systems with one known flaw each, and on the sound one.

`python scripts/flaw_matrix.py [--runs 5] [--fabric auto] [--only EXPERIMENT] [--specimen NAME]
[--json]` runs each experiment on the sound specimen and on each specimen that it claims to catch,
every run on a stage of its own, and prints the table.
Exit code 1 when a flaw was missed or the sound system failed even once.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from importlib import resources
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from chaosgrade.experiment import load, suite, suites
from chaosgrade.policies.objectives import parse_extension


def cells() -> list[dict[str, Any]]:
    """What is run: each experiment with the specimens of its template that say something of it."""
    text = (resources.files("chaosgrade.policies") / "specimens.yaml").read_text(encoding="utf-8")
    specimens: dict[str, Any] = yaml.safe_load(text)
    return [
        {
            "experiment": experiment,
            "specimen": name,
            "expected": "failed" if specimen["caught_by"] == experiment else "passed",
            **specimen,
        }
        for every in suites()
        for experiment in suite(every)
        for name, specimen in specimens.items()
        if specimen["caught_by"] in (None, experiment)
        and specimen["template"] == parse_extension(load(experiment).document).template
    ]


def verdict(cell: dict[str, Any], seed: int, fabric: str, folder: str) -> tuple[str, str]:
    """One run on a fresh stage: "passed", "failed" or "inconclusive", and what did not pass."""
    command = [sys.executable, "-c", "from chaosgrade.cli import main; main()", "run"]
    command += [cell["experiment"], "--json", "--seed", str(seed), "--template", cell["template"]]
    command += ["--fabric", fabric]
    for key, value in cell["parameters"].items():
        command += ["--parameter", f"{key}={value}"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if not done.stdout:
        raise SystemExit(f"{cell['experiment']} on {cell['specimen']}: {done.stderr.strip()}")
    found = json.loads(done.stdout)["experiments"][0]
    return found["verdict"], "; ".join(shortcomings(found))


def shortcomings(experiment: dict[str, Any]) -> list[str]:
    """Why an experiment of a `score.json` did not pass: what made it invalid, what did not hold."""
    return [
        *experiment["invalid"],
        *(
            f"{each['metric']} {each['measured']}, not {each['target']}"
            for each in experiment["objectives"]
            if each["verdict"] != "passed"
        ),
    ]


def main() -> int:
    """Run the matrix and print it."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--fabric", default="auto")
    arguments.add_argument("--only", action="append", metavar="EXPERIMENT", help="repeatable")
    arguments.add_argument("--specimen", action="append", help="such as sound; repeatable")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    console = Console(stderr=True)
    table = Table(
        "experiment",
        "specimen",
        "must be",
        "was",
        title=f"{options.runs} runs each, {options.fabric} fabric",
    )
    rows = [
        cell
        for cell in cells()
        if (not options.only or cell["experiment"] in options.only)
        and (not options.specimen or cell["specimen"] in options.specimen)
    ]
    for cell in rows:
        with tempfile.TemporaryDirectory() as folder:
            cell["verdicts"] = []
            for seed in range(1, options.runs + 1):
                was, why = verdict(cell, seed, options.fabric, folder)
                cell["verdicts"].append(was)
                found = (cell["experiment"], cell["specimen"], seed, f"{was}  {why}")
                console.print(*found, soft_wrap=True)
        right = cell["verdicts"].count(cell["expected"])
        cell["right"] = right
        style = "green" if right == options.runs else "red"
        table.add_row(
            cell["experiment"],
            cell["specimen"],
            cell["expected"],
            f"[{style}]{cell['expected']} {right} of {options.runs}[/]",
        )
    if options.json:
        print(json.dumps(rows, indent=2))
    else:
        Console().print(table)
    return 0 if all(cell["right"] == options.runs for cell in rows) else 1


if __name__ == "__main__":
    raise SystemExit(main())
