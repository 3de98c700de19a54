"""The shop's web tier: a stateless HTTP server.

    GET /        which instance answered; needs nothing else
    GET /health  whether the server works, which is what the load balancer asks

and what order_requests, product_requests, session_requests, image_requests, quote_requests and
recommendation_requests list. A request that makes no sense is answered with 400, one that needs
something which does not answer with 503.

Shortly before EC2 takes a Spot Instance back, health checks fail and everything else is still
served: the load balancer sends its requests elsewhere.
"""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from chaosgrade.stage.workload import settings
from chaosgrade.stage.workload.aws_client import AwsUnavailable
from chaosgrade.stage.workload.database import BrokenOff, Unavailable
from chaosgrade.stage.workload.http_server import (
    Connection,
    Handler,
    Request,
    json_response,
    response,
)
from chaosgrade.stage.workload.image_requests import ImageRequests
from chaosgrade.stage.workload.order_requests import OrderRequests
from chaosgrade.stage.workload.product_requests import ProductRequests
from chaosgrade.stage.workload.receipts import Outbox, Queue
from chaosgrade.stage.workload.request_reading import BadRequest
from chaosgrade.stage.workload.session_requests import SessionRequests
from chaosgrade.stage.workload.spot_notice import Metadata, wait_for_end

_PLAIN = "Content-Type: text/plain"
_OK = response(HTTPStatus.OK, b"ok", _PLAIN)
_LEAVING = response(HTTPStatus.SERVICE_UNAVAILABLE, b"leaving", _PLAIN)


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Serve until killed.

    Args:
        environment: INSTANCE_ID and AVAILABILITY_ZONE, and what `settings` reads: without
            DATABASE_HOST, SESSION_STORE, IMAGES_BUCKET, RECOMMENDATIONS_URL or QUOTE_WORKERS there
            are no such requests, without RECEIPTS_QUEUE no receipts; with NOTICE_POLL_S and
            DRAIN_S, in seconds, it heeds the interruption notice of the service at
            AWS_EC2_METADATA_SERVICE_ENDPOINT.
        on_listening: called once the port is open.
    """
    instance, zone = environment["INSTANCE_ID"], environment["AVAILABILITY_ZONE"]
    own = (f"X-Instance: {instance}", f"X-Zone: {zone}")
    home = {"shop": "open", "instance": instance, "zone": zone}
    outbox = Outbox(Queue(environment.get("RECEIPTS_QUEUE", "")))
    routes: dict[tuple[str, str], bytes | Handler] = {
        ("GET", "/"): json_response(HTTPStatus.OK, home, *own),
        ("GET", "/health"): _OK,
        **{
            where: _answering(handler, *own)
            for where, handler in _shop(environment, outbox, *own).items()
        },
    }
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


def _shop(
    environment: Mapping[str, str], outbox: Outbox, *own: str
) -> dict[tuple[str, str], Handler]:
    """Who answers what needs more than the server."""
    routes: dict[tuple[str, str], Handler] = {}
    if "DATABASE_HOST" in environment:
        database = settings.shop_database(environment)
        orders = settings.orders(environment, database)
        products = settings.products(environment, database)
        routes |= OrderRequests(orders, outbox.add, *own).routes()
        routes |= ProductRequests(products, *own).routes()
    if "SESSION_STORE" in environment:
        routes |= SessionRequests(settings.sessions(environment), *own).routes()
    if "IMAGES_BUCKET" in environment:
        routes |= ImageRequests(settings.images(environment), *own).routes()
    if "RECOMMENDATIONS_URL" in environment:
        routes |= settings.recommendations(environment, *own).routes()
    if "QUOTE_WORKERS" in environment:
        routes |= settings.quotes(environment, *own).routes()
    return routes


def _answering(handler: Handler, *own: str) -> Handler:
    async def answer(request: Request) -> bytes:
        try:
            return await handler(request)
        except BadRequest as error:
            status, said = HTTPStatus.BAD_REQUEST, str(error)
        except (Unavailable, BrokenOff, AwsUnavailable) as error:
            status, said = HTTPStatus.SERVICE_UNAVAILABLE, str(error)
        return json_response(status, {"error": said}, *own)

    return answer


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
