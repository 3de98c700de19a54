"""The shop's worker tier: writes receipts for the orders on the queue; `GET /health` answers."""

import asyncio
from collections.abc import Callable, Mapping
from http import HTTPStatus

from chaosgrade.stage.workload import http_server, settings
from chaosgrade.stage.workload.receipts import TABLE, Queue, write_receipts


async def serve(
    host: str, port: int, environment: Mapping[str, str], on_listening: Callable[[], None]
) -> None:
    """Work until killed.

    Args:
        environment: RECEIPTS_QUEUE, and what `settings.database` reads.
        on_listening: called once the port is open.
    """
    ok = http_server.response(HTTPStatus.OK, b"ok", "Content-Type: text/plain")
    server = await asyncio.get_running_loop().create_server(
        lambda: http_server.Connection({("GET", "/health"): ok}), host, port, reuse_port=True
    )
    on_listening()
    async with server:
        await write_receipts(
            Queue(environment["RECEIPTS_QUEUE"]), settings.database(environment, TABLE)
        )
