"""Who is served by which workers, as a file, a table or an endpoint says it."""

import csv
import io
import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from chaosgrade.aws import Aws, Call, ResourceGone
from chaosgrade.errors import ChaosgradeError, Exit, TargetNotFound, UsageError

_TIMEOUT_S = 30.0
_MOST_BYTES = 1 << 30

type Row = tuple[str, Sequence[str]]
"""A customer and the customer's workers."""


class AssignmentUnread(ChaosgradeError):
    """The endpoint that knows the assignment does not answer: nothing is known of it."""

    exit_code = Exit.INCONCLUSIVE


@dataclass(frozen=True)
class Assignment:
    """Shards of one size.

    Args:
        workers: all that there are, sorted, whether or not they serve anybody.
        shards: the workers of each customer.
    """

    workers: tuple[str, ...]
    shards: Mapping[str, frozenset[str]]

    @property
    def shard(self) -> int:
        """How many workers each customer has."""
        return len(next(iter(self.shards.values())))

    @cached_property
    def customers(self) -> tuple[str, ...]:
        """Their names, in the order they were read."""
        return tuple(self.shards)

    @cached_property
    def members(self) -> NDArray[np.bool_]:
        """Of shape (customers, workers): who is served by whom."""
        position = {name: number for number, name in enumerate(self.workers)}
        members = np.zeros((len(self.shards), len(self.workers)), dtype=bool)
        for row, shard in enumerate(self.shards.values()):
            members[row, [position[name] for name in shard]] = True
        return members


def read_assignment(
    aws: Callable[[], Aws] | None,
    *,
    file: str | None = None,
    url: str | None = None,
    table: str | None = None,
    customer_key: str = "customer",
    workers_key: str = "workers",
    workers: Sequence[str] | int | None = None,
) -> Assignment:
    """The assignment that one of three sources holds.

    Args:
        aws: where the table is, asked for only when there is one; None: nowhere.
        file: a `.json` or `.csv` file.
        url: an http or https address that answers with JSON.
        table: a DynamoDB table.
        customer_key, workers_key: names of fields, columns or attributes.
        workers: all workers that there are, or how many; None: those that a file or endpoint
            lists as its `workers`, or else those that serve somebody.

    Raises:
        UsageError: not exactly one source, or it does not hold an assignment.
        TargetNotFound: there is no such table.
        AwsError, AssignmentUnread: the table, or the endpoint, does not answer.
    """
    given = {"file": file, "url": url, "table": table}
    if sum(value is not None for value in given.values()) != 1:
        raise UsageError(
            "give exactly one of file, url and table, got "
            + ", ".join(f"{name}={value!r}" for name, value in given.items())
        )
    keys = (customer_key, workers_key)
    source = file or url or f"table {table}"
    listed: Sequence[str] | None = None
    try:
        if file is not None and Path(file).suffix == ".csv":
            rows = _of_csv(_text(Path(file)), keys)
        elif file is not None and Path(file).suffix == ".json":
            rows, listed = _of_json(_text(Path(file)), keys)
        elif file is not None:
            raise UsageError("an assignment must be a .json or .csv file")
        elif url is not None:
            rows, listed = _of_json(_answer(url), keys)
        elif aws is not None:
            rows = _of_table(aws(), str(table), keys)
        else:
            raise UsageError("a table cannot be read here; give a file")
        return checked(rows, listed if workers is None else workers)
    except UsageError as error:
        raise UsageError(f"{source}: {error}") from None


def checked(rows: Iterable[Row], workers: Sequence[str] | int | None = None) -> Assignment:
    """An assignment whose parts fit together.

    Args:
        rows: customers and their workers.
        workers: all workers that there are, or how many; None: those that serve somebody.

    Raises:
        UsageError: naming the customer or the value that does not fit.
    """
    shards: dict[str, frozenset[str]] = {}
    for customer, names in rows:
        if customer in shards:
            raise UsageError(f"customer {customer!r} is there twice")
        shard = frozenset(names)
        if not names:
            raise UsageError(f"customer {customer!r} has no workers")
        if len(shard) < len(names):
            twice = Counter(names).most_common(1)[0][0]
            raise UsageError(f"customer {customer!r} has worker {twice!r} twice")
        shards[customer] = shard
    if not shards:
        raise UsageError("there is no customer in it")
    sizes = Counter(len(shard) for shard in shards.values())
    k = sizes.most_common(1)[0][0]
    for customer, shard in shards.items():
        if len(shard) != k:
            raise UsageError(
                f"customer {customer!r} has {len(shard)} workers, {sizes[k]} others have {k}: "
                "shards must have one size"
            )
    return Assignment(_all_workers(shards, workers), shards)


def _all_workers(
    shards: Mapping[str, frozenset[str]], workers: Sequence[str] | int | None
) -> tuple[str, ...]:
    serving = frozenset().union(*shards.values())
    if workers is None:
        return tuple(sorted(serving))
    if isinstance(workers, str | bool):
        raise UsageError(f"workers must be a list of names or a number, got {workers!r}")
    if isinstance(workers, int):
        if workers < len(serving):
            raise UsageError(
                f"workers must be at least the {len(serving)} that serve somebody, got {workers}"
            )
        # Those that serve nobody need no name of their own.
        idle = (f"(idle {number})" for number in range(1, workers - len(serving) + 1))
        return tuple(sorted([*serving, *idle]))
    for customer, shard in shards.items():
        for name in sorted(shard.difference(workers)):
            raise UsageError(f"customer {customer!r} has worker {name!r}, which is not of workers")
    return tuple(sorted(set(workers)))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError("it is not text in UTF-8") from None


def _of_csv(text: str, keys: tuple[str, str]) -> list[Row]:
    """Rows of a customer and the workers; the first row names the columns."""
    try:
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
    except csv.Error as error:
        raise UsageError(f"it is not CSV: {error}") from None
    if rows and rows[0][:1] != [keys[0]]:
        raise UsageError(
            f"the first line must be {keys[0]!r} and a name for each column of workers, "
            f"got {','.join(rows[0])!r}"
        )
    return [(row[0], [name for name in row[1:] if name]) for row in rows[1:] if row]


def _of_json(text: str, keys: tuple[str, str]) -> tuple[list[Row], Sequence[str] | None]:
    """An object of lists, alone or as "shards" beside "workers", or a list of objects."""

    def pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
        for key, times in Counter(key for key, _ in found).items():
            if times > 1:
                raise UsageError(f"{key!r} is there twice")
        return dict(found)

    try:
        document = json.loads(text, object_pairs_hook=pairs)
    except ValueError as error:
        raise UsageError(f"it is not JSON: {error}") from None
    listed = None
    if isinstance(document, dict) and isinstance(document.get("shards"), dict):
        listed, document = document.get("workers"), document["shards"]
    if isinstance(document, dict):
        found = list(document.items())
    elif isinstance(document, list) and all(isinstance(each, dict) for each in document):
        found = [(each.get(keys[0]), each.get(keys[1])) for each in document]
    else:
        raise UsageError("it must be an object of lists of workers, or a list of objects")
    return [_row(customer, names, keys) for customer, names in found], listed


def _of_table(aws: Aws, table: str, keys: tuple[str, str]) -> list[Row]:
    try:
        items = list(aws.pages(Call("dynamodb", "Scan", {"TableName": table}), "Items"))
    except ResourceGone:
        raise TargetNotFound(
            f"there is no DynamoDB table {table}; check the name and the Region"
        ) from None
    plain = ([_plain(item.get(key, {})) for key in keys] for item in items)
    return [_row(customer, names, keys) for customer, names in plain]


def _plain(value: Mapping[str, Any]) -> Any:
    """A value as DynamoDB describes it, without its type.

    Source: Amazon DynamoDB API Reference, AttributeValue.
    """
    for kind, content in value.items():
        return [_plain(each) for each in content] if kind == "L" else content
    return None


def _row(customer: Any, names: Any, keys: tuple[str, str]) -> Row:
    if not isinstance(customer, str):
        raise UsageError(f"{keys[0]} must be a name, got {customer!r}")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UsageError(
            f"{keys[1]} of customer {customer!r} must be a list of names, got {names!r}"
        )
    return customer, names


def _answer(url: str) -> str:
    if urlsplit(url).scheme not in ("http", "https"):
        raise UsageError("url must be an http:// or https:// address")
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - checked
            body: bytes = answer.read(_MOST_BYTES)
            return body.decode()
    except UnicodeDecodeError:
        raise UsageError("it does not answer with text in UTF-8") from None
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        raise AssignmentUnread(f"{url} does not answer: {reason}") from None
