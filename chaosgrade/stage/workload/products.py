"""The products of the shop: read through the cache, and from the database what it has not got.

Of all who miss one product at the same time one asks the database (request coalescing); while the
database is away, what the cache last knew is served as stale. Sources: Amazon Builders' Library,
"Caching challenges and strategies" (soft and hard TTL, request coalescing); Amazon ElastiCache User
Guide, "Caching strategies" (lazy loading, TTL).
"""

import asyncio
import json
import random
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Protocol

from chaosgrade.stage.workload.cache import CacheAway
from chaosgrade.stage.workload.database import BrokenOff, Row, Unavailable

HIT, MISS, STALE, AWAY = "hit", "miss", "stale", "away"

TABLE = """
    SELECT pg_advisory_xact_lock(8080);
    CREATE TABLE IF NOT EXISTS products (
        id text PRIMARY KEY, name text NOT NULL, price_cents integer NOT NULL
    );
    INSERT INTO products (id, name, price_cents)
        SELECT n::text, 'Tea no. ' || n, 200 + 7 * n FROM generate_series(1, 100) AS n
        WHERE NOT EXISTS (SELECT FROM products);
"""
_FIND = "SELECT id, name, price_cents FROM products WHERE id = $1"
_FRESH_S, _KEPT_S = 10.0, 3600


@dataclass(frozen=True, slots=True)
class Product:
    """What the shop sells."""

    id: str
    name: str
    price_cents: int


@dataclass(frozen=True, slots=True)
class Found:
    """An answer.

    Args:
        product: None if there is no such product.
        cache: what became of asking the cache: `HIT`, `MISS`, `STALE` (it had the product, no
            longer fresh, and the database did not answer) or `AWAY`.
    """

    product: Product | None
    cache: str


class Rows(Protocol):
    """Where questions are answered, see `Database.read`."""

    async def read(self, question: str, *values: object) -> list[Row]: ...


class Values(Protocol):
    """Where values are kept by key, see `Cache`."""

    async def get(self, key: str) -> bytes | None: ...

    async def put(self, key: str, value: bytes, keep_s: int) -> None: ...


class Products:
    """Finds products.

    Args:
        database: with `TABLE`.
        cache: None for no cache.
        coalesce: False has each miss ask the database.
        fallback: False fails while the database is away.
        now: seconds since the epoch, for tests.
    """

    def __init__(
        self,
        database: Rows,
        cache: Values | None,
        *,
        coalesce: bool = True,
        fallback: bool = True,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._cache = cache
        self._coalesce = coalesce
        self._fallback = fallback
        self._now = now
        self._loading: dict[str, asyncio.Task[Product | None]] = {}

    async def find(self, id_: str) -> Found:
        """A product.

        Raises:
            Unavailable, BrokenOff: the database was needed and cannot be reached.
        """
        known, asked = await self._cached(id_)
        if known is not None and known.fresh_until > self._now():
            return Found(known.product, HIT)
        try:
            return Found(await self._loaded(id_), asked)
        except (Unavailable, BrokenOff):
            if known is None or not self._fallback:
                raise
            return Found(known.product, STALE)

    async def _cached(self, id_: str) -> tuple["_Entry | None", str]:
        if self._cache is None:
            return None, AWAY
        try:
            value = await self._cache.get(_key(id_))
        except CacheAway:
            return None, AWAY
        return (_Entry.read(value) if value else None), MISS

    async def _loaded(self, id_: str) -> Product | None:
        if not self._coalesce:
            return await self._load(id_)
        task = self._loading.get(id_)
        if task is None:
            task = self._loading[id_] = asyncio.create_task(self._load(id_))
            task.add_done_callback(lambda _: self._loading.pop(id_))
        return await asyncio.shield(task)  # one customer who leaves must not fail the others

    async def _load(self, id_: str) -> Product | None:
        rows = await self._database.read(_FIND, id_)
        if not rows:
            return None
        product = Product(*rows[0])
        if self._cache is not None:
            # Not all at once: what was loaded together shall not become stale together.
            fresh_until = self._now() + random.uniform(0.9, 1.1) * _FRESH_S
            entry = _Entry(product, fresh_until)
            with suppress(CacheAway):  # the next customer asks the database again
                await self._cache.put(_key(id_), entry.written(), _KEPT_S)
        return product


@dataclass(frozen=True, slots=True)
class _Entry:
    """What is in the cache.

    Args:
        fresh_until: seconds since the epoch.
    """

    product: Product
    fresh_until: float

    def written(self) -> bytes:
        return json.dumps([asdict(self.product), self.fresh_until]).encode()

    @classmethod
    def read(cls, value: bytes) -> "_Entry | None":
        """None of what another version of the shop has written."""
        try:
            fields, fresh_until = json.loads(value)
            return cls(Product(**fields), float(fresh_until))
        except (TypeError, ValueError):
            return None


def _key(id_: str) -> str:
    return f"product:{id_}"
