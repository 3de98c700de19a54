"""Real clients that retry."""

import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cache, partial
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

_SHARING = 4


def let_retry(groups: Iterable[Sequence[Callable[[], object]]], spread_s: float = 8.0) -> None:
    """Let the clients of each group begin evenly within a time, and wait until all have given up.

    They are ready before the first begins: getting ready would delay those that have begun.
    """
    starts = sorted(
        (
            (number / len(group), request)
            for group in groups
            for number, request in enumerate(group)
        ),
        key=lambda start: start[0],
    )
    began = time.monotonic()
    with ThreadPoolExecutor(len(starts)) as pool:
        for share, request in starts:
            time.sleep(max(0.0, began + spread_s * share - time.monotonic()))
            pool.submit(_through, request)


def _through(request: Callable[[], object]) -> None:
    with suppress(
        OSError,
        requests.RequestException,
        urllib3.exceptions.HTTPError,
        botocore.exceptions.ClientError,
        tenacity.RetryError,
    ):
        request()


def sdk(service: str, operation: str, parameters: dict[str, Any], **retries: Any) -> Client:
    """An AWS SDK client that makes one call; few share one, whose quota is enough for them."""

    @cache
    def client(url: str, _few: int) -> Any:
        return boto3.session.Session().client(
            service,
            endpoint_url=url,
            region_name="us-east-1",
            aws_access_key_id="test",
            aws_secret_access_key="test",
            config=Config(retries=retries, s3={"addressing_style": "path"}),
        )

    return lambda url, number: partial(
        getattr(client(url, number // _SHARING), operation), **parameters
    )


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
