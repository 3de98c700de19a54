"""A shop behind a router that shards: which workers are up, and how it tries again, is known.

A request for `/poison` takes down all workers of its customer. Other requests are answered 200 by
the first worker that is up among those that the router tries, else 503.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

type Route = Callable[[str], Sequence[str]]
"""The workers that are tried for one request of a customer, in order."""


@contextmanager
def serving(shard_of: Route, tried: Route) -> Iterator[str]:
    """Run the shop; its address.

    Args:
        shard_of: the workers that a customer's poison takes down.
        tried: the workers that are tried.
    """
    down: set[str] = set()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            customer = self.headers["X-Chaosgrade-Customer"]
            if self.path == "/poison":
                down.update(shard_of(customer))
            up = any(worker not in down for worker in tried(customer))
            self.send_response(200 if up else 503)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            """Say nothing: clients that have enough just leave."""

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
