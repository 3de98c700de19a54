"""Who suffers with a poisoned customer: against a real shop whose router is known."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from chaoslib.exceptions import ActivityFailed

from chaosgrade.policies.isolation import IsolationPolicy
from chaosgrade.policies.shuffle_sharding import ShuffleSharding
from chaosgrade.probes.blast_radius import blast_radius, recorded_blast_radius
from chaosgrade.probes.suffering import expected_of_size, reach
from tests.sharded_shop import serving
from tests.synthetic import CUSTOMERS, FAULT, RATE, records

WORKERS = [f"w{number}" for number in range(8)]
SHARDING = ShuffleSharding(WORKERS, 2)
QUICK: Mapping[str, Any] = {
    "customers": 40, "rate": 120.0, "before_s": 0, "settle_s": 0.3, "duration_s": 1.0,
    "timeout_s": 10.0, "poison_rate": 20.0,
}  # fmt: skip
POISONED = {*SHARDING.shard_of("0")}
TWINS = {str(n) for n in range(1, 40) if {*SHARDING.shard_of(str(n))} == POISONED}
NEIGHBOURS = {str(n) for n in range(1, 40) if {*SHARDING.shard_of(str(n))} & POISONED}


def verdicts(observed: Mapping[str, Any]) -> list[bool | None]:
    return [finding.holds for finding in IsolationPolicy().judge_blast_radius(observed)]


@pytest.fixture
def assignment(tmp_path: Path) -> str:
    """The shop's assignment as a file."""
    path = tmp_path / "assignment.json"
    path.write_text(json.dumps({str(n): SHARDING.shard_of(str(n)) for n in range(40)}))
    return str(path)


def test_only_who_shares_all_suffers_from_distinct_tries(assignment: str) -> None:
    """Two different workers of two: who has a healthy one left feels nothing."""
    with serving(SHARDING.shard_of, SHARDING.shard_of) as url:
        observed = blast_radius(
            url=url,
            poison_url=url + "poison",
            assignment=assignment,
            tries=2,
            **{**QUICK, "before_s": 0.4},
        )
    json.dumps(observed)
    assert (observed["workers"], observed["shard"], observed["customers"]) == (8, 2, 39)
    assert observed["suffering_before"] == 0
    assert {one["customer"] for one in observed["worst"]} == TWINS
    assert all(one["shares"] == 2 for one in observed["worst"])
    assert observed["suffering"]["customers"] == observed["fully_out"]["customers"] == len(TWINS)
    assert observed["suffering"]["low"] <= len(TWINS) / 39 < observed["suffering"]["high"]
    assert observed["suffering"]["expected"] == pytest.approx(len(TWINS) / 39)
    assert observed["beyond"] == []
    assert verdicts(observed) == [True, True, True]


def test_a_client_that_tries_the_same_worker_again_is_found_out(assignment: str) -> None:
    """Whoever shares one worker suffers: more than distinct tries let expect."""

    def same_again(customer: str) -> Sequence[str]:
        return [SHARDING.shard_of(customer)[0]] * 2

    with serving(SHARDING.shard_of, same_again) as url:
        observed = blast_radius(
            url=url, poison_url=url + "poison", assignment=assignment, tries=2, **QUICK
        )
    suffer = {n for n in NEIGHBOURS if SHARDING.shard_of(n)[0] in POISONED}
    assert observed["suffering"]["customers"] == len(suffer) > len(TWINS)
    assert {*observed["beyond"]} == suffer - TWINS
    assert verdicts(observed)[0] is False
    assert verdicts(observed)[-1] is False


def test_no_sharding_is_found_out() -> None:
    """Everybody goes down with the poisoned."""
    with serving(lambda _: WORKERS, lambda _: WORKERS) as url:
        observed = blast_radius(
            url=url, poison_url=url + "poison", workers=8, shard=2, tries=2, **QUICK
        )
    assert observed["fully_out"]["share"] == 1
    assert observed["fully_out"]["p_value"] < 1e-9
    assert observed["requests"]["failed"] == 1
    assert verdicts(observed) == [False, False]


def evidence(folder: Path, failing: Sequence[int], customers: int = CUSTOMERS) -> str:
    """Evidence in which some customers fail from the fault on."""
    path = folder / "evidence.jsonl"
    with path.open("w") as file:
        for record in records():
            data = dict(record.data)
            if record.kind == "traffic":
                data["requests"] = [
                    [offset, customer, "http_503" if customer in failing and
                     data["start"] + offset / 1e3 >= FAULT else "ok", latency, attempts]
                    for offset, customer, _, latency, attempts in data["requests"]
                    if customer < customers
                ]  # fmt: skip
            line = {"seq": record.seq, "at": record.at, "kind": record.kind, **data}
            file.write(json.dumps(line) + "\n")
    return str(path)


def test_the_traffic_of_a_run_tells_the_same(tmp_path: Path) -> None:
    """From its evidence alone: the poisoned, one who is fully out, nobody else."""
    observed = recorded_blast_radius(
        evidence=evidence(tmp_path, [3, 7]), poisoned=3, workers=100, shard=5, tries=3
    )
    assert observed["customers"] == CUSTOMERS - 1
    assert observed["fully_out"]["customers"] == 1
    assert observed["worst"] == [{"customer": "7", "failed": 1.0, "shares": None}]
    assert observed["requests"]["failed"] == pytest.approx(1 / 19, rel=0.01)
    assert observed["requests"]["offered"] == pytest.approx(15 * RATE * 19 / 20, rel=0.01)
    assert observed["fully_out"]["expected"] == pytest.approx(1 / 75_287_520)
    assert verdicts(observed)[1] is False


def test_few_customers_prove_nothing(tmp_path: Path) -> None:
    """Nobody of two suffers, and neither would they with fixed groups: no pass."""
    observed = recorded_blast_radius(
        evidence=evidence(tmp_path, [0], customers=3), workers=8, shard=2, tries=2
    )
    assert observed["customers"] == 2
    assert observed["suffering"]["customers"] == 0
    assert verdicts(observed) == [True, None]


def test_several_poisoned_may_reach_further(tmp_path: Path) -> None:
    """Two of three customers who fail are poisoned."""
    observed = recorded_blast_radius(
        evidence=evidence(tmp_path, [3, 7, 8]), poisoned=[3, 8], workers=8, shard=2, tries=2
    )
    assert observed["poisoned"] == ["3", "8"]
    assert observed["customers"] == CUSTOMERS - 2
    assert observed["fully_out"]["expected"] == pytest.approx(1 - 2 * 0.75**2 + (15 / 28) ** 2)


def test_several_poisoned_seldom_fail_a_sound_sharding() -> None:
    """Everybody meets the same lost workers: they suffer together, which is no weakness."""
    expected = expected_of_size(8, 2, 3, 2, distinct=True)
    unfair = 0
    for seed in range(200):
        sharding = ShuffleSharding(WORKERS, 2, seed=seed)
        lost = {worker for number in range(3) for worker in sharding.shard_of(str(number))}
        seen = [(str(n), not {*sharding.shard_of(str(n))} <= lost) for n in range(3, 103)]
        observed = reach(seen, (), frozenset({"0", "1", "2"}), expected)
        unfair += observed["fully_out"]["p_value"] < IsolationPolicy().significance
    assert unfair <= 3  # 0.2 are expected; a binomial alone, in which each is on its own, fails 20


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "give either balancer or url"),
        ({"url": "http://x", "shard": 9}, "from 1 to the 8 workers, got 9"),
        ({"url": "http://x", "shard": None}, "give workers and shard, or an assignment"),
        ({"url": "http://x", "tries": 0}, "tries must be at least 1, got 0"),
        ({"url": "http://x", "poisoned": "0"}, "poisoned must be numbers of customers"),
        ({"url": "http://x", "poisoned": []}, "poisoned must be numbers of customers"),
        (
            {"url": "http://x", "poison_url": "http://x", "poisoned": 1},
            "poison_url poisons customer 0 alone, got poisoned=1",
        ),
        ({"url": "http://x", "assignment": "nowhere.json"}, "nowhere.json: it cannot be read"),
        ({"url": "x"}, "url must be an http:// or https:// address"),
        ({"url": "http://x", "customers": 1, "rate": -1}, "rate must be above 0"),
    ],
)
def test_what_makes_no_sense_is_one_line(
    monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any], named: str
) -> None:
    """Before anything is sent."""
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with pytest.raises(ActivityFailed) as caught:
        blast_radius(**{"workers": 8, "shard": 2, **arguments})
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_evidence_that_tells_nothing_is_one_line(tmp_path: Path, assignment: str) -> None:
    """Not there, without a fault, of customers whom the assignment does not know."""
    size = {"workers": 8, "shard": 2}
    with pytest.raises(ActivityFailed, match="evidence must be named outside of a graded run"):
        recorded_blast_radius(**size)
    with pytest.raises(ActivityFailed, match="there is no evidence nowhere"):
        recorded_blast_radius(evidence="nowhere", **size)
    quiet = tmp_path / "quiet.jsonl"
    quiet.write_text("")
    with pytest.raises(ActivityFailed, match="holds no fault"):
        recorded_blast_radius(evidence=str(quiet), **size)
    with pytest.raises(ActivityFailed, match="no customer '99', who is poisoned"):
        recorded_blast_radius(evidence=str(quiet), assignment=assignment, poisoned=99)
    few = tmp_path / "few.json"
    few.write_text(json.dumps({str(n): SHARDING.shard_of(str(n)) for n in range(5)}))
    with pytest.raises(ActivityFailed, match="no customer '10', who made requests"):
        recorded_blast_radius(evidence=evidence(tmp_path, [0]), assignment=str(few))
    with pytest.raises(ActivityFailed, match="nobody but the poisoned made a request"):
        recorded_blast_radius(
            evidence=evidence(tmp_path, []), poisoned=list(range(CUSTOMERS)), **size
        )
