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
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chaosgrade.aws import Environment
from chaosgrade.changes.model import Change, address
from chaosgrade.concealment import conceal
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import Json
from chaosgrade.machine import Process, boot_id, uptime_s

_VERSION = 4
_SCHEMA = f"""
BEGIN IMMEDIATE;
CREATE TABLE runs (
  id TEXT PRIMARY KEY,
  experiment TEXT NOT NULL,
  environment TEXT NOT NULL,   -- stage | localstack | aws
  endpoint TEXT,               -- NULL: AWS itself
  account TEXT NOT NULL,
  region TEXT NOT NULL,
  profile TEXT,                -- the AWS profile that was used; NULL: the SDK's default
  role TEXT,                   -- the role that was assumed; NULL: none
  role_session TEXT NOT NULL,  -- what its session is called
  pid INTEGER NOT NULL,
  began INTEGER NOT NULL,      -- clock ticks from the machine's start to the process's
  boot TEXT NOT NULL,          -- which start of the machine
  started REAL NOT NULL        -- Unix seconds
) STRICT;
CREATE TABLE changes (
  id INTEGER PRIMARY KEY,      -- in the order of intent
  run TEXT NOT NULL REFERENCES runs(id),
  batch INTEGER NOT NULL,      -- changes of one transaction share it; the id of its first change
  wave INTEGER NOT NULL,       -- its steps, from 0; each needs those before it
  kind TEXT NOT NULL,
  address TEXT NOT NULL,       -- JSON
  summary TEXT NOT NULL,
  reversible INTEGER NOT NULL,
  before TEXT NOT NULL,        -- JSON; null for a strike
  wanted TEXT NOT NULL,        -- JSON; null for a strike
  state TEXT NOT NULL,
  detail TEXT NOT NULL DEFAULT '',
  lease_until REAL NOT NULL,   -- Unix seconds, for people
  lease_uptime REAL NOT NULL,  -- seconds since the machine's start: what is enforced
  checksum INTEGER NOT NULL    -- of what an undo relies on: SQLite sees no flipped bit
) STRICT;
CREATE INDEX changes_by_run ON changes(run, state);
PRAGMA user_version = {_VERSION};
COMMIT;
"""
_ENTRY = (
    "id, run, batch, wave, kind, address, summary, reversible, before, wanted, state, detail,"
    " lease_until, lease_uptime"
)


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
_OVER = tuple(state for state in State if state not in OUTSTANDING)


class JournalError(ChaosgradeError):
    """The journal cannot be read or written: no fault may be injected."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One journalled change."""

    id: int
    run: str
    batch: int
    wave: int
    kind: str
    address: str
    summary: str
    reversible: bool
    before: Json
    wanted: Json
    state: State
    detail: str
    lease_until: float
    lease_uptime: float

    @property
    def outstanding(self) -> bool:
        """Whether it has to be undone."""
        return self.reversible and self.state in OUTSTANDING


@dataclass(frozen=True, slots=True)
class RunRow:
    """One journalled run: who changes things, and where.

    Args:
        environment: "stage", "localstack" or "aws".
        endpoint: None for AWS itself.
        profile, role: whose credentials were used; None for the SDK's default, and for no role.
        role_session: what the role's session is called: its trust may depend on it.
        process: the one that makes the changes.
        started: Unix seconds.
    """

    id: str
    experiment: str
    environment: str
    endpoint: str | None
    account: str
    region: str
    profile: str | None
    role: str | None
    role_session: str
    process: Process
    started: float

    @property
    def place(self) -> tuple[str | None, str, str]:
        """(endpoint, account, Region): runs of one place touch the same resources."""
        return (self.endpoint, self.account, self.region)

    def lease_is_over(self, entry: Entry) -> bool:
        """Whether a change of this run has stayed for longer than it was to."""
        return self.process.boot != boot_id() or entry.lease_uptime <= uptime_s()


@dataclass(frozen=True, slots=True)
class Intent:
    """A change with the value that its setting has now, and the step of its transaction."""

    change: Change
    before: Json = None
    wave: int = 0


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
        JournalError: it cannot be opened or written, or is no journal of this version.
    """

    def __init__(self, path: Path | None = None) -> None:
        # Absolute: a watchdog is told, and a process may change its folder.
        self.path = (path or default_path()).absolute()
        self._lock = threading.Lock()
        with self._translated():
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # Made now, so that an undo on a full disk still finds its lock.
            self._lock_path = self.path.with_suffix(".lock")
            self._lock_path.touch(mode=0o600)
            self._db = sqlite3.connect(self.path, timeout=10, check_same_thread=False)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._prepare()

    def _prepare(self) -> None:
        with self.exclusive():
            (version,) = self._db.execute("PRAGMA user_version").fetchone()
            if version == _VERSION:
                return
            (tables,) = self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()
            if tables:
                raise JournalError(
                    f"the undo journal {self.path} is of version {version}, this is {_VERSION}; "
                    "undo with the version that wrote it, or with `chaosgrade recover --from-aws`, "
                    "then move the file away"
                )
            self._db.executescript(_SCHEMA)

    def open_run(
        self,
        run: str,
        *,
        experiment: str,
        environment: Environment,
        endpoint: str | None,
        started: float,
        profile: str | None = None,
        role: str | None = None,
        role_session: str = "",
    ) -> None:
        """Record that this process is about to change things, and where."""
        process = Process.this()
        with self._lock, self._translated(), self._db:
            self._db.execute(
                "INSERT INTO runs VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    run,
                    experiment,
                    environment.kind,
                    endpoint,
                    environment.account,
                    environment.region,
                    profile,
                    role,
                    role_session,
                    process.pid,
                    process.began,
                    process.boot,
                    started,
                ),
            )

    def intend(
        self, run: str, intents: Sequence[Intent], *, lease_s: float, now: float
    ) -> list[Entry]:
        """Commit the intents of one transaction at once; returns them as entries, in order.

        When this returns, the intents are on disk. When it raises, no call may be sent.

        Args:
            run: whose they are.
            intents: in the order in which they are made.
            lease_s: how long they may stay, in seconds from now.
            now: Unix seconds.
        """
        uptime = uptime_s()
        with self._lock, self._translated(), self._db:
            self._db.execute("BEGIN IMMEDIATE")  # the ids are ours until the commit
            (first,) = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM changes").fetchone()
            entries = [
                Entry(
                    id=first + number,
                    run=run,
                    batch=first,
                    wave=intent.wave,
                    kind=intent.change.subject.kind,
                    address=json.dumps(address(intent.change.subject), sort_keys=True),
                    summary=intent.change.summary,
                    reversible=intent.change.reversible,
                    before=intent.before,
                    wanted=intent.change.wanted,
                    state=State.INTENDED,
                    detail="",
                    lease_until=now + lease_s,
                    lease_uptime=uptime + lease_s,
                )
                for number, intent in enumerate(intents)
            ]
            self._db.executemany(
                f"INSERT INTO changes ({_ENTRY}, checksum) VALUES ({', '.join('?' * 15)})",  # noqa: S608 - constants
                [
                    (e.id, e.run, e.batch, e.wave, e.kind, e.address, e.summary, e.reversible,
                     json.dumps(e.before), json.dumps(e.wanted), e.state, e.detail,
                     e.lease_until, e.lease_uptime, _checksum(e))
                    for e in entries
                ],
            )  # fmt: skip
        return entries

    def mark(self, entries: Sequence[Entry], state: State, detail: str = "") -> None:
        """Record where changes stand now."""
        self.record([replace(entry, state=state, detail=detail) for entry in entries])

    def applied(self, entry: Entry) -> None:
        """Record that AWS has accepted a change, unless somebody has undone it since."""
        with self._lock, self._translated(), self._db:
            self._db.execute(
                "UPDATE changes SET state = ? WHERE id = ? AND state = ?",
                (State.APPLIED, entry.id, State.INTENDED),
            )

    def record(self, entries: Sequence[Entry]) -> None:
        """Record state and detail of each entry, all in one transaction."""
        with self._lock, self._translated(), self._db:
            self._db.executemany(
                "UPDATE changes SET state = ?, detail = ? WHERE id = ?",
                [(entry.state, conceal(entry.detail), entry.id) for entry in entries],
            )

    def entries(self, run: str) -> list[Entry]:
        """Every change of a run, strikes included, the last intent first."""
        return self._selected(run)

    def outstanding(self, run: str) -> list[Entry]:
        """What has to be undone of a run, the last intent first.

        What is over is not looked at: damage to it keeps nothing else from being undone.
        """
        return [entry for entry in self._selected(run, besides=_OVER) if entry.outstanding]

    def _selected(self, run: str, besides: Sequence[State] = ()) -> list[Entry]:
        without = f" AND state NOT IN ({', '.join('?' * len(besides))})" if besides else ""
        with self._lock, self._translated():
            rows = self._db.execute(
                f"SELECT {_ENTRY}, checksum FROM changes WHERE run = ?{without} ORDER BY id DESC",  # noqa: S608 - constants
                (run, *besides),
            ).fetchall()
            return [_entry(row) for row in rows]

    def runs(self) -> list[RunRow]:
        """Every run on record, the oldest first."""
        with self._lock, self._translated():
            rows = self._db.execute(
                "SELECT id, experiment, environment, endpoint, account, region, profile, role,"
                " role_session, pid, began, boot, started FROM runs ORDER BY started"
            ).fetchall()
        return [
            RunRow(*row[:9], process=Process(*row[9:12]), started=row[12])  # type: ignore[misc]  # nine columns
            for row in rows
        ]

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Let only one process at a time recover from this journal.

        Raises:
            JournalError: its lock file cannot be made.
        """
        with self._translated():
            lock = self._lock_path.open("rb")
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
        except (sqlite3.Error, OSError, ValueError) as error:
            # SQLite tells damage by the bare class; a row that makes no sense is damage too.
            if type(error) is not sqlite3.DatabaseError and not isinstance(error, ValueError):
                raise self._unusable(error) from None
            raise JournalError(
                f"the undo journal {self.path} is damaged ({error}): undo what is left with "
                "`chaosgrade recover --from-aws`, then move the file away"
            ) from None

    def _unusable(self, error: Exception) -> JournalError:
        return JournalError(
            f"the undo journal {self.path} cannot be used: {error}; make room or rights there, "
            "or set CHAOSGRADE_STATE_DIR to a folder that can be written, with a copy of the "
            "journal if it holds what is to be undone"
        )


def _entry(row: tuple[Any, ...]) -> Entry:
    *values, checksum = row
    fields = dict(zip(_ENTRY.replace(" ", "").split(","), values, strict=True))
    for column in ("before", "wanted"):
        fields[column] = json.loads(fields[column])
    entry = Entry(
        **{**fields, "state": State(fields["state"]), "reversible": bool(fields["reversible"])}
    )
    if _checksum(entry) != checksum:
        raise ValueError(f"change {entry.id} is not what was written")
    return entry


def _checksum(entry: Entry) -> int:
    relied_on = (
        entry.run,
        entry.batch,
        entry.wave,
        entry.kind,
        entry.address,
        entry.reversible,
        entry.before,
        entry.wanted,
    )
    return zlib.crc32(json.dumps(relied_on, sort_keys=True).encode())
