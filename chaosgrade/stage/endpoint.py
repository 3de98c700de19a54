"""The stage's HTTP endpoint: moto's application, with AWS-shaped refusals, one call at a time."""

import io
import json
import logging
import socket
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.serving import BaseWSGIServer, make_server

from chaosgrade.errors import UsageError

DESCRIPTION_PATH = "/_chaosgrade/stage"
HEALTH_PATH = "/_chaosgrade/health"

type StartResponse = Callable[[str, list[tuple[str, str]]], Any]


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
    """Serves on 127.0.0.1.

    Args:
        port: 0 takes a free one.
        lock: held during each call.
        after_call: called, with the lock held, after each call.
        description: what `GET /_chaosgrade/stage` answers.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(
        self,
        port: int,
        lock: threading.RLock,  # type: ignore[valid-type]  # a function to mypy, a type to readers
        after_call: Callable[[], None],
        description: Callable[[], dict[str, Any]],
    ) -> None:
        self._lock: Any = lock
        self._after_call = after_call
        self._description = description
        self._moto = DomainDispatcherApplication(create_backend_app)
        logging.getLogger("moto").setLevel(logging.CRITICAL)
        logging.getLogger("werkzeug").setLevel(logging.CRITICAL)
        listener = _listen(port)
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", 0, self, threaded=True, request_handler=_Handler, fd=listener.fileno()
        )
        self.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.close()  # the server has a descriptor of its own
        threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True).start()

    def __call__(self, environ: dict[str, Any], start: StartResponse) -> Iterable[bytes]:
        """One request."""
        if environ["PATH_INFO"] == DESCRIPTION_PATH:
            body = json.dumps(self._description()).encode()
            start(
                "200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
            )
            return [body]
        length = int(environ.get("CONTENT_LENGTH") or 0)
        sent = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(sent)
        answer: dict[str, Any] = {}

        def keep(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            answer.update(status=status, headers=headers)

        with self._lock:
            try:
                body = b"".join(self._moto(environ, keep))
            except Exception as error:  # moto raises what Flask's debug mode lets through
                return _refuse(environ, sent, error, start)
            self._after_call()
        if answer["status"].startswith("500") and b"<html" in body[:300].lower():
            return _refuse(environ, sent, None, start)
        start(answer["status"], answer["headers"])
        return [body]


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


def _refuse(
    environ: dict[str, Any], sent: bytes, error: Exception | None, start: StartResponse
) -> list[bytes]:
    """An error as the called service would shape it, with a status that SDKs do not retry."""
    target = environ.get("HTTP_X_AMZ_TARGET", "")
    action = target.rpartition(".")[2] or parse_qs(sent.decode("latin-1")).get("Action", [""])[0]
    what = action or f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}"
    if error is None or isinstance(error, NotImplementedError):
        code, message = "NotImplemented", f"the stage does not play {what}"
    else:
        code, message = "InternalFailure", f"the stage failed at {what}: {error!r}"
    if target or not action:
        kind = "application/x-amz-json-1.1"
        body = json.dumps({"__type": code, "message": message}).encode()
    else:
        kind = "text/xml"
        body = (
            f"<ErrorResponse><Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message>"
            f"</Error></Errors><Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
            "<RequestId>stage</RequestId></ErrorResponse>"
        ).encode()
    start(
        "501 Not Implemented",
        [("Content-Type", kind), ("Content-Length", str(len(body))), ("x-amzn-ErrorType", code)],
    )
    return [body]
