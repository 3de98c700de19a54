"""All services that the stage knows, a file each; services that are stored only share one."""

from chaosgrade.stage.operations.autoscaling import AUTO_SCALING
from chaosgrade.stage.operations.cloudformation import CLOUDFORMATION
from chaosgrade.stage.operations.cloudwatch import CLOUDWATCH
from chaosgrade.stage.operations.ec2 import EC2
from chaosgrade.stage.operations.elasticache import ELASTICACHE
from chaosgrade.stage.operations.elbv2 import ELBV2
from chaosgrade.stage.operations.fis import FIS
from chaosgrade.stage.operations.rds import RDS
from chaosgrade.stage.operations.service import Kind, Operation, Service
from chaosgrade.stage.operations.ssm import SSM
from chaosgrade.stage.operations.stored_services import STORED_SERVICES

SERVICES: tuple[Service, ...] = (
    EC2,
    AUTO_SCALING,
    ELBV2,
    RDS,
    ELASTICACHE,
    CLOUDWATCH,
    FIS,
    SSM,
    CLOUDFORMATION,
    *STORED_SERVICES,
)
"""In the order of the documentation."""

_BY_SIGNING_NAME: dict[str, dict[str, Operation]] = {}
for _service in SERVICES:
    _BY_SIGNING_NAME.setdefault(_service.signing_name, {}).update(_service.operations)

_UNKNOWN = Operation(Kind.UNSUPPORTED)


def find(signing_name: str, operation: str) -> Operation | None:
    """What the stage does with an operation; None when it does not know the service.

    Args:
        signing_name: the name that the request is signed for.
    """
    operations = _BY_SIGNING_NAME.get(signing_name)
    return None if operations is None else operations.get(operation, _UNKNOWN)
