"""The server that fails on purpose: its faults, and how it tells clients apart."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

import boto3
import botocore.exceptions
import numpy as np
import pytest
import requests
from botocore.config import Config

from chaosgrade.errors import UsageError
from chaosgrade.probes.arrivals import UNANSWERED, Arrivals, Requests
from chaosgrade.probes.retry_server import Fault, RetryServer, late_at_95
from chaosgrade.probes.senders import Sender, clients_of


async def served(fault: Fault, ask: Callable[[str], object]) -> Arrivals:
    """What arrives while `ask` runs in a thread."""
    server = RetryServer(fault)
    url = await server.start("127.0.0.1", 0)
    await asyncio.to_thread(ask, url)
    return await server.stop()


def sdk(service: str, url: str, attempts: int = 1, **settings: Any) -> Any:
    config = Config(retries={"mode": "standard", "total_max_attempts": attempts}, **settings)
    return boto3.session.Session().client(
        service, endpoint_url=url, region_name="us-east-1", config=config,
        aws_access_key_id="test", aws_secret_access_key="test",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("service", "operation", "parameters", "status", "code"),
    [
        ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "v"}}}, 400,
         "ProvisionedThroughputExceededException"),
        ("sqs", "send_message", {"QueueUrl": "http://q/q", "MessageBody": "x"}, 400,
         "RequestThrottled"),
        ("ec2", "describe_regions", {}, 503, "RequestLimitExceeded"),
        ("s3", "get_object", {"Bucket": "b", "Key": "k"}, 503, "SlowDown"),
        ("sts", "get_caller_identity", {}, 400, "Throttling"),
        ("lambda", "list_functions", {}, 429, "TooManyRequestsException"),
        ("cloudwatch", "list_metrics", {}, 400, "ThrottlingException"),
    ],
)  # fmt: skip
async def test_throttling_is_what_each_service_would_say(
    service: str, operation: str, parameters: dict[str, Any], status: int, code: str
) -> None:
    """An SDK that is pointed at the server finds the service's own error code."""

    def ask(url: str) -> None:
        settings = {"s3": {"addressing_style": "path"}} if service == "s3" else {}
        with pytest.raises(botocore.exceptions.ClientError) as caught:
            getattr(sdk(service, url, **settings), operation)(**parameters)
        assert caught.value.response["Error"]["Code"] == code
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == status

    found = await served(Fault("throttling"), ask)
    assert found.status.tolist() == [status]


async def test_an_sdk_is_content_with_a_success() -> None:
    """After the failures that were asked for, its call returns."""

    def ask(url: str) -> None:
        for service, operation in (("sqs", "list_queues"), ("sts", "get_caller_identity")):
            getattr(sdk(service, url, attempts=2), operation)()

    found = await served(Fault("503", recover_after=1), ask)
    assert sorted(found.status) == [200, 200, 503, 503]


async def test_a_status_comes_with_both_headers_that_ask_to_wait() -> None:
    """Whole seconds for the standard's, milliseconds for that of AWS."""

    def ask(url: str) -> None:
        answer = requests.get(url, timeout=5)
        assert answer.status_code == 429
        assert answer.headers["Retry-After"] == "2"
        assert answer.headers["x-amz-retry-after"] == "1500"

    found = await served(Fault("429", retry_after_s=1.5), ask)
    assert found.retry_after.tolist() == [1.5]


async def test_a_reset_and_a_hang_are_no_answer() -> None:
    """The client sees a reset connection, or nothing until it gives up; both moments are noted."""

    def reset(url: str) -> None:
        with pytest.raises(requests.ConnectionError):
            requests.get(url, timeout=5)

    found = await served(Fault("reset"), reset)
    assert found.status.tolist() == [UNANSWERED]

    def hang(url: str) -> None:
        with pytest.raises(requests.Timeout):
            requests.get(url, timeout=0.3)
        time.sleep(0.2)

    found = await served(Fault("hang"), hang)
    assert found.status.tolist() == [UNANSWERED]
    assert found.ended[0] - found.time[0] == pytest.approx(0.3, abs=0.15)


async def test_an_outage_ends() -> None:
    """Before it everything fails, afterwards everything succeeds."""

    def ask(url: str) -> None:
        while requests.get(url, timeout=5).status_code != 200:
            time.sleep(0.02)

    found = await served(Fault("500", outage_s=0.3), ask)
    assert found.status[-1] == 200
    assert set(found.status[:-1]) == {500}


async def test_clients_are_told_apart_by_what_they_repeat() -> None:
    """A name of their own, an id of the request, else the URL; a body does not disturb."""

    def ask(url: str) -> None:
        with requests.Session() as session:
            for _ in range(2):
                session.get(url, headers={"X-Client": "a"}, timeout=5)
                session.get(f"{url}/?client=b", timeout=5)
                session.post(url, headers={"Idempotency-Key": "1"}, data=b"x" * 10**6, timeout=5)
                session.post(url, headers={"Idempotency-Key": "2"}, data=b"x", timeout=5)
                session.get(f"{url}/orders", timeout=5)

    found = await served(Fault(), ask)
    assert Requests.of(found).sizes.tolist() == [2, 2, 2, 2, 2]
    assert len(np.unique(found.client)) == 4


def test_connections_in_use_alternately_are_several_clients() -> None:
    """And one after the other they are one client, whose retries come from other ports."""
    senders = [Sender("192.0.2.1", port, "GET /") for port in (1, 2, 1, 2)]
    clients, _ = clients_of(senders, np.array([0.0, 1.0, 2.0, 3.0]))
    assert len(set(clients)) == 2
    clients, _ = clients_of(senders, np.array([0.0, 2.0, 1.0, 3.0]))
    assert len(set(clients)) == 1


def test_a_port_that_was_free_again_is_no_connection_that_was_kept() -> None:
    """Each attempt of one client has a connection of its own, two of them by chance one port."""
    senders = [Sender("192.0.2.1", port, "GET /") for port in (1, 2, 3, 1, 4)]
    clients, _ = clients_of(senders, np.arange(5.0))
    assert len(set(clients)) == 1


def test_connections_of_a_pool_say_nothing_of_who_sends() -> None:
    """One that returns to a URL after another is lent: attempts for a URL are one client's."""
    uses = [(1, "/a"), (2, "/b"), (2, "/a"), (1, "/b"), (1, "/a"), (2, "/b")]
    senders = [Sender("192.0.2.1", port, target) for port, target in uses]
    clients, requests = clients_of(senders, np.arange(6.0))
    assert set(clients) == {"192.0.2.1"}
    assert requests == [target for _, target in uses]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"kind": "teapot"}, "'teapot'"),
        ({"kind": "200"}, "'200'"),
        ({"kind": "50²"}, "'50²'"),
        ({"retry_after_s": -1.0}, "-1"),
        ({"recover_after": -1}, "-1"),
        ({"kind": "hang", "retry_after_s": 1.0}, "hang"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(arguments: dict[str, Any], named: str) -> None:
    """In one line that names the value."""
    with pytest.raises(UsageError, match=named):
        Fault(**arguments)


def test_timers_are_late_for_as_long_as_a_stall_lasts() -> None:
    """Ten seconds in which nothing ran count for ten seconds, not for one timer of a thousand."""
    assert late_at_95(np.array([])) == 0.0
    assert late_at_95(np.full(1000, 0.001)) < 0.001
    assert late_at_95(np.append(np.full(1000, 0.001), 10.0)) > 5.0
