"""Requests for orders.

POST /orders      {"id", "customer", "product"}: 201 {"id", "number"} once it is committed;
                  503 if it was not, or if that is not known
GET /orders       ?prefix=&after=&limit=: {"orders": [{"id", "number"}, …], "next"}, by number
GET /health/deep  whether the database answers
"""

from collections.abc import Callable
from http import HTTPStatus

from chaosgrade.stage.workload.database import BrokenOff, Unavailable
from chaosgrade.stage.workload.http_server import Handlers, Request, json_response, response
from chaosgrade.stage.workload.orders import Order, Orders
from chaosgrade.stage.workload.request_reading import (
    BadRequest,
    json_object,
    number_in_query,
    text,
)

_PLAIN = "Content-Type: text/plain"
_OK = response(HTTPStatus.OK, b"ok", _PLAIN)
_NO_DATABASE = response(HTTPStatus.SERVICE_UNAVAILABLE, b"no database", _PLAIN)
_LONGEST_PAGE, _HIGHEST_NUMBER = 5000, 2**63 - 1


class OrderRequests:
    """Answers them.

    Args:
        orders: the shop's.
        on_order: called with the number of each order that is committed.
        headers: of every answer.
    """

    def __init__(self, orders: Orders, on_order: Callable[[int], None], *headers: str) -> None:
        self._orders = orders
        self._on_order = on_order
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {
            ("POST", "/orders"): self._place,
            ("GET", "/orders"): self._list,
            ("GET", "/health/deep"): self._check,
        }

    async def _place(self, request: Request) -> bytes:
        order = _order(request.body)
        number = await self._orders.place(order)
        self._on_order(number)
        document = {"id": order.id, "number": number}
        return json_response(HTTPStatus.CREATED, document, *self._headers)

    async def _list(self, request: Request) -> bytes:
        after = number_in_query(request, "after", 0, 0, _HIGHEST_NUMBER)
        limit = number_in_query(request, "limit", 1000, 1, _LONGEST_PAGE)
        found = await self._orders.page(
            text(request.query.get("prefix", ""), "prefix"), after, limit
        )
        document = {
            "orders": [{"id": id_, "number": number} for id_, number in found],
            "next": found[-1][1] if len(found) == limit else None,
        }
        return json_response(HTTPStatus.OK, document, *self._headers)

    async def _check(self, request: Request) -> bytes:
        try:
            await self._orders.check()
        except (Unavailable, BrokenOff):
            return _NO_DATABASE
        return _OK


def _order(body: bytes) -> Order:
    document = json_object(body)
    fields = {name: text(document.get(name), name) for name in ("id", "customer", "product")}
    if not fields["id"]:
        raise BadRequest("id must not be empty")
    return Order(**fields)
