"""The laboratory of shuffle sharding: simulation beside arithmetic, tables, pictures, mistakes."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.cli import lab_sharding
from chaosgrade.errors import UsageError
from chaosgrade.lab.sharding import Experiment, Figure, simulate
from chaosgrade.lab.shardings import Fleet, parse_sharding
from tests.test_cli import chaosgrade, last_line

WAYS = ("none", "plain", "shuffle", "lattice", "stateful:overlap=2")


def figures(experiment: Experiment, ways: tuple[str, ...] = WAYS) -> list[tuple[str, Figure]]:
    """Every figure that was simulated, with its name."""
    found = []
    for result in simulate(experiment, ways):
        name = result.sharding.name
        found += [(f"{name} share {j}", figure) for j, figure in enumerate(result.overlap)]
        for event, reach in result.reach.items():
            found.append((f"{name} {event} out", reach.fully_out))
            found.append((f"{name} {event} distinct", reach.distinct))
            found.append((f"{name} {event} repeated", reach.repeated))
    return found


def test_simulation_and_arithmetic_agree() -> None:
    """No figure is further off than chance allows, and what is certain is met exactly."""
    experiment = Experiment(Fleet(20, 4, 150, 2), 9, 3, 2, 40, 1)
    compared = 0
    for name, figure in figures(experiment):
        if figure.exact is None:
            continue
        if figure.exact in (0, 1):
            assert figure.mean == figure.exact, name
        elif figure.exact > 0.01:
            compared += 1
            assert abs(figure.mean - figure.exact) < 4.5 * figure.se + 1e-12, name
    assert compared >= 40


def test_a_seed_repeats_a_simulation() -> None:
    """To the last digit; another seed differs."""
    one, again, other = (
        figures(Experiment(Fleet(8, 2, 50), 2, 1, 2, 5, seed), ("shuffle",)) for seed in (1, 1, 2)
    )
    assert one == again
    assert one != other


def test_sharding_contains_what_takes_everybody_down_without_it() -> None:
    """The reason for all this: one poisonous customer, and who is left without a worker."""
    experiment = Experiment(Fleet(100, 5, 300), 5, 1, 3, 5, 0)
    none, plain, shuffle, stateful = simulate(
        experiment, ("none", "plain", "shuffle", "stateful:overlap=1")
    )
    event = ("poison", 1)
    assert none.reach[event].fully_out.mean == 1
    assert plain.reach[event].fully_out.exact == 0.05
    assert shuffle.reach[event].fully_out.exact == pytest.approx(1 / 75_287_520)
    assert stateful.reach[event].fully_out.exact == 0
    assert stateful.reach[event].distinct.exact == 0
    assert stateful.overlap[2].exact == stateful.overlap[2].mean == 0


def test_a_lost_zone_takes_the_same_part_of_every_shard_of_a_lattice() -> None:
    """Two of four workers: a second try elsewhere always helps."""
    experiment = Experiment(Fleet(12, 4, 50, 2), 1, 1, 3, 4, 0)
    (result,) = simulate(experiment, ("lattice",))
    reach = result.reach["zone", 0]
    assert (reach.fully_out.exact, reach.fully_out.worst) == (0, 0)
    assert (reach.distinct.exact, reach.distinct.worst) == (0, 0)
    assert reach.repeated.exact == 0.125


@pytest.mark.parametrize(
    ("sharding", "named"),
    [
        ("random", "--sharding must be none, plain, shuffle, lattice or stateful"),
        ("stateful", "got 'stateful'"),
        ("stateful:overlap=x", "got 'stateful:overlap=x'"),
        ("stateful:overlap=2", "below the shard of 2, got 2"),
        ("stateful:overlap=1", "--customers 100 are more than the 28 shards of 2 of 8 workers"),
        ("lattice", "needs --zones"),
    ],
)
def test_a_way_that_makes_no_sense_is_named(sharding: str, named: str) -> None:
    """With the value."""
    with pytest.raises(UsageError) as caught:
        parse_sharding(sharding, Fleet(8, 2, 100))
    assert named in str(caught.value)


def test_more_customers_than_a_search_finds_are_named() -> None:
    """Johnson's bound is 30 here; nobody knows how to reach it in this order."""
    with pytest.raises(UsageError, match="--customers 30 are too many: no further shard"):
        simulate(Experiment(Fleet(20, 4, 30), 1, 1, 1, 2, 0), ("stateful:overlap=1",))


USUAL: dict[str, Any] = {
    "workers": 100, "shard": 5, "customers": 9, "failures": 5, "tries": 3, "poison": 1, "zones": 1,
    "shardings": None, "trials": 2, "seed": 0, "plot": None, "as_json": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"workers": 0}, "--workers must be from 1"),
        ({"workers": 3}, "--shard must be from 1 to 3, got 5"),
        ({"shard": 0}, "--shard must be from 1 to 100, got 0"),
        ({"customers": 0}, "--customers must be from 2 to 1000000, got 0"),
        ({"failures": 101}, "--failures must be from 0 to 100, got 101"),
        ({"failures": -1}, "got -1"),
        ({"tries": 6}, "--tries must be from 1 to 5, got 6"),
        ({"poison": 9}, "--poison must be from 0 to 8, got 9"),
        ({"zones": 0}, "--zones must be from 1 to 100, got 0"),
        ({"trials": 1}, "--trials must be from 2"),
        ({"seed": -1}, "--seed must be from 0"),
        ({"shardings": ["lattice"], "zones": 3}, "--shard 5 is a multiple, got 3"),
        ({"plot": Path("picture.gif")}, "must end in .pdf, .png, .svg, got 'picture.gif'"),
        ({"plot": Path("nowhere/p.png")}, "nowhere/p.png: there is no folder"),
    ],
)
def test_a_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], options: dict[str, Any], named: str
) -> None:
    """It names the option, the value and what is possible; nothing was printed."""
    with pytest.raises(UsageError) as caught:
        lab_sharding.show(**{**USUAL, **options})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)
    assert capsys.readouterr().out == ""


def test_a_mistake_on_the_command_line_is_exit_code_2(tmp_path: Path) -> None:
    """As a person meets it."""
    done = chaosgrade(tmp_path, "lab", "shuffle-sharding", "--workers", "8", "--shard", "9")
    assert done.returncode == 2
    assert last_line(done) == "chaosgrade: --shard must be from 1 to 8, got 9"
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


def test_the_command_prints_tables_one_document_and_a_picture(tmp_path: Path) -> None:
    """Exact beside simulated."""
    command = ["lab", "shuffle-sharding", "--workers", "8", "--shard", "2", "--customers", "40"]
    command += ["--failures", "2", "--trials", "3", "--zones", "2"]
    printed = chaosgrade(tmp_path, *command)
    assert printed.returncode == 0
    for words in (
        "Failed workers: 2 of 8", "Poisonous customers: 1 of 40", "Lost zones: 1 of 2", "3.5714%",
        "worst trial", "lattice", "standard error of 3 trials",
    ):  # fmt: skip
        assert words in printed.stdout
    done = chaosgrade(tmp_path, *command, "--json", "--plot", "picture.png")
    document = json.loads(done.stdout)
    assert (document["workers"], document["shard"], document["seed"]) == (8, 2, 0)
    assert [row["sharding"] for row in document["results"]] == [
        "none",
        "plain",
        "shuffle",
        "lattice",
    ]
    shuffle = document["results"][2]
    assert [row["exact"] for row in shuffle["overlap"]] == pytest.approx([15 / 28, 12 / 28, 1 / 28])
    reach = {(row["event"], row["count"]): row for row in shuffle["reach"]}
    out = reach["failures", 2]["customers_fully_out"]
    assert out["exact"] == pytest.approx(1 / 28)
    assert all(math.isfinite(value) for value in out.values())
    assert {"poison", "zone"} <= {event for event, _ in reach}
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "picture.png").stat().st_size > 30_000


@pytest.mark.parametrize(
    "options",
    [
        {"workers": 1, "shard": 1, "tries": 1, "failures": 0, "poison": 0, "customers": 2},
        {"shardings": ["stateful:overlap=0"], "workers": 10},  # two customers fit
        {"shardings": ["none"]},
    ],
)
def test_a_picture_is_drawn_of_little_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: dict[str, Any]
) -> None:
    """One worker, nothing that fails, one way only: curves of a point, or of none."""
    customers = {"customers": 2}
    lab_sharding.show(**{**USUAL, **customers, **options, "plot": tmp_path / "p.svg"})
    assert "<svg" in (tmp_path / "p.svg").read_text()
    assert json.loads(capsys.readouterr().out)["results"]
