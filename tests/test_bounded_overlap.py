"""Shards with a bounded overlap: as many as possible, kept on disk, nobody moved."""

import json
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chaosgrade.errors import UsageError
from chaosgrade.overlaps import membership, pair_overlaps
from chaosgrade.policies.bounded_overlap import BoundedOverlap, NoShardLeft
from chaosgrade.policies.cyclic_designs import cyclic_design
from chaosgrade.policies.shard_mathematics import most_shards
from chaosgrade.policies.transversal_designs import TransversalDesign, transversal_designs


def names(count: int) -> list[str]:
    return [f"w{number:04}" for number in range(count)]


def customers() -> Iterator[str]:
    number = 0
    while True:
        yield f"c{number}"
        number += 1


def filled(assignment: BoundedOverlap, most: int = 10**6) -> NoShardLeft | None:
    """Assign until there is no shard left; why there is none."""
    for customer in customers():
        if len(assignment) == most:
            return None
        try:
            assignment.assign(customer)
        except NoShardLeft as error:
            return error
    return None


def worst(assignment: BoundedOverlap) -> int:
    return max(len({*a} & {*b}) for a, b in combinations(assignment.shards.values(), 2))


@pytest.mark.parametrize(
    ("workers", "shard", "overlap", "found"),
    [
        (8, 2, 1, 28),  # all there are
        (20, 4, 2, 285),  # a Steiner quadruple system
        (100, 5, 1, 480),  # a transversal design of 400, and 16 in each of its five groups
        (21, 5, 1, 21),  # a projective plane
        (57, 8, 1, 57),  # another, whose last eight lines are searched for
        (20, 4, 0, 5),
        (6, 6, 0, None),
    ],
)
def test_as_many_shards_as_can_be(
    workers: int, shard: int, overlap: int, found: int | None
) -> None:
    """Johnson's bound is reached, so that no assignment has more."""
    if found is None:
        with pytest.raises(UsageError, match="from 6, got 0"):
            BoundedOverlap(names(workers), shard, overlap)
        return
    assignment = BoundedOverlap(names(workers), shard, overlap)
    error = filled(assignment)
    assert len(assignment) == found == most_shards(workers, shard, overlap)
    assert worst(assignment) <= overlap
    assert f"{found} are the most there can be" in str(error)
    assert "add workers, or allow a larger overlap" in str(error)


@settings(max_examples=25, deadline=None)
@given(
    st.integers(3, 24).flatmap(
        lambda n: st.tuples(st.just(n), st.integers(2, min(n, 6))).flatmap(
            lambda size: st.tuples(
                st.just(size[0]),
                st.just(size[1]),
                st.integers(max(0, 2 * size[1] - size[0]), max(size[1] - 1, 2 * size[1] - size[0])),
            )
        )
    ),
    st.integers(0, 2**64 - 1),
)
def test_the_bound_holds_whatever_the_size(size: tuple[int, int, int], seed: int) -> None:
    """Shards are whole, no two share more, and at least fixed groups are found."""
    n, k, overlap = size
    if overlap >= k:
        return  # k = n: there is one shard
    assignment = BoundedOverlap(names(n), k, overlap, seed=seed)
    filled(assignment, 60)
    shards = list(assignment.shards.values())
    assert all(len({*shard}) == k for shard in shards)
    assert all(len({*a} & {*b}) <= overlap for a, b in combinations(shards, 2))
    assert n // k <= len(shards) <= most_shards(n, k, overlap) or len(shards) == 60


@pytest.mark.parametrize(
    ("n", "k", "overlap", "size"),
    [(100, 5, 1, 480), (16, 4, 1, 20), (25, 5, 1, 30), (27, 3, 2, 819), (36, 4, 2, 733)],
)
def test_transversal_designs_keep_their_bound(n: int, k: int, overlap: int, size: int) -> None:
    """Over prime fields, over one with four elements, and over products such as 4 × 5."""
    shards = np.concatenate(
        [
            design.shards(0, design.size) + first
            for design, first in transversal_designs(n, k, overlap)
        ]
    )
    assert len(shards) == size
    members = membership(shards, n)
    assert (members.sum(axis=1) == k).all()
    assert pair_overlaps(members).most <= overlap


def test_a_part_of_a_design_is_the_same_part_of_the_whole() -> None:
    """Large ones are read piece by piece."""
    design = TransversalDesign(20, 5, 1)
    whole = design.shards(0, design.size)
    assert (design.shards(37, 59) == whole[37:59]).all()
    assert len({tuple(shard) for shard in whole.tolist()}) == 400


def test_the_circle_is_left_alone_where_it_is_too_large() -> None:
    """65 workers do not fit into its numbers."""
    assert len(cyclic_design(65, 2, 1)) == 0
    assert len(cyclic_design(13, 4, 1)) == 13


def test_seeds_make_assignments_and_repeat_them() -> None:
    """The same seed, customers and order give the same; another seed others."""
    one, again, other = (BoundedOverlap(names(20), 4, 2, seed=seed) for seed in (1, 1, 2))
    for assignment in (one, again, other):
        filled(assignment, 60)
    assert one.shards == again.shards
    assert one.shards != other.shards


def test_load_is_even_before_all_shards_are_taken() -> None:
    """The least loaded shard comes first: random ones of this size reach 11."""
    assignment = BoundedOverlap(names(100), 5, 1)
    filled(assignment, 100)
    load = [sum(name in shard for shard in assignment.shards.values()) for name in names(100)]
    assert sum(load) == 500
    assert max(load) <= 7


def test_a_saved_assignment_goes_on_as_if_it_had_never_ended(tmp_path: Path) -> None:
    """Nobody moves, and whoever comes next gets what they would have got."""
    path = tmp_path / "assignment.json"
    straight = BoundedOverlap(names(100), 5, 1, seed=3)
    filled(straight, 60)
    first = BoundedOverlap(names(100), 5, 1, seed=3)
    filled(first, 40)
    first.save(path)
    second = BoundedOverlap.load(path)
    filled(second, 60)
    assert second.shards == straight.shards
    assert [child.name for child in tmp_path.iterdir()] == ["assignment.json"]


def test_workers_may_join_and_idle_ones_leave(tmp_path: Path) -> None:
    """Nobody moves; a search finds further shards beside those there are."""
    path = tmp_path / "assignment.json"
    assignment = BoundedOverlap(names(20), 4, 1)
    filled(assignment)
    assignment.save(path)
    grown = BoundedOverlap.load(path, workers=names(26))
    filled(grown)
    assert grown.shards.items() >= assignment.shards.items()
    assert len(grown) > len(assignment) + 5
    assert worst(grown) <= 1
    with pytest.raises(UsageError, match="'w0019', which there is not"):
        BoundedOverlap.load(path, workers=names(19))


def test_who_leaves_makes_room(tmp_path: Path) -> None:
    """The shard is somebody else's; the others keep theirs."""
    assignment = BoundedOverlap(names(8), 2, 1)
    filled(assignment)
    before = assignment.shards
    assignment.remove("c3")
    with pytest.raises(UsageError, match="'c3' has no shard"):
        assignment.shard_of("c3")
    with pytest.raises(UsageError, match="'c3' has no shard"):
        assignment.remove("c3")
    assert assignment.assign("new") == before["c3"]
    assert {**before, "new": before["c3"]}.items() >= assignment.shards.items()
    assert len(assignment) == 28


def test_who_is_assigned_again_keeps_the_shard() -> None:
    """Asking twice changes nothing."""
    assignment = BoundedOverlap(names(8), 2, 1)
    assert assignment.assign("a") == assignment.assign("a") == assignment.shard_of("a")
    assert len(assignment) == 1


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"format": "other"}, "is no chaosgrade-bounded-overlap-1 file"),
        ({"shards": {"a": ["w0000", "w0001"], "b": ["w0001", "w0000"]}}, "'a' and 'b' share 2"),
        ({"shards": {"a": ["w0000"]}}, "must have 2 different workers, got ['w0000']"),
        ({"shards": {"a": ["w0000", "w0000"]}}, "must have 2 different workers"),
        ({"shards": {"a": ["w0000", "x"]}}, "worker 'x', which there is not"),
        ({"shards": ["a"]}, "is damaged"),
        ({"shard": "2"}, "got '2'"),
        ({"overlap": 2}, "below the shard of 2, got 2"),
        ({"workers": None}, "is damaged"),
    ],
)
def test_a_file_that_is_wrong_is_named(
    tmp_path: Path, change: dict[str, object], named: str
) -> None:
    """One line with the file and what is wrong in it."""
    path = tmp_path / "assignment.json"
    BoundedOverlap(names(8), 2, 1, shards={"a": ["w0000", "w0001"]}).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(UsageError) as caught:
        BoundedOverlap.load(path)
    assert str(caught.value).startswith(f"assignment {path}")
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read_or_written_is_named(tmp_path: Path) -> None:
    """Not there, no JSON, no folder."""
    (tmp_path / "broken.json").write_text("{")
    for name in ("missing.json", "broken.json"):
        with pytest.raises(UsageError, match=f"{name} cannot be read"):
            BoundedOverlap.load(tmp_path / name)
    with pytest.raises(UsageError, match="cannot be written"):
        BoundedOverlap(names(8), 2, 1).save(tmp_path / "nowhere" / "a.json")
