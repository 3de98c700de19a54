"""The clients of one identity, made anew when its credentials are refused.

A refusal comes before any effect, so the refused request may be made again. It is, exactly once:
a user's tool may have written new credentials meanwhile, and an undo must not fail for old ones.
"""

import threading
from collections.abc import Callable, Mapping
from typing import Any

from chaosgrade.credentials import Identity, is_refusal
from chaosgrade.errors import AwsError


class Clients:
    """The clients that one load of the credentials has made.

    Args:
        identity: whose.

    Raises:
        UsageError: as `Identity.session`.
    """

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._session = identity.session()
        self._made: dict[str, Any] = {}
        self._lock = threading.Lock()
        self.region: str = self._session.get_config_variable("region")
        self.objection: Exception | None = None
        """Why no request may be made with these credentials, once that is known."""

    def get(self, service: str) -> Any:
        """The client of a service, made once; safe to use from several threads.

        Raises:
            UsageError: botocore knows no such service.
            BotoCoreError: the credentials could not be loaded.
            Exception: the objection, if there is one.
        """
        if self.objection is not None:
            raise self.objection
        with self._lock:
            if service not in self._made:
                self._made[service] = self._identity.client(self._session, service)
            return self._made[service]

    def paging(self, service: str, operation: str) -> Mapping[str, Any]:
        """How botocore goes from one page of an operation's answers to the next."""
        with self._lock:
            model = self._session.get_paginator_model(service)
        paging: Mapping[str, Any] = model.get_paginator(operation)
        return paging


class RenewableClients:
    """The clients to use now.

    Args:
        identity: whose.
        account: tells the account id that renewed credentials must belong to; None allows any.

    Raises:
        UsageError: as `Identity.session`.
    """

    def __init__(self, identity: Identity, account: Callable[[], str | None]) -> None:
        self._identity = identity
        self._account = account
        self._renewing = threading.Lock()
        self.current = Clients(identity)

    def use[T](self, request: Callable[[Clients], T]) -> T:
        """Make a request, and once more with new clients when its credentials are refused.

        Raises:
            UsageError: the profile is there no more.
            AwsError: the renewed credentials are another account's; no request was made with them.
            Exception: what the request raises.
        """
        clients = self.current
        try:
            return request(clients)
        except Exception as error:
            if clients.objection is None and not is_refusal(error):
                raise
        return request(self._renewed(clients))

    def _renewed(self, refused: Clients) -> Clients:
        """Clients of credentials that were loaded after those of `refused`.

        Of many threads that were refused together, one loads them for all.
        """
        with self._renewing:
            if self.current is refused:
                fresh = Clients(self._identity)
                fresh.objection = self._objection(fresh)
                self.current = fresh
            return self.current

    def _objection(self, fresh: Clients) -> Exception | None:
        """Why nothing may be sent with these credentials.

        In another account, what is to be undone does not exist, and would be taken for gone.
        """
        expected = self._account()
        if expected is None:
            return None
        try:
            account = fresh.get("sts").get_caller_identity()["Account"]
        except Exception as error:  # whatever it is, the account is not known
            return error
        if account == expected:
            return None
        return AwsError(
            f"the renewed credentials belong to account {account}, not to {expected}; "
            f"renew the credentials of {expected}, then run the command again",
            code="WrongAccount",
        )
