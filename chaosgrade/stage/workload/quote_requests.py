"""Requests for quotes, which workers make that customers share by shards.

GET /quotes?quantity=N  what a worker of the customer's shard answers; 503 when none does

The header X-Customer says whose request it is.
"""

from http import HTTPStatus
from urllib.parse import urlencode

from chaosgrade.stage.workload.http_server import Handlers, Request, json_response, response
from chaosgrade.stage.workload.quote_routing import QuoteRouting
from chaosgrade.stage.workload.request_reading import BadRequest
from chaosgrade.stage.workload.service_client import ServiceClient

_CUSTOMER = "x-customer"


class QuoteRequests:
    """Answers them.

    Args:
        workers: asks a worker.
        routing: says which one next.
        headers: of every answer.
    """

    def __init__(self, workers: ServiceClient, routing: QuoteRouting, *headers: str) -> None:
        self._workers = workers
        self._routing = routing
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {("GET", "/quotes"): self._quote}

    async def _quote(self, request: Request) -> bytes:
        customer = request.headers.get(_CUSTOMER)
        if not customer:
            raise BadRequest(f"whose request is it? Send the header {_CUSTOMER}")
        query = urlencode(request.query)
        tried: list[str] = []
        while (worker := self._routing.next_worker(customer, tried)) is not None:
            tried.append(worker)
            url = f"http://{self._routing.address_of(worker)}/quotes?{query}"
            answer = await self._workers.get(url, {})
            self._routing.record(worker, ok=answer.status not in (0, 500, 502, 503, 504))
            if answer.status:
                headers = ("Content-Type: application/json", *self._headers)
                return response(HTTPStatus(answer.status), answer.body, *headers)
        error = {"error": f"none of {len(tried)} workers answered"}
        return json_response(HTTPStatus.SERVICE_UNAVAILABLE, error, *self._headers)
