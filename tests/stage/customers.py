"""Customers of a stage's databases, for tests: they write, and know what was acknowledged."""

import itertools
import threading
import time
from typing import Any

import psycopg
import pytest
from botocore.exceptions import ClientError

from chaosgrade.stage.workload.resolver import Resolver
from tests.stage.children import wait_until
from tests.stage.conftest import Stage

_numbers = itertools.count()
_PASSING = (
    psycopg.OperationalError,  # it is down
    psycopg.errors.ReadOnlySqlTransaction,  # it was the writer, and is a reader now
    psycopg.errors.UndefinedTable,  # it has lost even the table
)


def resolver(stage: Stage) -> Resolver:
    return Resolver(stage.document["dns"])


def connect(host: str) -> "psycopg.Connection[Any]":
    return psycopg.connect(
        host=host, port=5432, user="shop", password="only-on-the-stage", dbname="shop",
        autocommit=True, connect_timeout=2,
    )  # fmt: skip


def kept(stage: Stage, name: str) -> set[int]:
    """The numbers in the database that a name leads to."""
    with connect(resolver(stage).resolve(name)) as connection:
        return {n for (n,) in connection.execute("SELECT n FROM orders")}


def refusal(call: Any, **arguments: Any) -> str:
    """The code of the error that a call ends with."""
    with pytest.raises(ClientError) as caught:
        call(**arguments)
    return str(caught.value.response["Error"]["Code"])


class Customer:
    """Writes numbers through a name, to whatever it leads, until told to end.

    Args:
        stage: where.
        name: of the endpoint.
    """

    def __init__(self, stage: Stage, name: str) -> None:
        self.acknowledged: set[int] = set()
        self._resolver = resolver(stage)
        self._name = name
        self._done = threading.Event()
        with connect(self._resolver.resolve(self._name)) as connection:
            connection.execute("CREATE TABLE IF NOT EXISTS orders (n int PRIMARY KEY)")
        self._thread = threading.Thread(target=self._write, daemon=True)
        self._thread.start()

    def writes(self, count: int) -> None:
        """Wait until so many more are acknowledged."""
        target = len(self.acknowledged) + count
        wait_until(lambda: len(self.acknowledged) >= target, f"{count} writes")

    def end(self) -> set[int]:
        """What was acknowledged."""
        self._done.set()
        self._thread.join(10)
        assert not self._thread.is_alive()
        return self.acknowledged

    def _write(self) -> None:
        while not self._done.is_set():
            try:
                with connect(self._resolver.resolve(self._name)) as connection:
                    while not self._done.is_set():
                        number = next(_numbers)
                        connection.execute("INSERT INTO orders VALUES (%s)", (number,))
                        self.acknowledged.add(number)
            except _PASSING:
                time.sleep(0.01)
