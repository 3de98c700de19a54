"""The sample workload as its customers see it."""

import json
import time
import urllib.error
import urllib.request
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tests.stage.conftest import Stage, eventually

PASSWORD = "only-on-the-stage"


@dataclass(frozen=True)
class Answer:
    """What a request led to; status 0 when no answer came in time."""

    status: int
    document: Any
    headers: Any
    after_s: float


def ask(
    url: str,
    body: object = None,
    *,
    raw: bytes | None = None,
    method: str | None = None,
    kind: str = "application/json",
    timeout_s: float = 8.0,
) -> Answer:
    """GET, or POST when there is a body, unless there is another method."""
    data = raw if raw is not None else None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Content-Type": kind}, method=method)
    began = time.monotonic()
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as got:
            status, text, headers = got.status, got.read(), got.headers
    except urllib.error.HTTPError as error:
        status, text, headers = error.code, error.read(), error.headers
    except TimeoutError:
        return Answer(0, None, {}, time.monotonic() - began)
    try:
        document = json.loads(text)
    except ValueError:
        document = text.decode()
    return Answer(status, document, headers, time.monotonic() - began)


def shop(stage: Stage) -> str:
    """Where customers find it."""
    return str(stage.document["balancers"]["web"])


def web(stage: Stage, **settings: object) -> str:
    """The URL of a web server of its own, with these settings in its user data."""
    names = {
        "DATABASE_HOST": stage.document["databases"]["shop"], "DATABASE_PORT": 5432,
        "DATABASE_NAME": "shop", "DATABASE_USER": "shop", "DATABASE_PASSWORD": PASSWORD,
        **settings,
    }  # fmt: skip
    lines = [f"export {name}='{value}'" for name, value in names.items()]
    (started,) = stage.client("ec2").run_instances(
        ImageId="ami-1", MinCount=1, MaxCount=1, UserData="\n".join(["#!/bin/sh", *lines])
    )["Instances"]
    url = f"http://{started['PrivateIpAddress']}:8080"

    def up() -> bool:
        try:
            return ask(f"{url}/health", timeout_s=1).status == 200
        except OSError:
            return False

    eventually(up)
    return url


def subnet_of(stage: Stage, url: str) -> str:
    """Where a web server of its own is."""
    (reservation,) = stage.client("ec2").describe_instances(
        Filters=[{"Name": "private-ip-address", "Values": [str(urlsplit(url).hostname)]}]
    )["Reservations"]
    return str(reservation["Instances"][0]["SubnetId"])
