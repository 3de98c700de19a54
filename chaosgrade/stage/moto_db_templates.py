"""DB clusters and their DB instances in CloudFormation templates, of which moto knows nothing."""

from collections.abc import Mapping
from typing import Any

from botocore import xform_name
from moto.backends import get_backend
from moto.core.common_models import CloudFormationModel
from moto.rds.models import DBInstance

from chaosgrade.stage.moto_patching import replace

_ATTRIBUTES = {
    "DBClusterArn": "db_cluster_arn",
    "DBClusterResourceId": "db_cluster_resource_id",
    "Endpoint.Address": "endpoint",
    "Endpoint.Port": "port",
    "ReadEndpoint.Address": "reader_endpoint",
}
"""{what Fn::GetAtt may ask for: what moto calls it}."""


class ClusterResource(CloudFormationModel):
    """`AWS::RDS::DBCluster`, which moto finds because it is a CloudFormationModel.

    Args:
        cluster: of moto's.
    """

    def __init__(self, cluster: Any) -> None:
        self._cluster = cluster

    @property
    def physical_resource_id(self) -> str:
        """What Ref gives."""
        return str(self._cluster.db_cluster_identifier)

    @staticmethod
    def cloudformation_name_type() -> str:
        return "DBClusterIdentifier"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::RDS::DBCluster"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr in _ATTRIBUTES

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """What Fn::GetAtt gives."""
        return str(getattr(self._cluster, _ATTRIBUTES[attribute_name]))

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: dict[str, Any],
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> "ClusterResource":
        asked = _asked(cloudformation_json["Properties"])
        backend: Any = get_backend("rds")[account_id][region_name]
        return cls(backend.create_db_cluster({**asked, "db_cluster_identifier": resource_name}))

    def is_created(self) -> bool:
        return True


def install() -> None:
    """Have DB instances of templates join their clusters, in this process, for good."""
    create: Any = DBInstance.create_from_cloudformation_json.__func__  # type: ignore[attr-defined]  # a class method

    def create_from_cloudformation_json(
        cls: Any,
        /,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **kwargs: Any,
    ) -> Any:
        properties = cloudformation_json["Properties"]
        if "DBClusterIdentifier" not in properties:
            return create(
                cls, resource_name, cloudformation_json, account_id, region_name, **kwargs
            )
        backend: Any = get_backend("rds")[account_id][region_name]
        asked = {**_asked(properties), "db_instance_identifier": resource_name}
        return backend.create_db_instance(asked)

    replace(
        DBInstance, "create_from_cloudformation_json", classmethod(create_from_cloudformation_json)
    )


def _asked(properties: Mapping[str, Any]) -> dict[str, Any]:
    """Properties as moto's arguments; a Ref to a DB subnet group is the group."""
    asked = {xform_name(name): value for name, value in properties.items()}
    if group := asked.get("db_subnet_group_name"):
        asked["db_subnet_group_name"] = getattr(group, "name", group)
    return asked
