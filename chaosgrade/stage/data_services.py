"""What applications keep on AWS, in a process of its own: DynamoDB, S3, SQS, and what they lead to.

moto answers a hundred calls a second or two, and holds the interpreter's lock meanwhile. In the
control plane's process a busy application would slow down what the stage is there for: health,
replacement, failover. So this one is forked off as soon as moto has been imported, which takes
milliseconds and shares the memory; the endpoint passes requests on to it. See
docs/decisions/0016-data-services-in-a-forked-process.md.

What events and messages lead to within these services stays in that process: S3 to EventBridge,
EventBridge to SQS and CloudWatch Logs, SNS to SQS.
"""

import base64
import gc
import http.client
import io
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, NoReturn

from chaosgrade import lifeline
from chaosgrade.stage import (
    forking,
    moto_buckets,
    moto_data_resources,
    moto_topics,
    wsgi_server,
)
from chaosgrade.stage.moto_application import (
    Answer,
    Fields,
    MotoApplication,
    StartResponse,
    failure,
)
from chaosgrade.stage.refusals import ApiCall
from chaosgrade.stage.world import KeptResource

SERVICES = frozenset({"dynamodb", "events", "logs", "s3", "sns", "sqs"})
"""By the name that requests are signed for; nothing of the stage follows from what they keep."""

RESOURCES_PATH = "/_chaosgrade/resources"
NOTIFICATIONS_PATH = "/_chaosgrade/notifications"
OBJECTS_PATH = "/_chaosgrade/objects"
BUCKETS_PATH = "/_chaosgrade/buckets"

_MAY_WAIT = frozenset({"sqs"})
"""A client waits for messages, and others must not wait for it: moto locks its queues itself."""

_PATIENCE_S = 60.0
_OF_ONE_HOP = frozenset(
    {"connection", "date", "expect", "keep-alive", "server", "transfer-encoding"}
)


class DataServices:
    """Forks the process, at once, and passes calls on to it.

    Call it from a thread that lives as long as the stage, after moto has been imported.

    Args:
        host: address that the process listens on.
        region: where its resources are.
    """

    def __init__(self, host: str, region: str) -> None:
        self._region = region
        self._connections = threading.local()
        self._burying = threading.Lock()
        self._ended = False
        listener = wsgi_server.listen(host, 0)
        self._place: tuple[str, int] = listener.getsockname()
        parent = os.getpid()
        gc.freeze()  # forked pages stay shared: the collector does not touch what is imported
        self._pid = os.fork()
        if self._pid == 0:
            _live(parent, listener)
        listener.close()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return not self._bury(os.WNOHANG)

    def stop(self) -> None:
        """End the process; what it kept is gone."""
        if self.alive:
            os.kill(self._pid, signal.SIGKILL)
            self._bury(0)

    def answer(self, call: ApiCall, environ: Mapping[str, Any], sent: bytes) -> Answer:
        """Pass a call on.

        Args:
            environ: its WSGI environment.
            sent: its body.
        """
        method, path = environ["REQUEST_METHOD"], environ["REQUEST_URI"]
        fields = [(n, v) for n, v in environ[wsgi_server.FIELDS] if n.lower() not in _OF_ONE_HOP]
        try:
            return self._exchange(method, path, fields, sent)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return failure(
                call, "InternalFailure", f"the stage's data services fail at {call.what}: {error!r}"
            )

    def create(self, kind: str, name: str, document: Mapping[str, Any]) -> KeptResource:
        """Create a resource of a template there.

        Args:
            kind: a type of `moto_data_resources.KINDS`.
            document: what the template says of it, with every reference resolved.

        Raises:
            ValueError: a property makes no sense.
        """
        told = self._ordered(RESOURCES_PATH, {"type": kind, "name": name, "definition": document})
        if "error" in told:
            raise ValueError(told["error"])
        return KeptResource(told["id"], told["attributes"])

    def notify(self, topic: str, subject: str, message: str) -> None:
        """Publish a message to a topic of Amazon SNS, by its ARN.

        Raises:
            LookupError: there is no such topic.
        """
        order = {"topic": topic, "subject": subject, "message": message}
        told = self._ordered(NOTIFICATIONS_PATH, order)
        if "error" in told:
            raise LookupError(told["error"])

    def has_bucket(self, name: str) -> bool:
        """Whether there is a bucket of that name in Amazon S3."""
        return bool(self._ordered(BUCKETS_PATH, {"bucket": name})["found"])

    def put(self, bucket: str, key: str, content: bytes) -> None:
        """Put an object into a bucket, as a service of AWS does that logs there.

        Raises:
            LookupError: there is no such bucket.
        """
        text = base64.b64encode(content).decode("ascii")
        told = self._ordered(OBJECTS_PATH, {"bucket": bucket, "key": key, "content": text})
        if "error" in told:
            raise LookupError(told["error"])

    def _ordered(self, path: str, order: Mapping[str, Any]) -> dict[str, Any]:
        body = json.dumps({**order, "region": self._region}).encode()
        fields = [("Host", "stage"), ("Content-Length", str(len(body)))]
        told: dict[str, Any] = json.loads(self._exchange("POST", path, fields, body).body)
        return told

    def _bury(self, options: int) -> bool:
        """Whether it has ended; whoever finds that first takes its exit status."""
        with self._burying:
            if not self._ended:
                self._ended = os.waitpid(self._pid, options)[0] != 0
            return self._ended

    def _exchange(self, method: str, path: str, fields: Fields, body: bytes) -> Answer:
        """One request on this thread's own connection, which is kept."""
        connection: http.client.HTTPConnection | None = getattr(self._connections, "one", None)
        if connection is None:
            connection = http.client.HTTPConnection(*self._place, timeout=_PATIENCE_S)
            self._connections.one = connection
        try:
            connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
            for name, value in fields:
                connection.putheader(name, value)
            connection.endheaders(body or None)
            response = connection.getresponse()
            kept = [(n, v) for n, v in response.getheaders() if n.lower() not in _OF_ONE_HOP]
            return Answer(f"{response.status} {response.reason}", kept, response.read())
        except BaseException:
            connection.close()  # whatever is on its way is not the next request's answer
            raise


def concerns(call: ApiCall, path: str) -> bool:
    """Whether a call is one to these services.

    Args:
        path: of its URL. Without a signature it can be S3's alone: an object that everybody reads.
    """
    if call.service:
        return call.service in SERVICES
    return not call.operation and not path.startswith("/moto-api")


# -- in the process


def _live(parent: int, listener: socket.socket) -> NoReturn:
    try:
        lifeline.die_with_parent(parent=parent)
        os.setsid()
        lifeline.name_process("stage-data")
        forking.leave_behind(keep={2, listener.fileno()})
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)  # the stage ends it
        wsgi_server.server(listener, _Application()).serve_forever()
    except BaseException as error:
        # Whatever happens, a child must never return into its parent's code.
        print(f"chaosgrade: data services: {error!r}", file=sys.stderr)
    finally:
        os._exit(1)


class _Application:
    """What it answers: calls of the API, and orders to create a template's resources.

    One call after another: moto looks and then writes, and a condition must not change in between.
    """

    def __init__(self) -> None:
        self._moto = MotoApplication()
        self._lock: Any = threading.Lock()

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> list[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length) if length else b""
        orders = {
            RESOURCES_PATH: self._create,
            NOTIFICATIONS_PATH: self._notify,
            OBJECTS_PATH: self._put,
            BUCKETS_PATH: self._look_for_bucket,
        }
        if obey := orders.get(environ["PATH_INFO"]):
            with self._lock:
                body = json.dumps(obey(json.loads(sent))).encode()
            return Answer("200 OK", [("Content-Length", str(len(body)))], body).send(start)
        environ["wsgi.input"] = io.BytesIO(sent)
        call = ApiCall.of(environ, sent)
        with nullcontext() if call.service in _MAY_WAIT else self._lock:
            return self._moto.answer(call, environ).send(start)

    def _create(self, order: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            made = moto_data_resources.create(
                order["type"], order["name"], order["definition"], order["region"]
            )
        except Exception as error:  # moto's own, and whatever a wrong property raises in it
            return {"error": " ".join(str(error).split()) or type(error).__name__}
        return {"id": made.id, "attributes": dict(made.attributes)}

    def _notify(self, order: Mapping[str, Any]) -> Mapping[str, object]:
        try:
            moto_topics.publish(order["region"], order["topic"], order["subject"], order["message"])
        except LookupError as error:
            return {"error": str(error.args[0])}
        return {}

    def _put(self, order: Mapping[str, Any]) -> Mapping[str, object]:
        content = base64.b64decode(order["content"])
        try:
            moto_buckets.put(order["region"], order["bucket"], order["key"], content)
        except LookupError as error:
            return {"error": str(error.args[0])}
        return {}

    def _look_for_bucket(self, order: Mapping[str, Any]) -> Mapping[str, object]:
        return {"found": moto_buckets.exists(order["region"], order["bucket"])}
