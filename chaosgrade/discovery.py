"""What `chaos discover chaosgrade` lists: every action, probe and control."""

import importlib
import pkgutil
from importlib import metadata

from chaoslib.discovery.discover import (
    discover_activities,
    initialize_discovery_result,
)
from chaoslib.types import Discovery

_KINDS = {"chaosgrade.actions": "action", "chaosgrade.probes": "probe"}


def discover(discover_system: bool = True) -> Discovery:
    """Discover the activities and the control of this extension."""
    result: Discovery = initialize_discovery_result(
        "chaosgrade", metadata.version("chaosgrade"), "aws"
    )
    for package, kind in _KINDS.items():
        for module in pkgutil.iter_modules(importlib.import_module(package).__path__):
            name = f"{package}.{module.name}"
            if hasattr(importlib.import_module(name), "__all__"):
                result["activities"].extend(discover_activities(name, kind))
    result["activities"].extend(discover_activities("chaosgrade.control", "control"))
    return result
