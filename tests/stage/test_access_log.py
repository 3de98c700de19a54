"""Access logs of load balancers: what is in them, and when they are published."""

import base64
import gzip
import re
import socket
import threading
from collections.abc import Iterator

import pytest

from chaosgrade.probes.access_log import Attempt, parsed
from chaosgrade.stage.access_log import LEFT, AccessLog, Exchange, file_name, traced
from tests.stage.children import (
    BALANCER,
    Child,
    ScriptedTarget,
    child,
    configure,
    free_address,
    get,
    target_group,
)

ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/shop/50dc6c495c0c9188"
GROUP = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/shop/73e2d6bc24d8a067"
REQUEST = b'GET /a?b="c" HTTP/1.1\r\nHost: shop:8080\r\nUser-Agent: curl/8\r\n\r\n'
MANY_TIMES = 3000.0
"""As fast as AWS: five minutes are a tenth of a second."""


def test_a_request_without_a_trace_gets_one() -> None:
    """In a header of its own; the rest stays as it is."""
    sent, trace = traced(REQUEST, 0x58337262)
    assert re.fullmatch(r"Root=1-58337262-[0-9a-f]{24}", trace)
    assert sent.count(b"\r\nX-Amzn-Trace-Id: " + trace.encode()) == 1
    assert sent.replace(b"\r\nX-Amzn-Trace-Id: " + trace.encode(), b"") == REQUEST


@pytest.mark.parametrize(
    "given", ["Root=1-67891233-ab;Sampled=1", "Self=1-0-00;Root=1-67891233-ab;Sampled=1"]
)
def test_who_sends_a_root_keeps_it(given: str) -> None:
    """The load balancer adds itself, in place of the one before it."""
    request = REQUEST.replace(b"\r\n\r\n", f"\r\nx-amzn-trace-id: {given}\r\n\r\n".encode())
    sent, trace = traced(request, 1.0)
    assert re.fullmatch(r"Self=1-1-[0-9a-f]{24};Root=1-67891233-ab;Sampled=1", trace)
    assert sent.lower().count(b"x-amzn-trace-id") == 1


def test_an_entry_says_what_has_become_of_a_request() -> None:
    """As AWS documents the fields; whoever reads such logs understands it."""
    log = AccessLog(ARN, "10.1.2.3")
    log.bucket = "logs"
    sent, trace = traced(REQUEST, 5.0)
    answered = Exchange(
        sent, trace, "10.9.9.9:4711", 1_790_000_000.25,
        "10.1.2.9:8080", 0.001, 0.02, 200, 200, 128,
    )  # fmt: skip
    log.add(answered, GROUP, 1_790_000_000.3)
    log.add(
        Exchange(sent, trace, "10.9.9.9:4712", 1_790_000_001.0, status=503), GROUP, 1.79e9 + 1.5
    )
    file = log.take(1_790_000_002.0)
    assert file is not None
    first, second = gzip.decompress(file[1]).decode().splitlines()
    assert first.startswith(
        "http 2026-09-21T14:13:20.300000Z app/shop/50dc6c495c0c9188 10.9.9.9:4711 10.1.2.9:8080 "
        f'0.001 0.020 0.029 200 200 {len(sent)} 128 "GET http://shop:8080/a?b=\\"c\\" HTTP/1.1" '
        f'"curl/8" - - {GROUP} "{trace}" "-" "-" 0 2026-09-21T14:13:20.250000Z "forward" "-" "-" '
        '"10.1.2.9:8080" "200" "-" "-" TID_'
    )
    root = trace.removeprefix("Root=")
    assert parsed(first) == Attempt(root, "10.9.9.9", 1_790_000_000.25, 1_790_000_000.3, 200)
    assert " - -1 -1 -1 503 - " in second
    assert parsed(second) == Attempt(root, "10.9.9.9", 1_790_000_001.0, 1_790_000_001.5, 503)
    assert log.take(1_790_000_003.0) is None


def test_a_file_is_where_aws_puts_it() -> None:
    """By prefix, account, Region and day, named after load balancer, end and node."""
    key = file_name(ARN, "shop", "10.1.2.3", 1_790_000_000.0)
    assert re.fullmatch(
        "shop/AWSLogs/123456789012/elasticloadbalancing/us-east-1/2026/09/21/"
        "123456789012_elasticloadbalancing_us-east-1_app.shop.50dc6c495c0c9188_20260921T1413Z_"
        r"10\.1\.2\.3_[0-9a-f]{8}\.log\.gz",
        key,
    )


def test_lines_that_are_no_entries_are_none() -> None:
    for line in ("", "nonsense", "http now app/a/b 1.1.1.1:1 - " + "- " * 30):
        assert parsed(line) is None


_CHECK = {"interval_s": 300.0, "timeout_s": 900.0}


@pytest.fixture
def balancer() -> Iterator[Child]:
    with child(BALANCER) as started:
        yield started


def _logged(balancer: Child, wanted: int) -> list[Attempt | None]:
    lines: list[str] = []
    while len(lines) < wanted:
        event = balancer.wait_for("access_log", bucket="logs")
        assert event["key"].startswith("AWSLogs/")
        lines += gzip.decompress(base64.b64decode(event["content"])).decode().splitlines()
    return [parsed(line) for line in lines]


def test_a_node_logs_each_request_and_publishes_in_time(balancer: Child) -> None:
    """One that is served, one whose client leaves, and one for which there is no target."""
    reached, released = threading.Event(), threading.Event()

    def behave(connection: socket.socket, request: bytes) -> bool:
        assert b"\r\nX-Amzn-Trace-Id: Root=1-" in request
        if not request.startswith(b"GET /hang"):
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            return True
        reached.set()
        released.wait(30)
        return False

    target, address = ScriptedTarget(behave), free_address()
    try:
        logs = {"bucket": "logs", "prefix": ""}
        group = target_group({"i-1": target.address}, check=_CHECK, deregistration_delay_s=900)
        configure(balancer, address, group, time_scale=MANY_TIMES, arn=ARN, access_logs=logs)
        balancer.wait_for("health", state="healthy")
        assert get(address).startswith(b"HTTP/1.1 200")
        assert [one and one.status for one in _logged(balancer, 1)] == [200]
        with socket.create_connection(address) as impatient:
            impatient.sendall(b"GET /hang HTTP/1.1\r\nHost: shop\r\n\r\n")
            reached.wait(5)
        assert [one and one.status for one in _logged(balancer, 1)] == [LEFT]
        group = {**group, "targets": []}
        configure(balancer, address, group, time_scale=MANY_TIMES, arn=ARN, access_logs=logs)
        balancer.wait_for("drained")
        assert get(address).startswith(b"HTTP/1.1 503")
        assert [one and one.status for one in _logged(balancer, 1)] == [503]
    finally:
        released.set()
        target.close()
