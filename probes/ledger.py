"""The ledger: writes orders with ids of its own, and in the end compares what is there.

What was acknowledged must be there, once. What was sent and got no answer may be there or not; how
much that is, is counted apart.
"""

import time
import uuid
from collections import deque
from collections.abc import Mapping
from typing import Any

from chaosgrade.errors import Exit
from chaosgrade.figures import STRETCH_AT_LEAST_S, STRETCH_S
from chaosgrade.probes.ledger_spec import LedgerSpec
from chaosgrade.probes.traffic import READS as TRAFFIC_READS
from chaosgrade.session import Session
from chaosgrade.traffic.address import address_of, name_server_of
from chaosgrade.traffic.worker import TrafficWorker

READS: tuple[str, ...] = TRAFFIC_READS
"""IAM actions that finding a balancer's address needs."""

# Experiments end by themselves; this ends the writes of one that hangs, with no one to tell it.
_AT_MOST_S = 6 * 3600.0
_LOOK_S = 0.1
_ANSWERED_WITHIN_S = 1.0
"""Writes that are younger than this may be unanswered without having failed."""

_BODY = {"id": "{id}", "customer": "{customer}", "product": "1"}
_LISTING = "/orders?prefix={prefix}&after={after}&limit={limit}"


class LedgerObserver:
    """Keeps a ledger during a run: `ledger` records as orders are answered, and one at the end of
    what is there, `ledger.found` or `ledger.unread`.

    Args:
        session: the run.
        spec: the ledger.
        afterwards_s: how long writes go on after the undo until they work again, in measured
            seconds.
    """

    def __init__(self, session: Session, spec: LedgerSpec, afterwards_s: float) -> None:
        if session.evidence is None:
            raise ValueError("an observer needs a run with evidence")
        self.spec = spec
        self._evidence = session.evidence
        self._stop_request = session.stop
        self._now = session.clock.now
        self._afterwards_s = afterwards_s
        scale = session.aws.environment.time_scale
        self._stretch_s = max(STRETCH_AT_LEAST_S, STRETCH_S / scale) + _ANSWERED_WITHIN_S
        self._answers: deque[tuple[float, bool]] = deque(maxlen=round(spec.rate * 60))
        """When each of the last orders was due, in Unix seconds, and whether it worked."""
        self._worker = TrafficWorker(
            spec, self._record, self._problem, "chaosgrade.probes.ledger_client"
        )

    def start(self) -> None:
        """Begin; returns when the first answers are recorded.

        Raises:
            UsageError: this machine cannot hold as many connections as the orders may need.
            TrafficFailed: the worker does not work.
        """
        self._worker.start()

    def stop(self) -> None:
        """Write on until that works again, then read back; in bounded time."""
        deadline = time.monotonic() + self._afterwards_s
        while time.monotonic() < deadline and not self._stop_request.requested:
            if self._works():
                break
            time.sleep(_LOOK_S)
        self._worker.stop()

    def _works(self) -> bool:
        """Whether for a while now every order was acknowledged."""
        since = self._now() - self._stretch_s
        recent = [worked for due, worked in list(self._answers) if due >= since]
        return all(recent) and len(recent) >= self.spec.rate * (
            self._stretch_s - _ANSWERED_WITHIN_S
        )

    def _record(self, line: Mapping[str, Any]) -> None:
        if "orders" in line:
            self._evidence.append("ledger", start=line["start"], orders=line["orders"])
            self._answers.extend(
                (line["start"] + row[1] / 1e3, row[2] == "ok") for row in line["orders"]
            )
        elif "found" in line:
            self._evidence.append("ledger.found", orders=line["found"])
        else:
            self._evidence.append("ledger.unread", reason=line["unread"])

    def _problem(self, detail: str) -> None:
        self._evidence.append(
            "problem", source="ledger", detail=detail, exit_code=int(Exit.INCONCLUSIVE)
        )


def observe(
    session: Session,
    *,
    balancer: str | None = None,
    url: str | None = None,
    path: str = "/orders",
    method: str = "POST",
    body: Mapping[str, Any] = _BODY,
    listing: str = _LISTING,
    items: str = "orders",
    id_field: str = "id",
    next_field: str = "next",
    limit: int = 1000,
    rate: float = 50.0,
    customers: int = 20,
    timeout_s: float = 5.0,
    read_within_s: float = 30.0,
    afterwards: float = 180.0,
) -> LedgerObserver:
    """An observer that writes orders, and in the end reads back which of them are there.

    Args:
        session: the run.
        balancer: name of an Elastic Load Balancing load balancer; its first listener is asked.
        url: an http or https address without a path instead.
        path, method, body: an order, see `LedgerSpec`; acknowledged by a status from 200 to 299.
        listing, items, id_field, next_field, limit: how orders are read back, see `LedgerSpec`.
        rate: orders per second, whatever the answers do.
        customers: how many customers share the orders.
        timeout_s: how long one order may take, in measured seconds.
        read_within_s: how long reading back may take, in measured seconds.
        afterwards: how long at most writes go on after the undo until they work again, in AWS
            seconds.

    Raises:
        UsageError: not exactly one of `balancer` and `url`, or a value that makes no sense.
        TargetNotFound: there is no such balancer, or it does not listen.
    """
    spec = LedgerSpec(
        url=address_of(session.aws, balancer, url, "/").rstrip("/"),
        path=path,
        body=body,
        listing=listing,
        items=items,
        id_field=id_field,
        next_field=next_field,
        prefix=f"chaosgrade-{uuid.uuid4().hex[:12]}-",
        rate=rate,
        customers=customers,
        timeout_s=timeout_s,
        read_within_s=read_within_s,
        wall=session.clock.wall,
        monotonic=session.clock.monotonic,
        deadline_s=_AT_MOST_S,
        method=method,
        limit=limit,
        name_server=name_server_of(session.aws) if balancer else "",
    )
    return LedgerObserver(session, spec, afterwards / session.aws.environment.time_scale)
