"""Requests that do harm: counted, proven, and gone with whoever sent them."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.changes import census
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Change
from chaosgrade.changes.request_burst import RequestBurst
from chaosgrade.clock import Clock
from chaosgrade.errors import Refused
from chaosgrade.policies.safety import load_safety
from tests.canned_aws import CannedAws
from tests.fake_aws import STAGE, guard
from tests.stage.conftest import eventually

ARN = "arn:aws:elasticloadbalancing:us-east-1:1:loadbalancer/app/web/1"


class Server:
    """A server that notes who asks, and answers with a status."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.asked: list[str] = []
        self.url = ""


@contextmanager
def serving(status: int) -> Iterator[Server]:
    told = Server(status)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            told.asked.append(self.headers["X-Customer"])
            self.send_response(told.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    told.url = f"http://127.0.0.1:{server.server_port}/poison"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield told
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    aws: Any = CannedAws()
    with_journal = Journal(tmp_path / "journal.sqlite3")
    with_journal.open_run("r1", experiment="e", environment=STAGE, endpoint=None, started=1.0)
    yield Engine(aws, guard(aws, with_journal), with_journal, "r1", Clock(), lease_s=60.0)
    with_journal.close()


def burst(url: str, duration_s: float = 30.0) -> RequestBurst:
    return RequestBurst(ARN, url, "X-Customer", 7, 50.0, duration_s)


def test_harm_is_proven_by_requests_that_are_not_served_and_ends_with_the_undo(
    engine: Engine,
) -> None:
    """As the customer that was named; afterwards nobody asks any more."""
    with serving(503) as server:
        (done,) = engine.apply([Change(burst(server.url))])
        assert done.effect.proven
        assert set(server.asked) == {"7"}
        assert engine.undo() == []
        asked = len(server.asked)
        assert not burst(server.url).effect(CannedAws()).proven  # type: ignore[arg-type]
        assert len(server.asked) == asked


def test_a_request_that_is_turned_down_has_done_no_harm(engine: Engine) -> None:
    """The service knows such requests: nothing was broken, and nothing is proven."""
    with serving(400) as server:
        (done,) = engine.apply([Change(burst(server.url))])
        assert not done.effect.proven
        assert "0 of" in done.effect.detail
        engine.undo()


def test_it_ends_by_itself(engine: Engine) -> None:
    with serving(503) as server:
        engine.apply([Change(burst(server.url, duration_s=0.2))])
        asked = eventually(lambda: len(server.asked) >= 10 and len(server.asked))
        assert engine.undo() == []
        assert len(server.asked) == asked == 10


def test_it_ends_with_whoever_is_killed(tmp_path: Path) -> None:
    """Whatever the run dies of: the worker has no parent left to listen to."""
    program = """
import sys, time
from chaosgrade.changes.request_burst import RequestBurst
from chaosgrade.clock import Clock
from tests.canned_aws import CannedAws
RequestBurst(sys.argv[1], sys.argv[2], "X-Customer", 7, 50.0, 60.0).begin(CannedAws(), Clock())
print("begun", flush=True)
time.sleep(60)
"""
    with serving(503) as server:
        run = subprocess.Popen(
            [sys.executable, "-c", program, ARN, server.url], stdout=subprocess.PIPE, text=True
        )
        assert run.stdout is not None
        assert run.stdout.readline() == "begun\n"
        children = Path(f"/proc/{run.pid}/task").glob("*/children")
        workers = [int(pid) for file in children for pid in file.read_text().split()]
        assert workers
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        run.stdout.close()
        eventually(lambda: not any(Path(f"/proc/{pid}/exe").exists() for pid in workers))


def test_on_aws_a_load_balancer_must_carry_the_tag(tmp_path: Path) -> None:
    """Without it nothing is sent: whose customers are harmed has to have agreed."""
    aws: Any = CannedAws(
        {
            "DescribeLoadBalancers": {"LoadBalancers": [{"LoadBalancerArn": ARN}]},
            "DescribeTags": {"TagDescriptions": [{"ResourceArn": ARN, "Tags": []}]},
        }
    )
    rules = load_safety()["aws"]
    assert rules.opt_in is not None
    assert census.population(aws, "elbv2:load-balancer", [ARN], rules.opt_in) == {}
    assert census.population(aws, "elbv2:load-balancer", [ARN], None) == {ARN: None}
    with pytest.raises(Refused, match="does not carry the opt-in tag"):
        guard(aws, opt_in=rules.opt_in, limits=rules.limits).check([Change(burst("http://x/"))])
