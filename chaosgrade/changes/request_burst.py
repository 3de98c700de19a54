"""Requests that do harm, sent for a while as one customer.

There is nothing to undo but to stop: the requests come from a process of this machine that ends by
itself after a while, with the run that it belongs to, and with the death of whoever started it.
"""

import shlex
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from chaosgrade.aws import Aws, Call
from chaosgrade.changes.model import Effect, Resource
from chaosgrade.clock import Clock
from chaosgrade.traffic.address import name_server_of

if TYPE_CHECKING:
    from chaosgrade.traffic.worker import TrafficWorker

_TIMEOUT_S = 2.0


@dataclass(frozen=True, slots=True)
class RequestBurst:
    """A Strike that goes on for a while: one customer's requests to a load balancer.

    Args:
        balancer_arn: whose customers are harmed.
        url: what is asked for.
        header: of each request, that says whose it is.
        customer: the number of the customer.
        rate: requests per second.
        duration_s: how long, in measured seconds.
    """

    balancer_arn: str
    url: str
    header: str
    customer: int
    rate: float
    duration_s: float

    kind: ClassVar[str] = "http:request-burst"
    reads: ClassVar[tuple[str, ...]] = ()
    writes: ClassVar[tuple[str, ...]] = ()

    @property
    def resource(self) -> Resource:
        return Resource("elbv2:load-balancer", self.balancer_arn)

    def calls(self) -> tuple[Call, ...]:
        """None of AWS: see `begin`."""
        return ()

    def begin(self, aws: Aws, clock: Clock) -> None:
        """Start the process; returns when the first requests have been answered.

        Raises:
            TrafficFailed: it does not work.
        """
        # Late: whoever only reads the journal need not import an HTTP client.
        from chaosgrade.traffic.spec import TrafficSpec
        from chaosgrade.traffic.worker import TrafficWorker

        spec = TrafficSpec(
            url=self.url,
            rate=self.rate,
            customers=1,
            timeout_s=_TIMEOUT_S,
            wall=clock.wall,
            monotonic=clock.monotonic,
            deadline_s=self.duration_s,
            first_customer=self.customer,
            name_server=name_server_of(aws),
            customer_header=self.header,
        )
        sending = _Sending()
        sending.worker = TrafficWorker(spec, sending.take, sending.die)
        with _LOCK:
            _SENDING[self] = sending
        sending.worker.start()

    def end(self) -> str:
        """Stop it; why it had stopped before its time, "" if it had not."""
        with _LOCK:
            sending = _SENDING.pop(self, None)
        if sending is None or sending.worker is None:
            return ""
        sending.worker.stop()
        return sending.death

    def by_hand(self) -> str:
        """A loop of curl, for as long and, but for the answers' time, as often."""
        one = ["curl", "--silent", "--output", "/dev/null", "--max-time", f"{_TIMEOUT_S:g}"]
        one += ["--header", f"{self.header}: {self.customer}", self.url]
        times = max(1, round(self.rate * self.duration_s))
        return f"for i in $(seq {times}); do {shlex.join(one)}; sleep {1 / self.rate:g}; done"

    def effect(self, aws: Aws) -> Effect:
        """Whether a request has done harm: it was not served, and not turned down either."""
        with _LOCK:
            sending = _SENDING.get(self)
        if sending is None:
            return Effect(False, "nobody sends these requests any more")
        harmed, answered = sending.harmed, sending.answered
        detail = f"{harmed} of {answered} requests as customer {self.customer} were not served"
        return Effect(harmed > 0, detail)

    def summary(self) -> str:
        return (
            f"send {self.rate:g} requests a second for {self.duration_s:g} s to {self.url} as "
            f"{self.header}: {self.customer}"
        )


@dataclass(slots=True)
class _Sending:
    """What is known of a burst under way; written by its worker's thread alone."""

    worker: "TrafficWorker | None" = None
    answered: int = 0
    harmed: int = 0
    death: str = ""

    def take(self, batch: Mapping[str, Any]) -> None:
        """Count what has come back."""
        from chaosgrade.traffic.client import is_transient

        for row in batch["requests"]:
            self.answered += 1
            self.harmed += is_transient(row[2])

    def die(self, detail: str) -> None:
        """It has ended before its time."""
        self.death = detail


_LOCK = threading.Lock()
_SENDING: dict[RequestBurst, _Sending] = {}
"""The bursts of this process that are under way."""
