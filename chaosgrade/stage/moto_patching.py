"""How methods of moto are replaced and added: in this process, for good."""

from collections.abc import Callable
from typing import Any


def replace(owner: type, name: str, method: Any) -> None:
    """Put a method in the place of one of the same name.

    Raises:
        AttributeError: moto has no such method.
    """
    if not hasattr(owner, name):
        raise AttributeError(f"moto has no {owner.__name__}.{name}: another version than pinned?")
    setattr(owner, name, method)


def add(owner: type, name: str, method: Any) -> None:
    """Give a class of moto's an operation that moto does not know.

    Raises:
        AttributeError: it does.
    """
    if hasattr(owner, name):
        raise AttributeError(f"moto has {owner.__name__}.{name}: another version than pinned?")
    setattr(owner, name, method)


def complete(kind: Any, finish: Callable[[Any, dict[str, Any]], None]) -> None:
    """Have CloudFormation also take what moto's constructors of resources pass over.

    Args:
        kind: a class of moto's that CloudFormation creates.
        finish: called with what was made and its properties.
    """
    create = kind.create_from_cloudformation_json.__func__

    def create_from_cloudformation_json(
        cls: Any, resource_name: str, cloudformation_json: Any, *args: Any, **kwargs: Any
    ) -> Any:
        made = create(cls, resource_name, cloudformation_json, *args, **kwargs)
        finish(made, cloudformation_json["Properties"])
        return made

    replace(kind, "create_from_cloudformation_json", classmethod(create_from_cloudformation_json))
