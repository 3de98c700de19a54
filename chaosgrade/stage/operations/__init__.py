"""What the stage does with every operation of AWS's API. docs/stage-operations.md is made of it."""

from chaosgrade.stage.operations.catalogue import SERVICES, find
from chaosgrade.stage.operations.service import Kind, NotPlayed, Operation, Service

__all__ = ["SERVICES", "Kind", "NotPlayed", "Operation", "Service", "find"]
