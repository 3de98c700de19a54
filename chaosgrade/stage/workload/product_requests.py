"""Requests for products.

GET /products/<id>  {"id", "name", "price_cents"}, and in the header X-Cache where it is from
"""

from dataclasses import asdict
from http import HTTPStatus

from chaosgrade.stage.workload.http_server import Handlers, Request, json_response
from chaosgrade.stage.workload.products import Products
from chaosgrade.stage.workload.request_reading import text


class ProductRequests:
    """Answers them.

    Args:
        headers: of every answer.
    """

    def __init__(self, products: Products, *headers: str) -> None:
        self._products = products
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {("GET", "/products/*"): self._read}

    async def _read(self, request: Request) -> bytes:
        found = await self._products.find(text(request.name, "id"))
        headers = (f"X-Cache: {found.cache}", *self._headers)
        if found.product is None:
            error = {"error": f"there is no product {request.name}"}
            return json_response(HTTPStatus.NOT_FOUND, error, *headers)
        return json_response(HTTPStatus.OK, asdict(found.product), *headers)
