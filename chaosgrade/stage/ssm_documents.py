"""What Systems Manager documents do on the stage's instances.

No shell is involved: documents are structured orders to the process that holds the instances.
Sources: AWS FIS User Guide, "Use Systems Manager SSM documents with AWS FIS"; `ps(1)`.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

KILL_PROCESS = "AWSFIS-Run-Kill-Process"
SHELL = "AWS-RunShellScript"
DOCUMENTS = (KILL_PROCESS, SHELL)

_PS = re.compile(r"ps -o stat= -C ([A-Za-z0-9_.][A-Za-z0-9_.+@-]*)")

type Ask = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Sends an order ("signal" or "state") to the hosts and returns their reply."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """How a command ended on one instance."""

    status: str
    output: str = ""
    error: str = ""
    code: int = 0


def invoke(
    document: str, parameters: Mapping[str, Sequence[str]], instance: str, ask: Ask
) -> Invocation:
    """Run a document on an instance.

    Args:
        document: one of `DOCUMENTS`.
        parameters: the document's, each a list of texts, as SendCommand takes them.
    """
    if document == KILL_PROCESS:
        return _kill(parameters, instance, ask)
    return _shell(parameters, instance, ask)


def _kill(parameters: Mapping[str, Sequence[str]], instance: str, ask: Ask) -> Invocation:
    process = _only(parameters, "ProcessName")
    signal = _only(parameters, "Signal") or "SIGTERM"
    if not process:
        return Invocation("Failed", error="the parameter ProcessName is required", code=1)
    number = signal if signal.startswith("SIG") else f"SIG{signal}"
    reply = ask({"op": "signal", "instance": instance, "process": process, "signal": number})
    if not reply["ok"]:
        return Invocation("Failed", error=str(reply["error"]), code=1)
    return Invocation("Success", output=f"{number} sent to {process}\n")


def _shell(parameters: Mapping[str, Sequence[str]], instance: str, ask: Ask) -> Invocation:
    commands = [command.strip() for command in parameters.get("commands", ())]
    asked = _PS.fullmatch(commands[0]) if len(commands) == 1 else None
    if asked is None:
        return Invocation(
            "Failed",
            error="the stage's instances have no shell; they answer `ps -o stat= -C NAME` only",
            code=127,
        )
    reply = ask({"op": "state", "instance": instance, "process": asked.group(1)})
    if not reply["ok"]:
        return Invocation("Failed", error=str(reply["error"]), code=1)
    if reply["state"] == "absent":
        return Invocation("Failed", code=1)  # as ps ends when nothing matches
    return Invocation("Success", output=f"{reply['stat']}\n")


def _only(parameters: Mapping[str, Sequence[str]], name: str) -> str:
    values = parameters.get(name) or ("",)
    return str(values[0])
