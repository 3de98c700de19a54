"""How a method of moto is replaced."""

from typing import Any


def replace(owner: type, name: str, method: Any) -> None:
    """Replace a method in this process, for good.

    Raises:
        AttributeError: there is no such method, so this is not the moto that is pinned.
    """
    if not hasattr(owner, name):
        raise AttributeError(f"moto has no {owner.__name__}.{name}: another version than pinned?")
    setattr(owner, name, method)
