"""What can go wrong in ways that a person can mend, each with its exit code.

Every error that a user can cause ends as one line that names the value and the remedy. The command
line prints `str(error)` and exits with `error.exit_code`; nothing else turns errors into codes.
"""

from enum import IntEnum

from chaosgrade.concealment import conceal


class Exit(IntEnum):
    """Exit codes of every command."""

    HOLDS = 0
    WEAKNESS = 1
    USAGE = 2
    INCONCLUSIVE = 3
    HALTED = 4
    NOT_UNDONE = 5


class ChaosgradeError(Exception):
    """A failure with a remedy. The message is one line, without secrets."""

    exit_code = Exit.USAGE

    def __init__(self, message: str) -> None:
        super().__init__(conceal(message))


def in_words(error: Exception) -> str:
    """An error in one line; one that nobody has foreseen with its name."""
    return str(error) if isinstance(error, ChaosgradeError) else f"{type(error).__name__}: {error}"


class UsageError(ChaosgradeError):
    """A value that somebody wrote is wrong: a name, a file, an option."""


class TargetNotFound(ChaosgradeError):
    """A selector matched nothing: nothing could be broken, so nothing was proven."""

    exit_code = Exit.INCONCLUSIVE


class Refused(ChaosgradeError):
    """The guard does not allow this change here. No call was made."""


_UNREACHABLE = ("EndpointConnectionError", "ConnectTimeoutError", "ConnectionClosedError")


class AwsError(ChaosgradeError):
    """AWS answered with an error that is not about a person's input."""

    exit_code = Exit.INCONCLUSIVE

    def __init__(self, message: str, *, code: str) -> None:
        super().__init__(message)
        self.code = code

    @property
    def unreachable(self) -> bool:
        """Whether nothing answered at all."""
        return self.code in _UNREACHABLE


class NotUndone(ChaosgradeError):
    """Something that chaosgrade changed is not as it was."""

    exit_code = Exit.NOT_UNDONE
