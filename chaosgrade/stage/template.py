"""CloudFormation templates as a stage accepts them, checked before anything starts.

The checks are those that AWS would make (parameters, allowed values) and one of the stage's own:
every resource type must be one that it can play.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from chaosgrade.errors import UsageError

REAL = "real"
STORED = "stored"

SUPPORTED: Mapping[str, str] = {
    "AWS::AutoScaling::AutoScalingGroup": REAL,
    "AWS::CloudWatch::Alarm": REAL,
    "AWS::EC2::Instance": REAL,
    "AWS::ElasticLoadBalancingV2::Listener": REAL,
    "AWS::ElasticLoadBalancingV2::LoadBalancer": REAL,
    "AWS::ElasticLoadBalancingV2::TargetGroup": REAL,
    "AWS::EC2::LaunchTemplate": REAL,
    "AWS::DynamoDB::Table": STORED,
    "AWS::EC2::InternetGateway": STORED,
    "AWS::EC2::NetworkAcl": STORED,
    "AWS::EC2::NetworkAclEntry": STORED,
    "AWS::EC2::Route": STORED,
    "AWS::EC2::RouteTable": STORED,
    "AWS::EC2::SecurityGroup": STORED,
    "AWS::EC2::SecurityGroupIngress": STORED,
    "AWS::EC2::Subnet": REAL,
    "AWS::EC2::SubnetRouteTableAssociation": STORED,
    "AWS::EC2::VPC": STORED,
    "AWS::EC2::VPCGatewayAttachment": STORED,
    "AWS::ElastiCache::ReplicationGroup": REAL,
    "AWS::ElastiCache::SubnetGroup": REAL,
    "AWS::IAM::InstanceProfile": STORED,
    "AWS::IAM::Role": STORED,
    "AWS::RDS::DBCluster": REAL,
    "AWS::RDS::DBInstance": REAL,
    "AWS::RDS::DBSubnetGroup": REAL,
    "AWS::S3::Bucket": STORED,
    "AWS::S3::BucketPolicy": STORED,
    "AWS::SNS::Topic": STORED,
    "AWS::SQS::Queue": STORED,
}
"""Resource types: "real" ones have consequences on the stage, "stored" ones can be described."""

_NUMBER = re.compile(r"-?\d+(\.\d+)?")


@dataclass(frozen=True, slots=True)
class Template:
    """A template that the stage can play.

    Args:
        name: what it was asked for by.
        body: its text, as JSON.
        parameters: every parameter with its effective value, as text.
    """

    name: str
    body: str
    parameters: Mapping[str, str]


class _Loader(yaml.SafeLoader):
    """YAML with CloudFormation's short forms, such as `!Ref`."""


def _short_form(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, object]:
    value: object
    if isinstance(node, yaml.ScalarNode):
        value = loader.construct_scalar(node)
        if suffix == "GetAtt":
            value = str(value).split(".", 1)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)  # type: ignore[arg-type]  # the third kind
    return {suffix if suffix in {"Ref", "Condition"} else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _short_form)


def bundled() -> tuple[str, ...]:
    """Names of the templates that come with chaosgrade."""
    folder = resources.files("chaosgrade.stage") / "templates"
    names = (item.name for item in folder.iterdir())
    return tuple(sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml")))


def load(name: str, assignments: Sequence[str], region: str) -> Template:
    """Read a template and settle its parameters.

    Args:
        name: a bundled template's name, or a path.
        assignments: "Key=Value" texts.
        region: where it is played.

    Raises:
        UsageError: no such template, malformed, unsupported, or a wrong parameter.
    """
    body = _read(name)
    try:
        document = yaml.load(body, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "not YAML"
        raise UsageError(f"template {name} is malformed{where}: {problem}") from None
    _check_resources(name, document)
    try:
        # As JSON: what was checked here is what is built, whatever another reader makes of short
        # forms.
        body = json.dumps(_with_region(document, region), default=str)
    except (RecursionError, TypeError, ValueError):
        raise UsageError(
            f"template {name} is malformed: an alias contains itself, or a key is not text"
        ) from None
    return Template(name, body, _parameters(name, document, assignments))


def _check_resources(name: str, document: object) -> None:
    """Refuse a template that the stage cannot play.

    Raises:
        UsageError: no resources, or a type outside `SUPPORTED`.
    """
    found = document.get("Resources") if isinstance(document, dict) else None
    if not isinstance(found, dict) or not found:
        raise UsageError(f"template {name} has no Resources; give a CloudFormation template")
    for logical_id, resource in found.items():
        kind = resource.get("Type") if isinstance(resource, dict) else None
        if kind not in SUPPORTED:
            raise UsageError(
                f"template {name}: resource {logical_id} has type {kind}, which the stage does not "
                f"support; it supports {', '.join(sorted(SUPPORTED))}"
            )


def _with_region(node: Any, region: str) -> Any:
    """`Fn::GetAZs` of the stage's Region by name: moto does not resolve a Ref in it."""
    if isinstance(node, dict):
        if node.get("Fn::GetAZs") in ("", {"Ref": "AWS::Region"}):
            return {"Fn::GetAZs": region}
        return {key: _with_region(value, region) for key, value in node.items()}
    if isinstance(node, list):
        return [_with_region(item, region) for item in node]
    return node


def _read(name: str) -> str:
    if name in bundled():
        return (resources.files("chaosgrade.stage") / "templates" / f"{name}.yaml").read_text(
            "utf-8"
        )
    path = Path(name)
    try:
        return path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        if path.suffix or "/" in name:
            reason = getattr(error, "strerror", None) or "not text"
            raise UsageError(f"template {name} cannot be read: {reason}") from None
    known = ", ".join(bundled())
    raise UsageError(f"no template is called {name}; use {known}, or the path of a template")


def _parameters(name: str, document: Mapping[str, Any], given: Sequence[str]) -> dict[str, str]:
    declared: Mapping[str, Mapping[str, Any]] = document.get("Parameters") or {}
    if not isinstance(declared, dict) or not all(isinstance(s, dict) for s in declared.values()):
        raise UsageError(f"template {name}: Parameters must map names to their types")
    values = {
        key: _text(slot["Default"])
        for key, slot in declared.items()
        if slot.get("Default") is not None
    }
    for assignment in given:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise UsageError(f"--parameter {assignment} has no value; write Key=Value")
        if key not in declared:
            known = ", ".join(declared) or "none"
            raise UsageError(f"template {name} has no parameter {key}; it has {known}")
        values[key] = value
    for key, slot in declared.items():
        if key not in values:
            raise UsageError(f"template {name} needs --parameter {key}=…")
        _check_value(key, slot, values[key])
    return values


def _check_value(key: str, slot: Mapping[str, Any], value: str) -> None:
    allowed = [_text(item) for item in slot.get("AllowedValues") or ()]
    if allowed and value not in allowed:
        raise UsageError(f"parameter {key} must be one of {', '.join(allowed)}; got {value!r}")
    if slot.get("Type") == "Number":
        low, high = slot.get("MinValue", -math.inf), slot.get("MaxValue", math.inf)
        if not _NUMBER.fullmatch(value) or not float(low) <= float(value) <= float(high):
            bounds = "" if high == math.inf else f" from {low} to {high}"
            raise UsageError(f"parameter {key} must be a number{bounds}; got {value!r}")
    pattern = slot.get("AllowedPattern")
    if pattern and not re.fullmatch(str(pattern), value):
        raise UsageError(f"parameter {key} must match {pattern}; got {value!r}")


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
