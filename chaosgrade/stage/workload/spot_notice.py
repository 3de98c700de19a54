"""How the shop notices that EC2 takes its instance back: it asks the instance metadata service.

Source: Amazon EC2 User Guide, "Spot Instance interruption notices", which recommends to ask every
5 seconds.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import datetime
from urllib.parse import urlsplit

_TOKEN_TTL_S = 21_600
_TIMEOUT_S = 2.0


class Metadata:
    """The instance metadata service, asked from an instance's own address.

    Args:
        endpoint: its URL.
        address: of the instance.
    """

    def __init__(self, endpoint: str, address: str) -> None:
        parts = urlsplit(endpoint)
        self._host, self._port = str(parts.hostname), int(parts.port or 80)
        self._address = address
        self._token = ""

    async def read(self, path: str) -> str | None:
        """What is below /latest/meta-data/; None when there is nothing.

        Raises:
            OSError: the service does not answer as it should.
        """
        if not self._token:
            ttl = {"X-aws-ec2-metadata-token-ttl-seconds": str(_TOKEN_TTL_S)}
            status, self._token = await self._ask("PUT", "/latest/api/token", ttl)
            if status != 200:
                self._token = ""
                raise OSError(f"no token: {status}")
        token = {"X-aws-ec2-metadata-token": self._token}
        status, text = await self._ask("GET", f"/latest/meta-data/{path}", token)
        if status == 401:
            self._token = ""  # it has expired
        if status not in (200, 404):
            raise OSError(f"{path}: {status}")
        return text if status == 200 else None

    async def _ask(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str]:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(
                self._host, self._port, local_addr=(self._address, 0)
            )
            try:
                lines = [f"{method} {path} HTTP/1.1", f"Host: {self._host}", "Connection: close"]
                lines += [f"{name}: {value}" for name, value in headers.items()]
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
            finally:
                writer.close()
        return int(head.split(b" ", 2)[1]), body.decode()


async def wait_for_end(metadata: Metadata, *, poll_s: float, before_s: float) -> None:
    """Return when a Spot Instance has so little time left; for another instance never.

    Args:
        poll_s: seconds between two looks for the notice.
        before_s: seconds before the end.
    """
    lifecycle = None
    while True:
        try:
            lifecycle = lifecycle or await metadata.read("instance-life-cycle")
            if lifecycle == "on-demand":
                await asyncio.Event().wait()
            if notice := await metadata.read("spot/instance-action"):
                break
        except (OSError, TimeoutError, ValueError, IndexError):
            lifecycle = None  # it is asked again
        await asyncio.sleep(poll_s)
    end = datetime.fromisoformat(json.loads(notice)["time"]).timestamp()
    await asyncio.sleep(max(0.0, end - before_s - time.time()))
