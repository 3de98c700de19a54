"""Where customers find a system: the address that its load balancer listens at."""

from collections.abc import Mapping
from typing import Any

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.errors import TargetNotFound, UsageError

READS: tuple[str, ...] = (
    "elasticloadbalancing:DescribeListeners",
    "elasticloadbalancing:DescribeLoadBalancers",
)
"""IAM actions that finding a balancer's address needs; an address that is given needs none."""

_SCHEMES = {"HTTP": "http", "TCP": "http", "HTTPS": "https", "TLS": "https"}


def name_server_of(aws: Aws) -> str:
    """Who knows a balancer's name; "" where the system does."""
    return aws.environment.name_server or ""


def address_of(aws: Aws, balancer: str | None, url: str | None, path: str) -> str:
    """The address to ask: `url` as it is, or that of a balancer's first listener and a path.

    Raises:
        UsageError: not exactly one of `balancer` and `url`, or a path without its slash.
        TargetNotFound: there is no such balancer, or it does not listen.
    """
    if (balancer is None) == (url is None):
        raise UsageError(f"give either balancer or url, got balancer={balancer!r} and url={url!r}")
    if url is not None:
        return url
    if not path.startswith("/"):
        raise UsageError(f"path must start with /, got {path!r}")
    found = balancer_named(aws, str(balancer))
    arn = found["LoadBalancerArn"]
    listeners = [
        listener
        for listener in aws.pages(
            Call("elbv2", "DescribeListeners", {"LoadBalancerArn": arn}), "Listeners"
        )
        if listener.get("Protocol") in _SCHEMES
    ]
    if not listeners:
        raise TargetNotFound(
            f"load balancer {balancer} has no listener for HTTP, HTTPS, TCP or TLS"
        )
    first = min(listeners, key=lambda listener: int(listener["Port"]))
    return f"{_SCHEMES[first['Protocol']]}://{found['DNSName']}:{first['Port']}{path}"


def balancer_named(aws: Aws, name: str) -> Mapping[str, Any]:
    """A load balancer, as Elastic Load Balancing describes it.

    Raises:
        TargetNotFound: there is none of that name.
    """
    missing = TargetNotFound(f"there is no load balancer {name}; check the name and the Region")
    try:
        answer = aws.send(Call("elbv2", "DescribeLoadBalancers", {"Names": [name]}))
    except ResourceGone:
        raise missing from None
    if not answer["LoadBalancers"]:
        raise missing
    found: Mapping[str, Any] = answer["LoadBalancers"][0]
    return found
