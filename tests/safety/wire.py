"""Sees every call that botocore sends, and can answer in AWS's place: with errors, or not at all.

It takes moto's place at botocore's own event `before-send`, and calls moto, so the code under test
is not touched: its retries, its parsing and its error handling are the real ones.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace, TracebackType
from typing import Any, Self

import botocore.endpoint
import botocore.handlers
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.exceptions import ConnectionClosedError, ReadTimeoutError
from botocore.retries.bucket import TokenBucket
from moto.core.botocore_stubber import MockRawResponse
from moto.core.models import botocore_stubber

_READS = ("BatchGet", "Describe", "Get", "List", "Lookup")


@dataclass(frozen=True)
class Sent:
    """One call as it left, retries counted one by one."""

    service: str
    operation: str
    body: str

    @property
    def writes(self) -> bool:
        """Whether it is more than a look."""
        return not self.operation.startswith(_READS)


type Aws = Callable[[], AWSResponse]
type Answer = Callable[[Sent, Aws], AWSResponse | None]
"""Given a call and what makes AWS answer: an answer in AWS's place, or None for AWS's own."""


class Wire:
    """Installed as a context manager around the making of clients.

    `answer` decides each call; `sent` holds those that left. Nothing waits between retries.
    """

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.answer: Answer = lambda sent, aws: None
        self._lock = threading.Lock()
        self._moto = threading.Lock()
        self._paused = threading.local()
        self._undo = contextlib.ExitStack()

    def __enter__(self) -> Self:
        # In the place of moto's own handler: botocore calls every handler of an event, so a call
        # that is answered here would be made by moto all the same.
        handlers = botocore.handlers.BUILTIN_HANDLERS
        place = handlers.index(("before-send", botocore_stubber))
        handlers[place] = ("before-send", self._before_send)
        self._undo.callback(handlers.__setitem__, place, ("before-send", botocore_stubber))
        endpoint, wait = botocore.endpoint.time, TokenBucket._sleep_amount
        botocore.endpoint.time = SimpleNamespace(**{**vars(time), "sleep": lambda s: None})
        TokenBucket._sleep_amount = lambda bucket, amount: 0.0
        self._undo.callback(setattr, botocore.endpoint, "time", endpoint)
        self._undo.callback(setattr, TokenBucket, "_sleep_amount", wait)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._undo.close()

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """In the block, this thread's calls go by unseen."""
        self._paused.now = True
        try:
            yield
        finally:
            self._paused.now = False

    def writes(self) -> list[Sent]:
        """The calls that were more than a look."""
        return [sent for sent in self.sent if sent.writes]

    def clear(self) -> None:
        """Forget what left, and let everything through again."""
        self.sent.clear()
        self.answer = lambda sent, aws: None

    def _before_send(self, event_name: str, request: AWSPreparedRequest, **_: Any) -> Any:
        if getattr(self._paused, "now", False):
            return botocore_stubber(event_name, request)
        service, operation = event_name.split(".")[1:3]
        body = request.body.decode() if isinstance(request.body, bytes) else str(request.body or "")
        sent = Sent(service, operation, body)
        with self._lock:
            self.sent.append(sent)

        def aws() -> Any:
            # One at a time: moto's own state is not made for threads, and AWS's is.
            with self._moto:
                return botocore_stubber(event_name, request)

        return self.answer(sent, aws) or aws()


def refusal(sent: Sent, status: int, code: str) -> AWSResponse:
    """An error of AWS, in the shape that the service has."""
    if sent.service == "ec2":
        body = (
            f"<Response><Errors><Error><Code>{code}</Code><Message>injected</Message></Error>"
            "</Errors><RequestID>r</RequestID></Response>"
        )
    else:
        body = (
            f"<ErrorResponse><Error><Code>{code}</Code><Message>injected</Message></Error>"
            "<RequestId>r</RequestId></ErrorResponse>"
        )
    return AWSResponse("https://aws", status, {}, MockRawResponse(body))


def failing(how: str, sent: Sent, aws: Aws) -> AWSResponse:
    """One way of AWS to fail at a call.

    Args:
        how: one of `WAYS`.
        sent: the call.
        aws: makes it happen all the same.
    """
    match how:
        case "throttled":
            return refusal(sent, 503, "RequestLimitExceeded")
        case "error-500":
            return refusal(sent, 500, "InternalError")
        case "denied":
            return refusal(sent, 403, "UnauthorizedOperation")
        case "not-found":
            return refusal(sent, 400, NOT_FOUND.get(sent.operation, "ResourceNotFoundException"))
        case "expired":
            return refusal(sent, 400, "ExpiredToken")
        case "timeout":
            raise ReadTimeoutError(endpoint_url="https://aws")
        case "lost-reply":
            aws()
            raise ConnectionClosedError(endpoint_url="https://aws")
    raise ValueError(how)


WAYS = ("throttled", "error-500", "timeout", "lost-reply", "denied", "expired", "not-found")

NOT_FOUND = {
    "DeleteNetworkAcl": "InvalidNetworkAclID.NotFound",
    "DescribeNetworkAcls": "InvalidNetworkAclID.NotFound",
    "DescribeTargetHealth": "TargetGroupNotFound",
    "RegisterTargets": "InvalidTarget",
    "DeregisterTargets": "InvalidTarget",
    "ReplaceNetworkAclAssociation": "InvalidAssociationID.NotFound",
    "StartInstances": "InvalidInstanceID.NotFound",
    "StopInstances": "InvalidInstanceID.NotFound",
    "DescribeInstances": "InvalidInstanceID.NotFound",
}
