"""Numbers that somebody passed in: each wrong one ends in a line that names it and shows it."""

import math

from chaosgrade.errors import UsageError


def require_number(
    name: str, value: object, *, least: float = 0.0, above: bool = False, endless: bool = False
) -> None:
    """Let a number pass.

    Args:
        name: as the person who wrote it knows it.
        least: nothing below passes.
        above: neither does `least` itself.
        endless: infinity passes.

    Raises:
        UsageError: it is no number, or one that makes no sense here.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or math.isnan(value):
        raise UsageError(f"{name} must be a number, got {value!r}")
    if value < least or (above and value == least):
        bound = f"above {least:g}" if above else f"at least {least:g}"
        raise UsageError(f"{name} must be {bound}, got {value:g}")
    if math.isinf(value) and not endless:
        raise UsageError(f"{name} must be finite, got {value}")


def require_whole_number(name: str, value: object, *, least: int) -> None:
    """Let a whole number pass.

    Args:
        name, least: as of `require_number`.

    Raises:
        UsageError: it is none, or it is below `least`.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise UsageError(f"{name} must be a whole number, got {value!r}")
    if value < least:
        raise UsageError(f"{name} must be at least {least}, got {value}")
