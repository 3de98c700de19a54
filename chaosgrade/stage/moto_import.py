"""Imports of moto in half the time: 1.6 s instead of 3.3 s on two cores.

moto's CloudFormation parser imports every service that it could create, among them API Gateway
with an OpenAPI validator, and EC2 reads the instance types of all Regions. A stage creates the
types of `template.SUPPORTED` in one Region. What is left out here is left out of CloudFormation
alone: the services' own calls import them when they are first used.
"""

import importlib
import os
import sys
from types import ModuleType
from typing import Any

from chaosgrade.stage.regions import REGIONS

_UNUSED_BY_TEMPLATES = (
    "apigateway", "awslambda", "batch", "cloudwatch", "datapipeline", "ecr", "ecs", "efs",
    "emr", "events", "iot", "kinesis", "kms", "redshift", "route53", "sagemaker", "stepfunctions",
)  # fmt: skip


def import_moto(region: str) -> None:
    """Import what a stage needs of moto. Call once, before any other import of it.

    Args:
        region: the only Region whose instance types are loaded.
    """
    os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # any ImageId of a template will do
    os.environ["MOTO_DISABLE_GLOBAL_CORS"] = "true"
    _answer_regions_from_a_table()
    _load_instance_types_of(region)
    # These are needed whole by the services that a stage runs, placeholders must not precede them.
    for name in ("ec2", "autoscaling", "elbv2", "rds", "ssm", "iam", "sts", "s3", "sns"):
        importlib.import_module(f"moto.{name}.models")
    placeholders = _place_holders()
    try:
        importlib.import_module("moto.cloudformation.models")
    finally:
        for placeholder in placeholders:
            sys.modules.pop(placeholder, None)
    importlib.import_module("moto.moto_server.werkzeug_app")


def _answer_regions_from_a_table() -> None:
    """botocore reads a megabyte of endpoints per session to list Regions, and moto asks often."""
    import boto3.session

    def regions(
        self: object, service_name: str, partition_name: str = "aws", **_: Any
    ) -> list[str]:
        return [*REGIONS] if partition_name == "aws" else []

    boto3.session.Session.get_available_regions = regions
    boto3.session.Session.get_available_partitions = lambda self: ["aws"]


def _load_instance_types_of(region: str) -> None:
    from moto.utilities import utils

    load = utils.load_resource

    def load_resource(resource: str) -> Any:
        if "instance_type_offerings" in resource and f"/{region}.json" not in resource:
            return []
        return load(resource)

    utils.load_resource = load_resource


def _place_holders() -> list[str]:
    """Empty modules for the services that are not imported yet; returns their names."""
    names = []
    for service in _UNUSED_BY_TEMPLATES:
        package_name, models_name = f"moto.{service}", f"moto.{service}.models"
        if package_name in sys.modules:
            continue
        package, models = ModuleType(package_name), ModuleType(models_name)
        package.__path__ = []
        package.models = models  # type: ignore[attr-defined]
        sys.modules[package_name], sys.modules[models_name] = package, models
        names += [package_name, models_name]
    if "moto.awslambda" in names:  # custom resources would call it; templates may have none
        utils = ModuleType("moto.awslambda.utils")
        utils.get_backend = None  # type: ignore[attr-defined]
        sys.modules["moto.awslambda.utils"] = utils
        names.append("moto.awslambda.utils")
    return names
