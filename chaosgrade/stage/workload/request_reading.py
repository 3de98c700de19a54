"""How the shop reads what customers send; what makes no sense is a `BadRequest`."""

import json
from typing import Any

from chaosgrade.stage.workload.http_server import Request

_LONGEST_TEXT = 200


class BadRequest(Exception):
    """What the customer sent makes no sense."""


def json_object(body: bytes) -> dict[str, Any]:
    """The body as a JSON object."""
    try:
        document = json.loads(body)
    except ValueError:
        raise BadRequest("the body must be JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    return document


def text(value: object, name: str) -> str:
    """A text of a sensible length."""
    if not isinstance(value, str) or len(value) > _LONGEST_TEXT or not value.isprintable():
        raise BadRequest(f"{name} must be a text of at most {_LONGEST_TEXT} printable characters")
    return value


def number(value: object, name: str, low: int, high: int) -> int:
    """A whole number."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BadRequest(f"{name} must be a number from {low} to {high}, got {value!r}")
    return value


def number_in_query(request: Request, name: str, default: int, low: int, high: int) -> int:
    """A whole number of the query."""
    said = request.query.get(name, str(default))
    value = int(said) if said.isascii() and said.isdecimal() and len(said) < 20 else -1
    if not low <= value <= high:
        raise BadRequest(f"{name} must be from {low} to {high}, got {said!r}")
    return value
