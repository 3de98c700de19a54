"""The orders of the shop.

A commit whose answer was lost is in doubt: it may have happened. It is tried again until the
outcome is known, which is safe because an order has its customer's own id. Source: AWS
Well-Architected Framework, Reliability Pillar, "Make mutating operations idempotent".
"""

from dataclasses import dataclass
from random import Random

from chaosgrade.policies.backoff_families import FullJitter, NoBackoff
from chaosgrade.policies.retry import RetryPolicy
from chaosgrade.stage.workload.database import BrokenOff, Database, Row, Unavailable

# For as long as a failover may take, whatever the number of attempts. Without a quota: a commit in
# doubt that is given up early is one more that nobody can account for.
_IN_DOUBT = RetryPolicy(attempts=None, backoff=FullJitter(0.05, 0.5), deadline_s=5.0)
_READ = RetryPolicy(attempts=2, backoff=NoBackoff())  # on another connection

_TABLE = """
    SELECT pg_advisory_xact_lock(8080);
    CREATE TABLE IF NOT EXISTS orders (
        number bigserial PRIMARY KEY, id text NOT NULL, customer text NOT NULL,
        product text NOT NULL, placed timestamptz NOT NULL DEFAULT now()
    );
    {index};
"""
_INSERT = "INSERT INTO orders (id, customer, product) VALUES ($1, $2, $3)"
# A conflict writes as well: its commit waits, like the first one, until the standby has the row.
_OR_FIND = "ON CONFLICT (id) DO UPDATE SET id = excluded.id"
_PAGE = "SELECT id, number FROM orders WHERE id ^@ $1 AND number > $2 ORDER BY number LIMIT $3"


def schema(*, unique: bool) -> str:
    """What the database must have.

    Args:
        unique: whether an id may be there once only.
    """
    kind = "UNIQUE INDEX" if unique else "INDEX"
    return _TABLE.format(index=f"CREATE {kind} IF NOT EXISTS orders_by_id ON orders (id)")


@dataclass(frozen=True, slots=True)
class Order:
    """What a customer orders.

    Args:
        id: the customer's own.
    """

    id: str
    customer: str
    product: str


class Orders:
    """Places and lists orders.

    Args:
        database: with `schema`.
        idempotent: False inserts an order again without asking whether it is there.
    """

    def __init__(self, database: Database, *, idempotent: bool = True) -> None:
        self._database = database
        self._random = Random()
        self._insert = f"{_INSERT} {_OR_FIND if idempotent else ''} RETURNING number"

    async def place(self, order: Order) -> int:
        """Commit an order; returns its number, of the same order the same.

        Raises:
            Unavailable: the database cannot be reached.
            BrokenOff: it could not be found out whether the order was committed.
        """
        in_doubt = False

        async def insert() -> list[Row]:
            return await self._database.ask(self._insert, order.id, order.customer, order.product)

        def unknown(error: Exception) -> bool:
            nonlocal in_doubt
            in_doubt = in_doubt or isinstance(error, BrokenOff)
            return in_doubt

        try:
            rows = await _IN_DOUBT.call(insert, retry_on=unknown, random=self._random)
        except (BrokenOff, Unavailable) as error:
            if not in_doubt:
                raise
            raise BrokenOff(f"whether order {order.id} was committed is not known") from error
        return int(rows[0][0])

    async def page(self, prefix: str, after: int, limit: int) -> list[tuple[str, int]]:
        """(id, number) of orders by rising number.

        Args:
            prefix: of their ids.
            after: only of higher numbers.
            limit: at most so many.

        Raises:
            Unavailable, BrokenOff: the database cannot be reached.
        """
        rows = await self._database.read(_PAGE, prefix, after, limit)
        return [(str(id_), int(number)) for id_, number in rows]

    async def check(self) -> None:
        """Ask the database for anything.

        Raises:
            Unavailable, BrokenOff: it cannot be reached.
        """
        await self._database.ask("SELECT 1")
