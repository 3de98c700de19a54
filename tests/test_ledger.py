"""The ledger against a real server that loses, doubles and hangs by design."""

import os
import random
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.aws import Aws, Environment
from chaosgrade.clock import Clock
from chaosgrade.errors import UsageError
from chaosgrade.evidence import EvidenceLog, Record, read
from chaosgrade.measurement import Measurement, measure
from chaosgrade.probes import ledger
from chaosgrade.session import Session
from chaosgrade.verdict import judge
from tests.order_server import Shop, running
from tests.synthetic import FAULT, WINDOW, trial

BOOKS = ("lost_acknowledged_writes", "duplicated_writes", "indeterminate_writes")


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = Clock()
    aws = Aws(region="us-east-1", endpoint_url="http://127.0.0.1:9")
    aws.__dict__["environment"] = Environment("stage", "123456789012", "us-east-1", 20.0)
    with EvidenceLog(tmp_path / "evidence.jsonl", clock) as evidence:
        yield Session(
            aws=aws,
            executor=None,  # type: ignore[arg-type] # a probe changes nothing
            random=random.Random(1),
            clock=clock,
            evidence=evidence,
        )


def recorded(session: Session) -> list[Record]:
    assert session.evidence is not None
    return read(session.evidence.path)


def keep(session: Session, shop: Shop, seconds: float = 1.0, **arguments: Any) -> list[Record]:
    """Keep a ledger of a shop for some seconds; the records."""
    given = {"rate": 100, "timeout_s": 0.5, "afterwards": 0.001, "read_within_s": 5, **arguments}
    with running(shop) as url:
        observer = ledger.observe(session, url=url, **given)
        observer.start()
        time.sleep(seconds)
        observer.stop()
    return recorded(session)


def figures(records: list[Record]) -> dict[str, Measurement]:
    return measure(records, BOOKS)


def test_what_a_shop_loses_and_doubles_is_counted_exactly(session: Session) -> None:
    """Each kind of broken promise is counted, by number, and no other."""
    shop = Shop(
        lost=(7, 21, 40),
        doubled=(8, 30),
        silent=(11, 12, 13, 14),
        dropped=(15,),
        refused=(50, 51),
        refused_but_kept=(52,),
        cut=(60,),
        page=17,
    )
    found = figures(keep(session, shop))
    assert {name: found[name].value for name in BOOKS} == {
        "lost_acknowledged_writes": 3,
        "duplicated_writes": 2,
        "indeterminate_writes": 6,
    }
    assert found["indeterminate_writes"].reason == (
        "4 of 6 without an answer are there, and 1 of 3 that were refused"
    )


def test_a_shop_that_keeps_its_books_has_lost_nothing(session: Session) -> None:
    """200 orders a second, each there once; ids are the ledger's own and never repeat."""
    shop = Shop()
    shop.kept.append("somebody-else-1")
    found = figures(keep(session, shop, rate=200))
    assert {name: found[name].value for name in BOOKS} == dict.fromkeys(BOOKS, 0)
    ids = [body["id"] for body in shop.bodies]
    assert len(ids) == len(set(ids)) > 180
    third = next(body for body in shop.bodies if body["id"].endswith("-3"))
    assert third == {"id": third["id"], "customer": "customer-3", "product": "1"}


@pytest.mark.parametrize(("status", "words"), [(500, "answered with 500"), (200, "no listing")])
def test_what_cannot_be_read_is_no_data(session: Session, status: int, words: str) -> None:
    """Without a reading nothing is lost and nothing is kept: it is not known."""
    shop = Shop(unreadable=status)
    found = figures(keep(session, shop, seconds=0.3, read_within_s=0.8))
    assert found["lost_acknowledged_writes"].value is None
    assert found["duplicated_writes"].value is None
    assert words in found["lost_acknowledged_writes"].reason
    assert found["indeterminate_writes"].reason == "how many of them are there is not known"


def test_no_acknowledged_write_is_no_data(session: Session) -> None:
    """A shop that takes no order cannot lose one, and has not passed either."""
    found = figures(keep(session, Shop(refused=range(10_000)), seconds=0.3))
    assert found["lost_acknowledged_writes"].value is None
    assert found["duplicated_writes"].value is None


def test_a_dead_ledger_is_a_problem(session: Session) -> None:
    """When the worker is killed the evidence says so, and there is no reading."""
    with running(Shop()) as url:
        observer = ledger.observe(session, url=url, afterwards=0.001)
        observer.start()
        process = observer._worker._process
        assert process is not None
        os.kill(process.pid, signal.SIGKILL)
        process.wait(timeout=5)
        observer.stop()
    records = recorded(session)
    (problem,) = [record for record in records if record.kind == "problem"]
    assert problem["source"] == "ledger"
    assert figures(records)["lost_acknowledged_writes"].value is None


def test_writes_go_on_after_the_end_until_they_work_again(session: Session) -> None:
    """What is refused until then does not end the ledger; what works for a while does."""
    shop = Shop(refused=range(150))
    begun = time.monotonic()
    records = keep(session, shop, seconds=0.5, afterwards=20 * 8)
    assert 3.0 < time.monotonic() - begun < 7.5
    orders = [row for record in records if record.kind == "ledger" for row in record["orders"]]
    assert len(orders) > 250


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either balancer or url"),
        ({"url": "ftp://a"}, "url must be an http:// or https:// address, got 'ftp://a'"),
        ({"url": "http://a", "rate": 0}, "rate must be above 0, got 0"),
        ({"url": "http://a", "limit": 1.5}, "limit must be a whole number, got 1.5"),
        ({"url": "http://a", "path": "orders"}, "path must start with /, got 'orders'"),
        ({"url": "http://a", "body": {"id": "1"}}, "body must hold {id}"),
        ({"url": "http://a", "body": ["{id}"]}, "body must be an object"),
        ({"url": "http://a", "body": {"id": "{id}{x}"}}, "body: {x} is unknown"),
        ({"url": "http://a", "listing": "/orders?after={after}"}, "listing must hold {prefix}"),
    ],
)
def test_values_that_make_no_sense_are_named(
    session: Session, arguments: dict[str, Any], message: str
) -> None:
    """A wrong value is refused with its name before anything starts."""
    with pytest.raises(UsageError) as refused:
        ledger.observe(session, **arguments)
    assert message in str(refused.value)


def evidence(
    failing: tuple[float, float] = (1.0, 3.0),
    *,
    reversible: bool = False,
    until: float = WINDOW,
    undo_at: float = WINDOW,
    latency_ms: float = 40.0,
) -> list[Record]:
    """A trial whose orders, 50 a second, are refused in an interval after the fault."""
    records = [(r.at, r.kind, dict(r.data)) for r in trial()]
    for _, kind, data in records:
        if kind == "change.applied":
            data["reversible"] = reversible
    start = FAULT - 3.0
    orders = []
    for number in range(round((3.0 + until) * 50)):
        at = number / 50 - 3.0
        failed = failing[0] - 1e-6 <= at < failing[1] - 1e-6
        outcome, latency = ("http_503", latency_ms) if failed else ("ok", 5.0)
        orders.append([number, round((at + 3.0) * 1e3, 1), outcome, latency])
    records.append((FAULT + until, "ledger", {"start": start, "orders": orders}))
    records.append((FAULT + undo_at, "undo.start", {}))
    records.append((FAULT + until + 1, "ledger.found", {"orders": [[0, len(orders) - 1, 1]]}))
    for at, address in ((-1.0, "10.0.1.5"), (3.25, "10.0.2.5")):
        seen = {"identifier": "shop", "status": "available", "zone": "us-east-1a"}
        records.append((FAULT + at, "database", {**seen, "address": address}))
    records.sort(key=lambda each: each[0])
    return [Record(seq, at, kind, data) for seq, (at, kind, data) in enumerate(records)]


def test_durations_of_writes_count_from_the_end_of_the_fault() -> None:
    """A strike is over at once, what is undone when its undo begins; projected on the stage."""
    names = ("time_to_write_again", "time_to_fail_over", "failed_write_latency_p90")
    struck = measure(evidence(), names)
    assert struck["time_to_write_again"].value == pytest.approx(60.0)
    assert struck["time_to_fail_over"].value == pytest.approx(65.0)
    assert struck["failed_write_latency_p90"].value == 40.0
    undone = measure(evidence((0.5, WINDOW + 1.5), reversible=True, until=WINDOW + 4), names)
    assert undone["time_to_write_again"].value == pytest.approx(30.0)


def test_writes_that_do_not_come_back_are_censored() -> None:
    """The ledger ended first: at least so long."""
    found = measure(evidence((1.0, 99.0)), ["time_to_write_again"])["time_to_write_again"]
    assert found.censored
    assert found.value == pytest.approx(20 * WINDOW, abs=1)


def test_writes_that_failed_before_the_fault_make_a_trial_inconclusive() -> None:
    """A shop that was ill before proves nothing about the fault."""
    assert judge(evidence()).invalid == ()
    (reason,) = judge(evidence((-2.0, 3.0))).invalid
    assert "of writes succeeded" in reason
