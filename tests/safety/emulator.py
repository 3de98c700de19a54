"""moto behind a real socket, for processes that are killed while it goes on."""

import io
import json
import logging
import threading
import urllib.request
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import parse_qs

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.safety.inventory import REGION, Account

_READS = ("Describe", "Get", "List")


class _Handler(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: Any) -> None:
        return


class Emulator:
    """Looks like a LocalStack to chaosgrade, and counts the calls that change something."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)
        self._lock = threading.Lock()
        self._writes = 0
        self.url = ""

    @property
    def environ(self) -> dict[str, str]:
        """What makes the SDK find it."""
        return {
            "AWS_ENDPOINT_URL": self.url,
            "AWS_ACCESS_KEY_ID": "moto",
            "AWS_SECRET_ACCESS_KEY": "moto",
            "AWS_DEFAULT_REGION": REGION,
        }

    def writes(self) -> int:
        """Calls so far that were more than a look."""
        with self._lock:
            return self._writes

    def rebuild(self) -> Account:
        """A fresh small account."""
        reset = urllib.request.Request(self.url + "/moto-api/reset", method="POST")
        urllib.request.urlopen(reset, timeout=30).close()
        account = Account(self.url)
        account.build(vpcs=2, subnets=1, groups=2, instances=0)
        return account

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        if environ["PATH_INFO"] == "/_localstack/health":
            content = json.dumps({"edition": "emulator"}).encode()
            start("200 OK", [("Content-Length", str(len(content)))])
            return [content]
        operation = parse_qs(body.decode()).get("Action", ["?"])[0]
        answer: dict[str, Any] = {}
        with self._lock:  # moto's state is not made for several calls at once
            self._writes += not operation.startswith((*_READS, "?"))
            content = b"".join(self._moto(environ, lambda s, h, *_: answer.update(s=s, h=h)))
        start(answer["s"], answer["h"])
        return [content]


@contextmanager
def emulator(make: type[Emulator] = Emulator) -> Iterator[Emulator]:
    """One that serves on loopback in the block."""
    for name in ("werkzeug", "moto"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    world = make()
    server = make_server("127.0.0.1", 0, world, threaded=True, request_handler=_Handler)
    world.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield world
    server.shutdown()
    server.server_close()
