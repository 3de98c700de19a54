"""Which AWS a command works against: a private stage, one that is up, LocalStack, or AWS."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TextIO

from chaosgrade.errors import ChaosgradeError, Exit, UsageError
from chaosgrade.experiment import ExperimentFile
from chaosgrade.policies.objectives import DEFAULT_TEMPLATE, parse_extension
from chaosgrade.trial import Halt

TARGETS = ("stage", "localstack", "aws")
_STOP_TIMEOUT_S = 10.0


class Interrupted(ChaosgradeError):
    """Somebody asked to stop before anything had begun."""

    exit_code = Exit.HALTED


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the command line names it.

    Args:
        kind: "stage", "localstack" or "aws".
        stage_url: the endpoint of a stage that is already up; None starts a private one.
        template: what a private stage is built from; None for what an experiment names.
        parameters, time_scale, fabric: of a private stage.
    """

    kind: str = "stage"
    stage_url: str | None = None
    template: str | None = None
    parameters: tuple[str, ...] = ()
    time_scale: float = 20.0
    fabric: str = "auto"

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise UsageError(f"target must be one of {', '.join(TARGETS)}, got {self.kind!r}")
        if self.stage_url and self.kind != "stage":
            raise UsageError(
                f"--stage {self.stage_url} and --target {self.kind} exclude each other"
            )

    def of(self, file: ExperimentFile) -> "Target":
        """The same, with the template that an experiment needs unless one was chosen."""
        if self.template is not None:
            return self
        return replace(self, template=parse_extension(file.document).template)

    @contextlib.contextmanager
    def reached(self, halt: Halt) -> Iterator[None]:
        """For the block, the AWS SDK of this process and of those that it starts finds the target.

        Raises:
            UsageError: the target is not there or cannot be started.
            Interrupted: `halt` was requested while a stage was starting.
        """
        with contextlib.ExitStack() as stack:
            variables: Mapping[str, str] = {}
            if self.kind == "localstack":
                variables = _localstack()
            elif self.kind == "stage" and self.stage_url:
                variables = _described(self.stage_url)["env"]
            elif self.kind == "stage":
                variables = stack.enter_context(_private_stage(self, halt))["env"]
            former = {name: os.environ.get(name) for name in variables}
            os.environ.update(variables)
            try:
                yield
            finally:
                for name, value in former.items():
                    if value is None:
                        os.environ.pop(name, None)
                    else:
                        os.environ[name] = value


def _described(url: str) -> dict[str, Any]:
    address = url.rstrip("/") + "/_chaosgrade/stage"
    if not address.startswith(("http://", "https://")):
        raise UsageError(f"--stage must be an http URL, got {url!r}")
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310 - checked above
            document: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise UsageError(
            f"no stage answers at {url} ({reason}); start one with: chaosgrade stage up"
        ) from None
    return document


def _localstack() -> dict[str, str]:
    from localstack_client import config

    return {
        "AWS_ENDPOINT_URL": config.get_service_endpoint("sts"),
        "AWS_ACCESS_KEY_ID": os.environ.get("AWS_ACCESS_KEY_ID", "test"),
        "AWS_SECRET_ACCESS_KEY": os.environ.get("AWS_SECRET_ACCESS_KEY", "test"),
        "AWS_DEFAULT_REGION": os.environ.get("AWS_DEFAULT_REGION", "us-east-1"),
    }


def stage_command(
    template: str, parameters: tuple[str, ...], time_scale: float, fabric: str, *options: str
) -> list[str]:
    """The command that runs a stage in the foreground."""
    command = [sys.executable, "-m", "chaosgrade.stage", "--template", template]
    command += ["--time-scale", str(time_scale), "--fabric", fabric, *options]
    for parameter in parameters:
        command += ["--parameter", parameter]
    return command


@contextlib.contextmanager
def _private_stage(target: Target, halt: Halt) -> Iterator[dict[str, Any]]:
    command = stage_command(
        target.template or DEFAULT_TEMPLATE,
        target.parameters,
        target.time_scale,
        target.fabric,
        "--json",
    )
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,  # not a pipe, which would fill up while nobody reads
            env={**os.environ, "CHAOSGRADE_PARENT": str(os.getpid())},
            text=True,
            start_new_session=True,  # Ctrl-C is for us: the stage goes down after the undo
        )
        try:
            assert process.stdout is not None  # noqa: S101 - it was asked for above
            line = process.stdout.readline()
            if halt.requested:
                raise Interrupted("stopped while the stage was starting; nothing was changed")
            if not line:
                process.wait(_STOP_TIMEOUT_S)
                raise UsageError(_last_words(said))
            yield json.loads(line)
            if process.poll() is not None:
                print(f"chaosgrade: the stage ended: {_last_words(said)}", file=sys.stderr)
        finally:
            _stop(process)


def _last_words(said: TextIO) -> str:
    said.seek(0)
    lines = [line for line in said.read().splitlines() if line.strip()]
    words = lines[-1].removeprefix("chaosgrade: ") if lines else "no reason given"
    if "No module named" in words:
        return f"the stage needs the extra `stage`: pip install 'chaosgrade[stage]' ({words})"
    return words


def _stop(process: "subprocess.Popen[str]") -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
