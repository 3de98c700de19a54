"""How the shop reaches its database: connections in a pool, with limits on how long anything waits.

Source of the advice: Amazon RDS User Guide, "Best practices for Amazon RDS" (time to live of a
client's DNS cache) and Amazon Builders' Library, "Timeouts, retries, and backoff with jitter".
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

import asyncpg

_CONNECTIONS = 8
_CONNECT_TIMEOUT_S = 1.0
_STATEMENT_TIMEOUT_S = 1.0
_POOL_TIMEOUT_S = 0.5
_READ_TRIES = 2

type Row = Sequence[Any]


class Unavailable(Exception):
    """The database was not reached: nothing was executed."""


class BrokenOff(Exception):
    """The connection was lost before the answer: whether it was executed is not known."""


@dataclass(frozen=True, slots=True)
class Account:
    """Where the database is and who asks.

    Args:
        host: name of the endpoint.
    """

    host: str
    port: int
    name: str
    user: str
    password: str


class Database:
    """A pool of connections.

    Each new connection asks again where the name leads. What fails or does not answer in time is
    closed, and the others with it: what one connection met, the rest would.

    Args:
        account: of the endpoint.
        resolve: gives the address of a name; may raise LookupError or TimeoutError.
        schema: executed on each new connection; must not mind that it has been before.
        guarded: False waits without limit and never looks whether a connection is dead.
    """

    def __init__(
        self,
        account: Account,
        resolve: Callable[[str], Awaitable[str]],
        schema: str,
        *,
        guarded: bool = True,
    ) -> None:
        self._account = account
        self._resolve = resolve
        self._schema = schema
        self._guarded = guarded
        self._idle: deque[asyncpg.Connection] = deque()
        self._slots = asyncio.Semaphore(_CONNECTIONS)

    async def ask(self, statement: str, *values: object) -> list[Row]:
        """Execute one statement, in a transaction of its own, and return its rows.

        Raises:
            Unavailable: as the name says; also when every connection is busy.
            BrokenOff: as the name says.
        """
        await self._take_slot()
        try:
            connection = await self._connection()
            try:
                return await self._execute(connection, statement, values)
            finally:
                if not self._guarded or not connection.is_closed():
                    self._idle.append(connection)
        finally:
            self._slots.release()

    async def read(self, question: str, *values: object) -> list[Row]:
        """Ask for rows, again if the answer was lost: nothing is changed by that.

        Raises:
            Unavailable, BrokenOff: as `ask`.
        """
        for _ in range(_READ_TRIES - 1):
            with suppress(BrokenOff):
                return await self.ask(question, *values)
        return await self.ask(question, *values)

    async def _take_slot(self) -> None:
        try:
            async with asyncio.timeout(_POOL_TIMEOUT_S if self._guarded else None):
                await self._slots.acquire()
        except TimeoutError:
            raise Unavailable("every connection to the database is busy") from None

    async def _connection(self) -> asyncpg.Connection:
        while self._idle:
            connection = self._idle.popleft()
            if not self._guarded or not connection.is_closed():
                return connection
        account = self._account
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT_S if self._guarded else None):
                made = await asyncpg.connect(
                    host=await self._resolve(account.host), port=account.port, user=account.user,
                    password=account.password, database=account.name, ssl=False, timeout=None,
                )  # fmt: skip
        except (LookupError, OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            raise Unavailable(f"no connection to the database: {error or 'timeout'}") from error
        try:
            with self._limit(made):
                await made.execute(self._schema)
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
            made.terminate()
            raise Unavailable(f"the database does not take the schema: {error}") from error
        return made

    async def _execute(
        self,
        connection: asyncpg.Connection,
        statement: str,
        values: Sequence[object],
    ) -> list[Row]:
        try:
            with self._limit(connection):
                return list(await connection.fetch(statement, *values))
        except (asyncpg.InterfaceError, asyncpg.InternalClientError) as error:  # dead before
            connection.terminate()
            self._drop_idle()
            raise Unavailable(str(error)) from error
        except (OSError, asyncpg.PostgresConnectionError, asyncpg.OperatorInterventionError) as e:
            connection.terminate()
            self._drop_idle()
            raise BrokenOff(str(e)) from e
        except asyncpg.PostgresError as error:  # refused: nothing has changed
            connection.terminate()
            raise Unavailable(str(error)) from error

    @contextmanager
    def _limit(self, connection: asyncpg.Connection) -> Iterator[None]:
        """Close it when a statement takes too long: asking a dead server to cancel would hang."""
        if not self._guarded:
            yield
            return
        loop = asyncio.get_running_loop()
        watch = loop.call_later(_STATEMENT_TIMEOUT_S, connection.terminate)
        try:
            yield
        finally:
            watch.cancel()

    def _drop_idle(self) -> None:
        if self._guarded:
            while self._idle:
                self._idle.popleft().terminate()
