"""The undo journal: what chaosgrade is about to change, committed to disk before it does.

SQLite in WAL mode with `synchronous=FULL`: a commit that has returned survives the process and the
machine. Undo is stored as data (kind, address, old value), never as code. One journal serves every
run of a user on a machine, so that anything left outstanding is found again.
"""

import enum
import fcntl
import json
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from chaosgrade.aws import Environment
from chaosgrade.changes.model import Change, address
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import Json

_SCHEMA = """
CREATE TABLE IF NOT EXISTS runs (
  id TEXT PRIMARY KEY,
  experiment TEXT NOT NULL,
  environment TEXT NOT NULL,   -- stage | localstack | aws
  endpoint TEXT,               -- NULL: AWS itself
  account TEXT NOT NULL,
  region TEXT NOT NULL,
  pid INTEGER NOT NULL,
  started REAL NOT NULL        -- Unix seconds
) STRICT;
CREATE TABLE IF NOT EXISTS changes (
  id INTEGER PRIMARY KEY,      -- in the order of intent
  run TEXT NOT NULL REFERENCES runs(id),
  kind TEXT NOT NULL,
  address TEXT NOT NULL,       -- JSON
  summary TEXT NOT NULL,
  reversible INTEGER NOT NULL,
  before TEXT NOT NULL,        -- JSON; null for a strike
  wanted TEXT NOT NULL,        -- JSON; null for a strike
  state TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '',
  lease_until REAL NOT NULL    -- Unix seconds
) STRICT;
CREATE INDEX IF NOT EXISTS changes_by_run ON changes(run, state);
"""


class State(enum.StrEnum):
    """Where a change stands. `INTENDED` to `UNREVERTED` are outstanding if there is an undo."""

    INTENDED = "intended"
    """Committed; the call may or may not have left."""
    APPLIED = "applied"
    """AWS has accepted it."""
    UNREVERTED = "unreverted"
    """The undo failed; it will be tried again."""
    UNDONE = "undone"
    """It is as it was before."""
    CONFLICT = "conflict"
    """Somebody else has changed it since; left alone."""
    VANISHED = "vanished"
    """The resource does not exist any more."""


OUTSTANDING = (State.INTENDED, State.APPLIED, State.UNREVERTED)


class JournalError(ChaosgradeError):
    """The journal cannot be read or written: no fault may be injected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One journalled change."""

    id: int
    run: str
    kind: str
    address: str
    summary: str
    reversible: bool
    before: Json
    wanted: Json
    state: State
    detail: str
    lease_until: float


@dataclass(frozen=True, slots=True)
class RunRow:
    """One journalled run: who changes things, and where.

    Args:
        environment: "stage", "localstack" or "aws".
        endpoint: None for AWS itself.
        pid: the process that makes the changes.
        started: Unix seconds.
    """

    id: str
    experiment: str
    environment: str
    endpoint: str | None
    account: str
    region: str
    pid: int
    started: float


@dataclass(frozen=True, slots=True)
class Intent:
    """A change with the value that its setting has now."""

    change: Change
    before: Json = None


def default_path() -> Path:
    """Where the journal is: `$CHAOSGRADE_STATE_DIR`, or the user's XDG state folder."""
    named = os.environ.get("CHAOSGRADE_STATE_DIR")
    if named:
        return Path(named) / "journal.sqlite3"
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    return Path(state).expanduser() / "chaosgrade" / "journal.sqlite3"


class Journal:
    """Opens or creates the journal at `path`. Safe to use from several threads and processes.

    Raises:
        JournalError: it cannot be opened or written.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()
        self._lock = threading.Lock()
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._db = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)

    def open_run(
        self,
        run: str,
        *,
        experiment: str,
        environment: Environment,
        endpoint: str | None,
        started: float,
    ) -> None:
        """Record who is about to change things, and where."""
        with self._lock, self._translated(), self._db:
            self._db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    experiment,
                    environment.kind,
                    endpoint,
                    environment.account,
                    environment.region,
                    os.getpid(),
                    started,
                ),
            )

    def intend(self, run: str, intents: Sequence[Intent], *, lease_until: float) -> list[int]:
        """Commit intents, all in one transaction; returns their ids in order.

        When this returns, the intents are on disk. When it raises, no call may be sent.
        """
        with self._lock, self._translated(), self._db:
            return [
                int(
                    self._db.execute(
                        "INSERT INTO changes (run, kind, address, summary, reversible, before,"
                        " wanted, state, lease_until) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        (
                            run,
                            intent.change.subject.kind,
                            json.dumps(address(intent.change.subject), sort_keys=True),
                            intent.change.summary,
                            intent.change.reversible,
                            json.dumps(intent.before),
                            json.dumps(intent.change.wanted),
                            State.INTENDED,
                            lease_until,
                        ),
                    ).lastrowid
                    or 0
                )
                for intent in intents
            ]

    def mark(self, change: int, state: State, detail: str = "") -> None:
        """Record where a change stands now."""
        with self._lock, self._translated(), self._db:
            self._db.execute(
                "UPDATE changes SET state = ?, detail = ? WHERE id = ?", (state, detail, change)
            )

    def entries(self, run: str) -> list[Entry]:
        """Every change of a run, strikes included, the last intent first."""
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT id, run, kind, address, summary, reversible, before, wanted, state, detail,"
                " lease_until FROM changes WHERE run = ? ORDER BY id DESC",
                (run,),
            ).fetchall()
        return [
            Entry(
                id=row[0],
                run=row[1],
                kind=row[2],
                address=row[3],
                summary=row[4],
                reversible=bool(row[5]),
                before=json.loads(row[6]),
                wanted=json.loads(row[7]),
                state=State(row[8]),
                detail=row[9],
                lease_until=row[10],
            )
            for row in rows
        ]

    def outstanding(self, run: str) -> list[Entry]:
        """What has to be undone of a run, the last intent first."""
        return [e for e in self.entries(run) if e.reversible and e.state in OUTSTANDING]

    def runs(self) -> list[RunRow]:
        """Every run on record, the oldest first."""
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT id, experiment, environment, endpoint, account, region, pid, started"
                " FROM runs ORDER BY started"
            ).fetchall()
        return [RunRow(*row) for row in rows]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let only one process at a time recover from this journal.

        Raises:
            JournalError: its lock file cannot be made.
        """
        with self._translated():
            lock = self.path.with_suffix(".lock").open("ab")
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def close(self) -> None:
        """Close the connection; the journal stays."""
        with self._lock:
            self._db.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise JournalError(
                f"the undo journal {self.path} cannot be used: {error}; "
                "set CHAOSGRADE_STATE_DIR to a folder that can be written"
            ) from None
