"""Actions that a system's own customers could take: requests that do harm."""

from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.changes.model import Change
from chaosgrade.changes.request_burst import RequestBurst
from chaosgrade.errors import UsageError
from chaosgrade.session import activity
from chaosgrade.traffic.address import address_of, balancer_named

__all__ = ["send_requests"]

_FASTEST = 100.0
_LONGEST_S = 3600.0


def send_requests(
    balancer: str,
    path: str,
    customer: int = 0,
    customer_header: str = "X-Chaosgrade-Customer",
    rate: float = 4.0,
    duration_s: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Send requests that do harm to a load balancer, as one customer, for a while.

    Nothing is undone: sending ends with the run, by itself, and with the death of the process.
    What the requests break the system has to mend.

    Arguments:
        balancer: name of an Elastic Load Balancing load balancer; its first listener is asked.
        path: what to ask for, which should do harm.
        customer: the number of the customer.
        customer_header: header that tells the system whose request it is.
        rate: requests per second, above 0, up to 100.
        duration_s: for how long, in AWS time; None for the run's window. At most an hour as
            measured.

    Returns: one object: change, balancer, summary, proven, detail. It is proven when a request was
        not served; one that is turned down (400 to 499) has done no harm.

    Example:
        ```yaml
        type: action
        name: poison
        provider:
          type: python
          module: chaosgrade.actions.requests
          func: send_requests
          arguments: {balancer: web, path: "/quotes?quantity=0", customer_header: X-Customer}
        ```

    Source: Colm MacCárthaigh, "Shuffle Sharding: Massive and Magical Fault Isolation" (2014).
    """
    with activity(configuration) as session:
        if not 0 < rate <= _FASTEST:
            raise UsageError(f"rate must be above 0 and at most {_FASTEST:g}, got {rate}")
        wanted_s = session.window_s if duration_s is None else duration_s
        measured_s = wanted_s / session.aws.environment.time_scale
        if not 0 < measured_s <= _LONGEST_S:
            raise UsageError(
                f"duration_s must be above 0 and at most {_LONGEST_S:g} s as measured, "
                f"got {wanted_s:g}"
            )
        url = address_of(session.aws, balancer, None, path)
        arn = str(balancer_named(session.aws, balancer)["LoadBalancerArn"])
        burst = RequestBurst(arn, url, customer_header, customer, rate, measured_s)
        (done,) = session.executor.apply([Change(burst)])
        return [
            {
                "change": done.id,
                "balancer": balancer,
                "summary": done.change.summary,
                "proven": done.effect.proven,
                "detail": done.effect.detail,
            }
        ]
