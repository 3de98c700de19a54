"""How the shop asks its other services over HTTP: by their names, with a limit on every attempt.

Whether and when to try again is for whoever asks. Source: Amazon Builders' Library, "Timeouts,
retries, and backoff with jitter".
"""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

type Resolve = Callable[[str], Awaitable[str]]
"""Gives the address of a name; may raise LookupError or TimeoutError."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a service said.

    Args:
        status: an HTTP status, 0 without an answer.
        body: as it came.
        headers: by their names, in any case.
    """

    status: int
    body: bytes = b""
    headers: Mapping[str, str] | None = None

    @property
    def ok(self) -> bool:
        """Whether the service did as it was asked."""
        return 200 <= self.status < 300


NONE = Answer(0)
"""No connection, or no answer in time."""


class ServiceClient:
    """Asks services; connects when it is first used.

    Args:
        timeout_s: seconds that an attempt may take.
        resolve: knows their names; None where they are asked by address.
        keep_alive: whether connections are kept for the next request.
    """

    def __init__(
        self, *, timeout_s: float, resolve: Resolve | None = None, keep_alive: bool = True
    ) -> None:
        self._timeout_s = timeout_s
        self._resolve = resolve
        self._keep_alive = keep_alive
        self._session: aiohttp.ClientSession | None = None

    async def get(self, url: str, headers: Mapping[str, str]) -> Answer:
        """Make one attempt; whatever keeps it from an answer is `NONE`."""
        try:
            async with (
                asyncio.timeout(self._timeout_s),
                self._opened().get(url, headers=headers, allow_redirects=False) as answer,
            ):
                return Answer(answer.status, await answer.read(), answer.headers)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return NONE

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            connector = aiohttp.TCPConnector(
                limit=0,
                resolver=_Names(self._resolve) if self._resolve else None,
                use_dns_cache=False,  # who resolves heeds the TTL
                force_close=not self._keep_alive,
            )
            self._session = aiohttp.ClientSession(connector=connector)
            # Retries are made in one place, by a policy: aiohttp's own would come on top.
            self._session._retry_connection = False
        return self._session


class _Names(AbstractResolver):
    """Addresses of names, for aiohttp."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            address = await self._resolve(host)
        except (LookupError, TimeoutError) as error:
            raise OSError(str(error)) from error
        return [
            ResolveResult(
                hostname=host, host=address, port=port, family=family, proto=0, flags=_NUMERIC
            )
        ]

    async def close(self) -> None:
        return
