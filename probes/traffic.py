"""What customers feel: traffic offered on a schedule that does not wait for answers."""

import math
from collections.abc import Mapping
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.errors import Exit, UsageError
from chaosgrade.evidence import EvidenceLog
from chaosgrade.session import Session, activity
from chaosgrade.traffic import address
from chaosgrade.traffic.address import address_of, name_server_of
from chaosgrade.traffic.spec import TrafficSpec
from chaosgrade.traffic.worker import TrafficFailed, TrafficWorker

__all__ = ["availability", "latency_ms"]

# Experiments end by themselves; this ends the traffic of one that hangs, with no one to tell it.
_AT_MOST_S = 6 * 3600.0

READS: tuple[str, ...] = address.READS
"""IAM actions that finding a balancer's address needs; an address that is given needs none."""


class TrafficObserver:
    """Offers traffic during a run and writes what came back as `traffic` records.

    Args:
        evidence: where records go.
        spec: the traffic.
    """

    def __init__(self, evidence: EvidenceLog, spec: TrafficSpec) -> None:
        self.spec = spec
        self._evidence = evidence
        self._worker = TrafficWorker(spec, self._record, self._problem)

    def start(self) -> None:
        """Begin; returns when the first answers are recorded.

        Raises:
            UsageError: this machine cannot hold as many connections as the traffic may need.
            TrafficFailed: the worker does not work.
        """
        self._worker.start()

    def stop(self) -> None:
        """Send no more; returns when all that was in flight is recorded, in bounded time."""
        self._worker.stop()

    def _record(self, batch: Mapping[str, Any]) -> None:
        self._evidence.append(
            "traffic", start=batch["start"], zones=batch["zones"], requests=batch["requests"]
        )

    def _problem(self, detail: str) -> None:
        self._evidence.append(
            "problem", source="traffic", detail=detail, exit_code=int(Exit.INCONCLUSIVE)
        )


def observe(
    session: Session,
    *,
    balancer: str | None = None,
    url: str | None = None,
    path: str = "/",
    rate: float = 100.0,
    customers: int = 20,
    timeout_s: float = 1.0,
    method: str = "GET",
    attempts: int = 1,
    retry_base_s: float = 0.05,
    retry_cap_s: float = 1.0,
    zone_header: str = "X-Zone",
    customer_header: str = "X-Chaosgrade-Customer",
) -> TrafficObserver:
    """An observer that offers traffic to a load balancer, or to any address.

    Args:
        session: the run.
        balancer: name of an Elastic Load Balancing load balancer; its first listener is asked.
        url: an http or https address instead.
        path: what to ask the balancer for.
        rate: requests per second, whatever the answers do; retries come on top.
        customers: how many customers share the requests.
        timeout_s: how long one attempt may take, in measured seconds.
        method: HTTP method.
        attempts: tries per request with capped exponential backoff and full jitter.
        retry_base_s, retry_cap_s: the backoff's base and cap, in measured seconds.
        zone_header: header of an answer that names the Availability Zone it comes from; without it
            the zone is unknown.
        customer_header: header that tells the system whose request it is, by the customer's number.

    Raises:
        UsageError: not exactly one of `balancer` and `url`, or a value that makes no sense.
        TargetNotFound: there is no such balancer, or it does not listen.
    """
    if session.evidence is None:
        raise ValueError("an observer needs a run with evidence")
    spec = TrafficSpec(
        url=address_of(session.aws, balancer, url, path),
        rate=rate,
        customers=customers,
        timeout_s=timeout_s,
        wall=session.clock.wall,
        monotonic=session.clock.monotonic,
        deadline_s=_AT_MOST_S,
        method=method,
        attempts=attempts,
        retry_base_s=retry_base_s,
        retry_cap_s=retry_cap_s,
        seed=session.random.randrange(2**31),
        name_server=name_server_of(session.aws) if balancer else "",
        zone_header=zone_header,
        customer_header=customer_header,
    )
    return TrafficObserver(session.evidence, spec)


def availability(
    *,
    url: str | None = None,
    balancer: str | None = None,
    path: str = "/",
    duration_s: float = 2.0,
    rate: float = 50.0,
    timeout_s: float = 1.0,
    attempts: int = 1,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> float:
    """Share of requests that succeed (an answer below 400 within the timeout), from 0 to 1.

    Arguments:
        url: an http or https address; or
        balancer: the name of a load balancer.
        path: what to ask the balancer for.
        duration_s: how long to ask, in seconds.
        rate: requests per second.
        timeout_s: how long one attempt may take, in seconds.
        attempts: tries per request.

    Example:
        ```yaml
        type: probe
        name: customers-are-served
        tolerance: {type: range, range: [0.999, 1.0]}
        provider:
          type: python
          module: chaosgrade.probes.traffic
          func: availability
          arguments: {balancer: web, duration_s: 2, rate: 100}
        ```
    """
    with activity(configuration) as session:
        rows = _ask(
            session,
            url=url,
            balancer=balancer,
            path=path,
            duration_s=duration_s,
            rate=rate,
            timeout_s=timeout_s,
            attempts=attempts,
        )
        return sum(1 for row in rows if row[2] == "ok") / len(rows)


def latency_ms(
    *,
    url: str | None = None,
    balancer: str | None = None,
    path: str = "/",
    percentile: float = 99.0,
    duration_s: float = 2.0,
    rate: float = 50.0,
    timeout_s: float = 1.0,
    attempts: int = 1,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> float:
    """A percentile of the latency of successful requests, in ms, from when each was due.

    Arguments:
        url, balancer, path, duration_s, rate, timeout_s, attempts: as of `availability`.
        percentile: above 0, up to 100.

    Example:
        ```yaml
        type: probe
        name: customers-are-served-quickly
        tolerance: {type: range, range: [0, 250]}
        provider:
          type: python
          module: chaosgrade.probes.traffic
          func: latency_ms
          arguments: {url: "https://shop.example/", percentile: 99}
        ```
    """
    with activity(configuration) as session:
        if not 0 < percentile <= 100:
            raise UsageError(f"percentile must be above 0 and up to 100, got {percentile}")
        rows = _ask(
            session,
            url=url,
            balancer=balancer,
            path=path,
            duration_s=duration_s,
            rate=rate,
            timeout_s=timeout_s,
            attempts=attempts,
        )
        latencies = sorted(float(row[3]) for row in rows if row[2] == "ok")
        if not latencies:
            raise TrafficFailed(f"none of {len(rows)} requests succeeded: there is no latency")
        return latencies[math.ceil(percentile / 100 * len(latencies)) - 1]


def _ask(
    session: Session,
    *,
    url: str | None,
    balancer: str | None,
    path: str,
    duration_s: float,
    rate: float,
    timeout_s: float,
    attempts: int,
) -> list[list[Any]]:
    """The rows of a schedule of `duration_s`, never empty."""
    spec = TrafficSpec(
        url=address_of(session.aws, balancer, url, path),
        rate=rate,
        customers=1,
        timeout_s=timeout_s,
        wall=session.clock.wall,
        monotonic=session.clock.monotonic,
        deadline_s=duration_s,
        attempts=attempts,
        name_server=name_server_of(session.aws) if balancer else "",
    )
    return offered(spec)


def offered(spec: TrafficSpec) -> list[list[Any]]:
    """What came back of a whole schedule: [offset_ms, customer, outcome, latency_ms, attempts].

    Raises:
        UsageError: this machine cannot hold as many connections as the traffic may need.
        TrafficFailed: the worker does not work.
    """
    rows: list[list[Any]] = []
    deaths: list[str] = []
    worker = TrafficWorker(spec, lambda batch: rows.extend(batch["requests"]), deaths.append)
    worker.start()
    worker.wait(spec.deadline_s + spec.patience_s + 5.0)
    if deaths or worker.summary is None:
        raise TrafficFailed(deaths[0] if deaths else "the traffic worker did not end in time")
    if not rows:
        raise TrafficFailed("this machine was too busy to send a request when it was due")
    return rows
