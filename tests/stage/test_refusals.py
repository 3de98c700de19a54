"""What the stage refuses, and that its documentation says so."""

from pathlib import Path

import pytest

from chaosgrade.stage.refusals import OPERATIONS, ApiCall, answer, refused
from chaosgrade.stage.template import SUPPORTED

DOCUMENT = Path(__file__).parents[2] / "docs" / "stage-operations.md"


def call(service: str, *, target: str = "", body: bytes = b"", path: str = "/") -> ApiCall:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "HTTP_X_AMZ_TARGET": target,
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8" if body else "",
        "HTTP_AUTHORIZATION": (
            f"AWS4-HMAC-SHA256 Credential=stage/20260101/us-east-1/{service}/aws4_request, "
            "SignedHeaders=host, Signature=0"
        ),
    }
    return ApiCall.of(environ, body)


@pytest.mark.parametrize(
    ("asked", "operation", "is_refused"),
    [
        (call("ec2", body=b"Action=RequestSpotFleet&Version=2016-11-15"), "RequestSpotFleet", True),
        (call("ec2", body=b"Action=RunInstances&Version=2016-11-15"), "RunInstances", False),
        (call("ssm", target="AmazonSSM.SendCommand"), "SendCommand", False),
        (call("redshift", body=b"Action=X&Version=2012-12-01"), "X", True),
        (call("fis", path="/experiments"), "StartExperiment", False),
        (call("fis", path="/experimentTemplates/EXT1"), "", False),
        (call("monitoring", path="/service/G/operation/PutMetricData"), "PutMetricData", False),
        (
            call("elasticloadbalancing", body=b"Action=X&Version=2012-06-01"),
            "X",
            True,
        ),
    ],
)
def test_a_call_is_known_in_every_protocol(
    asked: ApiCall, operation: str, is_refused: bool
) -> None:
    """Form, target header or path name the operation; the signature names the service."""
    assert asked.operation == operation
    assert (refused(asked) is not None) == is_refused


def test_an_error_has_the_format_of_its_service() -> None:
    """XML for query services, JSON for the others; both carry the code, and text is escaped."""
    kind, body = answer(call("ec2", body=b"Action=A&Version=1"), "NotImplemented", "<no>")
    assert kind == "text/xml"
    assert b"<Code>NotImplemented</Code><Message>&lt;no&gt;</Message>" in body
    kind, body = answer(call("ssm", target="AmazonSSM.A"), "NotImplemented", "no")
    assert kind == "application/x-amz-json-1.1"
    assert b'"__type": "NotImplemented"' in body


def test_the_documentation_lists_every_refused_operation_and_supported_type() -> None:
    """Nobody should have to read the code to know what an experiment can rely on."""
    text = DOCUMENT.read_text("utf-8")
    names = [name for operations in OPERATIONS.values() for name in operations]
    missing = [name for name in [*names, *SUPPORTED] if f"`{name}`" not in text]
    assert missing == []
