"""Real clients against the failing server: each is recognised by when its attempts arrive."""

import json
import logging
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest
import tenacity

from chaosgrade.probes.arrivals import Arrivals
from chaosgrade.probes.backoff import observe
from chaosgrade.retries import INCONCLUSIVE, RetryBehaviour
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
    clients: int = 20


CASES: dict[str, Case] = {
    "botocore standard, transient": Case(
        sdk(*_WHO, mode="standard", total_max_attempts=8),
        "full-jitter",
        {"base_s": 0.05, "factor": 2.0, "attempts": 8, "cap_s": None},
        clients=32,
    ),
    "botocore standard, throttling": Case(
        sdk(*_WHO, mode="standard", total_max_attempts=5),
        "full-jitter",
        {"base_s": 1.0, "factor": 2.0, "attempts": 5},
        "throttling",
        clients=32,
    ),
    "botocore legacy": Case(
        sdk(*_WHO, mode="legacy", total_max_attempts=5),
        "full-jitter",
        {"base_s": 1.0, "factor": 2.0, "attempts": 5},
        clients=32,
    ),
    "botocore legacy, DynamoDB": Case(
        sdk(*_GET_ITEM, mode="legacy", total_max_attempts=8),
        "exponential",
        {"base_s": 0.05, "factor": 2.0, "attempts": 8, "jitter_s": 0.0},
        "throttling",
    ),
    "tenacity, fixed": Case(waiting(tenacity.wait_fixed(0.5)), "fixed", {"base_s": 0.5}),
    "tenacity, incrementing": Case(
        waiting(tenacity.wait_incrementing(0.5, 0.7)), "linear", {"base_s": 0.5, "step_s": 0.7}
    ),
    "tenacity, exponential": Case(
        waiting(tenacity.wait_exponential(0.4, max=2.0), attempts=6),
        "exponential",
        {"base_s": 0.4, "factor": 2.0, "cap_s": 2.0, "attempts": 6},
    ),
    "tenacity, random exponential": Case(
        waiting(tenacity.wait_random_exponential(0.4, max=4.0), attempts=7),
        "full-jitter",
        {"base_s": 0.4, "factor": 2.0, "cap_s": 4.0},
        clients=40,
    ),
    "tenacity, exponential with jitter": Case(
        waiting(tenacity.wait_exponential_jitter(multiplier=0.4, jitter=1.2)),
        "additive-jitter",
        {"base_s": 0.4, "factor": 2.0, "jitter_s": 1.2},
        clients=30,
    ),
    "urllib3": Case(
        with_urllib3(backoff_factor=0.3),
        "exponential",
        {"base_s": 0.3, "factor": 2.0, "first_retry_immediate": True, "attempts": 5},
    ),
    "urllib3 with jitter": Case(
        with_urllib3(backoff_factor=0.3, backoff_jitter=1.0),
        "additive-jitter",
        {"base_s": 0.3, "jitter_s": 1.0, "first_retry_immediate": True},
        clients=30,
    ),
    "stamina": Case(
        with_stamina(wait_initial=0.4, wait_jitter=1.0, wait_max=8.0),
        "additive-jitter",
        {"base_s": 0.4, "factor": 2.0, "jitter_s": 1.0},
        clients=30,
    ),
    "curl": Case(
        with_curl("--retry", "3"),
        "exponential",
        {"base_s": 1.0, "factor": 2.0, "attempts": 4},
        clients=8,
    ),
    "requests": Case(with_requests, "no-retry", {"attempts": 1}, clients=6),
}

_OBSERVATIONS = 3


def seen(cases: Collection[Case]) -> list[Arrivals]:
    """When the attempts of these clients arrive; they wait most of the time, so side by side."""
    with failing([case.fault for case in cases]) as servers:
        let_retry(
            [
                [case.client(url, number) for number in range(case.clients)]
                for case, url in zip(cases, servers.urls, strict=True)
            ]
        )
        time.sleep(2.0)  # part of the observation: nobody comes any more
    return servers.arrivals


@pytest.fixture(scope="module")
def behaviours() -> dict[str, RetryBehaviour]:
    """Of all cases; what a busy machine made inconclusive is observed again, as its reason asks."""
    logging.getLogger("stamina").setLevel(logging.ERROR)
    found: dict[str, RetryBehaviour] = {}
    for _ in range(_OBSERVATIONS):
        left = [name for name in CASES if name not in found or found[name].family == INCONCLUSIVE]
        arrivals = seen([CASES[name] for name in left]) if left else []
        found |= {name: observe(one).behaviour for name, one in zip(left, arrivals, strict=True)}
    return found


@pytest.mark.parametrize("name", CASES)
def test_a_real_client_is_recognised(name: str, behaviours: dict[str, RetryBehaviour]) -> None:
    """Its family, and its parameters within 15%."""
    case, behaviour = CASES[name], behaviours[name]
    assert behaviour.family == case.family, json.dumps(behaviour.to_json())
    assert behaviour.requests == case.clients
    for parameter, value in case.known.items():
        found = getattr(behaviour, parameter)
        if value is None or isinstance(value, bool) or value == 0:
            assert found == value or found == pytest.approx(0.0), (parameter, behaviour)
        else:
            assert found == pytest.approx(value, rel=0.15), (parameter, behaviour)
