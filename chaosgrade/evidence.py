"""Append-only records of a run: what happened, when, as observed.

One JSON object a line: `{"seq": 7, "at": 1790000000.123456, "kind": "target_health", ...}`. Records
are written, without secrets, before anything is concluded from them, and never changed; every
verdict, score and report is computed from them alone, so that anyone can compute it again. A torn
last line, left by a killed process, is skipped by `read`.

Kinds, with their fields (times are Unix seconds):

- `run.start`: experiment, title, pattern, pillar, objectives, trial, seed, window_s, environment
- `fault.start`: written once per run, right before the first change is sent
- `change.applied`: change (id), type, resource, zone, summary, reversible
- `change.effect`: change, proven (bool), detail
- `undo.start`: written right before the changes of the run are undone
- `change.undone`: change, summary, detail,
  outcome ("undone" | "conflict" | "vanished" | "unreverted")
- `traffic`: start, requests = [[offset_ms, customer, outcome, latency_ms, attempts, zone], ...],
  zones = [name, ...]; `zone` is an index into it, and is not there when no zone served or named
  itself
- `target_health`: target_group, targets = {id: {state, reason, zone}}, written when it changes
- `group_capacity`: group, desired, in_service, by_zone = {zone: in service}, when it changes
- `spot_notices`: marked = [id, ...]: Spot Instances whose interruption notice has been given and
  that have not ended, written when it changes
- `ledger`: start, orders = [[number, offset_ms, outcome, latency_ms], ...]
- `ledger.found`: orders = [[first number, last number, how often each is there], ...]
- `ledger.unread`: reason: what is there in the end is not known
- `database`: identifier, status, zone, address: of its endpoint, or null; written when it changes
- `calls`: balancer, start, unusable: lines of the access log that were no entries,
  calls = [[number of the call, offset_ms, took_ms, status], ...]: its attempts
- `retries`: balancer, and how its clients back off: fields of `chaosgrade.retries.RetryBehaviour`
- `hypothesis`: when ("before" | "after"), met (bool), detail
- `observation.end`: the observed window is over
- `aftermath.start`: after_s: what follows the undo is observed for so many AWS seconds
- `logs.awaited`: balancer, wait_s: its access logs are read after so many measured seconds
- `problem`: source, detail, exit_code: something that should have worked did not
- `run.end`: status ("completed" | "halted" | "aborted"), undone (bool),
  reason (why a stop was requested, or "")
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from chaosgrade.clock import Clock
from chaosgrade.concealment import conceal
from chaosgrade.errors import ChaosgradeError, Exit

type Json = bool | int | float | str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Record:
    """One observation."""

    seq: int
    at: float
    kind: str
    data: dict[str, Any]

    def __getitem__(self, key: str) -> Any:
        return self.data[key]


class EvidenceError(ChaosgradeError):
    """Evidence cannot be written: nothing that happens from now on can be judged."""

    exit_code = Exit.INCONCLUSIVE


class EvidenceLog:
    """Writes records to one file, from any thread, each line flushed at once.

    Args:
        path: the file; created with its folder. An existing file is refused, not extended.
        clock: where `at` comes from when the caller does not say.
        resume: go on with an existing file whose writer has died; a torn last line is cut off.

    Raises:
        EvidenceError: the file cannot be written, here and in every method.
    """

    def __init__(self, path: Path, clock: Clock, *, resume: bool = False) -> None:
        self.path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._seq = 0
        self._listeners: list[Callable[[Record], None]] = []
        with self._translated():
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume:
                whole, _, torn = path.read_bytes().rpartition(b"\n")
                self._seq = whole.count(b"\n") + 1 if whole else 0
                os.truncate(path, path.stat().st_size - len(torn))
            self._file = path.open("a" if resume else "x", encoding="utf-8")

    def append(self, kind: str, *, at: float | None = None, **data: Json) -> Record:
        """Write one record and return it."""
        with self._lock, self._translated():
            record = Record(self._seq, self._clock.now() if at is None else at, kind, data)
            self._file.write(conceal(_dump(record)) + "\n")
            self._file.flush()
            self._seq += 1
        for listener in self._listeners:
            listener(record)
        return record

    def tell(self, kind: str, **data: Json) -> None:
        """Write one record if that is possible: what no undo and no end may fail for."""
        with suppress(EvidenceError):
            self.append(kind, at=None, **data)

    def on_append(self, listener: Callable[[Record], None]) -> None:
        """Hand each record to `listener` once it is written, in the thread that wrote it."""
        self._listeners.append(listener)

    def close(self) -> None:
        """Flush and close; appending afterwards is an error."""
        with self._lock, self._translated():
            self._file.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise EvidenceError(
                f"the evidence {self.path} cannot be written: {error.strerror}; make room or "
                "rights there, and run again in a new folder"
            ) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def read(path: Path) -> list[Record]:
    """All whole records of a file, in order."""
    return list(parse(path.read_text(encoding="utf-8")))


def parse(text: str) -> Iterator[Record]:
    """Records of a text of JSON lines; a torn last line is skipped.

    Raises:
        KeyError, TypeError, ValueError: a line is no record.
    """
    for line in text.splitlines():
        try:
            fields = json.loads(line)
        except json.JSONDecodeError:
            return
        if not isinstance(fields, dict):
            raise TypeError(f"a record is an object, got {line[:40]}")
        at = float(fields.pop("at"))
        yield Record(int(fields.pop("seq")), at, str(fields.pop("kind")), fields)


def _dump(record: Record) -> str:
    fields = {"seq": record.seq, "at": round(record.at, 6), "kind": record.kind, **record.data}
    return json.dumps(fields, separators=(",", ":"))
