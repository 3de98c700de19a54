"""Real clients against the failing server: each is recognised by when its attempts arrive."""

import logging
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import pytest
import tenacity

from chaosgrade.probes.backoff import observe
from chaosgrade.retries import RetryBehaviour
from tests.retry_clients import (
    Client,
    let_retry,
    sdk,
    waiting,
    with_curl,
    with_requests,
    with_stamina,
    with_urllib3,
)
from tests.retry_servers import failing

_WHO = ("sts", "get_caller_identity", {})
_GET_ITEM = ("dynamodb", "get_item", {"TableName": "t", "Key": {"k": {"S": "v"}}})


@dataclass(frozen=True)
class Case:
    """A client and what it is known to do, from its source or its arguments."""

    client: Client
    family: str
    known: Mapping[str, float | bool | None] = field(default_factory=dict)
    fault: str = "503"
    clients: int = 15


CASES: dict[str, Case] = {
    "botocore standard, transient": Case(
        sdk(*_WHO, mode="standard", total_max_attempts=5),
        "full-jitter",
        {"base_s": 0.05, "factor": 2.0, "attempts": 5, "cap_s": None},
        clients=30,
    ),
    "botocore standard, throttling": Case(
        sdk(*_WHO, mode="standard"),
        "full-jitter",
        {"base_s": 1.0, "factor": 2.0, "attempts": 3},
        "throttling",
        clients=30,
    ),
    "botocore legacy": Case(
        sdk(*_WHO, mode="legacy", total_max_attempts=4),
        "full-jitter",
        {"base_s": 1.0, "factor": 2.0, "attempts": 4},
        clients=30,
    ),
    "botocore legacy, DynamoDB": Case(
        sdk(*_GET_ITEM, mode="legacy", total_max_attempts=6),
        "exponential",
        {"base_s": 0.05, "factor": 2.0, "attempts": 6, "jitter_s": 0.0},
        "throttling",
    ),
    "tenacity, fixed": Case(waiting(tenacity.wait_fixed(0.2)), "fixed", {"base_s": 0.2}),
    "tenacity, incrementing": Case(
        waiting(tenacity.wait_incrementing(0.2, 0.3)), "linear", {"base_s": 0.2, "step_s": 0.3}
    ),
    "tenacity, exponential": Case(
        waiting(tenacity.wait_exponential(0.2, max=1.0), attempts=6),
        "exponential",
        {"base_s": 0.2, "factor": 2.0, "cap_s": 1.0, "attempts": 6},
    ),
    "tenacity, random exponential": Case(
        waiting(tenacity.wait_random_exponential(0.3, max=1.0), attempts=6),
        "full-jitter",
        {"base_s": 0.3, "factor": 2.0, "cap_s": 1.0},
        clients=30,
    ),
    "tenacity, exponential with jitter": Case(
        waiting(tenacity.wait_exponential_jitter(multiplier=0.2, jitter=0.5)),
        "additive-jitter",
        {"base_s": 0.2, "factor": 2.0, "jitter_s": 0.5},
        clients=30,
    ),
    "urllib3": Case(
        with_urllib3(backoff_factor=0.15),
        "exponential",
        {"base_s": 0.15, "factor": 2.0, "first_retry_immediate": True, "attempts": 5},
    ),
    "urllib3 with jitter": Case(
        with_urllib3(backoff_factor=0.15, backoff_jitter=0.5),
        "additive-jitter",
        {"base_s": 0.15, "jitter_s": 0.5, "first_retry_immediate": True},
        clients=30,
    ),
    "stamina": Case(
        with_stamina(wait_initial=0.2, wait_jitter=0.4, wait_max=5.0),
        "additive-jitter",
        {"base_s": 0.2, "factor": 2.0, "jitter_s": 0.4},
        clients=30,
    ),
    "curl": Case(
        with_curl("--retry", "3"),
        "exponential",
        {"base_s": 1.0, "factor": 2.0, "attempts": 4},
        clients=6,
    ),
    "requests": Case(with_requests, "no-retry", {"attempts": 1}, clients=6),
}


def behaviours_of(cases: Mapping[str, Case]) -> dict[str, RetryBehaviour]:
    """What these clients do; they wait most of the time, so they run side by side."""
    with failing([case.fault for case in cases.values()]) as servers:
        with ThreadPoolExecutor(len(cases)) as pool:
            for case, url in zip(cases.values(), servers.urls, strict=True):
                pool.submit(let_retry, case.client, url, case.clients)
        time.sleep(2.0)  # part of the observation: nobody comes any more
    seen = zip(cases, servers.arrivals, strict=True)
    return {name: observe(arrivals).behaviour for name, arrivals in seen}


@pytest.fixture(scope="module")
def behaviours() -> dict[str, RetryBehaviour]:
    """Of all cases."""
    logging.getLogger("stamina").setLevel(logging.ERROR)
    return behaviours_of(CASES)


@pytest.mark.parametrize("name", CASES)
def test_a_real_client_is_recognised(name: str, behaviours: dict[str, RetryBehaviour]) -> None:
    """Its family, and its parameters within 15%."""
    case, behaviour = CASES[name], behaviours[name]
    assert behaviour.family == case.family, behaviour
    assert behaviour.clients == case.clients or name.startswith("botocore")
    assert behaviour.requests == case.clients
    for parameter, value in case.known.items():
        found = getattr(behaviour, parameter)
        if value is None or isinstance(value, bool) or value == 0:
            assert found == value or found == pytest.approx(0.0), (parameter, behaviour)
        else:
            assert found == pytest.approx(value, rel=0.15), (parameter, behaviour)
