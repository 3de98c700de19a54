"""Real clients that retry."""

import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any

import boto3
import botocore.exceptions
import requests
import stamina
import tenacity
import urllib3
from botocore.config import Config

type Client = Callable[[str, int], Callable[[], object]]
"""Gets client number n ready for a URL; what comes back makes one request with all its retries."""

_session, _making = boto3.session.Session(), threading.Lock()


def let_retry(client: Client, url: str, clients: int, spread_s: float = 3.0) -> None:
    """Let so many clients begin within a time, and wait until all have given up."""
    ready = [client(url, number) for number in range(clients)]
    with ThreadPoolExecutor(clients) as pool:
        for number, request in enumerate(ready):
            pool.submit(_later, spread_s * number / clients, request)


def _later(wait_s: float, request: Callable[[], object]) -> None:
    time.sleep(wait_s)
    with suppress(
        OSError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        botocore.exceptions.ClientError,
        tenacity.RetryError,
    ):
        request()


def sdk(service: str, operation: str, parameters: dict[str, Any], **retries: Any) -> Client:
    """An AWS SDK client that makes one call; each client has a quota of its own."""

    def ready(url: str, number: int) -> Callable[[], object]:
        with _making:
            client = _session.client(
                service,
                endpoint_url=url,
                region_name="us-east-1",
                aws_access_key_id="test",
                aws_secret_access_key="test",
                config=Config(retries=retries, s3={"addressing_style": "path"}),
            )
        return lambda: getattr(client, operation)(**parameters)

    return ready


def _get(url: str, number: int) -> bytes:
    with urllib.request.urlopen(f"{url}/{number}", timeout=10) as answer:
        body: bytes = answer.read()
        return body


def waiting(wait: Any, attempts: int = 5) -> Client:
    """A client that retries with tenacity."""
    retrying = partial(
        tenacity.Retrying,
        wait=wait,
        stop=tenacity.stop_after_attempt(attempts),
        retry=tenacity.retry_if_exception_type(OSError),
    )
    return lambda url, number: partial(retrying(), _get, url, number)


def with_stamina(**waits: float) -> Client:
    """A client that retries with stamina."""
    retry = stamina.retry(on=OSError, attempts=5, timeout=None, **waits)
    return lambda url, number: partial(retry(_get), url, number)


def with_urllib3(**retries: Any) -> Client:
    """A client that retries with urllib3."""

    def ready(url: str, number: int) -> Callable[[], object]:
        retry = urllib3.Retry(total=4, status_forcelist=[503], **retries)
        return partial(urllib3.PoolManager(retries=retry).request, "GET", f"{url}/{number}")

    return ready


def with_requests(url: str, number: int) -> Callable[[], object]:
    """A client that uses requests as they come: without retries."""
    return partial(requests.get, f"{url}/{number}", timeout=10)


def with_curl(*options: str) -> Client:
    """A client that is curl, each in a process of its own."""

    def ready(url: str, number: int) -> Callable[[], object]:
        command = ["curl", "--silent", "--output", "/dev/null", *options, f"{url}/{number}"]
        return partial(subprocess.run, command, check=False, timeout=60)

    return ready
