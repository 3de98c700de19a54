"""What the shop's servers read from their environment."""

import asyncio
from collections.abc import Mapping

from chaosgrade.stage.workload.database import Account, Database
from chaosgrade.stage.workload.resolver import Resolver


def database(environment: Mapping[str, str], schema: str) -> Database:
    """The shop's database.

    Args:
        environment: NAME_SERVER; DATABASE_HOST, _PORT, _NAME, _USER, _PASSWORD; and what may be
            left out: DATABASE_ADDRESS ("resolved" anew as the TTL says, or "cached") and
            DATABASE_TIMEOUTS ("true" or "false").
        schema: see `Database`.
    """
    resolver = Resolver(
        environment["NAME_SERVER"],
        cache_forever=environment.get("DATABASE_ADDRESS") == "cached",
    )

    async def resolve(name: str) -> str:
        return resolver.kept(name) or await asyncio.to_thread(resolver.resolve, name)

    account = Account(
        host=environment["DATABASE_HOST"],
        port=int(environment["DATABASE_PORT"]),
        name=environment["DATABASE_NAME"],
        user=environment["DATABASE_USER"],
        password=environment["DATABASE_PASSWORD"],
    )
    guarded = environment.get("DATABASE_TIMEOUTS") != "false"
    return Database(account, resolve, schema, guarded=guarded)
