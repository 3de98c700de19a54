"""The sessions of the shop: who has what in the cart.

A stateless web tier keeps them elsewhere, so that any instance serves any session and none is lost
with an instance. A cart is replaced under the condition that nobody else has done so meanwhile.
Sources: Amazon DynamoDB Developer Guide, "Condition expressions", "Optimistic locking with version
number" and "Using time to live (TTL)" (what has expired may still be there, and is to be filtered).
"""

import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from botocore.exceptions import ClientError

from chaosgrade.stage.workload.aws_client import AwsClient

_LASTS_S = 86_400

type Cart = Mapping[str, int]
"""{product: how many}."""


class UnknownSession(Exception):
    """There is none with this id, or it has expired."""


class SessionChanged(Exception):
    """Somebody else has changed it meanwhile."""


@dataclass(frozen=True, slots=True)
class Session:
    """A customer's visit.

    Args:
        version: rises with each change.
    """

    id: str
    version: int
    cart: Cart


class Sessions(Protocol):
    """Where sessions are kept."""

    async def begin(self, cart: Cart) -> Session:
        """A new one.

        Raises:
            AwsUnavailable: it may be there, and nobody knows its id.
        """
        ...

    async def read(self, id_: str) -> Session:
        """One that is there.

        Raises:
            UnknownSession, AwsUnavailable: as the names say.
        """
        ...

    async def replace(self, id_: str, version: int, cart: Cart) -> Session:
        """Another cart, if the session still has this version.

        Raises:
            UnknownSession, SessionChanged: as the names say.
            AwsUnavailable: whether it has another cart is not known.
        """
        ...


class DynamoSessions:
    """In a table of Amazon DynamoDB: every instance knows every session.

    Args:
        table: with the key `id`.
        now: seconds since the epoch, for tests.
    """

    def __init__(self, table: str, client: AwsClient, now: Callable[[], float] = time.time) -> None:
        self._table = table
        self._client = client
        self._now = now

    async def begin(self, cart: Cart) -> Session:
        """See `Sessions`."""
        session = Session(uuid.uuid4().hex, 1, cart)
        item = {"id": {"S": session.id}, "version": {"N": "1"}, **self._written(cart, "")}
        # Without a condition: what the SDK sends twice is the same twice.
        await self._client.run(lambda db: db.put_item(TableName=self._table, Item=item))
        return session

    async def read(self, id_: str) -> Session:
        """See `Sessions`."""
        answer = await self._client.run(
            lambda db: db.get_item(
                TableName=self._table, Key={"id": {"S": id_}}, ConsistentRead=True
            )
        )
        return self._read(id_, answer.get("Item"))

    async def replace(self, id_: str, version: int, cart: Cart) -> Session:
        """See `Sessions`."""
        change = uuid.uuid4().hex
        values = {
            f":{name}": value
            for name, value in {
                **self._written(cart, change),
                "next": {"N": str(version + 1)},
                "version": {"N": str(version)},
                "now": {"N": str(int(self._now()))},
            }.items()
        }
        try:
            await self._client.run(
                lambda db: db.update_item(
                    TableName=self._table,
                    Key={"id": {"S": id_}},
                    UpdateExpression=(
                        "SET cart = :cart, change = :change, expires = :expires, version = :next"
                    ),
                    ConditionExpression="version = :version AND expires > :now",
                    ExpressionAttributeValues=values,
                    ReturnValuesOnConditionCheckFailure="ALL_OLD",
                ),
                "ConditionalCheckFailedException",
            )
        except ClientError as error:
            item = error.response.get("Item")
            found = self._read(id_, item)
            # The SDK sends again what was not answered: then it is our own change that is there.
            if item is None or item["change"]["S"] != change:
                raise SessionChanged(
                    f"session {id_} has version {found.version} by now, not {version}"
                ) from error
        return Session(id_, version + 1, cart)

    def _written(self, cart: Cart, change: str) -> dict[str, Any]:
        return {
            "cart": {"M": {product: {"N": str(count)} for product, count in cart.items()}},
            "change": {"S": change},
            "expires": {"N": str(int(self._now()) + _LASTS_S)},
        }

    def _read(self, id_: str, item: Mapping[str, Any] | None) -> Session:
        if item is None or int(item["expires"]["N"]) <= self._now():
            raise UnknownSession(f"there is no session {id_}")
        cart = {product: int(count["N"]) for product, count in item["cart"]["M"].items()}
        return Session(id_, int(item["version"]["N"]), cart)


class MemorySessions:
    """In this instance's memory: no other knows them, and they end with it."""

    def __init__(self) -> None:
        self._sessions: dict[str, Session] = {}

    async def begin(self, cart: Cart) -> Session:
        """See `Sessions`."""
        session = Session(uuid.uuid4().hex, 1, cart)
        self._sessions[session.id] = session
        return session

    async def read(self, id_: str) -> Session:
        """See `Sessions`."""
        if id_ not in self._sessions:
            raise UnknownSession(f"there is no session {id_}")
        return self._sessions[id_]

    async def replace(self, id_: str, version: int, cart: Cart) -> Session:
        """See `Sessions`."""
        found = await self.read(id_)
        if found.version != version:
            raise SessionChanged(f"session {id_} has version {found.version} by now, not {version}")
        changed = Session(id_, version + 1, cart)
        self._sessions[id_] = changed
        return changed
