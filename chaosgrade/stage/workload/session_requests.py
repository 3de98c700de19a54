"""Requests for sessions.

POST /sessions      {"cart": {product: how many}}, which may be left out: 201 {"id", "version", "cart"}
GET /sessions/<id>  the same
PUT /sessions/<id>  {"version", "cart"}: the same with the next version; 409 if it is not of this
                    version any more
"""  # noqa: E501 - the requests, one column each

from http import HTTPStatus

from chaosgrade.stage.workload.http_server import Handlers, Request, json_response
from chaosgrade.stage.workload.request_reading import BadRequest, json_object, number, text
from chaosgrade.stage.workload.sessions import (
    Cart,
    Session,
    SessionChanged,
    Sessions,
    UnknownSession,
)

_MOST_PRODUCTS, _MOST_OF_ONE = 50, 1000
_HIGHEST_VERSION = 2**53


class SessionRequests:
    """Answers them.

    Args:
        headers: of every answer.
    """

    def __init__(self, sessions: Sessions, *headers: str) -> None:
        self._sessions = sessions
        self._headers = headers

    def routes(self) -> Handlers:
        """Who answers what."""
        return {
            ("POST", "/sessions"): self._begin,
            ("GET", "/sessions/*"): self._read,
            ("PUT", "/sessions/*"): self._replace,
        }

    async def _begin(self, request: Request) -> bytes:
        cart = _cart(json_object(request.body).get("cart", {})) if request.body else {}
        return self._told(HTTPStatus.CREATED, await self._sessions.begin(cart))

    async def _read(self, request: Request) -> bytes:
        try:
            session = await self._sessions.read(_id(request))
        except UnknownSession as error:
            return self._failed(HTTPStatus.NOT_FOUND, error)
        return self._told(HTTPStatus.OK, session)

    async def _replace(self, request: Request) -> bytes:
        document = json_object(request.body)
        version = number(document.get("version"), "version", 1, _HIGHEST_VERSION)
        cart = _cart(document.get("cart"))
        try:
            session = await self._sessions.replace(_id(request), version, cart)
        except UnknownSession as error:
            return self._failed(HTTPStatus.NOT_FOUND, error)
        except SessionChanged as error:
            return self._failed(HTTPStatus.CONFLICT, error)
        return self._told(HTTPStatus.OK, session)

    def _told(self, status: HTTPStatus, session: Session) -> bytes:
        document = {"id": session.id, "version": session.version, "cart": dict(session.cart)}
        return json_response(status, document, *self._headers)

    def _failed(self, status: HTTPStatus, error: Exception) -> bytes:
        return json_response(status, {"error": str(error)}, *self._headers)


def _id(request: Request) -> str:
    id_ = text(request.name, "id")
    if not id_:
        raise BadRequest("id must not be empty")
    return id_


def _cart(value: object) -> Cart:
    if not isinstance(value, dict) or len(value) > _MOST_PRODUCTS:
        raise BadRequest(f"cart must be an object of at most {_MOST_PRODUCTS} products")
    return {
        text(product, "product"): number(count, "how many", 1, _MOST_OF_ONE)
        for product, count in value.items()
    }
