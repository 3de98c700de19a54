"""When a target counts as healthy: Elastic Load Balancing's thresholds, result by result."""

import pytest

from chaosgrade.stage.health_checks import (
    FAILED,
    MISMATCH,
    REGISTERING,
    TIMEOUT,
    Health,
    Result,
    after,
    matches,
    phase,
)

_PASS = Result()
_TIMEOUT = Result(TIMEOUT, "Request timed out")
_REFUSED = Result(FAILED, "Health checks failed")
_SERVER_ERROR = Result(MISMATCH, "Health checks failed with these codes: [500]")


def _play(*results: Result, healthy: int = 3, unhealthy: int = 2) -> list[str]:
    """The state after each result, from a new target on."""
    health, states = Health(), []
    for result in results:
        health = after(health, result, healthy=healthy, unhealthy=unhealthy)
        states.append(health.state)
    return states


def test_a_new_target_waits_for_its_first_check() -> None:
    """It says so with the reason that the API gives."""
    assert (Health().state, Health().reason) == ("initial", REGISTERING)


def test_a_new_target_needs_one_pass() -> None:
    """The threshold for healthy counts only for one that was unhealthy."""
    assert _play(_PASS, healthy=10) == ["healthy"]


def test_a_new_target_that_fails_is_unhealthy_after_the_threshold() -> None:
    """Until then it is still initial."""
    assert _play(_REFUSED, _REFUSED, unhealthy=2) == ["initial", "unhealthy"]


def test_a_healthy_target_survives_fewer_failures_than_the_threshold() -> None:
    """One pass in between starts the count again."""
    states = _play(_PASS, _TIMEOUT, _TIMEOUT, _PASS, _TIMEOUT, _TIMEOUT, _TIMEOUT, unhealthy=3)
    assert states == ["healthy"] * 6 + ["unhealthy"]


def test_an_unhealthy_target_recovers_after_consecutive_passes() -> None:
    """One failure in between starts the count again."""
    states = _play(
        _REFUSED, _REFUSED, _PASS, _PASS, _REFUSED, _PASS, _PASS, _PASS, healthy=3, unhealthy=2
    )
    assert states == ["initial"] + ["unhealthy"] * 6 + ["healthy"]


def test_an_unhealthy_target_gives_the_reason_of_its_last_failure() -> None:
    """A machine that refuses first and is silent later is seen to change."""
    health = Health("healthy", None, None)
    reasons = []
    for result in (_REFUSED, _SERVER_ERROR, _TIMEOUT):
        health = after(health, result, healthy=2, unhealthy=1)
        reasons.append((health.reason, health.description))
    assert reasons == [(r.reason, r.description) for r in (_REFUSED, _SERVER_ERROR, _TIMEOUT)]


def test_a_healthy_target_has_no_reason() -> None:
    """As in the API's answer."""
    health = after(Health(), _PASS, healthy=2, unhealthy=2)
    assert (health.reason, health.description, health.streak) == (None, None, 0)


@pytest.mark.parametrize(
    ("status", "matcher", "expected"),
    [
        (200, "200", True),
        (201, "200", False),
        (202, "200,202", True),
        (201, "200,202", False),
        (299, "200-299", True),
        (300, "200-299", False),
        (404, "200-299, 404", True),
    ],
)
def test_a_matcher_names_codes_and_ranges(status: int, matcher: str, expected: bool) -> None:
    """Both may be mixed."""
    assert matches(status, matcher) is expected


def test_checks_of_many_targets_are_spread_over_the_interval() -> None:
    """Evenly enough that no quarter is empty or crowded; each target keeps its place."""
    phases = [phase(f"i-{number:017x}") for number in range(400)]
    assert phases == [phase(f"i-{number:017x}") for number in range(400)]
    assert all(0 < share <= 1 for share in phases)
    quarters = [sum(q / 4 < share <= (q + 1) / 4 for share in phases) for q in range(4)]
    assert min(quarters) > 50
