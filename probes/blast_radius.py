"""Who suffers with a poisoned customer: the requests of many customers, looked at one by one."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade import evidence as records
from chaosgrade.clock import Clock
from chaosgrade.errors import UsageError
from chaosgrade.history import read_history
from chaosgrade.probes import traffic
from chaosgrade.probes.sharding_assignment import read_assignment
from chaosgrade.probes.suffering import Expectation, Seen, expected_of, expected_of_size, reach
from chaosgrade.session import Session, aws_of, reported
from chaosgrade.stopping import StopRequest
from chaosgrade.traffic.address import address_of, name_server_of
from chaosgrade.traffic.spec import TrafficSpec
from chaosgrade.traffic.worker import TrafficFailed, TrafficWorker

__all__ = ["blast_radius", "recorded_blast_radius"]

READS: tuple[str, ...] = traffic.READS
"""IAM actions that finding a balancer's address needs; an address or a file needs none."""

_FOR_EVER_S = 3600.0  # the poison ends with the traffic that it is sent beside


def blast_radius(
    *,
    url: str | None = None,
    balancer: str | None = None,
    path: str = "/",
    poison_url: str | None = None,
    poison_rate: float = 5.0,
    poisoned: int | Sequence[int] = 0,
    workers: int | None = None,
    shard: int | None = None,
    assignment: str | None = None,
    tries: int = 1,
    distinct: bool = True,
    customers: int = 100,
    rate: float = 200.0,
    timeout_s: float = 1.0,
    before_s: float = 1.0,
    settle_s: float = 0.5,
    duration_s: float = 5.0,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> dict[str, Any]:
    """How many other customers suffer while some are poisoned, and how many are to be expected to.

    Offers traffic, each request with its customer's number in the header `X-Chaosgrade-Customer`.
    Returns {workers, shard, customers, poisoned, suffering, fully_out, requests, suffering_before,
    worst, beyond}:

    - `suffering` (one of their requests failed at least) and `fully_out` (all failed): {customers,
      share, low, high, expected, p_value}, the poisoned left out; the exact 95% interval, what
      sharding and tries let expect, and the chance of at least as many.
    - `requests`: {offered, failed, expected}, the last two as shares.
    - `worst`: up to 20 who suffer: {customer, failed, shares}.
    - `beyond`: those who suffer without sharing enough workers with the poisoned, null where no
      assignment says who shares what. Anybody here is connected to the poisoned by something else.

    Arguments:
        url, balancer, path: what every customer asks for, see `traffic.availability`.
        poison_url: what customer 0 asks for besides, which poisons; None: somebody else does that.
        poison_rate: how often, per second.
        poisoned: numbers of the customers who are.
        workers, shard: n and k of the sharding; or
        assignment: a file that says whose workers are whose, see `shuffle_sharding`; its customers
            are the numbers.
        tries: how often a request is tried within the shard, by whoever tries it.
        distinct: whether each try goes to another worker of the shard; else any may be repeated.
        customers, rate, timeout_s: as of the traffic observer.
        before_s: seconds of traffic before the poison; 0 for none.
        settle_s: seconds to wait from its beginning.
        duration_s: seconds of traffic then.

    Example:
        ```yaml
        type: probe
        name: a-poisoned-customer-takes-nobody-along
        tolerance: {type: jsonpath, path: $.fully_out.customers, expect: [0]}
        provider:
          type: python
          module: chaosgrade.probes.blast_radius
          func: blast_radius
          arguments: {url: "http://shop.internal/", poison_url: "http://shop.internal/poison",
                      workers: 8, shard: 2, tries: 2}
        ```

    Source: Colm MacCárthaigh, "Shuffle Sharding: Massive and Magical Fault Isolation" (2014).
    """
    with reported() as session:
        names = _names(poisoned)
        expected = _expectation(names, workers, shard, assignment, tries, distinct)
        if poison_url is not None and names != {"0"}:
            raise UsageError(f"poison_url poisons customer 0 alone, got poisoned={poisoned!r}")
        clock = Clock() if session is None else session.clock
        stop = StopRequest() if session is None else session.stop
        name_server = ""
        if url is None or balancer is not None:
            aws = aws_of(configuration) if session is None else session.aws
            url = address_of(aws, balancer, url, path)
            name_server = name_server_of(aws)

        def spec(url: str, rate: float, customers: int, deadline_s: float) -> TrafficSpec:
            return TrafficSpec(
                url=url,
                rate=rate,
                customers=customers,
                timeout_s=timeout_s,
                wall=clock.wall,
                monotonic=clock.monotonic,
                deadline_s=deadline_s,
                name_server=name_server,
            )

        earlier = spec(url, rate, customers, before_s) if before_s else None
        later = spec(url, rate, customers, duration_s)
        # One customer has number 0.
        poison = spec(poison_url, poison_rate, 1, _FOR_EVER_S) if poison_url else None
        before = _seen(traffic.offered(earlier)) if earlier else []
        with _sent(poison):
            stop.wait(settle_s)
            seen = _seen(traffic.offered(later))
        return reach(seen, before, names, expected)


def recorded_blast_radius(
    *,
    evidence: str | None = None,
    poisoned: int | Sequence[int] = 0,
    workers: int | None = None,
    shard: int | None = None,
    assignment: str | None = None,
    tries: int = 1,
    distinct: bool = True,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> dict[str, Any]:
    """The same of a graded run's own traffic, from its fault on to the end of the window.

    Arguments:
        evidence: an `evidence.jsonl`; None: that of the run this is part of, as far as it is.
        poisoned, workers, shard, assignment, tries, distinct: as of `blast_radius`, which also says
            what comes back.

    Example:
        ```yaml
        type: probe
        name: how-far-the-poison-reached
        provider:
          type: python
          module: chaosgrade.probes.blast_radius
          func: recorded_blast_radius
          arguments: {poisoned: 0, workers: 8, shard: 2, tries: 2}
        ```
    """
    with reported() as session:
        names = _names(poisoned)
        expected = _expectation(names, workers, shard, assignment, tries, distinct)
        history = read_history(records.read(_evidence(session, evidence)))
        if history.fault_at is None:
            raise TrafficFailed("the evidence holds no fault: nobody was poisoned in it")
        seen = [(str(request.customer), request.ok) for request in history.observed()]
        before = [(str(request.customer), request.ok) for request in history.baseline()]
        return reach(seen, before, names, expected)


def _names(poisoned: int | Sequence[int]) -> frozenset[str]:
    numbers = [poisoned] if isinstance(poisoned, int) else poisoned
    if not numbers or not all(isinstance(number, int) and number >= 0 for number in numbers):
        raise UsageError(f"poisoned must be numbers of customers, from 0, got {poisoned!r}")
    return frozenset(map(str, numbers))


def _expectation(
    poisoned: frozenset[str],
    workers: int | None,
    shard: int | None,
    assignment: str | None,
    tries: int,
    distinct: bool,
) -> Expectation:
    if tries < 1:
        raise UsageError(f"tries must be at least 1, got {tries}")
    if assignment is not None:
        known = read_assignment(None, file=assignment, workers=workers)
        return expected_of(known, poisoned, tries, distinct=distinct)
    if workers is None or shard is None:
        raise UsageError(
            f"give workers and shard, or an assignment, got workers={workers}, shard={shard}"
        )
    return expected_of_size(workers, shard, len(poisoned), tries, distinct=distinct)


def _evidence(session: Session | None, evidence: str | None) -> Path:
    if evidence is not None:
        path = Path(evidence)
        if not path.is_file():
            raise UsageError(f"there is no evidence {evidence}; name a run's evidence.jsonl")
        return path
    if session is None or session.evidence is None:
        raise UsageError("evidence must be named outside of a graded run")
    return session.evidence.path


def _seen(rows: Sequence[Sequence[Any]]) -> list[Seen]:
    return [(str(row[1]), row[2] == "ok") for row in rows]


@contextmanager
def _sent(poison: TrafficSpec | None) -> Iterator[None]:
    """Send poison as long as the block lasts; what it is answered with does not matter."""
    if poison is None:
        yield
        return
    worker = TrafficWorker(poison, lambda _: None, lambda _: None)
    try:
        worker.start()
        yield
    finally:
        worker.stop()
