"""The shop's products: who asks the database, and what customers get while something is away."""

import asyncio
from collections.abc import Iterator

import pytest

from chaosgrade.stage.workload.cache import Cache, CacheAway
from chaosgrade.stage.workload.database import Row, Unavailable
from chaosgrade.stage.workload.products import AWAY, HIT, MISS, STALE, Found, Product, Products
from tests.stage.children import CACHES, Child, child, free_address

TEA = Product("7", "Tea no. 7", 249)
_PORT = 6379


class Shelf:
    """A cache in memory, which can be away."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.is_away = False

    async def get(self, key: str) -> bytes | None:
        if self.is_away:
            raise CacheAway
        return self.kept.get(key)

    async def put(self, key: str, value: bytes, keep_s: int) -> None:
        if self.is_away:
            raise CacheAway
        self.kept[key] = value


class Stock:
    """A database with one product, which can be away and takes as long as it is told."""

    def __init__(self) -> None:
        self.asked = 0
        self.is_away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def read(self, question: str, *values: object) -> list[Row]:
        self.asked += 1
        await self.answers.wait()
        if self.is_away:
            raise Unavailable("gone")
        return [(TEA.id, TEA.name, TEA.price_cents)] if values == (TEA.id,) else []


class Clock:
    """Seconds since the epoch, as they are set."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_a_product_is_read_once_while_it_is_fresh() -> None:
    """The first time from the database, then from the cache, and anew when it is too old."""
    stock, clock = Stock(), Clock()
    products = Products(stock, Shelf(), now=clock)
    assert [await products.find("7") for _ in range(3)] == [
        Found(TEA, MISS), Found(TEA, HIT), Found(TEA, HIT),
    ]  # fmt: skip
    assert stock.asked == 1
    clock.now += 12
    assert [await products.find("7") for _ in range(2)] == [Found(TEA, MISS), Found(TEA, HIT)]
    assert stock.asked == 2


async def test_a_product_that_is_not_there_is_not_kept() -> None:
    """It may be there the next time."""
    stock, shelf = Stock(), Shelf()
    products = Products(stock, shelf)
    assert await products.find("8") == Found(None, MISS)
    assert await products.find("8") == Found(None, MISS)
    assert (stock.asked, shelf.kept) == (2, {})


@pytest.mark.parametrize(("coalesce", "asked"), [(True, 1), (False, 20)])
async def test_of_many_who_miss_a_product_one_asks_the_database(coalesce: bool, asked: int) -> None:
    """The others wait for its answer; without coalescing, each asks."""
    stock = Stock()
    stock.answers.clear()
    products = Products(stock, Shelf(), coalesce=coalesce)
    customers = [asyncio.create_task(products.find("7")) for _ in range(20)]
    other = asyncio.create_task(products.find("8"))
    while stock.asked < asked + 1:
        await asyncio.sleep(0)
    stock.answers.set()
    assert await asyncio.gather(*customers) == [Found(TEA, MISS)] * 20
    assert await other == Found(None, MISS)
    assert stock.asked == asked + 1


async def test_a_customer_who_leaves_does_not_take_the_answer_along() -> None:
    """Nor does a failure stay for those who come later."""
    stock = Stock()
    stock.answers.clear()
    products = Products(stock, Shelf())
    first, second = (asyncio.create_task(products.find("7")) for _ in range(2))
    while stock.asked < 1:
        await asyncio.sleep(0)
    first.cancel()
    stock.is_away = True
    stock.answers.set()
    with pytest.raises(Unavailable):
        await second
    stock.is_away = False
    assert await products.find("7") == Found(TEA, MISS)


async def test_without_its_cache_the_shop_asks_the_database() -> None:
    """Each time, and says so."""
    stock, shelf = Stock(), Shelf()
    shelf.is_away = True
    assert [await Products(stock, shelf).find("7") for _ in range(2)] == [Found(TEA, AWAY)] * 2
    assert await Products(stock, None).find("7") == Found(TEA, AWAY)
    assert stock.asked == 3


@pytest.mark.parametrize("fallback", [True, False])
async def test_what_is_too_old_is_served_while_the_database_is_away(fallback: bool) -> None:
    """As stale, unless the fallback is off; what nobody has asked for fails."""
    stock, clock = Stock(), Clock()
    products = Products(stock, Shelf(), fallback=fallback, now=clock)
    await products.find("7")
    stock.is_away = True
    assert await products.find("7") == Found(TEA, HIT)
    clock.now += 12
    if fallback:
        assert await products.find("7") == Found(TEA, STALE)
    else:
        with pytest.raises(Unavailable):
            await products.find("7")
    with pytest.raises(Unavailable):
        await products.find("8")


@pytest.mark.parametrize("value", [b"", b"tea", b"[1, 2]", b'[{"id": "7"}, 9e9]', b"[[], 1]"])
async def test_what_the_shop_does_not_understand_in_its_cache_is_a_miss(value: bytes) -> None:
    """Another version of the shop may have written it."""
    shelf = Shelf()
    shelf.kept["product:7"] = value
    products = Products(Stock(), shelf)
    assert [await products.find("7") for _ in range(2)] == [Found(TEA, MISS), Found(TEA, HIT)]


# -- the cache itself


@pytest.fixture(scope="module")
def caches() -> Iterator[Child]:
    """One process for all tests."""
    with child(CACHES) as started:
        yield started


def create(caches: Child, group: str) -> str:
    """Start a server; its address."""
    host = free_address()[0]
    caches.send(
        op="create", group=group, servers=[{"node": "1", "host": host}], port=_PORT,
        detection_s=0.2, fails_over=False,
    )  # fmt: skip
    caches.wait_for("available", group=group)
    return host


def cache(addresses: list[str], clock: Clock) -> Cache:
    """A cache whose name leads to the last of these addresses."""

    async def resolve(name: str) -> str:
        if not addresses:
            raise LookupError(name)
        return addresses[-1]

    return Cache("cache.shop", _PORT, resolve, clock)


async def test_a_cache_that_does_not_answer_is_left_alone_for_a_second(caches: Child) -> None:
    """One customer waits, for a moment; the next ones do not."""
    host = create(caches, "silent")
    clock = Clock()
    ours = cache([host], clock)
    await ours.put("tea", b"green", 60)
    assert await ours.get("tea") == b"green"
    caches.send(op="links", subnets={host: f"{host}/32"}, cut=[["", host, _PORT]])
    create(caches, "after")  # orders are carried out one after another
    loop = asyncio.get_running_loop()
    for least_s, most_s in ((0.2, 5.0), (0.0, 0.1)):
        began = loop.time()
        with pytest.raises(CacheAway):
            await ours.get("tea")
        assert least_s <= loop.time() - began <= most_s
    caches.send(op="links", subnets={}, cut=[])
    create(caches, "healed")
    with pytest.raises(CacheAway):
        await ours.get("tea")
    clock.now += 1
    assert await ours.get("tea") == b"green"


async def test_a_cache_that_was_started_again_is_found_empty(caches: Child) -> None:
    """Nobody is left with a dead connection."""
    host = create(caches, "restarted")
    clock = Clock()
    ours = cache([host], clock)
    await ours.put("tea", b"green", 60)
    caches.send(op="fail_over", group="restarted")
    caches.wait_for("available", group="restarted")
    clock.now += 1
    assert await ours.get("tea") is None


async def test_a_cache_is_looked_for_where_its_name_leads(caches: Child) -> None:
    """Connections to where it led before are not used any more."""
    addresses = [create(caches, "former")]
    clock = Clock()
    ours = cache(addresses, clock)
    await ours.put("tea", b"green", 60)
    addresses.append(create(caches, "latter"))
    assert await ours.get("tea") is None
    addresses.clear()
    with pytest.raises(CacheAway):
        await ours.get("tea")
