"""What the shop's servers read from their environment."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from random import Random
from typing import TYPE_CHECKING

from chaosgrade.stage.workload.aws_client import AwsClient
from chaosgrade.stage.workload.cache import Cache
from chaosgrade.stage.workload.database import Account, Database
from chaosgrade.stage.workload.images import Images
from chaosgrade.stage.workload.orders import Orders, schema
from chaosgrade.stage.workload.products import TABLE, Products
from chaosgrade.stage.workload.resolver import Resolver
from chaosgrade.stage.workload.sessions import DynamoSessions, MemorySessions, Sessions

if TYPE_CHECKING:
    from chaosgrade.stage.workload.quote_requests import QuoteRequests
    from chaosgrade.stage.workload.recommendation_requests import RecommendationRequests

_SERVICE_TIMEOUT_S = 0.5
"""Of an attempt: one in a thousand takes longer when all is well. Source: Amazon Builders' Library,
"Timeouts, retries, and backoff with jitter", on choosing timeouts."""


def database(environment: Mapping[str, str], tables: str) -> Database:
    """The shop's database.

    Args:
        environment: NAME_SERVER; DATABASE_HOST, _PORT, _NAME, _USER, _PASSWORD; and what may be
            left out: DATABASE_ADDRESS ("resolved" anew as the TTL says, or "cached") and
            DATABASE_TIMEOUTS ("true" or "false").
        tables: statements that make them, see `Database`.
    """
    account = Account(
        host=environment["DATABASE_HOST"],
        port=int(environment["DATABASE_PORT"]),
        name=environment["DATABASE_NAME"],
        user=environment["DATABASE_USER"],
        password=environment["DATABASE_PASSWORD"],
    )
    cached = environment.get("DATABASE_ADDRESS") == "cached"
    guarded = environment.get("DATABASE_TIMEOUTS") != "false"
    return Database(account, _resolving(environment, cached=cached), tables, guarded=guarded)


def shop_database(environment: Mapping[str, str]) -> Database:
    """The same, with orders and products.

    Args:
        environment: that of `database`, and WRITE_RETRY.
    """
    return database(environment, schema(unique=_idempotent(environment)) + TABLE)


def orders(environment: Mapping[str, str], database: Database) -> Orders:
    """The shop's orders.

    Args:
        environment: WRITE_RETRY ("idempotent" or "blind").
    """
    return Orders(database, idempotent=_idempotent(environment))


def products(environment: Mapping[str, str], database: Database) -> Products:
    """The shop's products.

    Args:
        environment: CACHE_HOST and CACHE_PORT, without which there is no cache; NAME_SERVER;
            REQUEST_COALESCING and CACHED_FALLBACK ("true" or "false").
    """
    cache = None
    if "CACHE_HOST" in environment:
        port = int(environment["CACHE_PORT"])
        cache = Cache(environment["CACHE_HOST"], port, _resolving(environment))
    return Products(
        database,
        cache,
        coalesce=environment.get("REQUEST_COALESCING") != "false",
        fallback=environment.get("CACHED_FALLBACK") != "false",
    )


def sessions(environment: Mapping[str, str]) -> Sessions:
    """The shop's sessions.

    Args:
        environment: SESSION_STORE ("dynamodb" or "memory"), for the former SESSIONS_TABLE.
    """
    if environment["SESSION_STORE"] == "memory":
        return MemorySessions()
    return DynamoSessions(environment["SESSIONS_TABLE"], AwsClient("dynamodb"))


def images(environment: Mapping[str, str]) -> Images:
    """The images of the shop's products.

    Args:
        environment: IMAGES_BUCKET.
    """
    return Images(environment["IMAGES_BUCKET"], AwsClient("s3"))


def recommendations(environment: Mapping[str, str], *headers: str) -> "RecommendationRequests":
    """Requests for recommendations.

    Args:
        environment: RECOMMENDATIONS_URL; RETRY_POLICY, see `retry_notation`; NAME_SERVER.
        headers: of every answer.
    """
    # Late, as below: who has no such service should not wait for the HTTP client's import.
    from chaosgrade.policies.retry_notation import parse
    from chaosgrade.stage.workload.recommendation_requests import RecommendationRequests
    from chaosgrade.stage.workload.service_client import ServiceClient

    service = ServiceClient(timeout_s=_SERVICE_TIMEOUT_S, resolve=_resolving(environment))
    policy = parse(environment["RETRY_POLICY"])
    url = environment["RECOMMENDATIONS_URL"]
    return RecommendationRequests(service, url, policy, *headers)


def quotes(environment: Mapping[str, str], *headers: str) -> "QuoteRequests":
    """Requests for quotes.

    Args:
        environment: QUOTE_WORKERS, as "NAME=ADDRESS:PORT,…"; SHARDING and RETRY_ENDPOINT, see
            `QuoteRouting`.
        headers: of every answer.
    """
    from chaosgrade.stage.workload.quote_requests import QuoteRequests
    from chaosgrade.stage.workload.quote_routing import QuoteRouting
    from chaosgrade.stage.workload.service_client import ServiceClient

    named = (worker.partition("=") for worker in environment["QUOTE_WORKERS"].split(","))
    workers = {name: address for name, _, address in named}
    routing = QuoteRouting(
        workers, environment["SHARDING"], environment["RETRY_ENDPOINT"], Random()
    )
    # A connection for each request: one that a crash has ended is nobody's next one.
    service = ServiceClient(timeout_s=_SERVICE_TIMEOUT_S, keep_alive=False)
    return QuoteRequests(service, routing, *headers)


def _resolving(
    environment: Mapping[str, str], *, cached: bool = False
) -> Callable[[str], Awaitable[str]]:
    resolver = Resolver(environment["NAME_SERVER"], cache_forever=cached)

    async def resolve(name: str) -> str:
        return resolver.kept(name) or await asyncio.to_thread(resolver.resolve, name)

    return resolve


def _idempotent(environment: Mapping[str, str]) -> bool:
    return environment.get("WRITE_RETRY") != "blind"
