"""What the probe says of assignments that are sound, unfair, plain or broken."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from random import Random
from typing import Any

import boto3
import pytest
from chaoslib.exceptions import ActivityFailed
from moto import mock_aws

from chaosgrade.aws import Aws
from chaosgrade.clock import Clock
from chaosgrade.policies.bounded_overlap import BoundedOverlap
from chaosgrade.policies.isolation import IsolationPolicy
from chaosgrade.policies.shuffle_sharding import ShuffleSharding
from chaosgrade.policies.zone_lattice import ZoneLattice
from chaosgrade.probes.observers import reads
from chaosgrade.probes.shuffle_sharding import assignment
from chaosgrade.session import Session, activate

WORKERS = [f"w{number:02}" for number in range(20)]
ZONES = {"a": WORKERS[:10], "b": WORKERS[10:]}
CUSTOMERS = [f"c{number}" for number in range(240)]

type Shards = Mapping[str, Sequence[str]]


@pytest.fixture
def observe(tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """The probe on shards that are written to a file."""

    def observe(shards: Shards, **arguments: Any) -> dict[str, Any]:
        path = tmp_path / "assignment.json"
        path.write_text(json.dumps(shards))
        found = assignment(file=str(path), **{"workers": WORKERS, **arguments})
        json.dumps(found)  # Chaos Toolkit's journal holds it
        return found

    return observe


def failed(observed: Mapping[str, Any], **rules: Any) -> list[str]:
    """The claims that a policy finds not to hold."""
    findings = IsolationPolicy(**rules).judge_assignment(observed)
    return [finding.claim for finding in findings if finding.holds is False]


def shuffled(seed: int = 0, shard: int = 4) -> dict[str, tuple[str, ...]]:
    sharding = ShuffleSharding(WORKERS, shard, seed=seed)
    return {customer: sharding.shard_of(customer) for customer in CUSTOMERS}


def test_shuffle_sharding_is_as_expected(observe: Callable[..., dict[str, Any]]) -> None:
    """Overlaps add up to all pairs, lie near what is expected, and nothing is held against it."""
    observed = observe(shuffled())
    overlap, fairness = observed["overlap"], observed["fairness"]
    assert (observed["customers"], observed["workers"], observed["shard"]) == (240, 20, 4)
    assert overlap["pairs"] == sum(row["pairs"] for row in overlap["shared"]) == 240 * 239 // 2
    for row in overlap["shared"]:
        assert row["share"] == pytest.approx(row["expected"], abs=0.015)
    assert overlap["p_value"] > 0.01
    assert abs(overlap["excess_sd"]) < 3
    assert overlap["most_shared"] == 4  # 28,680 pairs, 1 in 4,845
    assert fairness["mean"] == 48
    assert fairness["p_value"] > 0.01
    assert failed(observed, most_shared=4) == []
    assert failed(observed) == ["no two customers share more than 3 workers"]


def test_the_test_of_overlaps_is_calibrated(observe: Callable[..., dict[str, Any]]) -> None:
    """Sound assignments fail at 5% about that often, though pairs are not independent."""
    values = [
        observe({name: shard for name, shard in shuffled(seed).items() if len(name) < 4})
        for seed in range(100, 115)
    ]
    low = [one for one in values if one["overlap"]["p_value"] <= 0.05]
    assert len(low) <= 4  # 0.75 are expected of 15; more than 4 have a chance of 0.06%
    assert sum(one["overlap"]["p_value"] for one in values) / 15 == pytest.approx(0.5, abs=0.2)
    assert sum(one["fairness"]["p_value"] for one in values) / 15 == pytest.approx(0.5, abs=0.2)


def test_fixed_groups_are_found_out(observe: Callable[..., dict[str, Any]]) -> None:
    """Whoever shares one worker shares all, and one customer covers another."""
    groups = ShuffleSharding([str(number) for number in range(5)], 1)
    observed = observe({c: [*WORKERS[4 * int(groups.shard_of(c)[0]) :][:4]] for c in CUSTOMERS})
    assert observed["overlap"]["p_value"] <= 0.005
    assert observed["overlap"]["excess_sd"] > 10
    assert observed["coverage"]["covered_by_one"] == 240
    assert observed["coverage"]["least_cover"] == {"1": 240, "2": 0}
    a, b = observed["coverage"]["pair"]
    assert a != b
    assert "customers overlap no more than by chance" in failed(observed, most_shared=4)


def test_an_unfair_assignment_is_found_out(observe: Callable[..., dict[str, Any]]) -> None:
    """Everybody has the first worker, as from a hash whose first draw is broken."""
    observed = observe({c: [WORKERS[0], *(w for w in s if w != WORKERS[0])][:4]
                        for c, s in shuffled().items()})  # fmt: skip
    assert observed["fairness"]["busiest"] == "w00"
    assert observed["fairness"]["most"] == 240
    assert observed["fairness"]["p_value"] < 1e-6
    assert "no worker has more than 2 times the mean of customers" in failed(observed)
    assert "customers are spread no less evenly than by chance" in failed(observed)


def test_workers_that_serve_nobody_are_counted_when_they_are_told(
    observe: Callable[..., dict[str, Any]],
) -> None:
    """By number or by name; else nobody can know of them."""
    shards = ShuffleSharding(WORKERS[:15], 4)
    some = {customer: shards.shard_of(customer) for customer in CUSTOMERS}
    assert observe(some, workers=None)["workers"] == 15
    for workers in (20, WORKERS):
        observed = observe(some, workers=workers)
        assert observed["fairness"]["idle"] == 5
        assert observed["fairness"]["p_value"] < 1e-6


def test_a_bounded_overlap_is_better_than_chance(
    observe: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    """It deviates to the good side, and is not failed for it; its own file names the workers."""
    bounded = BoundedOverlap(WORKERS, 4, 2)
    for customer in CUSTOMERS[:200]:
        bounded.assign(customer)
    bounded.save(tmp_path / "bounded.json")
    observed = assignment(file=str(tmp_path / "bounded.json"))
    assert observed["overlap"]["most_shared"] == 2
    assert observed["overlap"]["p_value"] <= 0.005
    assert observed["overlap"]["excess_sd"] < 0
    assert observed["coverage"]["covered_by_one"] == 0
    assert failed(observed, most_shared=2) == []


def test_zones_are_compared_with_zones(observe: Callable[..., dict[str, Any]]) -> None:
    """A lattice overlaps more than shards over all workers: as it has to, or suspiciously so."""
    lattice = ZoneLattice(ZONES, 3)
    shards = {customer: lattice.shard_of(customer) for customer in CUSTOMERS}
    observed = observe(shards, zones=ZONES)
    assert observed["overlap"]["p_value"] > 0.01
    assert observed["fairness"]["p_value"] > 0.01
    with pytest.raises(ActivityFailed, match="zones are for shards with as many of each"):
        observe(shuffled(), zones=ZONES)
    with pytest.raises(ActivityFailed, match="must name each of the 20 workers once"):
        observe(shards, zones={"a": WORKERS[:10]})


def test_who_covers_whom_is_counted(observe: Callable[..., dict[str, Any]]) -> None:
    """By two: neither alone; by three: not by fewer."""
    observed = observe(
        {
            "covered": ["w00", "w01", "w02", "w03"],
            "left": ["w00", "w01", "w08", "w09"],
            "right": ["w02", "w03", "w10", "w11"],
            "lone": ["w14", "w15", "w16", "w17"],
        },
        by=3,
    )
    coverage = observed["coverage"]
    assert coverage["covered_by_one"] == 0
    assert coverage["pair"] is None
    assert coverage["least_cover"] == {"1": 0, "2": 1, "3": 0}
    assert coverage["covered"] == 0.25


def test_too_few_pairs_decide_nothing(observe: Callable[..., dict[str, Any]]) -> None:
    """No data never passes."""
    observed = observe({"a": WORKERS[:4]})
    assert observed["overlap"]["p_value"] is None
    assert observed["overlap"]["most_shared"] is None
    undecided = [f.claim for f in IsolationPolicy().judge_assignment(observed) if f.holds is None]
    assert len(undecided) == 3


def test_a_policy_that_makes_no_sense_is_named() -> None:
    """With its value."""
    with pytest.raises(Exception, match=r"significance must be above 0 and below 1, got 2"):
        IsolationPolicy(significance=2)
    with pytest.raises(Exception, match=r"max_to_mean must be at least 1, got 0.5"):
        IsolationPolicy(max_to_mean=0.5)


SMALL = {"a": ["x", "y"], "b": ["y", "z"]}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("plain.json", json.dumps(SMALL)),
        ("listed.json", json.dumps([{"customer": c, "workers": w} for c, w in SMALL.items()])),
        ("saved.json", json.dumps({"shards": SMALL, "workers": ["x", "y", "z"]})),
        ("rows.csv", "customer,first,second\na,x,y\n\nb,y,z\n"),
        ("quoted.csv", 'customer,first,second,third\r\n"a","x","y",\r\n"b",y,"z",\r\n'),
    ],
)
def test_every_format_holds_the_same(tmp_path: Path, name: str, text: str) -> None:
    """Two customers who share one of three workers."""
    (tmp_path / name).write_text(text)
    observed = assignment(file=str(tmp_path / name))
    assert (observed["customers"], observed["workers"], observed["shard"]) == (2, 3, 2)
    assert observed["overlap"]["most_shared"] == 1


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("a.txt", "", ".json or .csv"),
        ("a.json", "{", "is not JSON"),
        ("a.json", "{}", "no customer"),
        ("a.json", "[]", "no customer"),
        ("a.csv", "", "no customer"),
        ("a.json", "3", "must be an object of lists"),
        ("a.json", '{"a": 3}', "workers of customer 'a' must be a list of names, got 3"),
        ("a.json", '[{"workers": ["x"]}]', "customer must be a name, got None"),
        ("a.json", '{"a": ["x"], "a": ["y"]}', "'a' is there twice"),
        ("a.csv", "customer,w\na,x\na,y\n", "customer 'a' is there twice"),
        ("a.csv", "a,x\nb,y\n", "first line must be 'customer'"),
        ("a.csv", 'customer,w\n"a,x\n', "is not CSV"),
        ("a.json", '{"a": ["x", "y"], "b": ["x"], "c": ["x", "y"]}', "'b' has 1 workers"),
        ("a.json", '{"a": ["x", "x"]}', "worker 'x' twice"),
        ("a.json", '{"a": []}', "customer 'a' has no workers"),
        ("a.json", '{"shards": {"a": ["x"]}, "workers": ["y"]}', "'x', which is not of workers"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(tmp_path: Path, name: str, text: str, named: str) -> None:
    """It names the file, the customer and the value."""
    (tmp_path / name).write_text(text)
    with pytest.raises(ActivityFailed) as caught:
        assignment(file=str(tmp_path / name))
    assert named in str(caught.value)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "exactly one of file, url and table"),
        ({"file": "a.json", "table": "t"}, "exactly one of file, url and table"),
        ({"file": "nowhere.json"}, "nowhere.json: it cannot be read"),
        ({"url": "ftp://x"}, "must be an http:// or https:// address"),
        ({"url": "http://127.0.0.1:9/"}, "does not answer"),
    ],
)
def test_a_source_that_is_wrong_is_one_line(arguments: dict[str, Any], named: str) -> None:
    """Without a Region: only a table needs AWS."""
    with pytest.raises(ActivityFailed, match=named):
        assignment(**arguments)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"workers": 1}, "at least the 3 that serve somebody, got 1"),
        ({"workers": ["x", "y"]}, "'z', which is not of workers"),
        ({"workers": "xyz"}, "list of names or a number, got 'xyz'"),
        ({"by": 0}, "by must be at least 1, got 0"),
    ],
)
def test_an_argument_that_is_wrong_is_one_line(
    tmp_path: Path, arguments: dict[str, Any], named: str
) -> None:
    """With the value."""
    (tmp_path / "a.json").write_text(json.dumps(SMALL))
    with pytest.raises(ActivityFailed, match=named):
        assignment(file=str(tmp_path / "a.json"), **arguments)


@pytest.fixture
def endpoint() -> Iterator[str]:
    """An address that answers with an assignment."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps(SMALL).encode())

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/assignment"
    server.shutdown()
    server.server_close()
    thread.join()


def test_an_address_is_read(endpoint: str) -> None:
    """As a router may offer it."""
    assert assignment(url=endpoint)["customers"] == 2


def test_a_table_is_read_page_by_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sets and lists of names; a missing table is inconclusive, not empty."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "moto")
    with mock_aws():
        client = boto3.client("dynamodb", region_name="us-east-1")
        client.create_table(
            TableName="shards",
            KeySchema=[{"AttributeName": "who", "KeyType": "HASH"}],
            AttributeDefinitions=[{"AttributeName": "who", "AttributeType": "S"}],
            BillingMode="PAY_PER_REQUEST",
        )
        padding = {"S": "x" * 300_000}  # a page of DynamoDB's is at most 1 MB
        for customer, shard in shuffled().items():
            if len(customer) < 3:
                names: dict[str, Any] = {"SS": list(shard)}
                if customer == "c1":
                    names = {"L": [{"S": name} for name in shard]}
                client.put_item(
                    TableName="shards", Item={"who": {"S": customer}, "has": names, "p": padding}
                )
        aws = Aws(region="us-east-1")
        activate(Session(aws, None, Random(1), Clock()))  # type: ignore[arg-type]
        try:
            keys = {"customer_key": "who", "workers_key": "has"}
            assert assignment(table="shards", **keys)["customers"] == 10
            with pytest.raises(ActivityFailed, match="customer must be a name, got None"):
                assignment(table="shards")
            with pytest.raises(ActivityFailed, match="no DynamoDB table nowhere"):
                assignment(table="nowhere", **keys)
        finally:
            activate(None)


def test_only_a_table_needs_a_privilege() -> None:
    """Scan; a file and an address need none."""
    probe = {"probe": "shuffle_sharding"}
    assert reads([{**probe, "table": "t"}]) == {"dynamodb:Scan"}
    assert reads([{**probe, "file": "a.json"}, {**probe, "url": "http://x"}]) == set()
