"""Calls every operation of some services on a stage in this process: `python -m tests.stage.sweep`.

Arguments are services as boto3 names them. Each call is made by boto3's own client with the least
parameters that the operation's model needs; only the connection is left out. Prints as JSON, by
service and operation, what came back: {"status", "code", "message", "is_page"}; the code is "" when
the client saw no error.
"""

import io
import json
import sys
import urllib.parse
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.awsrequest import AWSPreparedRequest, AWSResponse
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.model import OperationModel, Shape, StructureShape

from chaosgrade.stage.control_plane import ControlPlane
from chaosgrade.stage.fabric import Loopback
from chaosgrade.stage.moto_import import import_moto
from chaosgrade.stage.template import Template

REGION = "us-east-1"
_NET = {"Type": "AWS::EC2::VPC", "Properties": {"CidrBlock": "10.0.0.0/16"}}
_TEMPLATE = json.dumps({"Resources": {"Net": _NET}})
_MORE: Mapping[str, Mapping[str, Any]] = {
    "DescribeInstanceTypes": {"InstanceTypes": ["t3.micro"]},
    "DescribeSpotPriceHistory": {"InstanceTypes": ["t3.micro"]},
}
"""Parameters without which an operation takes seconds."""


def _parameters(model: OperationModel) -> dict[str, Any]:
    """The least that an operation needs."""
    least = _structure(model.input_shape) if isinstance(model.input_shape, StructureShape) else {}
    return {**least, **_MORE.get(model.name, {})}


def _structure(shape: Any) -> dict[str, Any]:
    return {name: _value(shape.members[name]) for name in shape.required_members}


def _value(shape: Shape) -> Any:
    match shape.type_name:
        case "structure":
            return _structure(shape)
        case "list":
            return [_value(shape.member)]  # type: ignore[attr-defined]  # of a list shape
        case "map":
            return {}
        case "boolean":
            return False
        case "integer" | "long":
            return 1
        case "float" | "double":
            return 1.0
        case "timestamp":
            return datetime.now(UTC)
        case "blob":
            return b"x"
    if named := getattr(shape, "enum", None):
        return named[0]
    return "x" * max(shape.metadata.get("min", 1), 1)


class _Raw(io.BytesIO):
    def stream(self, **_: object) -> Iterator[bytes]:
        yield self.read()


class _Wire:
    """Takes requests of botocore to a WSGI application, and its answers back."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.status = 0
        self.is_page = False

    def send(self, request: AWSPreparedRequest, **_: object) -> AWSResponse:
        url = urllib.parse.urlsplit(request.url)
        body = request.body.read() if hasattr(request.body, "read") else request.body or b""
        body = body.encode() if isinstance(body, str) else bytes(body)
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": urllib.parse.unquote(url.path),
            "RAW_URI": url.path + ("?" + url.query if url.query else ""),
            "QUERY_STRING": url.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "HTTP_HOST": url.netloc,
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "wsgi.url_scheme": "http",
            "wsgi.errors": sys.stderr,
            "wsgi.multithread": False,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in request.headers.items():
            key = name.upper().replace("-", "_")
            text = value.decode() if isinstance(value, bytes) else str(value)
            environ["CONTENT_TYPE" if key == "CONTENT_TYPE" else f"HTTP_{key}"] = text
        headers: dict[str, str] = {}

        def start(line: str, fields: list[tuple[str, str]], *_: object) -> None:
            self.status = int(line[:3])
            headers.update(fields)

        content = b"".join(self._application(environ, start))
        self.is_page = b"<html" in content[:500].lower()
        return AWSResponse(request.url, self.status, headers, _Raw(content))


def _sweep(application: Any, service: str) -> dict[str, Mapping[str, Any]]:
    """What each operation of a service answers."""
    client = boto3.client(
        service,
        endpoint_url="http://127.0.0.1:1",
        region_name=REGION,
        aws_access_key_id="stage",
        aws_secret_access_key="stage",
        config=Config(
            parameter_validation=False,
            retries={"total_max_attempts": 1},
            inject_host_prefix=False,
            s3={"addressing_style": "path"},
        ),
    )
    wire = _Wire(application)
    client.meta.events.register("before-send", wire.send)
    found: dict[str, Mapping[str, Any]] = {}
    for name in client.meta.service_model.operation_names:
        told: Mapping[str, Any] = {}
        try:
            client._make_api_call(
                name, _parameters(client.meta.service_model.operation_model(name))
            )
        except ClientError as error:
            told = error.response["Error"]
        except Exception as error:  # an answer that the client cannot read
            told = {"Code": type(error).__name__, "Message": str(error)}
        found[name] = {
            "status": wire.status,
            "code": told.get("Code", ""),
            "message": told.get("Message", ""),
            "is_page": wire.is_page,
        }
    return found


def main(services: list[str]) -> None:
    """Print what they answer."""
    plane = ControlPlane(Template("sweep", _TEMPLATE, {}), REGION, 20.0, Loopback())
    try:
        import_moto(REGION)
        from chaosgrade.stage.endpoint import Endpoint

        plane.build()
        assert plane.data is not None
        endpoint = Endpoint(
            0, plane.listen_within, plane.lock, lambda: None, dict, plane.pools, plane.data, {}
        )
        print(json.dumps({service: _sweep(endpoint, service) for service in services}))
    finally:
        plane.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
