"""Gates that a plan passes before anything is touched. A gate that cannot decide refuses."""

from collections.abc import Sequence

from chaosgrade.aws import Environment
from chaosgrade.changes.model import Change
from chaosgrade.errors import Refused

PERMISSIVE = ("stage", "localstack")
"""Environments that exist to be broken. Everything else is denied until it is allowed by name."""


def check(changes: Sequence[Change], environment: Environment) -> None:
    """Let a plan pass, or raise. Makes no call.

    Raises:
        Refused: the plan may not be carried out here.
    """
    if changes and environment.kind not in PERMISSIVE:
        raise Refused(
            f"account {environment.account} in {environment.region} is not a stage or LocalStack; "
            "changes to real AWS accounts are denied in this version: use --target stage"
        )
