"""The shop's recommendations, a service of its own: what others bought as well.

    GET /recommendations  {"products": [...]}; 503 when too many wait
    GET /health           answers

It does one request at a time, as something that is bound to one core or one connection. Who comes
when the queue is full is sent away: work that nobody waits for any more helps nobody. Source:
Amazon Builders' Library, "Using load shedding to avoid overload".
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from chaosgrade.stage.workload import http_server
from chaosgrade.stage.workload.http_server import Request, Routes, json_response, response

_PRODUCTS = ["mug", "kettle", "tea"]
_LONGEST_WAIT_S = 0.4


class Counter:
    """Serves one after the other.

    Args:
        per_s: how many a second.
    """

    def __init__(self, per_s: float) -> None:
        self._takes_s = 1.0 / per_s
        self._free_at = 0.0

    async def serve(self) -> bool:
        """Wait for one's turn and be served; False when too many are waiting."""
        now = asyncio.get_running_loop().time()
        wait_s = max(self._free_at - now, 0.0)
        if wait_s > _LONGEST_WAIT_S:
            return False
        self._free_at = now + wait_s + self._takes_s
        await asyncio.sleep(wait_s + self._takes_s)
        return True


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed.

    Args:
        environment: CAPACITY_PER_S: how many requests this instance serves in a second.
        on_listening: called once the port is open.
    """
    counter = Counter(float(environment["CAPACITY_PER_S"]))
    products = json_response(HTTPStatus.OK, {"products": _PRODUCTS})
    busy = json_response(HTTPStatus.SERVICE_UNAVAILABLE, {"error": "too many are waiting"})

    async def recommend(request: Request) -> bytes:
        return products if await counter.serve() else busy

    routes: Routes = {
        ("GET", "/recommendations"): recommend,
        ("GET", "/health"): response(HTTPStatus.OK, b"ok", "Content-Type: text/plain"),
    }
    await http_server.serve(host, port, routes, on_listening)
