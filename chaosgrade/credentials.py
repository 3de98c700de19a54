"""Whose credentials sign the calls, and which errors say that they are good no more.

A fault may outlive the credentials that made it, and its undo must not: a role's credentials are
renewed before they expire, and all others can be loaded anew, as the files are by then.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

import botocore.session
from botocore.config import Config
from botocore.credentials import (
    AssumeRoleCredentialFetcher,
    CredentialResolver,
    DeferredRefreshableCredentials,
)
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    ProfileNotFound,
    UnknownServiceError,
)
from botocore.utils import (
    is_valid_endpoint_url,
    is_valid_ipv6_endpoint_url,
    validate_region_name,
)

from chaosgrade.concealment import learn
from chaosgrade.errors import UsageError

# https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html and
# https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
_CODES = (
    "AuthFailure",
    "ExpiredToken",
    "ExpiredTokenException",
    "InvalidClientTokenId",
    "RequestExpired",
    "UnrecognizedClientException",
)

# By name, for not every botocore that will do has all of them; with their subclasses.
_ERRORS = (
    "CredentialRetrievalError",
    "LoginError",
    "NoCredentialsError",
    "PartialCredentialsError",  # a file that is just being written
    "SSOError",
    "TokenRetrievalError",
)


def is_refusal(error: BaseException) -> bool:
    """Whether an error says that there are no valid credentials: nothing has been done then."""
    if isinstance(error, ClientError):
        return error.response.get("Error", {}).get("Code") in _CODES
    if isinstance(error, BotoCoreError):
        return any(kind.__name__ in _ERRORS for kind in type(error).__mro__)
    return is_stale_renewal(error)


def is_stale_renewal(error: BaseException) -> bool:
    """Whether botocore has renewed credentials and got expired ones, for which it has no class."""
    return isinstance(error, RuntimeError) and "are still expired" in str(error)


@dataclass(frozen=True, slots=True)
class Identity:
    """What decides which account is reached, and where.

    Args:
        region: the Region; None means the profile's.
        profile: a named profile; None means what the SDK finds.
        role_arn: a role to assume with those credentials; None for none.
        role_session_name: what CloudTrail calls the assumed role's session.
        endpoint_url: where all services are; None means what the SDK finds.
        access_key: (id, secret) in place of a profile's.
        connections: how many each client may hold open.
    """

    region: str | None
    profile: str | None
    role_arn: str | None
    role_session_name: str
    endpoint_url: str | None
    access_key: tuple[str, str] | None = field(repr=False)
    connections: int

    def session(self) -> Any:
        """A botocore session that signs as this identity; makes no network call.

        Raises:
            UsageError: no such profile or Region, or a malformed one, endpoint, role or file.
        """
        if self.endpoint_url is not None and not _is_endpoint(self.endpoint_url):
            raise UsageError(
                f"the endpoint {self.endpoint_url!r} is not one: write http(s)://host[:port]"
            )
        if self.role_arn is not None and ":role/" not in self.role_arn:
            raise UsageError(
                f"aws_assume_role_arn must be arn:aws:iam::ACCOUNT:role/NAME, got {self.role_arn!r}"
            )
        try:
            session = self._own_session()
            region = session.get_config_variable("region")
            validate_region_name(region)
        except ProfileNotFound as error:
            raise UsageError(
                f"{error}; name one of your AWS profiles as aws_profile_name"
            ) from None
        except BotoCoreError as error:
            raise UsageError(" ".join(str(error).split())) from None
        if not region:
            raise UsageError("no AWS Region: set AWS_REGION, or aws_region in the configuration")
        if self.role_arn is not None:
            role = CredentialResolver([_AssumedRole(self)])
            session.register_component("credential_provider", role)
        return session

    def renewed_role(self) -> Mapping[str, Any]:
        """Temporary credentials of the role, from one call to STS.

        Raises:
            BotoCoreError, ClientError: there are no credentials, or they may not assume the role.
        """
        # A session of its own: botocore's are not safe to share, and this is any thread.
        source = self._own_session()
        credentials = source.get_credentials()
        if credentials is None:
            raise NoCredentialsError
        fetcher = AssumeRoleCredentialFetcher(
            lambda service, **keys: self.client(source, service, **keys),
            credentials,
            self.role_arn,
            extra_args={"RoleSessionName": self.role_session_name},
        )
        fetched: Mapping[str, Any] = fetcher.fetch_credentials()
        return fetched

    def client(self, session: Any, service: str, **keys: str | None) -> Any:
        """A client of this session, with one retry policy.

        Raises:
            UsageError: botocore knows no such service.
            BotoCoreError: the credentials could not be loaded.
        """
        try:
            return session.create_client(
                service,
                endpoint_url=self.endpoint_url,
                config=Config(
                    retries={"mode": "adaptive", "total_max_attempts": 6},
                    max_pool_connections=self.connections,
                    connect_timeout=5,
                    read_timeout=30,
                    user_agent_extra=f"chaosgrade/{version('chaosgrade')}",
                ),
                **keys,
            )
        except UnknownServiceError:
            raise UsageError(f"AWS has no service {service!r} that botocore knows") from None

    def _own_session(self) -> Any:
        session = botocore.session.Session(profile=self.profile)
        if self.region is not None:
            session.set_config_variable("region", self.region)
        if self.access_key is not None:
            session.set_credentials(*self.access_key)
        session.register("before-send", lambda **_: _learn(session))
        session.get_scoped_config()  # raises ProfileNotFound here, not at the first call
        return session


class _AssumedRole:
    """A credential provider of botocore's: fetches at the first call, and again before expiry."""

    METHOD = "chaosgrade-assume-role"

    def __init__(self, identity: Identity) -> None:
        self._identity = identity

    def load(self) -> Any:
        return DeferredRefreshableCredentials(self._identity.renewed_role, self.METHOD)


def _learn(session: Any) -> None:
    """What has just signed a call is not to be told."""
    credentials = session.get_credentials()
    if credentials is None:
        return
    # As they are held: asking for them would renew those that are about to expire once more.
    held = {name.lstrip("_"): value for name, value in vars(credentials).items()}
    learn([held.get("secret_key"), held.get("token")])


def profile_of_environment() -> str | None:
    """The profile that the environment names, unless it holds credentials that come first."""
    if os.environ.get("AWS_ACCESS_KEY_ID") or os.environ.get("AWS_WEB_IDENTITY_TOKEN_FILE"):
        return None
    return os.environ.get("AWS_DEFAULT_PROFILE") or os.environ.get("AWS_PROFILE") or None


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        _ = parts.port  # raises for what is not a port
    except ValueError:
        return False
    valid = is_valid_endpoint_url(url) or is_valid_ipv6_endpoint_url(url)
    return valid and parts.scheme in ("http", "https")
