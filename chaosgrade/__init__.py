"""chaosgrade: break an AWS system on purpose, measure what customers feel, undo it, grade it."""

from typing import Any


def discover(discover_system: bool = True) -> Any:
    """Chaos Toolkit's entry for `chaos discover chaosgrade`; see `chaosgrade.discovery`."""
    from chaosgrade import discovery  # late: --help need not import Chaos Toolkit

    return discovery.discover(discover_system)
