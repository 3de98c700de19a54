"""How the shop reaches its cache: with little patience, and not at all for a while when it is away.

What is in a cache may be gone at any time, and the cache with it: whoever asks has another source.
Sources: Amazon ElastiCache User Guide, "Best practices for clients (Valkey and Redis OSS)" and "DNS
names and underlying IP"; Amazon Builders' Library, "Caching challenges and strategies".
"""

import asyncio
import time
from collections.abc import Awaitable, Callable

from valkey.asyncio import BlockingConnectionPool, Valkey
from valkey.exceptions import ConnectionError, ValkeyError

_CONNECTIONS = 8
_PATIENCE_S = 0.25
_LEFT_ALONE_S = 1.0


class CacheAway(Exception):
    """The cache does not answer, or was asked not long ago and did not."""


class Cache:
    """Values by key.

    The address is asked for again as the TTL says; connections to another than the last are new
    ones. When one fails, all are given up.

    Args:
        host: name of the primary's endpoint.
        resolve: gives the address of a name; may raise LookupError or TimeoutError.
        clock: seconds, for tests.
    """

    def __init__(
        self,
        host: str,
        port: int,
        resolve: Callable[[str], Awaitable[str]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host = host
        self._port = port
        self._resolve = resolve
        self._clock = clock
        self._address = ""
        self._client: Valkey | None = None
        self._left_alone_until = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    async def get(self, key: str) -> bytes | None:
        """A value, or None.

        Raises:
            CacheAway: as the name says.
        """
        value: bytes | None = await self._ask(lambda client: client.get(key))
        return value

    async def put(self, key: str, value: bytes, keep_s: int) -> None:
        """Keep a value for so many seconds, if there is room.

        Raises:
            CacheAway: as the name says.
        """
        await self._ask(lambda client: client.set(key, value, ex=keep_s))

    async def _ask[T](self, work: Callable[[Valkey], Awaitable[T]]) -> T:
        if self._clock() < self._left_alone_until:
            raise CacheAway("the cache did not answer a moment ago")
        try:
            async with asyncio.timeout(_PATIENCE_S):
                return await work(await self._connected())
        except (ValkeyError, OSError, LookupError, TimeoutError) as error:
            self._left_alone_until = self._clock() + _LEFT_ALONE_S
            self._give_up()
            raise CacheAway(f"the cache does not answer: {error or 'timeout'}") from error

    async def _connected(self) -> Valkey:
        address = await self._resolve(self._host)
        if self._client is None or address != self._address:
            self._give_up()
            self._address = address
            self._client = Valkey.from_pool(
                BlockingConnectionPool(
                    max_connections=_CONNECTIONS,
                    timeout=None,  # `_ask` waits no longer than it has patience
                    host=address,
                    port=self._port,
                    socket_timeout=_PATIENCE_S,
                    socket_connect_timeout=_PATIENCE_S,
                    # Once: the server may have closed a connection long ago.
                    retry_on_error=[ConnectionError],
                )
            )
        return self._client

    def _give_up(self) -> None:
        """Close every connection; not waited for, since one that hangs has nothing to say."""
        if self._client is not None:
            task = asyncio.create_task(self._client.aclose())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
            self._client = None
