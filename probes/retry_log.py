"""Attempts from logs: JSON lines, CSV and access logs of Application Load Balancers, also gzipped.

JSON lines and CSV have `client` and `time` (seconds, or ISO 8601), and may have `status`,
`retry_after` (seconds, or an HTTP date), `ended` (as time: when the attempt was answered) and
`request` (which request of the client it belongs to). Lines that cannot be used are counted, never
lost silently.

Source: Elastic Load Balancing, "Access logs for your Application Load Balancer", log entry syntax.
"""

import csv
import gzip
import io
import itertools
import json
import math
import re
import sys
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import itemgetter, methodcaller
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import UsageError
from chaosgrade.policies.retry_after import retry_after_s
from chaosgrade.probes.alb_entry import ALB_ENTRY
from chaosgrade.probes.arrivals import UNANSWERED, UNKNOWN, Arrivals, Floats
from chaosgrade.probes.senders import Sender, clients_of

FORMATS = ("json", "csv", "alb")

_BATCH = 50_000  # lines
_SHOWN = 60
_TEST_FILE = "ELBAccessLogTestFile"  # what a load balancer writes first, to see whether it may
_MISSING = ("", "-", None)
_CODE = re.compile(r"\s*[1-5][0-9]{2}\b")  # "200", and also 200.0 as tables have it, or "200 OK"
_SINCE_1970_S = 1e9  # below it, times count from something else, to which a date says nothing
_NOT_ALIKE = (ValueError, TypeError, KeyError, AttributeError, IndexError, OverflowError,
              RecursionError)  # fmt: skip
_FIELDS = ("client", "time", "status", "retry_after", "ended", "request")


def _numbering() -> defaultdict[Any, int]:
    """The next number for each name that is new, and -1 for none."""
    numbers: defaultdict[Any, int] = defaultdict(itertools.count().__next__)
    numbers.update(dict.fromkeys(_MISSING, -1))
    return numbers


@dataclass(slots=True)
class _Columns:
    """What has been read so far."""

    batches: dict[str, list[NDArray[Any]]] = field(
        default_factory=lambda: {name: [] for name in _FIELDS}
    )
    count: int = 0
    clients: defaultdict[Any, int] = field(default_factory=_numbering)
    requests: defaultdict[Any, int] = field(default_factory=_numbering)
    unusable: Counter[str] = field(default_factory=Counter)

    def add(self, columns: Mapping[str, Sequence[Any]]) -> None:
        """Add rows column by column.

        Raises:
            ValueError, TypeError: a value in them is not what its column holds; nothing was added.
        """
        time = _seconds(columns["time"])
        if not all(map(_is_name, set(map(type, columns["client"])))):
            raise TypeError("a client is a string or a number")
        many = len(time)
        client = _numbers(columns["client"], self.clients)
        if np.isnan(time).any() or (client < 0).any():
            raise ValueError("a row lacks its client or its time")
        nothing = np.full(many, np.nan)
        ended = _seconds(columns["ended"]) if "ended" in columns else nothing
        answered = np.where(np.isnan(ended), time, ended)
        asked = _waits(columns["retry_after"], answered) if "retry_after" in columns else nothing
        status = np.full(many, UNKNOWN)
        if "status" in columns:
            codes = {value: _status(value) for value in set(columns["status"])}
            status = np.fromiter(map(codes.__getitem__, columns["status"]), np.int64, many)
        request = np.full(many, -1)
        if "request" in columns:
            request = _numbers(columns["request"], self.requests)
        rows = (client, time, status, asked, ended, request)
        for name, values in zip(_FIELDS, rows, strict=True):
            self.batches[name].append(values)
        self.count += many

    def add_row(self, row: Mapping[str, Any]) -> None:
        """Add one row, or count why it cannot be used."""
        if row.get("client") in _MISSING:
            self.unusable["no client"] += 1
            return
        try:
            self.add({name: [row[name]] for name in _FIELDS if name in row})
        except (ValueError, TypeError, KeyError, OverflowError):
            self.unusable["no client or time that makes sense"] += 1

    def arrivals(self) -> Arrivals:
        """All rows."""
        whole = {
            name: np.concatenate(batches) if batches else np.empty(0)
            for name, batches in self.batches.items()
        }
        moments = np.concatenate((whole["time"], whole["ended"]))
        return Arrivals(
            client=whole["client"].astype(np.int64),
            request=whole["request"].astype(np.int64),
            time=whole["time"],
            ended=whole["ended"],
            status=whole["status"].astype(np.int64),
            retry_after=whole["retry_after"],
            until=float(np.nanmax(moments)) if self.count else 0.0,
            left_out=tuple(
                f"{count} {'line' if count == 1 else 'lines'} left out: {why}"
                for why, count in self.unusable.items()
            ),
        )


def from_objects(rows: Sequence[Mapping[str, Any]]) -> Arrivals:
    """Attempts from objects with the fields of JSON lines.

    Raises:
        UsageError: none of them can be used.
    """
    columns = _Columns()
    for row in rows:
        if isinstance(row, Mapping):
            columns.add_row(row)
        else:
            columns.unusable["not an object"] += 1
    if rows and not columns.count:
        raise UsageError(f"no arrival has a client and a time; the first is {_quoted(rows[0])}")
    return columns.arrivals()


def read(
    names: Sequence[str],
    *,
    format: str | None = None,
    aws: Callable[[], Aws],
    stdin: BinaryIO | None = None,
) -> Arrivals:
    """Attempts from logs.

    Args:
        names: files, "-" for standard input, or s3://bucket/prefix for all objects below it.
        format: one of `FORMATS`; found out from the first line when not given.
        aws: where buckets are; asked only if a name needs it.
        stdin: standard input, if it is not the process's.

    Raises:
        UsageError: a log is not there, is damaged or binary, or has no line that can be used.
        AwsError: a bucket cannot be read.
    """
    if format is not None and format not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {format!r}")
    if list(names).count("-") > 1:
        raise UsageError("standard input can be read once, got --log - more than once")
    columns = _Columns()
    for name, stream in _streams(names, aws, stdin):
        before = columns.count
        with _damage(name), stream:
            lines = _lines(name, _unzipped(stream))
            _parse(name, lines, format, columns)
        if columns.count == before:
            why = ", ".join(f"{count}: {reason}" for reason, count in columns.unusable.items())
            raise UsageError(f"{name} has no line that can be used" + (f" ({why})" if why else ""))
    return columns.arrivals()


def _streams(
    names: Sequence[str], aws: Callable[[], Aws], stdin: BinaryIO | None
) -> Iterator[tuple[str, BinaryIO]]:
    for name in names:
        if name == "-":
            yield "standard input", stdin or sys.stdin.buffer
        elif name.startswith("s3://"):
            yield from _objects(name, aws)
        else:
            try:
                yield name, open(name, "rb")  # noqa: SIM115 - whoever takes it closes it
            except OSError as error:
                raise UsageError(f"{name} cannot be read: {error.strerror}") from None


def _objects(name: str, aws: Callable[[], Aws]) -> Iterator[tuple[str, BinaryIO]]:
    bucket, _, prefix = name.removeprefix("s3://").partition("/")
    if not bucket:
        raise UsageError(f"{name!r} names no bucket; write s3://bucket/prefix")
    found, place = False, aws()
    listing = Call("s3", "ListObjectsV2", {"Bucket": bucket, "Prefix": prefix})
    keys = [one["Key"] for one in _contents(place, listing) if one.get("Size", 1)]
    for key in keys:
        if key.rpartition("/")[2] == _TEST_FILE:
            continue
        found = True
        answer = place.send(Call("s3", "GetObject", {"Bucket": bucket, "Key": key}))
        yield f"s3://{bucket}/{key}", io.BytesIO(answer["Body"].read())
    if not found:
        raise UsageError(f"{name} holds no objects; check bucket and prefix")


def _contents(aws: Aws, listing: Call) -> Iterator[Mapping[str, Any]]:
    """The objects of a listing, whose pages have no key for them when there are none."""
    token: dict[str, str] = {}
    while True:
        page = aws.send(Call(listing.service, listing.operation, {**listing.parameters, **token}))
        yield from page.get("Contents", ())
        if not page.get("IsTruncated"):
            return
        token = {"ContinuationToken": page["NextContinuationToken"]}


def _unzipped(stream: BinaryIO) -> BinaryIO:
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]  # any raw stream will do
    if buffered.peek(2)[:2] == b"\x1f\x8b":
        return gzip.GzipFile(fileobj=buffered)  # type: ignore[return-value]  # it reads bytes too
    return buffered


@contextmanager
def _damage(name: str) -> Iterator[None]:
    """Turn what damaged data does to its readers into one line."""
    try:
        yield
    except EOFError:
        raise UsageError(
            f"{name} is cut short: its gzip data does not end; copy it again"
        ) from None
    except (zlib.error, gzip.BadGzipFile) as error:
        raise UsageError(f"{name} is damaged gzip data ({error}); copy it again") from None
    except UnicodeDecodeError:
        raise UsageError(f"{name} is binary, not a log of lines") from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {error.strerror or error}") from None


def _lines(name: str, stream: BinaryIO) -> Iterator[str]:
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
    head = text.readline()
    if "\0" in head:
        raise UsageError(f"{name} is binary, not a log of lines")
    return itertools.chain([head], text) if head else iter(())


def _parse(name: str, lines: Iterator[str], format: str | None, columns: _Columns) -> None:
    first = next((line for line in lines if line.strip()), None)
    if first is None:
        raise UsageError(f"{name} is empty")
    chosen = format or _format_of(first)
    if chosen is None:
        raise UsageError(
            f"{name} is in no format that is known: its first line is {_quoted(first)}; known are "
            "JSON lines, CSV with a header (client,time,status) and ALB access logs; "
            "choose one with --format json, csv or alb"
        )
    parsers = {"json": _parse_json, "csv": _parse_csv, "alb": _parse_alb}
    parsers[chosen](name, itertools.chain([first], lines), columns)


def _format_of(line: str) -> str | None:
    if line.lstrip().startswith("{"):
        return "json"
    if ALB_ENTRY.match(line):
        return "alb"
    header = [cell.strip().lower() for cell in line.split(",")]
    return "csv" if {"client", "time"} <= set(header) else None


def _parse_json(_name: str, lines: Iterator[str], columns: _Columns) -> None:
    while batch := list(itertools.islice(lines, _BATCH)):
        try:
            # One document for all lines is decoded in half the time that one for each takes.
            rows = json.loads("[" + ",".join(batch) + "]")
            names = [field for field in _FIELDS if any(field in row for row in rows[:1])]
            if len(rows) != len(batch) or len(rows[0]) != len(names):
                raise ValueError("not one object of the usual fields for each line")
            if set(map(len, rows)) != {len(names)}:
                raise ValueError("not all objects have the same fields")
            columns.add({name: list(map(itemgetter(name), rows)) for name in names})
        except _NOT_ALIKE:
            _parse_json_lines(batch, columns)


def _parse_json_lines(batch: Iterable[str], columns: _Columns) -> None:
    for line in batch:
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            columns.unusable["not JSON"] += 1
            continue
        if isinstance(row, dict):
            columns.add_row(row)
        else:
            columns.unusable["not a JSON object"] += 1


def _parse_csv(name: str, lines: Iterator[str], columns: _Columns) -> None:
    header = [cell.strip().lower() for cell in next(csv.reader(lines))]
    places = {field: header.index(field) for field in _FIELDS if field in header}
    if "client" not in places or "time" not in places:
        raise UsageError(
            f"{name} needs a CSV header with client and time, it has {_quoted(','.join(header))}"
        )
    read = 1
    while batch := list(itertools.islice(lines, _BATCH)):
        cells = _plain_cells(batch, len(header))
        if cells is None:
            _parse_csv_rows(name, itertools.chain(batch, lines), read, header, columns)
            return
        _add_cells({f: cells[place :: len(header)] for f, place in places.items()}, columns)
        read += len(batch)


def _plain_cells(lines: Sequence[str], width: int) -> list[str] | None:
    """All cells one after the other; None when some are quoted, or lines differ in their number.

    To cut the text once takes a fraction of the time that a list for each line does.
    """
    text = "".join(lines)
    if '"' in text or set(map(methodcaller("count", ","), lines)) != {width - 1}:
        return None
    return text.replace("\r\n", "\n").removesuffix("\n").replace("\n", ",").split(",")


def _parse_csv_rows(
    name: str, lines: Iterator[str], read: int, header: Sequence[str], columns: _Columns
) -> None:
    rows = csv.reader(lines)
    try:
        while batch := list(itertools.islice(rows, _BATCH)):
            whole = [row for row in batch if len(row) == len(header)]
            short = sum(1 for row in batch if row and len(row) != len(header))
            if short:
                columns.unusable["more or fewer cells than the header"] += short
            cells = dict(zip(header, map(list, zip(*whole, strict=True)), strict=bool(whole)))
            _add_cells({field: cells[field] for field in _FIELDS if field in cells}, columns)
    except csv.Error as error:
        raise UsageError(f"{name}, line {read + rows.line_num}: no CSV ({error})") from None


def _add_cells(cells: Mapping[str, Sequence[str]], columns: _Columns) -> None:
    try:
        if cells:
            columns.add(cells)
    except (ValueError, TypeError, OverflowError):
        for row in zip(*cells.values(), strict=True):
            columns.add_row(dict(zip(cells, row, strict=True)))


def _parse_alb(_name: str, lines: Iterator[str], columns: _Columns) -> None:
    found: list[re.Match[str]] = []
    for line in lines:
        match = ALB_ENTRY.match(line)
        if match:
            found.append(match)
        elif line.strip():
            columns.unusable["no entry of an ALB access log"] += 1
    senders = [Sender(m["address"], int(m["port"]), m["target"]) for m in found]
    times = [m["time"] for m in found]
    names, requests = clients_of(senders, _seconds(times))
    rows = {
        "client": names,
        "request": requests,
        "time": times,
        "ended": [m["ended"] for m in found],
        "status": [m["status"] for m in found],
    }
    columns.add(rows)


def _numbers(names: Sequence[Any], known: defaultdict[Any, int]) -> NDArray[np.int64]:
    return np.fromiter(map(known.__getitem__, names), np.int64, len(names))


def _seconds(values: Sequence[Any]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Seconds from numbers or ISO 8601; NaN for what is missing.

    Raises:
        ValueError, TypeError: one of them is neither.
    """
    kinds = set(map(type, values))
    if bool in kinds:
        raise TypeError("a time is a number")
    try:
        if kinds == {str}:
            seconds = np.fromiter(map(float, values), np.float64, len(values))
        else:
            seconds = np.array(values, dtype=np.float64)
    except ValueError:
        seconds = np.array([_second(value) for value in values], dtype=np.float64)
    if seconds.ndim != 1 or np.isinf(seconds).any():
        raise ValueError("a time is a finite number")
    return seconds


def _waits(values: Sequence[Any], answered: Floats) -> Floats:
    """Seconds that answers asked to wait; NaN where they did not, or nobody could understand it.

    Args:
        answered: when each answer came, in seconds.
    """
    try:
        waits = _seconds(values)
    except (ValueError, TypeError, OverflowError):
        waits = np.array([_wait(*one) for one in zip(values, answered.tolist(), strict=True)])
    return np.where(waits >= 0, waits, np.nan)


def _wait(value: Any, answered: float) -> float:
    try:
        wait = float(value)
        return wait if math.isfinite(wait) else math.nan
    except (ValueError, TypeError, OverflowError):
        if not isinstance(value, str) or answered < _SINCE_1970_S:
            return math.nan
        asked = retry_after_s({"Retry-After": value}, now=answered)
        return math.nan if asked is None else asked


def _second(value: Any) -> float:
    if value in _MISSING:
        return float("nan")
    try:
        return float(value)
    except ValueError:
        moment = datetime.fromisoformat(value)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _status(value: Any) -> int:
    """An HTTP status; `UNANSWERED` for words such as "reset"."""
    text = str(value)
    if value in _MISSING or text.lower() == "nan":
        return UNKNOWN
    code = _CODE.match(text)
    return int(code[0]) if code else UNANSWERED


def _is_name(kind: type) -> bool:
    return issubclass(kind, str | int | float) and kind is not bool


def _quoted(value: Any) -> str:
    text = " ".join(str(value).split())
    return repr(text if len(text) <= _SHOWN else text[:_SHOWN] + "…")
