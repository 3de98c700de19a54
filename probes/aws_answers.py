"""Throttling errors and empty successes in the words of the AWS service that is asked.

Sources: "Common Error Types" of each service's API reference; Amazon S3 API Reference, "Error
responses"; Amazon EC2 API Reference, "Error codes"; Smithy, protocols awsJson, restJson1 and
rpcv2Cbor. SDKs read the code, and treat throttling differently from other failures.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/[^/]+/([^/]+)/aws4_request")
_ACTION = re.compile(rb"(?:^|&)Action=([A-Za-z0-9]+)")

# Status and code by the name that requests are signed for; what is not here says Throttling.
_CODES = {
    "dynamodb": (400, "ProvisionedThroughputExceededException"),
    "ec2": (503, "RequestLimitExceeded"),
    "kinesis": (400, "ProvisionedThroughputExceededException"),
    "lambda": (429, "TooManyRequestsException"),
    "s3": (503, "SlowDown"),
    "sqs": (400, "RequestThrottled"),
}
_MESSAGES = {"SlowDown": "Please reduce your request rate."}
_RATE = "Rate exceeded"


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which service an SDK asks, and in which protocol.

    Args:
        service: the name that the request is signed for; "" when it is not signed.
        protocol: "json", "query", "ec2", "s3", "cbor" or "rest".
        target: of a JSON request, such as "DynamoDB_20120810.GetItem".
        action: of a query, such as "GetCallerIdentity".
    """

    service: str
    protocol: str
    target: str = ""
    action: str = ""

    @classmethod
    def by(cls, headers: Mapping[str, str], body: bytes = b"") -> "Asked":
        """From the headers of a request and the beginning of its body."""
        scope = _SCOPE.search(headers.get("Authorization", ""))
        service = scope.group(1) if scope else ""
        kind = headers.get("Content-Type", "")
        target = headers.get("X-Amz-Target", "")
        if headers.get("smithy-protocol") == "rpc-v2-cbor":
            protocol = "cbor"
        elif target or kind.startswith("application/x-amz-json"):
            protocol = "json"
        elif service == "s3":
            protocol = "s3"
        elif kind.startswith("application/x-www-form-urlencoded"):
            protocol = "ec2" if service == "ec2" else "query"
        else:
            protocol = "rest"
        action = _ACTION.search(body)
        return cls(service, protocol, target, action.group(1).decode() if action else "")

    def throttled(self) -> Answer:
        """The service's answer to whoever asks too often; 429 where it is no AWS service."""
        if not self.service:
            return Answer(429)
        plain = "Throttling" if self.protocol in ("query", "ec2", "s3") else "ThrottlingException"
        status, code = _CODES.get(self.service, (429 if self.protocol == "rest" else 400, plain))
        message = _MESSAGES.get(code, _RATE)
        match self.protocol:
            case "cbor":
                fields = (_text("__type"), _text(code), _text("message"), _text(message))
                return Answer(status, b"\xa2" + b"".join(fields), _CBOR)
            case "json":
                space = self.target.partition(".")[0].replace(
                    "DynamoDB_", "com.amazonaws.dynamodb.v"
                )
                body = json.dumps({"__type": f"{space}#{code}", "message": message})
                return Answer(status, body.encode(), {"Content-Type": "application/x-amz-json-1.0"})
            case "rest":
                body = json.dumps({"message": message})
                headers = {"Content-Type": "application/json", "x-amzn-ErrorType": code}
                return Answer(status, body.encode(), headers)
        error = f"<Error><Code>{code}</Code><Message>{message}</Message>"
        match self.protocol:
            case "s3":
                xml = f"{error}<RequestId>chaosgrade</RequestId></Error>"
            case "ec2":
                xml = (
                    f"<Response><Errors>{error}</Error></Errors>"
                    "<RequestID>chaosgrade</RequestID></Response>"
                )
            case _:
                xml = (
                    f"<ErrorResponse>{error}<Type>Sender</Type></Error>"
                    "<RequestId>chaosgrade</RequestId></ErrorResponse>"
                )
        return Answer(status, xml.encode(), {"Content-Type": "text/xml"})

    def satisfied(self) -> Answer:
        """An empty success."""
        match self.protocol:
            case "cbor":
                return Answer(200, b"\xa0", _CBOR)
            case "json":
                return Answer(200, b"{}", {"Content-Type": "application/x-amz-json-1.0"})
            case "query" | "ec2":
                xml = (
                    f"<{self.action}Response><{self.action}Result/><ResponseMetadata>"
                    f"<RequestId>chaosgrade</RequestId></ResponseMetadata></{self.action}Response>"
                )
                return Answer(200, xml.encode(), {"Content-Type": "text/xml"})
            case _ if self.service:
                return Answer(200)
        return Answer(200, b"ok\n", {"Content-Type": "text/plain"})


_CBOR = {"Content-Type": "application/cbor", "smithy-protocol": "rpc-v2-cbor"}


def _text(value: str) -> bytes:
    """A text string of less than 256 bytes in CBOR (RFC 8949)."""
    data = value.encode()
    return (bytes([0x60 | len(data)]) if len(data) < 24 else bytes([0x78, len(data)])) + data
