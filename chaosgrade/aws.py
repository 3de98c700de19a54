"""One account and Region, as chaosgrade reaches it.

Every call to AWS goes through `Aws.send`, as data: a `Call` names service, operation and
parameters. It is the one place where botocore is called and its errors are translated, so whatever
needs to know the calls (plan, least privilege, runbook) reads the same values that are sent.
"""

import json
import os
import shlex
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

import botocore.exceptions
from botocore import xform_name
from botocore.paginate import Paginator

from chaosgrade.clients import Clients, RenewableClients
from chaosgrade.credentials import Identity, is_refusal, is_stale_renewal, profile_of_environment
from chaosgrade.errors import AwsError

PARALLELISM = 16
"""Calls that may be under way at once; the connection pool has this size."""

ROLE_SESSION = "ChaosGrade"
"""What CloudTrail calls the session of a role, unless the configuration says otherwise."""

# InvalidTarget: a target that was registered before is no instance any more.
_GONE = ("NotFound", "InvalidInstanceId", "InvalidTarget", "NoSuch")

_RENEW = "; renew the credentials, then run the command again"


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
        name_server: "address:port" of the DNS server that knows the stage's names; None elsewhere,
            where the system's own does.
        template, parameters: what the stage was built from; None and {} elsewhere.
    """

    kind: str
    account: str
    region: str
    time_scale: float = 1.0
    fabric: str | None = None
    name_server: str | None = None
    template: str | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """What tells two places apart. Not the name server: its port is another on every stage."""
        document = {**asdict(self), "parameters": dict(self.parameters)}
        del document["name_server"]
        return document


class Aws:
    """One account and Region, by the credentials that reach it.

    Args:
        region: the Region; None reads `AWS_REGION` or `AWS_DEFAULT_REGION`, or the profile's.
        profile: a named profile; None means what the SDK finds.
        endpoint_url: where all services are; None means what the SDK finds
            (`AWS_ENDPOINT_URL`, or AWS itself).
        access_key: (id, secret) of an emulator that takes any; None means what the SDK finds.
        role_arn: a role to assume with these credentials, renewed before it expires; None: none.
        role_session_name: what CloudTrail calls the role's session, 2 to 64 characters.

    Attributes:
        profile: the named profile, from the argument or from `AWS_PROFILE`; None when neither
            decides.
        role_arn, role_session_name: the role that is assumed, or None, and its session.

    Raises:
        UsageError: no Region or no such profile, or a malformed Region, endpoint or role.
    """

    def __init__(
        self,
        *,
        region: str | None = None,
        profile: str | None = None,
        endpoint_url: str | None = None,
        access_key: tuple[str, str] | None = None,
        role_arn: str | None = None,
        role_session_name: str = ROLE_SESSION,
    ) -> None:
        self.endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
        self.profile = profile or (None if access_key else profile_of_environment())
        self.role_arn = role_arn
        self.role_session_name = role_session_name
        identity = Identity(
            region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"),
            profile,
            role_arn,
            role_session_name,
            self.endpoint_url,
            access_key,
            PARALLELISM,
        )
        self._clients = RenewableClients(identity, self._known_account)
        self.region: str = self._clients.current.region

    def client(self, service: str) -> Any:
        """The botocore client of a service, made once; safe to use from several threads.

        Raises:
            UsageError: there is no such service.
            AwsError: the credentials could not be loaded.
        """
        with _translated(Call(service, "(connect)")):
            return self._clients.current.get(service)

    def send(self, call: Call) -> dict[str, Any]:
        """Make one call and return its answer.

        Credentials that are refused are loaded anew, and the call is made once more.

        Raises:
            ResourceGone: what the call addresses does not exist.
            AwsError: anything else that AWS or the way there objects to.
            UsageError: there is no such service.
        """
        with _translated(call):
            return self._answer(call, call.parameters)

    def pages(self, call: Call, key: str) -> Iterator[Any]:
        """The items under `key` of every page of a describe call; each page is asked as by `send`.

        Raises:
            AwsError: as `send`.
        """
        with _translated(call):
            client = self._clients.use(lambda clients: clients.get(call.service))
            if not client.can_paginate(xform_name(call.operation)):
                yield from self._answer(call, call.parameters)[key]
                return
            paginator = Paginator(
                lambda **parameters: self._answer(call, parameters),
                self._clients.current.paging(call.service, call.operation),
                client.meta.service_model.operation_model(call.operation),
            )
            for page in paginator.paginate(**call.parameters):
                yield from page[key]

    def _answer(self, call: Call, parameters: Mapping[str, Any]) -> dict[str, Any]:
        """What AWS answers, in botocore's errors."""

        def ask(clients: Clients) -> dict[str, Any]:
            method = getattr(clients.get(call.service), xform_name(call.operation))
            answer: dict[str, Any] = method(**parameters)
            return answer

        return self._clients.use(ask)

    def _known_account(self) -> str | None:
        known: Environment | None = self.__dict__.get("environment")  # if it was asked for
        return known.account if known else None

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
                    name_server=stage["dns"],
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
        # Getting credentials is a call too: a role that does not exist is no missing target.
        own = error.operation_name == call.operation
        kind = ResourceGone if own and any(mark in code for mark in _GONE) else AwsError
        way = "" if own else f" ({error.operation_name})"
        message = (
            f"{name} was refused with {code}{way}: {text}{_RENEW if is_refusal(error) else ''}"
        )
        raise kind(message, code=code) from None
    except (botocore.exceptions.BotoCoreError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not is_stale_renewal(error):
            raise
        text = " ".join(str(error).split())
        message = f"{name} failed: {text}{_RENEW if is_refusal(error) else ''}"
        raise AwsError(message, code=type(error).__name__) from None


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
