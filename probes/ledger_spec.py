"""Which orders to write: the checked values that the ledger hands to its worker process."""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from chaosgrade.errors import UsageError

_PLACEHOLDER = re.compile(r"\{(\w+)\}")
_OF_BODY = ("id", "number", "customer")
_OF_LISTING = ("prefix", "after", "limit")


@dataclass(frozen=True, slots=True)
class LedgerSpec:
    """An open-loop schedule of writes, and how to read back what they have left.

    Args:
        url: http or https address of the service, without a path.
        path: what takes an order, such as "/orders".
        body: JSON of an order; in its texts {id}, {number} and {customer} are replaced.
        listing: path and query that list orders by number, such as
            "/orders?prefix={prefix}&after={after}&limit={limit}": those whose id begins with the
            prefix and whose number comes after the last one of the page before; at first "0".
        items: where a page holds its orders: a list of objects.
        id_field: where an order holds its id.
        next_field: where a page holds what the next page comes after; null when it is the last.
        prefix: what all ids of this ledger begin with, and nobody else's.
        rate: orders per second.
        customers: how many customers share the orders; each has connections of its own.
        timeout_s: how long one order may take, in seconds.
        read_within_s: how long reading back may take until it counts as failed, in seconds.
        wall, monotonic: the run's clock anchor, see `chaosgrade.clock.Clock`.
        deadline_s: no order is due later than this after the start, whoever is still listening.
        method: HTTP method of an order.
        limit: how many orders a page may hold.
        name_server: "address:port" of the DNS server to ask; "" asks as the system does.

    Raises:
        UsageError: naming the first value that makes no sense.
    """

    url: str
    path: str
    body: Mapping[str, Any]
    listing: str
    items: str
    id_field: str
    next_field: str
    prefix: str
    rate: float
    customers: int
    timeout_s: float
    read_within_s: float
    wall: float
    monotonic: float
    deadline_s: float
    method: str = "POST"
    limit: int = 1000
    name_server: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"url must be an http:// or https:// address, got {self.url!r}")
        for name in ("rate", "customers", "timeout_s", "read_within_s", "deadline_s", "limit"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{name} must be a number, got {value!r}")
            if not 0 < value < float("inf"):
                raise UsageError(f"{name} must be above 0, got {value}")
        for name in ("customers", "limit"):
            if not isinstance(getattr(self, name), int):
                raise UsageError(f"{name} must be a whole number, got {getattr(self, name)!r}")
        for name in ("path", "listing"):
            if not str(getattr(self, name)).startswith("/"):
                raise UsageError(f"{name} must start with /, got {getattr(self, name)!r}")
        if not isinstance(self.body, Mapping):
            raise UsageError(f"body must be an object, got {self.body!r}")
        _check("body", _texts(self.body), _OF_BODY, needed=("id",))
        _check("listing", [self.listing], _OF_LISTING, needed=("prefix", "after"))

    @property
    def patience_s(self) -> float:
        """The longest that one order can take from being sent to its answer, in seconds."""
        return self.timeout_s

    @property
    def ending_s(self) -> float:
        """The longest that it goes on after the last order was due, in seconds."""
        return self.timeout_s + self.read_within_s

    @property
    def sockets(self) -> int:
        """The most connections that can be open at once: every order hangs."""
        return int(self.rate * self.timeout_s) + 64

    def id_of(self, number: int) -> str:
        """The id of an order."""
        return f"{self.prefix}{number}"

    def number_of(self, id_: object) -> int:
        """The number of an order.

        Raises:
            ValueError: it is none of ours.
        """
        digits = str(id_).removeprefix(self.prefix)
        if not str(id_).startswith(self.prefix) or not digits.isdecimal():
            raise ValueError(f"the listing holds {id_!r}, which is none of {self.prefix}…")
        return int(digits)

    def order(self, number: int) -> bytes:
        """The body of an order."""
        values = {
            "id": self.id_of(number),
            "number": str(number),
            "customer": f"customer-{number % self.customers}",
        }
        return json.dumps(_filled(self.body, values)).encode()

    def page(self, after: object) -> str:
        """The address of the page that comes after an order."""
        values = {"prefix": self.prefix, "after": str(after), "limit": str(self.limit)}
        return self.url + _fill(self.listing, values)

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """The spec that `to_line` wrote."""
        fields: Mapping[str, object] = json.loads(line)
        return cls(**fields)  # type: ignore[arg-type]  # __post_init__ checks the values


def _texts(value: object) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for each in value.values():
            yield from _texts(each)
    elif isinstance(value, list):
        for each in value:
            yield from _texts(each)


def _filled(value: Any, values: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        return _fill(value, values)
    if isinstance(value, Mapping):
        return {key: _filled(each, values) for key, each in value.items()}
    if isinstance(value, list):
        return [_filled(each, values) for each in value]
    return value


def _fill(text: str, values: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: values[match.group(1)], text)


def _check(
    name: str, texts: Iterable[str], known: tuple[str, ...], needed: tuple[str, ...]
) -> None:
    found = [word for text in texts for word in _PLACEHOLDER.findall(text)]
    for word in found:
        if word not in known:
            raise UsageError(f"{name}: {{{word}}} is unknown; there are: {', '.join(known)}")
    for word in needed:
        if word not in found:
            raise UsageError(f"{name} must hold {{{word}}}: without it orders are not told apart")
