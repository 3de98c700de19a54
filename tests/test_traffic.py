"""The traffic probe against a real server whose outages are known."""

import asyncio
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto import mock_aws

from chaosgrade.aws import Aws
from chaosgrade.clock import Clock
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.evidence import EvidenceLog, Record, read
from chaosgrade.history import read_history
from chaosgrade.outages import Baseline, find_outages
from chaosgrade.probes import traffic
from chaosgrade.session import Session, activate
from chaosgrade.traffic.client import is_transient
from chaosgrade.traffic.open_loop import Schedule, outcome_of

SERVER = Path(__file__).parent.parent / "benchmarks" / "traffic_server.py"


class Servers:
    """Starts servers with outages [mode, after_s, for_s, every]."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[bytes]] = []

    def __call__(self, *outages: list[object]) -> tuple[str, float]:
        """URL, and the monotonic seconds that its outages are relative to."""
        process = subprocess.Popen(
            [sys.executable, str(SERVER), json.dumps(outages)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._started.append(process)
        assert process.stdout is not None
        said = json.loads(process.stdout.readline())
        return f"http://127.0.0.1:{said['port']}/", said["monotonic"]

    def end(self) -> list[float]:
        """End all; monotonic seconds at which requests arrived."""
        arrivals: list[float] = []
        while self._started:
            out, _ = self._started.pop().communicate(timeout=10)
            arrivals += json.loads(out)["arrivals"]
        return arrivals


@pytest.fixture
def serve() -> Iterator[Servers]:
    servers = Servers()
    yield servers
    servers.end()


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    clock = Clock()
    with EvidenceLog(tmp_path / "evidence.jsonl", clock) as evidence:
        yield Session(
            aws=Aws(region="us-east-1", endpoint_url="http://127.0.0.1:9"),
            executor=None,  # type: ignore[arg-type] # a probe changes nothing
            random=random.Random(1),
            clock=clock,
            evidence=evidence,
        )


def recorded(session: Session) -> list[Record]:
    assert session.evidence is not None
    return read(session.evidence.path)


def rows(session: Session) -> list[list[Any]]:
    """Rows with their offset replaced by Unix time, in order."""
    return sorted(
        [record["start"] + row[0] / 1e3, *row[1:]]
        for record in recorded(session)
        if record.kind == "traffic"
        for row in record["requests"]
    )


def run_until(session: Session, observer: traffic.TrafficObserver, monotonic: float) -> None:
    """Observe until a moment of the machine's clock."""
    observer.start()
    time.sleep(max(0.0, monotonic - time.monotonic()))
    observer.stop()


def test_the_schedule_does_not_wait_for_a_stalled_server(serve: Servers, session: Session) -> None:
    """While the server answers nothing, requests go on; their latency counts from when due."""
    url, zero = serve(["frozen", 1.5, 1.0, 1])
    run_until(session, traffic.observe(session, url=url, rate=100, timeout_s=3), zero + 3.2)
    unix = session.clock.wall - session.clock.monotonic
    seen = rows(session)
    gaps = [after[0] - before[0] for before, after in pairwise(seen)]
    assert max(gaps) < 0.0105
    arrived = [at for at in serve.end() if zero + 1.52 < at < zero + 2.4]
    assert len(arrived) == pytest.approx(88, abs=8)
    assert all(row[2] == "ok" for row in seen)
    stalled = [row for row in seen if zero + 1.52 < row[0] - unix < zero + 2.4]
    assert len(stalled) == pytest.approx(88, abs=3)
    for at, _, _, latency_ms, _ in stalled:
        assert latency_ms == pytest.approx((zero + 2.5 - (at - unix)) * 1e3, abs=150)


def test_what_could_not_be_sent_when_it_was_due_is_a_hole() -> None:
    """Sent seconds later it would tell of a moment that it has not seen, such as an outage's."""
    sent: list[tuple[int, float]] = []

    async def stall() -> dict[str, object]:
        async def send(index: int, due: float) -> None:
            sent.append((index, time.monotonic() - due))
            if index == 20:
                time.sleep(0.9)  # the machine is busy with something else

        schedule = Schedule(100, 1.5, time.monotonic(), send)
        await schedule.offer(asyncio.Event())
        return schedule.summary()

    summary = asyncio.run(stall())
    assert max(late for _, late in sent) < 0.5
    gaps = [after - before for (before, _), (after, _) in pairwise(sent)]
    assert max(gaps) >= 90
    assert summary["offered"] == len(sent)


def test_an_outage_is_measured_where_it_was(serve: Servers, session: Session) -> None:
    """Real requests through a real outage give its start and end to 30 ms."""
    url, zero = serve(["503", 1.6, 0.5, 1])
    run_until(session, traffic.observe(session, url=url, rate=200), zero + 3)
    unix = session.clock.wall - session.clock.monotonic
    requests = read_history(recorded(session)).requests
    (outage,) = find_outages(
        requests, end=zero + unix + 3, stretch_s=0.4, baseline=Baseline(0, 300)
    )
    assert outage.start - unix - zero == pytest.approx(1.6, abs=0.03)
    assert outage.duration_s == pytest.approx(0.5, abs=0.03)


def test_retries_are_counted_and_hide_single_failures(serve: Servers, session: Session) -> None:
    """Every third request is refused: with retries nearly all customers are served, at a price."""
    url, zero = serve(["503", 0.0, 60.0, 3])
    observer = traffic.observe(session, url=url, rate=100, attempts=4, retry_base_s=0.01)
    run_until(session, observer, zero + 2.5)
    seen = rows(session)
    attempts = sum(row[4] for row in seen)
    assert attempts / len(seen) == pytest.approx(1.5, abs=0.1)
    assert sum(row[2] == "ok" for row in seen) / len(seen) > 0.95


class _Zones(BaseHTTPRequestHandler):
    """Serves from two zones in turn; every fifth answer names none, every seventh fails."""

    protocol_version = "HTTP/1.1"
    numbers = itertools.count()

    def do_GET(self) -> None:
        number = next(self.numbers)
        self.send_response(503 if number % 7 == 0 else 200)
        if number % 5:
            self.send_header("X-Zone", f"zone-{number % 2}")
        self.send_header("X-Rack", "r" * 500)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        return


def test_the_zone_that_served_is_recorded(session: Session) -> None:
    """By an index into the record's own zones; none where a request failed or none is named."""
    with ThreadingHTTPServer(("127.0.0.1", 0), _Zones) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        try:
            run_until(session, traffic.observe(session, url=url), time.monotonic() + 1.0)
            first = recorded(session)
            # Any header; what is no name of a zone is kept short.
            other = traffic.observe(session, url=url, zone_header="x-rack")
            run_until(session, other, time.monotonic())
        finally:
            server.shutdown()
    by_zone = Counter((request.ok, request.zone) for request in read_history(first).requests)
    assert set(by_zone) == {(False, ""), (True, ""), (True, "zone-0"), (True, "zone-1")}
    assert all(len(row) == 5 for row in rows(session) if row[2] != "ok")
    last = [record for record in recorded(session)[len(first) :] if record["zones"]]
    assert {tuple(record["zones"]) for record in last} == {("r" * 64,)}


def test_every_customer_has_an_equal_share(serve: Servers, session: Session) -> None:
    """Customers take turns in shuffled rounds."""
    url, zero = serve()
    run_until(session, traffic.observe(session, url=url, rate=200, customers=7), zero + 1.5)
    counts = [sum(row[1] == customer for row in rows(session)) for customer in range(7)]
    assert max(counts) - min(counts) <= 1


def test_a_dead_worker_is_a_problem(serve: Servers, session: Session) -> None:
    """When the worker is killed the evidence says so: what is missing cannot pass."""
    url, _ = serve()
    observer = traffic.observe(session, url=url)
    observer.start()
    process = observer._worker._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.write(b"\n")  # as a stop that comes too late: closing the pipe fails
    os.kill(process.pid, signal.SIGKILL)
    process.wait(timeout=5)
    observer.stop()
    (problem,) = [record for record in recorded(session) if record.kind == "problem"]
    assert problem["source"] == "traffic"
    assert problem["exit_code"] == 3
    assert "code -9" in problem["detail"]


def test_a_server_that_hangs_does_not_hold_up_the_end(serve: Servers, session: Session) -> None:
    """Stopping waits for what is in flight, and no longer than that may take."""
    url, _ = serve(["silent", 0.0, 60.0, 1])
    observer = traffic.observe(session, url=url, timeout_s=0.5)
    observer.start()
    begun = time.monotonic()
    observer.stop()
    assert time.monotonic() - begun < 2.5
    assert {row[2] for row in rows(session)} == {"timeout"}
    assert not [record for record in recorded(session) if record.kind == "problem"]
    observer.stop()


def test_a_refused_connection_is_an_outcome_not_an_error(session: Session) -> None:
    """Nobody listens: every request is refused, and that is evidence."""
    observer = traffic.observe(session, url="http://127.0.0.1:9/", rate=50)
    observer.start()
    observer.stop()
    assert {row[2] for row in rows(session)} == {"refused"}


def test_too_many_connections_for_this_machine_is_a_usage_error(session: Session) -> None:
    """A schedule that could not be kept while everything hangs is refused before it starts."""
    observer = traffic.observe(session, url="http://127.0.0.1:9/", rate=1e6, timeout_s=1e3)
    with pytest.raises(UsageError, match="lower rate or timeout_s"):
        observer.start()
    observer.stop()


def test_probes_give_a_share_and_a_latency(serve: Servers, session: Session) -> None:
    """The Chaos Toolkit probes ask for themselves and return plain numbers."""
    url, _ = serve(["503", 0.0, 60.0, 2])
    activate(session)
    try:
        share = traffic.availability(url=url, duration_s=0.5, rate=100)
        latency = traffic.latency_ms(url=url, duration_s=0.5, rate=100, percentile=50)
    finally:
        activate(None)
    assert share == pytest.approx(0.5, abs=0.021)
    assert 0 < latency < 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "give either balancer or url"),
        ({"url": "http://a/", "balancer": "web"}, "give either balancer or url"),
        ({"url": "ftp://a/"}, "url must be an http:// or https:// address, got 'ftp://a/'"),
        ({"url": "http://a/", "rate": 0}, "rate must be above 0, got 0"),
        ({"url": "http://a/", "retry_base_s": -1}, "retry_base_s must be above 0, got -1"),
        ({"url": "http://a/", "retry_cap_s": 0.01}, "retry_cap_s must be at least base_s"),
        ({"url": "http://a/", "customers": 1.5}, "customers must be a whole number, got 1.5"),
        ({"url": "http://a/", "method": "POST", "attempts": 2}, "attempts must be 1 for POST"),
        ({"url": "http://a/", "timeout_s": "1"}, "timeout_s must be a number, got '1'"),
        (
            {"url": "http://a/", "zone_header": "X-Zone: a"},
            "zone_header must be the name of a header, got 'X-Zone: a'",
        ),
    ],
)
def test_values_that_make_no_sense_are_named(
    session: Session, arguments: dict[str, Any], message: str
) -> None:
    """A wrong value is refused with its name before anything starts."""
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        traffic.observe(session, **arguments)


@mock_aws
def test_a_balancer_is_found_by_name(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    """The address is the balancer's DNS name and its listener's port; no balancer, no traffic."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    ec2 = boto3.client("ec2", region_name="us-east-1")
    subnets = [subnet["SubnetId"] for subnet in ec2.describe_subnets()["Subnets"][:2]]
    elb = boto3.client("elbv2", region_name="us-east-1")
    made = elb.create_load_balancer(Name="web", Subnets=subnets)["LoadBalancers"][0]
    aws = Aws(region="us-east-1")
    there = Session(aws, None, random.Random(1), session.clock, session.evidence)  # type: ignore[arg-type]
    with pytest.raises(TargetNotFound, match="web has no listener"):
        traffic.observe(there, balancer="web")
    group = elb.create_target_group(Name="web", Protocol="HTTP", Port=80, VpcId=made["VpcId"])
    elb.create_listener(
        LoadBalancerArn=made["LoadBalancerArn"],
        Protocol="HTTP",
        Port=8080,
        DefaultActions=[
            {"Type": "forward", "TargetGroupArn": group["TargetGroups"][0]["TargetGroupArn"]}
        ],
    )
    observer = traffic.observe(there, balancer="web", path="/shop")
    assert observer.spec.url == f"http://{made['DNSName']}:8080/shop"
    with pytest.raises(TargetNotFound, match="there is no load balancer api"):
        traffic.observe(there, balancer="api")


def test_outcomes_have_words() -> None:
    """System errors become the words that evidence uses; only what may pass is tried again."""
    assert outcome_of(TimeoutError()) == "timeout"
    assert outcome_of(ConnectionRefusedError(111, "no")) == "refused"
    assert outcome_of(ConnectionResetError(104, "cut")) == "reset"
    assert outcome_of(ValueError()) == "error_ValueError"
    assert [word for word in ("ok", "http_404", "http_429", "http_503", "timeout")
            if is_transient(word)] == ["http_429", "http_503", "timeout"]  # fmt: skip
