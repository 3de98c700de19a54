"""API calls that the stage refuses: the ones that would look as if they had worked.

moto stores almost anything that it is told, and takes some calls that it does not know for others
that it knows. A fault or a safeguard that is stored and has no consequence would make an experiment
lie, so what `operations` does not list is refused.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, unquote
from xml.sax.saxutils import escape

from chaosgrade.stage import rest_operations
from chaosgrade.stage.operations import SERVICES, Kind, find

_SCOPE = re.compile(r"Credential=[^/,&]+/\d{8}/[^/]+/([^/]+)/aws4_request")
_UNSIGNED_ACTIONS = {"AssumeRoleWithSAML": "sts", "AssumeRoleWithWebIdentity": "sts"}
_S3_CONTROL = "/v20180820/"
_CLASSIC_BALANCERS = "2012-06-01"
_XML_FORMS = {
    "s3": "s3", "s3express": "s3", "s3-object-lambda": "s3",
    "s3control": "xml", "route53": "xml", "cloudfront": "xml",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class ApiCall:
    """Who is called, and for what.

    Args:
        service: the name that the request is signed for; "" when it is not signed.
        operation: "" where it is not known.
        version: of the API, where the call says so.
        what: the operation, or method and path, for messages.
        form: how the service writes its answers: "query", "json", "cbor", "xml" or "s3".
    """

    service: str
    operation: str
    version: str
    what: str
    form: str

    @classmethod
    def of(cls, environ: dict[str, Any], sent: bytes) -> "ApiCall":
        """From a WSGI environment and the body that was sent."""
        target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
        path, method = str(environ["PATH_INFO"]), str(environ["REQUEST_METHOD"])
        fields: Mapping[str, list[str]] = {}
        if not target and str(environ.get("CONTENT_TYPE", "")).startswith(
            "application/x-www-form-urlencoded"
        ):
            fields = parse_qs(sent.decode("latin-1"))
        action = fields.get("Action", [""])[0]
        service = _signed_for(environ) or _UNSIGNED_ACTIONS.get(action, "")
        if not service and target:
            service = target.partition(".")[0]
        if service in ("s3", "s3express") and path.startswith(_S3_CONTROL):
            service = "s3control"
        operation = target.rpartition(".")[2] or action
        if not operation and "/operation/" in path:  # the RPC v2 protocol
            operation = path.rpartition("/")[2]
        if not operation and service:
            operation = rest_operations.operation(service, environ)
        return cls(
            service=service,
            operation=operation,
            version=fields.get("Version", [""])[0],
            what=operation or f"{method} {path}",
            form=_form(service, environ, is_query=bool(fields)),
        )


def _signed_for(environ: Mapping[str, Any]) -> str:
    """By header, or by the query string of a URL that was signed for somebody else."""
    texts = str(environ.get("HTTP_AUTHORIZATION", "")), str(environ.get("QUERY_STRING", ""))
    scope = _SCOPE.search(texts[0]) or _SCOPE.search(unquote(texts[1]))
    return scope.group(1) if scope else ""


def _form(service: str, environ: Mapping[str, Any], *, is_query: bool) -> str:
    if "cbor" in str(environ.get("HTTP_SMITHY_PROTOCOL", "")):
        return "cbor"
    return "query" if is_query else _XML_FORMS.get(service, "json")


def refused(call: ApiCall) -> str | None:
    """Why the stage refuses a call; None when it does not."""
    if not call.service:
        return None  # not signed: whoever reads a public object
    known = find(call.service, call.operation)
    if known is None:
        names = sorted({service.signing_name for service in SERVICES})
        return f"the stage does not play {call.service} ({call.what}); it knows {', '.join(names)}"
    if call.service == "elasticloadbalancing" and call.version == _CLASSIC_BALANCERS:
        return f"the stage does not play Classic Load Balancers ({call.what})"
    if known.kind is not Kind.UNSUPPORTED:
        return None
    return f"the stage does not play {call.what}" + (f": {known.text}" if known.text else "")


def answer(call: ApiCall, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error, as the called service would shape it."""
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    match call.form:
        case "s3":
            return "application/xml", error.encode()
        case "query" | "xml":
            # EC2 wraps errors in <Errors>, the other services do not: each parser finds its own.
            return "text/xml", (
                f"<ErrorResponse><Errors>{error}</Errors>{error}"
                "<RequestId>stage</RequestId></ErrorResponse>"
            ).encode()
        case "cbor":
            texts = ("__type", code, "message", message)
            return "application/cbor", b"\xa2" + b"".join(_cbor(text) for text in texts)
    body = json.dumps({"__type": code, "message": message}).encode()
    return "application/x-amz-json-1.1", body


def _cbor(text: str) -> bytes:
    """A text of up to 64 KiB. Source: RFC 8949, section 3.1."""
    data = text.encode()
    return b"\x79" + len(data).to_bytes(2, "big") + data
