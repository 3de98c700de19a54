"""Resources of a template whose data another process keeps: tables, buckets and
their policies, topics and queues.

moto's CloudFormation creates a resource through its class, in its own process. Here the class asks
for the resource elsewhere, and gives `Ref` and `Fn::GetAtt` what it is told.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException
from moto.core.common_models import CloudFormationModel
from moto.dynamodb.models import dynamodb_backends
from moto.dynamodb.models.table import Table
from moto.s3.models import FakeBucket, s3_backends
from moto.sns.models import Topic
from moto.sqs.models import Queue
from moto.utilities.utils import get_partition

from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.moto_stack_resource import StackResource
from chaosgrade.stage.world import ACCOUNT, KeptResource

type Create = Callable[[str, str, Mapping[str, Any]], KeptResource]


def _let_items_expire(table: Any, properties: Mapping[str, Any], region: str) -> None:
    if specification := properties.get("TimeToLiveSpecification"):
        backend = dynamodb_backends[ACCOUNT][region]
        backend.update_time_to_live(table.name, specification)


def _keep_versions(bucket: Any, properties: Mapping[str, Any], region: str) -> None:
    if versioning := properties.get("VersioningConfiguration"):
        backend = s3_backends[ACCOUNT][get_partition(region)]
        backend.put_bucket_versioning(bucket.name, versioning["Status"])


class BucketPolicy(CloudFormationModel):
    """A bucket's policy, which moto's CloudFormation does not know."""

    def __init__(self, bucket: str) -> None:
        self._bucket = bucket

    @property
    def physical_resource_id(self) -> str:
        """What `Ref` gives."""
        return self._bucket

    @staticmethod
    def cloudformation_name_type() -> str:
        """It has no name."""
        return ""

    @staticmethod
    def cloudformation_type() -> str:
        """As templates call it."""
        return "AWS::S3::BucketPolicy"

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> "BucketPolicy":
        """Set the policy of a bucket."""
        properties = cloudformation_json["Properties"]
        backend = s3_backends[account_id][get_partition(region_name)]
        document = json.dumps(properties["PolicyDocument"]).encode()
        backend.put_bucket_policy(properties["Bucket"], document)
        return cls(properties["Bucket"])


def _nothing_more(made: Any, properties: Mapping[str, Any], region: str) -> None:
    return


@dataclass(frozen=True, slots=True)
class _Kind:
    """A type of resource.

    Args:
        made_by: moto's class.
        attributes: what `Fn::GetAtt` may ask for.
        complete: does what that class passes over, given what was made, its properties, the Region.
    """

    made_by: Any
    attributes: tuple[str, ...]
    complete: Callable[[Any, Mapping[str, Any], str], None] = _nothing_more


KINDS: Mapping[str, _Kind] = {
    "AWS::DynamoDB::Table": _Kind(Table, ("Arn", "StreamArn"), _let_items_expire),
    "AWS::S3::Bucket": _Kind(
        FakeBucket,
        ("Arn", "DomainName", "DualStackDomainName", "RegionalDomainName", "WebsiteURL"),
        _keep_versions,
    ),
    "AWS::S3::BucketPolicy": _Kind(BucketPolicy, ()),
    "AWS::SNS::Topic": _Kind(Topic, ("TopicArn", "TopicName")),
    "AWS::SQS::Queue": _Kind(Queue, ("Arn", "QueueName")),
}
"""By their names in CloudFormation."""


def install(create_elsewhere: Create) -> None:
    """Have CloudFormation create them elsewhere, in this process, for good.

    Args:
        create_elsewhere: given type, name and definition.
    """
    for kind, known in KINDS.items():
        replace(
            known.made_by,
            "create_from_cloudformation_json",
            classmethod(_creation(kind, create_elsewhere)),
        )


def _creation(kind: str, create_elsewhere: Create) -> Callable[..., StackResource]:
    def create_from_cloudformation_json(
        cls: Any, /, resource_name: str, cloudformation_json: Any, *_: Any, **__: Any
    ) -> StackResource:
        resource = create_elsewhere(kind, resource_name, cloudformation_json)
        return StackResource(resource.id, resource.attributes)

    return create_from_cloudformation_json


def create(kind: str, name: str, definition: Mapping[str, Any], region: str) -> KeptResource:
    """Create one here.

    Raises:
        Exception: moto's own, of many kinds.
    """
    known = KINDS[kind]
    made = known.made_by.create_from_cloudformation_json(name, definition, ACCOUNT, region)
    known.complete(made, definition["Properties"], region)
    attributes = {}
    for attribute in known.attributes:
        try:
            attributes[attribute] = str(made.get_cfn_attribute(attribute))
        except (UnformattedGetAttTemplateException, KeyError):
            continue  # a table without a stream
    return KeptResource(str(made.physical_resource_id), attributes)
