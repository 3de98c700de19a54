"""A shop whose books are wrong by design: which orders it loses and doubles is known exactly.

Orders by number: `lost` are acknowledged and forgotten, `doubled` are kept twice, `silent` are kept
and never answered, `dropped` are neither, `refused` are answered with 503 and `cut` with 502,
`refused_but_kept` with 503 though they are kept. A listing holds at most `page` orders.
"""

import json
import threading
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass
class Shop:
    """How the server behaves, and what it has got.

    Args:
        unreadable: what a listing is answered with instead: a status, or None.
    """

    lost: Collection[int] = ()
    doubled: Collection[int] = ()
    silent: Collection[int] = ()
    dropped: Collection[int] = ()
    refused: Collection[int] = ()
    refused_but_kept: Collection[int] = ()
    cut: Collection[int] = ()
    page: int = 5000
    unreadable: int | None = None
    kept: list[str] = field(default_factory=list)
    bodies: list[dict[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def place(self, body: dict[str, str]) -> int | None:
        """The status of an answer; None for no answer."""
        number = int(body["id"].rpartition("-")[2])
        gone = {*self.lost, *self.dropped, *self.refused, *self.cut}
        times = 0 if number in gone else 2 if number in self.doubled else 1
        with self.lock:
            self.bodies.append(body)
            self.kept += [body["id"]] * times
        if number in {*self.silent, *self.dropped}:
            return None
        if number in {*self.refused, *self.refused_but_kept}:
            return 503
        return 502 if number in self.cut else 201

    def list(self, prefix: str, after: int, limit: int) -> dict[str, object]:
        """A page of orders."""
        with self.lock:
            ours = [(n, id_) for n, id_ in enumerate(self.kept, 1) if id_.startswith(prefix)]
        some = [one for one in ours if one[0] > after][: min(limit, self.page)]
        last = some[-1][0] if some and some[-1] != ours[-1] else None
        return {"orders": [{"id": id_, "number": n} for n, id_ in some], "next": last}


@contextmanager
def running(shop: Shop) -> Iterator[str]:
    """Serve a shop within the block; yields its address."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            length = int(self.headers["Content-Length"])
            status = shop.place(json.loads(self.rfile.read(length)))
            if status is None:
                shop.over.wait(30)
                self.close_connection = True
            else:
                self._answer(status, {})

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            if shop.unreadable is not None:
                self._answer(shop.unreadable, {})
                return
            one = {name: values[0] for name, values in query.items()}
            self._answer(200, shop.list(one["prefix"], int(one["after"]), int(one["limit"])))

        def _answer(self, status: int, document: dict[str, object]) -> None:
            body = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 256
        daemon_threads = True
        block_on_close = False

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        shop.over.set()
        server.shutdown()
        thread.join()
        server.server_close()
