"""Attributes of load balancers and target groups: values that AWS refuses, and values that the
stage does not play.

Source: Elastic Load Balancing, API Reference, "LoadBalancerAttribute" and "TargetGroupAttribute".
"""

from collections.abc import Mapping

_SWITCH = ("true", "false")
_SECONDS = {
    "client_keep_alive.seconds": ("60-604800", range(60, 604_801)),
    "idle_timeout.timeout_seconds": ("1-4000", range(1, 4001)),
    "deregistration_delay.timeout_seconds": ("0-3600", range(3601)),
    "slow_start.duration_seconds": ("0 or 30-900", (0, *range(30, 901))),
}
_PLAYED = {
    "deregistration_delay.connection_termination.enabled": _SWITCH,
    "load_balancing.cross_zone.enabled": (*_SWITCH, "use_load_balancer_configuration"),
}
_ONLY = {
    "client_keep_alive.seconds": ("3600",),
    "dns_record.client_routing_policy": ("any_availability_zone",),
    "load_balancing.algorithm.anomaly_mitigation": ("off",),
    "load_balancing.algorithm.type": ("round_robin",),
    "proxy_protocol_v2.enabled": ("false",),
    "stickiness.enabled": ("false",),
    "target_group_health.dns_failover.minimum_healthy_targets.count": ("1", "off"),
    "target_group_health.dns_failover.minimum_healthy_targets.percentage": ("off",),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.count": ("1",),
    "target_group_health.unhealthy_state_routing.minimum_healthy_targets.percentage": ("off",),
    "target_health_state.unhealthy.connection_termination.enabled": ("true",),
    "target_health_state.unhealthy.draining_interval_seconds": ("0",),
}
"""What the stage does is what AWS does with these values, its defaults; older pages of the API
Reference call the first count's default "off"."""
_WITHOUT_CONSEQUENCE = frozenset(
    {
        "preserve_client_ip.enabled",
        "stickiness.app_cookie.cookie_name",
        "stickiness.app_cookie.duration_seconds",
        "stickiness.lb_cookie.duration_seconds",
        "stickiness.type",
    }
)
"""As long as there is no stickiness; targets see addresses of the stage in any case."""


def known(key: str) -> bool:
    """Whether a target group has an attribute of that name."""
    return key in {*_SECONDS, *_PLAYED, *_ONLY, *_WITHOUT_CONSEQUENCE}


def check(attributes: Mapping[str, str]) -> None:
    """Accept what AWS would.

    Raises:
        ValueError: AWS has no such value of an attribute.
    """
    for key, value in attributes.items():
        said, allowed = _SECONDS.get(key, ("", ()))
        if said and (not value.isdecimal() or int(value) not in allowed):
            raise ValueError(f"'{key}' value '{value}' must be {said}")
        if value not in _PLAYED.get(key, (value,)):
            raise ValueError(f"'{key}' value '{value}' must be one of {', '.join(_PLAYED[key])}")


def unplayed(attributes: Mapping[str, str]) -> str | None:
    """The first attribute whose value the stage would not put in force, with it; None if it would
    all of them."""
    return next(
        (f"{key} = {v}" for key, v in attributes.items() if v not in _ONLY.get(key, (v,))), None
    )
