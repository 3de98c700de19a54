"""The stage's HTTP endpoint: moto's application, with AWS-shaped refusals, one call at a time."""

import io
import json
import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

from chaosgrade.api_calls import iam_action
from chaosgrade.errors import UsageError
from chaosgrade.stage.capacity_pools import CapacityPools
from chaosgrade.stage.operations import NotPlayed
from chaosgrade.stage.refusals import ApiCall, answer, refused

DESCRIPTION_PATH = "/_chaosgrade/stage"
CALLS_PATH = "/_chaosgrade/calls"
POOLS_PATH = "/_chaosgrade/pools"

DATA_SERVICES = frozenset({"dynamodb", "s3", "sqs"})
"""Services that keep what applications give them; nothing of the stage follows from it."""

type StartResponse = Callable[[str, list[tuple[str, str]]], Any]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What moto answers."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether it is an error for people with a browser."""
        start = self.body[:300].lower()
        return self.status[:1] in "45" and (b"<html" in start or b"<!doctype" in start)


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # SDKs keep their connections

    def setup(self) -> None:
        super().setup()
        # Head and body of an answer go out as two writes: without this each waits for the other's
        # acknowledgement.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def log(self, type: str, message: str, *args: Any) -> None:
        return


class Endpoint:
    """Serves on 127.0.0.1, and within the stage's network.

    `GET /_chaosgrade/calls` answers how often each operation was called, refused calls included:
    {"ec2:DescribeInstances": 12, …}, by IAM's names. `GET /_chaosgrade/pools` answers the capacity
    of EC2's pools, and `PUT` sets that of one, see `CapacityPools.order`.

    Args:
        port: 0 takes a free one.
        within: listens where instances find it, and gives the socket.
        lock: held during each call, except to `DATA_SERVICES`.
        after_call: called, with the lock held, after each such call.
        description: what `GET /_chaosgrade/stage` answers.
        pools: the capacity that EC2 has left.
        unable: {(service, operation): why} of what this machine does not allow the stage to play.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        within: Callable[[], socket.socket],
        lock: threading.RLock,
        after_call: Callable[[], None],
        description: Callable[[], dict[str, Any]],
        pools: CapacityPools,
        unable: Mapping[tuple[str, str], str],
    ) -> None:
        self._lock: Any = lock
        self._after_call = after_call
        self._description = description
        self._pools = pools
        self._unable = unable
        self._calls: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()
        self._moto = DomainDispatcherApplication(create_backend_app)
        logging.getLogger("moto").setLevel(logging.CRITICAL)
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        self.url = self._serve(_listen(port))
        self.url_within = self._serve(within())
        """The same for instances."""

    def _serve(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()
        server: BaseWSGIServer = make_server(
            host, 0, self, threaded=True, request_handler=_Handler, fd=listener.fileno()
        )
        listener.close()  # the server has a descriptor of its own
        threading.Thread(target=server.serve_forever, name="endpoint", daemon=True).start()
        return f"http://{host}:{port}"

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """One request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length) if length else b""
        if environ["PATH_INFO"] in (DESCRIPTION_PATH, CALLS_PATH, POOLS_PATH):
            return self._own(environ, sent, start)
        environ["wsgi.input"] = io.BytesIO(sent)
        call = ApiCall.of(environ, sent)
        with self._counting:
            self._calls[call.service, call.operation or str(environ["REQUEST_METHOD"])] += 1
        answered = self._answer(call, environ)
        start(answered.status, answered.headers)
        return [answered.body if environ["REQUEST_METHOD"] != "HEAD" else b""]

    def _answer(self, call: ApiCall, environ: dict[str, Any]) -> "_Answer":
        """What AWS would answer, or an error in its form."""
        code = "NotImplemented"
        if not (reason := refused(call) or self._unable.get((call.service, call.operation))):
            try:
                answered = self._play(call, environ)
            except NotPlayed as error:
                reason = f"the stage does not play {call.what} {error}"
            except NotImplementedError:
                reason = f"the stage does not play {call.what}"
            except Exception as error:  # moto's own failure at input that it did not expect
                code, reason = "InternalFailure", f"the stage failed at {call.what}: {error!r}"
            else:
                if not answered.is_page:
                    return answered
                # moto's web framework answers, not a service: it has no such operation.
                reason = f"the stage does not play {call.what}"
        return _failed(call, code, reason)

    def _play(self, call: ApiCall, environ: dict[str, Any]) -> "_Answer":
        """Have moto answer."""
        status, headers = "", list[tuple[str, str]]()

        def keep(line: str, fields: list[tuple[str, str]], *_: Any) -> None:
            nonlocal status, headers
            status, headers = line, fields

        # Whoever waits for messages must not make the whole stage wait.
        alone = call.service not in DATA_SERVICES
        with self._lock if alone else nullcontext():
            try:
                body = b"".join(self._moto(environ, keep))
            finally:
                if alone:
                    self._after_call()
        return _Answer(status, headers, body)

    def _own(self, environ: dict[str, Any], sent: bytes, start: StartResponse) -> Iterable[bytes]:
        """What is the stage's and not AWS's."""
        path = environ["PATH_INFO"]
        if path != POOLS_PATH:
            return _tell(self._description() if path == DESCRIPTION_PATH else self._called(), start)
        if environ["REQUEST_METHOD"] == "PUT":
            try:
                order = json.loads(sent)
                if not isinstance(order, dict):
                    raise ValueError("a pool is a JSON object")
                with self._lock:
                    self._pools.order(order)
            except ValueError as error:
                return _tell({"error": str(error)}, start, "400 Bad Request")
        return _tell(self._pools.told(), start)

    def _called(self) -> dict[str, int]:
        with self._counting:
            calls = dict(self._calls)
        named: Counter[str] = Counter()
        for call, count in calls.items():
            named[iam_action(*call)] += count
        return dict(sorted(named.items()))


def _listen(port: int) -> socket.socket:
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        raise UsageError(
            f"port {port} cannot be listened on ({error.strerror}); choose another --port"
        ) from None
    return listener


def _tell(document: dict[str, Any], start: StartResponse, status: str = "200 OK") -> list[bytes]:
    body = json.dumps(document).encode()
    start(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


def _failed(call: ApiCall, code: str, message: str) -> _Answer:
    """An error as the called service would shape it, with a status that SDKs do not retry."""
    kind, body = answer(call, code, message)
    headers = [
        ("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code),
        ("smithy-protocol", "rpc-v2-cbor"),
    ]  # fmt: skip
    return _Answer("501 Not Implemented", headers if call.form == "cbor" else headers[:-1], body)
