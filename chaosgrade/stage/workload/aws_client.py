"""How the shop calls AWS: the SDK's own retries and limits, on threads of each service's own.

A service that hangs keeps its own threads busy, and not those of another. Sources: AWS SDKs and
Tools Reference Guide, "Retry behavior" (standard mode: backoff with jitter, a quota of retries);
Amazon Builders' Library, "Timeouts, retries, and backoff with jitter".
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

_CONNECT_TIMEOUT_S = 1.0
_CREATING = threading.Lock()
"""boto3's default session makes one client at a time."""


def read_ahead(*services: str) -> None:
    """Have the SDK read what it knows of services: a tenth of a second, and megabytes, of each.

    What this process has read, those that are forked from it share.
    """
    for service in services:
        boto3.client(
            service,
            region_name="us-east-1",
            aws_access_key_id="-",
            aws_secret_access_key="-",  # noqa: S106 - nobody is called
        )


class AwsUnavailable(Exception):
    """A service did not do what it was asked; whether it has done it is not known."""


class AwsClient:
    """One service; connects when it is first used.

    Args:
        service: as boto3 calls it.
        read_timeout_s: seconds until an answer begins.
        attempts: at most so many, with the first.
        threads: how many calls are made at once.
    """

    def __init__(
        self, service: str, *, read_timeout_s: float = 1.0, attempts: int = 3, threads: int = 4
    ) -> None:
        self._service = service
        self._threads = ThreadPoolExecutor(threads, f"aws-{service}")
        self._config = Config(
            connect_timeout=_CONNECT_TIMEOUT_S,
            read_timeout=read_timeout_s,
            retries={"mode": "standard", "total_max_attempts": attempts},
            max_pool_connections=threads,
        )
        self._client: Any = None

    async def run[T](self, work: Callable[[Any], T], *expected: str) -> T:
        """Do something with boto3's client, on a thread.

        Args:
            expected: codes of errors that are answers, such as "NoSuchKey".

        Raises:
            ClientError: with one of these codes.
            AwsUnavailable: at any other error.
        """
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._threads, lambda: work(self._made())
            )
        except (BotoCoreError, ClientError) as error:
            if isinstance(error, ClientError) and error.response["Error"]["Code"] in expected:
                raise
            raise AwsUnavailable(f"{self._service}: {error}") from error

    def _made(self) -> Any:
        with _CREATING:
            if self._client is None:
                self._client = boto3.client(self._service, config=self._config)
            return self._client
