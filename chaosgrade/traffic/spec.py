"""What traffic to offer: the checked values that the probe hands to its worker process."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self
from urllib.parse import urlsplit

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff_families import FullJitter
from chaosgrade.policies.retry import RetryPolicy

# RFC 9110, section 9.2.2: only these may be repeated without knowing what the first one did.
_IDEMPOTENT = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE")
# RFC 9110, section 5.6.2: what the name of a header may consist of.
_HEADER = re.compile(r"[\w!#$%&'*+.^`|~-]+", re.ASCII)


@dataclass(frozen=True, slots=True)
class TrafficSpec:
    """One open-loop schedule: request i is due at start + i / rate, whatever the answers do.

    Args:
        url: http or https address that every request asks for.
        rate: requests per second, as a customer counts them (retries come on top).
        customers: how many customers share the requests.
        first_customer: the number of the first of them.
        timeout_s: how long one attempt may take, in seconds.
        method: HTTP method.
        attempts: tries per request, the first included; above 1 the method must be idempotent.
        retry_base_s, retry_cap_s: full jitter's base and cap, in seconds.
        seed: of the customers' order and the jitter.
        name_server: "address:port" of the DNS server to ask; "" asks as the system does.
        zone_header: header of an answer that names the Availability Zone it comes from.
        customer_header: header of a request that says whose it is, by the customer's number.
        wall, monotonic: the run's clock anchor, see `chaosgrade.clock.Clock`.
        deadline_s: no request is due later than this after the start, whoever is still listening.

    Raises:
        UsageError: naming the first value that makes no sense.
    """

    url: str
    rate: float
    customers: int
    timeout_s: float
    wall: float
    monotonic: float
    deadline_s: float
    method: str = "GET"
    attempts: int = 1
    retry_base_s: float = 0.05
    retry_cap_s: float = 1.0
    seed: int = 0
    name_server: str = ""
    zone_header: str = "X-Zone"
    customer_header: str = "X-Chaosgrade-Customer"
    first_customer: int = 0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url) if isinstance(self.url, str) else None
        if parts is None or parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"url must be an http:// or https:// address, got {self.url!r}")
        for name in ("rate", "timeout_s", "deadline_s", "customers", "attempts"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise UsageError(f"{name} must be a number, got {value!r}")
            if not 0 < value < float("inf"):
                raise UsageError(f"{name} must be above 0, got {value}")
        for name in ("customers", "attempts", "seed", "first_customer"):
            value = getattr(self, name)
            if not isinstance(value, int):
                raise UsageError(f"{name} must be a whole number, got {value!r}")
        for name in ("zone_header", "customer_header"):
            value = getattr(self, name)
            if not isinstance(value, str) or not _HEADER.fullmatch(value):
                raise UsageError(f"{name} must be the name of a header, got {value!r}")
        if self.attempts > 1 and self.method not in _IDEMPOTENT:
            raise UsageError(
                f"attempts must be 1 for {self.method}: a repeated one may act twice,"
                f" got {self.attempts}"
            )
        try:
            _ = self.retry
        except UsageError as error:
            raise UsageError(f"retry_{error}") from None

    @property
    def retry(self) -> RetryPolicy:
        """How each customer retries. Without a quota: they are not one client, but many."""
        return RetryPolicy(self.attempts, FullJitter(self.retry_base_s, self.retry_cap_s))

    @property
    def patience_s(self) -> float:
        """The longest that one request can take from being sent to its last answer, in seconds."""
        return self.attempts * self.timeout_s + (self.attempts - 1) * self.retry_cap_s

    @property
    def ending_s(self) -> float:
        """The longest that it goes on after the last request was due, in seconds."""
        return self.patience_s

    @property
    def sockets(self) -> int:
        """The most connections that can be open at once: every request hangs."""
        return int(self.rate * self.patience_s) + 64

    def to_line(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def from_line(cls, line: str | bytes) -> Self:
        """The spec that `to_line` wrote."""
        fields: Mapping[str, object] = json.loads(line)
        return cls(**fields)  # type: ignore[arg-type]  # __post_init__ checks the values
