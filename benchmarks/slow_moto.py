"""moto on loopback, as slow as AWS: no call is answered before DELAY_S is over, each for itself.

`python benchmarks/slow_moto.py DELAY_S` prints its URL and serves until killed. Beside AWS's API:

- `GET /_bench/calls`: {"ReplaceNetworkAclAssociation": 10, ...} since the last reset
- `POST /_bench/reset`: forget the calls, stop throttling
- `POST /_bench/throttle?operation=O&first=N&count=M`: answer calls N to N + M - 1 of an operation
  with RequestLimitExceeded
"""

import functools
import io
import json
import logging
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any
from urllib.parse import parse_qs

from moto.core import responses as core_responses
from moto.core import utils as core_utils
from moto.ec2.models.core import TaggedEC2Resource
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

_THROTTLED = (
    b"<Response><Errors><Error><Code>RequestLimitExceeded</Code><Message>Request limit exceeded."
    b"</Message></Error></Errors><RequestID>r</RequestID></Response>"
)


def _length(content: bytes) -> tuple[str, str]:
    return "Content-Length", str(len(content))


def _unburden_moto() -> None:
    """Take out what grows with the inventory in moto, and not in AWS: its tags are one table that
    is searched for each resource described, and each call lists the methods of its handler."""

    def get_tags(self: Any) -> list[dict[str, str]]:
        tags = self.ec2_backend.tags.get(self.id, {}) if self.id else {}
        return [{"key": key, "value": value} for key, value in tags.items()]

    TaggedEC2Resource.get_tags = get_tags  # type: ignore[method-assign]
    core_responses.method_names_from_class = functools.cache(core_utils.method_names_from_class)


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"  # SDKs keep their connections

    def log(self, type: str, message: str, *args: Any) -> None:
        return


class SlowMoto:
    """A WSGI application.

    Args:
        delay_s: from a call to its answer, at least.
    """

    def __init__(self, delay_s: float) -> None:
        self._delay_s = delay_s
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self._throttle: tuple[str, int, int] = ("", 0, 0)

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        due = time.monotonic() + self._delay_s
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"].startswith("/_bench/"):
            return self._control(environ, start)
        operation = parse_qs(body.decode()).get("Action", ["?"])[0]
        with self._lock:
            self._calls[operation] += 1
            name, first, count = self._throttle
            throttled = operation == name and first <= self._calls[operation] < first + count
        answer: dict[str, Any] = {"s": "503 Slow Down", "h": [_length(_THROTTLED)]}
        content = _THROTTLED
        if not throttled:
            with self._lock:  # moto's state is not made for several calls at once
                content = b"".join(self._moto(environ, lambda s, h, *_: answer.update(s=s, h=h)))
        time.sleep(max(0.0, due - time.monotonic()))
        start(answer["s"], answer["h"])
        return [content]

    def _control(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        query = {key: values[0] for key, values in parse_qs(environ["QUERY_STRING"]).items()}
        with self._lock:
            match environ["PATH_INFO"].rpartition("/")[2]:
                case "reset":
                    self._calls.clear()
                    self._throttle = ("", 0, 0)
                case "throttle":
                    self._throttle = (query["operation"], int(query["first"]), int(query["count"]))
            content = json.dumps(self._calls).encode()
        start("200 OK", [_length(content)])
        return [content]


def main() -> None:
    """Serve."""
    for name in ("werkzeug", "moto"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    _unburden_moto()
    application = SlowMoto(float(sys.argv[1]))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=_Handler)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
