"""moto as an application: an API call goes in, an answer comes out, a failure as AWS shapes it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from chaosgrade.stage.operations import NotPlayed
from chaosgrade.stage.refusals import ApiCall, answer

type Fields = list[tuple[str, str]]
type StartResponse = Callable[[str, Fields], Any]


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP response.

    Args:
        status: "200 OK".
        fields: (name, value) of its header.
        body: the whole of it.
    """

    status: str
    fields: Fields
    body: bytes

    @property
    def is_page(self) -> bool:
        """Whether it is an error for people with a browser."""
        begin = self.body[:300].lower()
        return self.status[:1] in "45" and (b"<html" in begin or b"<!doctype" in begin)

    def send(self, start: StartResponse, *, head: bool = False) -> list[bytes]:
        """As WSGI wants it.

        Args:
            head: whether only the header was asked for.
        """
        start(self.status, self.fields)
        return [b"" if head else self.body]


class MotoApplication:
    """Answers calls to every service that moto knows, in this process."""

    def __init__(self) -> None:
        self._moto = DomainDispatcherApplication(create_backend_app)

    def answer(self, call: ApiCall, environ: dict[str, Any]) -> Answer:
        """Answer one call.

        Args:
            environ: the WSGI environment, its input not read.
        """
        status = ""
        fields: Fields = []

        def keep(line: str, given: Fields, *_: Any) -> None:
            nonlocal status, fields
            status, fields = line, given

        try:
            body = b"".join(self._moto(environ, keep))
        except NotPlayed as error:
            return failure(call, "NotImplemented", f"the stage does not play {call.what} {error}")
        except NotImplementedError:
            return failure(call, "NotImplemented", f"the stage does not play {call.what}")
        except Exception as error:  # moto's own failure at input that it did not expect
            return failure(call, "InternalFailure", f"the stage failed at {call.what}: {error!r}")
        answered = Answer(status, fields, body)
        if answered.is_page:
            # No such operation in moto: its web framework answers, not a service.
            return failure(call, "NotImplemented", f"the stage does not play {call.what}")
        return answered


def failure(call: ApiCall, code: str, message: str) -> Answer:
    """An error as the called service would shape it, with a status that SDKs do not retry."""
    kind, body = answer(call, code, message)
    fields = [
        ("Content-Type", kind),
        ("Content-Length", str(len(body))),
        ("x-amzn-ErrorType", code),
    ]
    if call.form == "cbor":
        fields.append(("smithy-protocol", "rpc-v2-cbor"))
    return Answer("501 Not Implemented", fields, body)
