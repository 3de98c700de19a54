"""Which AWS a command works against: a private stage, one that is up, LocalStack, or AWS."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade.errors import ChaosgradeError, UsageError
from chaosgrade.trial import Halt

TARGETS = ("stage", "localstack", "aws")
_STOP_TIMEOUT_S = 10.0


class Interrupted(ChaosgradeError):
    """Somebody asked to stop before anything had begun."""


@dataclass(frozen=True, slots=True)
class Target:
    """A target as the command line names it.

    Args:
        kind: "stage", "localstack" or "aws".
        stage_url: the endpoint of a stage that is already up; None starts a private one.
        template, parameters, time_scale: what a private stage is built from.
    """

    kind: str = "stage"
    stage_url: str | None = None
    template: str = "three-tier"
    parameters: tuple[str, ...] = ()
    time_scale: float = 20.0

    def __post_init__(self) -> None:
        if self.kind not in TARGETS:
            raise UsageError(f"target must be one of {', '.join(TARGETS)}, got {self.kind!r}")
        if self.stage_url and self.kind != "stage":
            raise UsageError(f"--stage {self.stage_url} and --target {self.kind} exclude each other")

    @contextlib.contextmanager
    def environ(self, halt: Halt) -> Iterator[Mapping[str, str]]:
        """Environment variables that lead the AWS SDK to the target, for as long as the block.

        Raises:
            UsageError: the target is not there or cannot be started.
            Interrupted: `halt` was requested while a stage was starting.
        """
        if self.kind == "aws":
            yield {}
        elif self.kind == "localstack":
            yield _localstack()
        elif self.stage_url:
            yield _described(self.stage_url)["env"]
        else:
            with _private_stage(self, halt) as ready:
                yield ready["env"]


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
    template: str, parameters: tuple[str, ...], time_scale: float, *options: str
) -> list[str]:
    """The command that runs a stage in the foreground."""
    command = [sys.executable, "-m", "chaosgrade.stage", "--template", template]
    command += ["--time-scale", str(time_scale), *options]
    for parameter in parameters:
        command += ["--parameter", parameter]
    return command


@contextlib.contextmanager
def _private_stage(target: Target, halt: Halt) -> Iterator[dict[str, Any]]:
    process = subprocess.Popen(
        stage_command(target.template, target.parameters, target.time_scale, "--json"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "CHAOSGRADE_DIE_WITH_PARENT": "1"},
        text=True,
        start_new_session=True,  # Ctrl-C is for us: the stage goes down after the undo
    )
    try:
        assert process.stdout is not None  # noqa: S101 - it was asked for above
        line = process.stdout.readline()
        if halt.requested:
            raise Interrupted("stopped while the stage was starting; nothing was changed")
        if not line:
            raise UsageError(_last_words(process))
        yield json.loads(line)
    finally:
        _stop(process)


def _last_words(process: "subprocess.Popen[str]") -> str:
    _, errors = process.communicate(timeout=_STOP_TIMEOUT_S)
    lines = [line for line in errors.splitlines() if line.strip()]
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
