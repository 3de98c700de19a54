"""One account and Region, as chaosgrade reaches it.

Every call to AWS goes through `Aws.send`, as data: a `Call` names service, operation and
parameters. It is the one place where boto3 is called and its errors are translated, so whatever
needs to know the calls (plan, least privilege, runbook) reads the same values that are sent.
"""

import json
import os
import shlex
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import boto3
import botocore.exceptions
from botocore import xform_name
from botocore.config import Config

from chaosgrade.errors import AwsError, UsageError

PARALLELISM = 16
"""Calls that may be under way at once; the connection pool has this size."""

# InvalidTarget: a target that was registered before is no instance any more.
_GONE = ("NotFound", "InvalidInstanceId", "InvalidTarget", "NoSuch")


class ResourceGone(AwsError):
    """The resource that a call addresses does not exist (any more)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One API call as data.

    Args:
        service: the service as boto3 names it, such as "elbv2".
        operation: the operation as the API names it, such as "DeregisterTargets".
        parameters: its parameters, JSON-serialisable. One at the top may be a `Lookup`: such a call
            is for a person's shell and cannot be sent.
    """

    service: str
    operation: str
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def as_cli(self, place: str = "") -> str:
        """The same call as a command of the AWS CLI, quoted for a shell.

        Args:
            place: options that say where, such as "--region us-east-1", for lookups too.
        """
        operation = xform_name(self.operation, "-")
        plain = {k: v for k, v in self.parameters.items() if not isinstance(v, Lookup)}
        words = [f"aws {self.service} {operation}"]
        if plain or len(plain) == len(self.parameters):
            words.append(f"--cli-input-json {shlex.quote(json.dumps(plain))}")
        for name, value in self.parameters.items():
            if isinstance(value, Lookup):
                words.append(f'--{xform_name(name, "-")} "$({value.as_cli(place)})"')
        return " ".join([*words, place]).rstrip()


@dataclass(frozen=True, slots=True)
class Lookup:
    """A name that AWS gives anew with each change, told by the call that finds it.

    Args:
        call: a describe call.
        query: a JMESPath expression over its answer that yields the one name.
    """

    call: Call
    query: str

    def as_cli(self, place: str = "") -> str:
        """The command that prints the name."""
        return f"{self.call.as_cli(place)} --query {shlex.quote(self.query)} --output text"


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a run takes place.

    Args:
        kind: "stage", "localstack" or "aws".
        account: the account id that the credentials belong to.
        region: the Region.
        time_scale: AWS seconds per measured second; 1 but for the stage.
        fabric: what connects the stage's instances; None elsewhere.
        template, parameters: what the stage was built from; None and {} elsewhere.
    """

    kind: str
    account: str
    region: str
    time_scale: float = 1.0
    fabric: str | None = None
    template: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)


class Aws:
    """Clients of one (account, profile or credentials, Region), with one retry policy.

    Args:
        region: the Region; None reads `AWS_REGION` or `AWS_DEFAULT_REGION`, or the profile's.
        profile: a named profile; None means what the SDK finds.
        endpoint_url: where all services are; None means what the SDK finds
            (`AWS_ENDPOINT_URL`, or AWS itself).
        access_key: (id, secret) of an emulator that takes any; None means what the SDK finds.

    Raises:
        UsageError: no Region, or no such profile.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        access_key: tuple[str, str] | None = None,
    ) -> None:
        region = region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        try:
            self._session = boto3.session.Session(
                region_name=region,
                profile_name=profile,
                aws_access_key_id=access_key and access_key[0],
                aws_secret_access_key=access_key and access_key[1],
            )
        except botocore.exceptions.ProfileNotFound as error:
            raise UsageError(
                f"{error}; name one of your AWS profiles as aws_profile_name"
            ) from None
        if not self._session.region_name:
            raise UsageError("no AWS Region: set AWS_REGION, or aws_region in the configuration")
        self.region: str = self._session.region_name
        self.endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, service: str) -> Any:
        """The boto3 client of a service, made once; safe to use from several threads."""
        with self._lock:
            if service not in self._clients:
                self._clients[service] = self._session.client(
                    service,
                    endpoint_url=self.endpoint_url,
                    config=Config(
                        retries={"mode": "adaptive", "total_max_attempts": 6},
                        max_pool_connections=PARALLELISM,
                        connect_timeout=5,
                        read_timeout=30,
                        user_agent_extra="chaosgrade",
                    ),
                )
            return self._clients[service]

    def send(self, call: Call) -> dict[str, Any]:
        """Make one call and return its answer.

        Raises:
            ResourceGone: what the call addresses does not exist.
            AwsError: anything else that AWS or the way there objects to.
        """
        with _translated(call):
            method = getattr(self.client(call.service), xform_name(call.operation))
            answer: dict[str, Any] = method(**call.parameters)
        return answer

    def pages(self, call: Call, key: str) -> Iterator[Any]:
        """The items under `key` of every page of a describe call.

        Raises:
            AwsError: as `send`.
        """
        name = xform_name(call.operation)
        client = self.client(call.service)
        if not client.can_paginate(name):
            yield from self.send(call)[key]
            return
        with _translated(call):
            for page in client.get_paginator(name).paginate(**call.parameters):
                yield from page[key]

    @cached_property
    def environment(self) -> Environment:
        """What answers at the endpoint, and whose account it is.

        Raises:
            AwsError: the endpoint or the credentials do not work.
        """
        account = self.send(Call("sts", "GetCallerIdentity"))["Account"]
        if self.endpoint_url and _is_loopback(self.endpoint_url):
            stage = _get_json(self.endpoint_url + "/_chaosgrade/stage")
            if stage is not None:
                return Environment(
                    kind="stage",
                    account=account,
                    region=self.region,
                    time_scale=float(stage["time_scale"]),
                    fabric=stage["fabric"],
                    template=stage["template"],
                    parameters=stage["parameters"],
                )
            if _get_json(self.endpoint_url + "/_localstack/health") is not None:
                return Environment(kind="localstack", account=account, region=self.region)
        return Environment(kind="aws", account=account, region=self.region)


@contextmanager
def _translated(call: Call) -> Iterator[None]:
    """Turn botocore's errors into ours, in one line each."""
    name = f"{call.service}:{call.operation}"
    try:
        yield
    except botocore.exceptions.ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", "Unknown"))
        text = " ".join(str(error.response.get("Error", {}).get("Message", error)).split())
        kind = ResourceGone if any(mark in code for mark in _GONE) else AwsError
        raise kind(f"{name} was refused with {code}: {text}", code=code) from None
    except botocore.exceptions.BotoCoreError as error:
        text = " ".join(str(error).split())
        raise AwsError(f"{name} failed: {text}", code=type(error).__name__) from None


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _get_json(url: str) -> dict[str, Any] | None:
    """The JSON object at a loopback address; None when there is none."""
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 - loopback http only
            document = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError):
        return None
    return document if isinstance(document, dict) else None
