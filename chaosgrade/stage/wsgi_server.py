"""The HTTP servers that the played AWS is reached by: werkzeug's, a thread per connection."""

import logging
import socket
import threading
from typing import Any

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.serving import BaseWSGIServer, make_server

FIELDS = "chaosgrade.fields"
"""In a WSGI environment: [(name, value)] of the request's header as it was sent."""


class _Handler(MotoRequestHandler):
    protocol_version = "HTTP/1.1"  # SDKs keep their connections

    def setup(self) -> None:
        super().setup()
        # Head and body of an answer go out as two writes: without this each waits for the other's
        # acknowledgement.
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def make_environ(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().make_environ()
        environ[FIELDS] = self.headers.items()
        return environ

    def log(self, type: str, message: str, *args: Any) -> None:
        return


def listen(host: str, port: int) -> socket.socket:
    """A listening socket.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: the port is taken.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(128)
    except OSError:
        listener.close()
        raise
    return listener


def server(listener: socket.socket, application: Any) -> BaseWSGIServer:
    """A server of a WSGI application, not serving yet; it takes the socket over."""
    for name in ("moto", "werkzeug"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    host, port = listener.getsockname()
    made = make_server(
        host, port, application, threaded=True, request_handler=_Handler, fd=listener.fileno()
    )
    listener.close()  # the server has a descriptor of its own
    return made


def serve(listener: socket.socket, application: Any, name: str) -> None:
    """Serve a WSGI application on a thread of its own, until the process ends."""
    made = server(listener, application)
    threading.Thread(target=made.serve_forever, name=name, daemon=True).start()
