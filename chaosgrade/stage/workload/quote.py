"""The shop's quotes, workers of their own: what a customer pays for so many of a thing.

    GET /quotes?quantity=N  {"total_cents": N × price, "rebate_percent": by quantity}
    GET /health             answers

There is a bug in it: a quantity of nothing ends the process. That is what makes such a request
poison: whoever sends it takes down the worker that it reaches, for all of its customers.
"""

import os
import sys
from collections.abc import Callable, Mapping
from http import HTTPStatus

from chaosgrade.stage.workload import http_server
from chaosgrade.stage.workload.http_server import Request, Routes, json_response, response
from chaosgrade.stage.workload.request_reading import BadRequest, number_in_query

_PRICE_CENTS = 1250
_MOST = 10_000
_REBATE = 40
_SOFTWARE_ERROR = 70
"""As sysexits.h calls it."""


def rebate_percent(quantity: int) -> int:
    """From 40% for the first one to nothing for very many: the shop likes to be tried."""
    return _REBATE // quantity  # nobody thought of nothing


async def _quote(request: Request) -> bytes:
    try:
        quantity = number_in_query(request, "quantity", 1, 0, _MOST)
    except BadRequest as error:
        return json_response(HTTPStatus.BAD_REQUEST, {"error": str(error)})
    try:
        rebate = rebate_percent(quantity)
    except ZeroDivisionError as error:
        # What it has in memory can be relied on no longer: better no process than a wrong one.
        print(f"quote: {error!r}: the process ends", file=sys.stderr, flush=True)
        os._exit(_SOFTWARE_ERROR)
    total = quantity * _PRICE_CENTS * (100 - rebate) // 100
    return json_response(HTTPStatus.OK, {"total_cents": total, "rebate_percent": rebate})


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed, by itself if need be.

    Args:
        environment: not read.
        on_listening: called once the port is open.
    """
    routes: Routes = {
        ("GET", "/quotes"): _quote,
        ("GET", "/health"): response(HTTPStatus.OK, b"ok", "Content-Type: text/plain"),
    }
    await http_server.serve(host, port, routes, on_listening)
