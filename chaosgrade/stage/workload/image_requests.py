"""Requests for images of products, of at most 64 KiB.

GET /images/<product>  the image; with its ETag, and its version in the header X-Version
PUT /images/<product>  201 {"product", "version"}: another version, of the content type that is given
"""  # noqa: E501 - the requests, one column each

import re
from http import HTTPStatus

from chaosgrade.stage.workload.http_server import Handlers, Request, json_response, response
from chaosgrade.stage.workload.images import Images, Stored, UnknownImage
from chaosgrade.stage.workload.request_reading import BadRequest

_PRODUCT = re.compile(r"[A-Za-z0-9_-]{1,64}")
_ANY_KIND = "application/octet-stream"


class ImageRequests:
    """Answers them.

    Args:
        headers: of every answer.
    """

    def __init__(self, images: Images, *headers: str) -> None:
        self._images = images
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {("GET", "/images/*"): self._read, ("PUT", "/images/*"): self._write}

    async def _read(self, request: Request) -> bytes:
        try:
            image = await self._images.read(_product(request))
        except UnknownImage as error:
            return json_response(HTTPStatus.NOT_FOUND, {"error": str(error)}, *self._headers)
        headers = (f"Content-Type: {image.kind}", *_of(image.stored), *self._headers)
        return response(HTTPStatus.OK, image.body, *headers)

    async def _write(self, request: Request) -> bytes:
        product = _product(request)
        if not request.body:
            raise BadRequest("the body must be an image")
        kind = request.headers.get("content-type", _ANY_KIND)
        stored = await self._images.write(product, request.body, kind)
        document = {"product": product, "version": stored.version}
        return json_response(HTTPStatus.CREATED, document, *_of(stored), *self._headers)


def _product(request: Request) -> str:
    if not _PRODUCT.fullmatch(request.name):
        raise BadRequest("product must be 1 to 64 letters, digits, '-' or '_'")
    return request.name


def _of(stored: Stored) -> tuple[str, str]:
    return f"ETag: {stored.etag}", f"X-Version: {stored.version}"
