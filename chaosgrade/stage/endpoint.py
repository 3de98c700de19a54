"""The stage's HTTP endpoint: calls of the AWS API, one at a time, and the stage's own paths."""

import io
import json
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from chaosgrade.api_calls import iam_action
from chaosgrade.errors import UsageError
from chaosgrade.stage import data_services, wsgi_server
from chaosgrade.stage.capacity_pools import CapacityPools
from chaosgrade.stage.data_services import DataServices
from chaosgrade.stage.moto_application import Answer, MotoApplication, StartResponse, failure
from chaosgrade.stage.refusals import ApiCall, refused

_OWN_PATHS = "/_chaosgrade/"


class Endpoint:
    """Serves on 127.0.0.1, and within the stage's network.

    `GET /_chaosgrade/calls` answers how often each operation was called, refused calls included:
    {"ec2:DescribeInstances": 12, …}, by IAM's names. `GET /_chaosgrade/pools` answers the capacity
    of EC2's pools, and `PUT` sets that of one, see `CapacityPools.order`.

    Args:
        port: 0 takes a free one.
        within: listens where instances find it, and gives the socket.
        lock: held during each call, except to the data services.
        after_call: called, with the lock held, after each such call.
        description: what `GET /_chaosgrade/stage` answers.
        pools: the capacity that EC2 has left.
        data: answers the calls that are its affair.
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
        data: DataServices,
        unable: Mapping[tuple[str, str], str],
    ) -> None:
        self._lock: Any = lock
        self._after_call = after_call
        self._description = description
        self._pools = pools
        self._unable = unable
        self._calls: Counter[tuple[str, str]] = Counter()
        self._counting = threading.Lock()
        self._data = data
        self._moto = MotoApplication()
        try:
            listener = wsgi_server.listen("127.0.0.1", port)
        except OSError as error:
            raise UsageError(
                f"port {port} cannot be listened on ({error.strerror}); choose another --port"
            ) from None
        self.url = self._serve(listener)
        self.url_within = self._serve(within())
        """The same for instances."""

    def _serve(self, listener: socket.socket) -> str:
        host, port = listener.getsockname()
        wsgi_server.serve(listener, self, "endpoint")
        return f"http://{host}:{port}"

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """One request."""
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length) if length else b""
        if environ["PATH_INFO"].startswith(_OWN_PATHS):
            return self._own(environ, sent).send(start)
        environ["wsgi.input"] = io.BytesIO(sent)
        call = ApiCall.of(environ, sent)
        with self._counting:
            self._calls[call.service, call.operation or str(environ["REQUEST_METHOD"])] += 1
        return self._answer(call, environ, sent).send(
            start, head=environ["REQUEST_METHOD"] == "HEAD"
        )

    def _answer(self, call: ApiCall, environ: dict[str, Any], sent: bytes) -> Answer:
        if reason := refused(call) or self._unable.get((call.service, call.operation)):
            return failure(call, "NotImplemented", reason)
        if data_services.concerns(call, environ["PATH_INFO"]):
            return self._data.answer(call, environ, sent)
        with self._lock:
            answered = self._moto.answer(call, environ)
            try:
                self._after_call()
            except Exception as error:  # moto has kept what the stage cannot carry out
                reason = f"the stage cannot carry out {call.what}: {error!r}"
                return failure(call, "InternalFailure", reason)
            return answered

    def _own(self, environ: dict[str, Any], sent: bytes) -> Answer:
        """What is the stage's and not AWS's."""
        match environ["REQUEST_METHOD"], environ["PATH_INFO"].removeprefix(_OWN_PATHS):
            case _, "stage":
                return _told(self._description())
            case _, "calls":
                return _told(self._called())
            case "PUT", "pools":
                return self._set_pool(sent)
            case _, "pools":
                return _told(self._pools.told())
            case _, unknown:
                return _told({"error": f"the stage has no {unknown} of its own"}, "404 Not Found")

    def _set_pool(self, sent: bytes) -> Answer:
        try:
            order = json.loads(sent)
            if not isinstance(order, dict):
                raise ValueError("a pool is a JSON object")
            with self._lock:
                self._pools.order(order)
        except ValueError as error:
            return _told({"error": str(error)}, "400 Bad Request")
        return _told(self._pools.told())

    def _called(self) -> dict[str, int]:
        with self._counting:
            calls = dict(self._calls)
        named: Counter[str] = Counter()
        for call, count in calls.items():
            named[iam_action(*call)] += count
        return dict(sorted(named.items()))


def _told(document: dict[str, Any], status: str = "200 OK") -> Answer:
    body = json.dumps(document).encode()
    fields = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    return Answer(status, fields, body)
