"""When a target counts as healthy: Elastic Load Balancing's rules, without clock or network.

Source: Elastic Load Balancing, User Guide for Application Load Balancers, "Health checks for your
target groups" and "Target health status".
"""

import zlib
from dataclasses import dataclass, replace

# As DescribeTargetHealth names them (Elastic Load Balancing API Reference, "TargetHealth").
INITIAL, HEALTHY, UNHEALTHY = "initial", "healthy", "unhealthy"
REGISTERING = "Elb.InitialHealthChecking"
TIMEOUT = "Target.Timeout"
FAILED = "Target.FailedHealthChecks"
MISMATCH = "Target.ResponseCodeMismatch"


@dataclass(frozen=True, slots=True)
class Result:
    """What one check found: `reason` is None when it passed."""

    reason: str | None = None
    description: str | None = None

    @property
    def passed(self) -> bool:
        """Whether the target answered as it should."""
        return self.reason is None


@dataclass(frozen=True, slots=True)
class Health:
    """Where a target stands.

    Args:
        state: "initial", "healthy" or "unhealthy".
        reason, description: as DescribeTargetHealth gives them; None when healthy.
        streak: consecutive checks that speak against `state`.
    """

    state: str = INITIAL
    reason: str | None = REGISTERING
    description: str | None = "Initial health checks in progress"
    streak: int = 0


def after(health: Health, result: Result, *, healthy: int, unhealthy: int) -> Health:
    """The health after one more check.

    A new target needs one passing check, whatever the threshold; every later change of state needs
    its threshold of consecutive results.

    Args:
        healthy, unhealthy: the thresholds, in checks.
    """
    if result.passed:
        if health.state == UNHEALTHY and health.streak + 1 < healthy:
            return replace(health, streak=health.streak + 1)
        return Health(HEALTHY, None, None)
    if health.state != UNHEALTHY and health.streak + 1 < unhealthy:
        return replace(health, streak=health.streak + 1)
    return Health(UNHEALTHY, result.reason, result.description)


def phase(target: str) -> float:
    """When in the interval a target is checked, as a share of it: above 0, at most 1.

    The same for the same target in every run, and different for most others.
    """
    return (zlib.crc32(target.encode()) + 1) / 2**32


def matches(status: int, matcher: str) -> bool:
    """Whether an HTTP status is in a matcher such as "200", "200,202" or "200-299"."""
    for part in matcher.split(","):
        low, _, high = part.strip().partition("-")
        if int(low) <= status <= int(high or low):
            return True
    return False
