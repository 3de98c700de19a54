"""Failing servers in a process of their own, so that the clients' work does not delay them.

`python -m tests.retry_servers FAULT...` starts one for each, prints their URLs as a JSON line, and
at the end of standard input writes what each has seen, pickled, to standard output.
"""

import asyncio
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from chaosgrade.probes.arrivals import Arrivals
from chaosgrade.probes.retry_server import Fault, RetryServer


@dataclass
class Servers:
    """Their URLs; what they have seen is there when they have ended."""

    urls: list[str]
    arrivals: list[Arrivals] = field(default_factory=list)


@contextmanager
def failing(faults: Sequence[str]) -> Iterator[Servers]:
    """Servers that fail, each in its way, for as long as the block takes."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.retry_servers", *faults],
        cwd=Path(__file__).parent.parent,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        servers = Servers(json.loads(process.stdout.readline()))
        yield servers
        seen, _ = process.communicate(timeout=30)
        servers.arrivals += pickle.loads(seen)
    finally:
        process.kill()
        process.wait()


async def serve(faults: Sequence[str]) -> list[Arrivals]:
    """Serve until the end of standard input."""
    servers = [RetryServer(Fault(fault)) for fault in faults]
    urls = [await server.start("127.0.0.1", 0) for server in servers]
    print(json.dumps(urls), flush=True)
    await asyncio.to_thread(sys.stdin.read)
    return [await server.stop() for server in servers]


if __name__ == "__main__":
    found = asyncio.run(serve(sys.argv[1:]))
    sys.stdout.buffer.write(pickle.dumps(found))
