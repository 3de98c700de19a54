"""The shop's web tier: a stateless HTTP server.

    GET /             which instance answered; needs nothing else
    GET /health       whether the server works, which is what the load balancer asks
    GET /health/deep  whether the database answers as well
    POST /orders      {"id", "customer", "product"}: 201 {"id", "number"} once it is committed;
                      503 if it was not, or if that is not known
    GET /orders       ?prefix=&after=&limit=: {"orders": [{"id", "number"}, …], "next"}, by number

Shortly before EC2 takes a Spot Instance back, health checks fail and everything else is still
served: the load balancer sends its requests elsewhere.
"""

import asyncio
import json
from collections.abc import Callable, Mapping
from http import HTTPStatus

from chaosgrade.stage.workload import settings
from chaosgrade.stage.workload.database import BrokenOff, Unavailable
from chaosgrade.stage.workload.http_server import (
    Connection,
    Handler,
    Request,
    Routes,
    json_response,
    response,
)
from chaosgrade.stage.workload.orders import Order, Orders, schema
from chaosgrade.stage.workload.receipts import Outbox, Queue
from chaosgrade.stage.workload.spot_notice import Metadata, wait_for_end

_PLAIN = "Content-Type: text/plain"
_OK = response(HTTPStatus.OK, b"ok", _PLAIN)
_LEAVING = response(HTTPStatus.SERVICE_UNAVAILABLE, b"leaving", _PLAIN)
_NO_DATABASE = response(HTTPStatus.SERVICE_UNAVAILABLE, b"no database", _PLAIN)
_LONGEST_TEXT, _LONGEST_PAGE, _HIGHEST_NUMBER = 200, 5000, 2**63 - 1


class _BadRequest(Exception):
    """What the customer sent makes no sense."""


class Shop:
    """Answers what needs the database.

    Args:
        orders: the shop's.
        on_order: called with the number of each order that is committed.
        headers: of every answer.
    """

    def __init__(self, orders: Orders, on_order: Callable[[int], None], *headers: str) -> None:
        self._orders = orders
        self._on_order = on_order
        self._headers = headers

    def routes(self) -> Routes:
        """Who answers what."""
        return {
            ("POST", "/orders"): self._answering(self._place),
            ("GET", "/orders"): self._answering(self._list),
            ("GET", "/health/deep"): self._check,
        }

    def _answering(self, work: Handler) -> Handler:
        async def answer(request: Request) -> bytes:
            try:
                return await work(request)
            except _BadRequest as error:
                status, said = HTTPStatus.BAD_REQUEST, str(error)
            except (Unavailable, BrokenOff) as error:
                status, said = HTTPStatus.SERVICE_UNAVAILABLE, str(error)
            return json_response(status, {"error": said}, *self._headers)

        return answer

    async def _place(self, request: Request) -> bytes:
        order = _order(request.body)
        number = await self._orders.place(order)
        self._on_order(number)
        document = {"id": order.id, "number": number}
        return json_response(HTTPStatus.CREATED, document, *self._headers)

    async def _list(self, request: Request) -> bytes:
        after = _number(request, "after", 0, 0, _HIGHEST_NUMBER)
        limit = _number(request, "limit", 1000, 1, _LONGEST_PAGE)
        found = await self._orders.page(
            _text(request.query.get("prefix", ""), "prefix"), after, limit
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
    try:
        document = json.loads(body)
    except ValueError:
        raise _BadRequest("the body must be JSON") from None
    if not isinstance(document, dict):
        raise _BadRequest("the body must be a JSON object")
    fields = {name: _text(document.get(name), name) for name in ("id", "customer", "product")}
    if not fields["id"]:
        raise _BadRequest("id must not be empty")
    return Order(**fields)


def _text(value: object, name: str) -> str:
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise _BadRequest(f"{name} must be a text of at most {_LONGEST_TEXT} printable characters")
    return value


def _number(request: Request, name: str, default: int, low: int, high: int) -> int:
    text = request.query.get(name, str(default))
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 20 else -1
    if not low <= number <= high:
        raise _BadRequest(f"{name} must be from {low} to {high}, got {text!r}")
    return number


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed.

    Args:
        environment: INSTANCE_ID and AVAILABILITY_ZONE; with DATABASE_HOST it takes orders, see
            `settings.database`, with WRITE_RETRY ("idempotent" or "blind"), and with RECEIPTS_QUEUE
            they get receipts; with NOTICE_POLL_S and DRAIN_S, in seconds, it heeds the interruption
            notice of the service at AWS_EC2_METADATA_SERVICE_ENDPOINT.
        on_listening: called once the port is open.
    """
    instance, zone = environment["INSTANCE_ID"], environment["AVAILABILITY_ZONE"]
    own = (f"X-Instance: {instance}", f"X-Zone: {zone}")
    home = {"shop": "open", "instance": instance, "zone": zone}
    routes: dict[tuple[str, str], bytes | Handler] = {
        ("GET", "/"): json_response(HTTPStatus.OK, home, *own),
        ("GET", "/health"): _OK,
    }
    outbox = Outbox(Queue(environment.get("RECEIPTS_QUEUE", "")))
    if "DATABASE_HOST" in environment:
        idempotent = environment.get("WRITE_RETRY") != "blind"
        database = settings.database(environment, schema(unique=idempotent))
        orders = Orders(database, idempotent=idempotent)
        routes |= Shop(orders, outbox.add, *own).routes()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(routes), host, port, backlog=512, reuse_port=True
    )
    on_listening()
    async with asyncio.TaskGroup() as tasks:
        if "RECEIPTS_QUEUE" in environment:
            tasks.create_task(outbox.send_forever())
        if "NOTICE_POLL_S" in environment:
            tasks.create_task(_leave_in_time(host, environment, routes))
        await server.serve_forever()


async def _leave_in_time(
    host: str,
    environment: Mapping[str, str],
    routes: dict[tuple[str, str], bytes | Handler],
) -> None:
    """Fail health checks when the end is near."""
    metadata = Metadata(environment["AWS_EC2_METADATA_SERVICE_ENDPOINT"], host)
    await wait_for_end(
        metadata,
        poll_s=float(environment["NOTICE_POLL_S"]),
        before_s=float(environment["DRAIN_S"]),
    )
    for check in ("/health", "/health/deep"):
        routes["GET", check] = _LEAVING
