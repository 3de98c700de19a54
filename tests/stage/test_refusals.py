"""What the stage does with each operation of AWS's API is what it says that it does."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import botocore.session
import pytest

from chaosgrade.stage.operations import SERVICES, Kind, Service
from chaosgrade.stage.refusals import ApiCall, answer, refused

ROOT = Path(__file__).parents[2]
UNKNOWN = ("lambda", "route53", "redshift", "arc-zonal-shift", "elb", "s3control")
"""Some services that the stage does not know, of every protocol that there is."""


def call(
    service: str, *, target: str = "", body: bytes = b"", path: str = "/", **more: str
) -> ApiCall:
    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "HTTP_HOST": "127.0.0.1",
        "HTTP_X_AMZ_TARGET": target,
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=utf-8" if body else "",
        "HTTP_AUTHORIZATION": (
            f"AWS4-HMAC-SHA256 Credential=stage/20260101/us-east-1/{service}/aws4_request, "
            "SignedHeaders=host, Signature=0"
        ),
        "wsgi.url_scheme": "http",
        **more,
    }
    return ApiCall.of(environ, body)


@pytest.mark.parametrize(
    ("asked", "operation", "is_refused"),
    [
        (call("ec2", body=b"Action=RequestSpotFleet&Version=2016-11-15"), "RequestSpotFleet", True),
        (call("ec2", body=b"Action=RunInstances&Version=2016-11-15"), "RunInstances", False),
        (call("ssm", target="AmazonSSM.SendCommand"), "SendCommand", False),
        (call("ssm", target="AmazonSSM.InventedYesterday"), "InventedYesterday", True),
        (call("redshift", body=b"Action=X&Version=2012-12-01"), "X", True),
        (call("fis", path="/experiments"), "StartExperiment", False),
        (call("fis", path="/experimentTemplates/EXT1"), "", True),
        (call("monitoring", path="/service/G/operation/PutMetricData"), "PutMetricData", False),
        (
            call("elasticloadbalancing", body=b"Action=X&Version=2012-06-01"),
            "X",
            True,
        ),
        (call("s3", path="/b/k", REQUEST_METHOD="PUT"), "PutObject", False),
        (
            call("s3", path="/b", REQUEST_METHOD="DELETE", QUERY_STRING="intelligent-tiering&id=x"),
            "DeleteBucketIntelligentTieringConfiguration",  # moto would delete the bucket
            True,
        ),
        (call("lambda", path="/2015-03-31/functions"), "CreateFunction", True),
    ],
)
def test_a_call_is_known_in_every_protocol(
    asked: ApiCall, operation: str, is_refused: bool
) -> None:
    """Form, target header, path or parameters name the operation; the signature the service."""
    assert asked.operation == operation
    assert (refused(asked) is not None) == is_refused


def test_a_url_that_was_signed_for_somebody_else_names_its_service() -> None:
    """In its query string."""
    scope = "X-Amz-Credential=stage%2F20260101%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Expires=60"
    asked = call("", path="/b/k", REQUEST_METHOD="GET", QUERY_STRING=scope, HTTP_AUTHORIZATION="")
    assert (asked.service, asked.operation) == ("s3", "GetObject")


def test_an_error_has_the_format_of_its_service() -> None:
    """XML for query services, JSON for the others; both carry the code, and text is escaped."""
    kind, body = answer(call("ec2", body=b"Action=A&Version=1"), "NotImplemented", "<no>")
    assert kind == "text/xml"
    assert b"<Code>NotImplemented</Code><Message>&lt;no&gt;</Message>" in body
    kind, body = answer(call("ssm", target="AmazonSSM.A"), "NotImplemented", "no")
    assert kind == "application/x-amz-json-1.1"
    assert b'"__type": "NotImplemented"' in body


@pytest.fixture(scope="module")
def answers() -> dict[str, dict[str, dict[str, Any]]]:
    """What a stage answers to every operation of the services that it knows, and of some others."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.stage.sweep", *(s.name for s in SERVICES), *UNKNOWN],
        cwd=ROOT,
        env={**os.environ, "CHAOSGRADE_PARENT": str(os.getpid())},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, dict[str, dict[str, Any]]] = json.loads(done.stdout)
    return found


@pytest.mark.parametrize("service", SERVICES, ids=lambda service: service.name)
def test_each_operation_is_what_it_is_called(
    service: Service, answers: dict[str, dict[str, dict[str, Any]]]
) -> None:
    """Unsupported ones answer NotImplemented with their name, and the others do not."""
    wrong = {}
    for name, told in answers[service.name].items():
        known = service.operations.get(name)
        is_unsupported = known is None or known.kind is Kind.UNSUPPORTED
        is_refused = (told["status"], told["code"]) == (501, "NotImplemented")
        if is_unsupported != is_refused or (is_refused and name not in told["message"]):
            wrong[name] = told
    assert wrong == {}


def test_every_known_operation_exists(answers: dict[str, dict[str, dict[str, Any]]]) -> None:
    """By the models of botocore."""
    strange = {
        service.name: set(service.operations) - set(answers[service.name]) for service in SERVICES
    }
    assert not any(strange.values()), strange


@pytest.mark.parametrize("service", UNKNOWN)
def test_an_unknown_service_is_refused_by_the_name_of_the_operation(
    service: str, answers: dict[str, dict[str, dict[str, Any]]]
) -> None:
    """Whatever its protocol."""
    wrong = {
        name: told
        for name, told in answers[service].items()
        if (told["status"], told["code"]) != (501, "NotImplemented") or name not in told["message"]
    }
    assert wrong == {}


def test_no_call_is_answered_with_a_page(answers: dict[str, dict[str, dict[str, Any]]]) -> None:
    """Nor with a status that SDKs try again for; moto's own failures come with the operation."""
    for service, operations in answers.items():
        for name, told in operations.items():
            assert not told["is_page"], (service, name, told)
            assert told["status"] < 500 or told["status"] == 501, (service, name, told)
            assert told["code"] != "InternalFailure" or name in told["message"], (service, name)


_STUMBLING = """
import threading, urllib.request
from chaosgrade.stage import wsgi_server
from chaosgrade.stage.moto_import import import_moto
import_moto("us-east-1")
from chaosgrade.stage.endpoint import Endpoint

def stumble():
    raise KeyError("arn:nope")

endpoint = Endpoint(
    0, lambda: wsgi_server.listen("127.0.0.1", 0), threading.RLock(), stumble, dict, None, None, {}
)
import boto3
from botocore.exceptions import ClientError
client = boto3.client(
    "elbv2", endpoint_url=endpoint.url, region_name="us-east-1", aws_access_key_id="a",
    aws_secret_access_key="b",
)
try:
    client.describe_load_balancers()
except ClientError as error:
    print(error.response["Error"]["Code"], error.response["Error"]["Message"])
"""


def test_what_the_stage_stumbles_over_is_answered_at_once_and_by_name() -> None:
    """A page of the web framework would be tried again, and say nothing."""
    told = subprocess.run(
        [sys.executable, "-c", _STUMBLING], capture_output=True, text=True, timeout=60, check=True
    )
    assert told.stdout.split()[0] == "InternalFailure"
    assert "DescribeLoadBalancers" in told.stdout
    assert "arn:nope" in told.stdout


def test_the_documentation_is_what_the_code_says() -> None:
    """`make docs` writes it."""
    done = subprocess.run(
        [sys.executable, "scripts/stage_operations.py", "--check"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_signing_names_are_those_of_botocore() -> None:
    """A call is found by what it is signed for."""
    session = botocore.session.get_session()
    for service in SERVICES:
        assert session.get_service_model(service.name).signing_name == service.signing_name
