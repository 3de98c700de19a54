"""What stands in moto's stack for a resource that moto's own classes do not make."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from moto.cloudformation.exceptions import UnformattedGetAttTemplateException


@dataclass
class StackResource:
    """A resource that is there already.

    Args:
        physical_resource_id: what `Ref` gives.
        attributes: what `Fn::GetAtt` gives.
    """

    physical_resource_id: str
    attributes: Mapping[str, str] = field(default_factory=dict)

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """What `Fn::GetAtt` gives.

        Raises:
            UnformattedGetAttTemplateException: there is no such attribute.
        """
        if attribute_name not in self.attributes:
            raise UnformattedGetAttTemplateException
        return self.attributes[attribute_name]

    def is_created(self) -> bool:
        """It is: whoever asked for it has waited."""
        return True
