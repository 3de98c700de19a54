"""Stages for tests: real ones, each a process tree of its own that ends with the tests."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Stage:
    """A running stage.

    Args:
        document: its ready line.
        process: its foreground process.
    """

    document: dict[str, Any]
    process: "subprocess.Popen[str]"

    def client(self, service: str) -> Any:
        """A boto3 client of one of its services."""
        return boto3.client(
            service,
            endpoint_url=self.document["endpoint"],
            region_name=self.document["region"],
            aws_access_key_id="stage",
            aws_secret_access_key="stage",
            config=Config(retries={"total_max_attempts": 2}, read_timeout=10),
        )


def descendants(pid: int) -> list[int]:
    """Process ids of everything that a process has started, and they in turn."""
    parents = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                with open(f"/proc/{entry}/stat", encoding="utf-8", errors="replace") as file:
                    parents[int(entry)] = int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
    found = [pid]
    for known in found:
        found += [child for child, parent in parents.items() if parent == known]
    return found[1:]


@contextmanager
def running_stage(*options: str) -> Iterator[Stage]:
    """A stage for the block, started with these options and `--json`."""
    process = subprocess.Popen(
        [sys.executable, "-m", "chaosgrade.stage", "--json", *options],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "CHAOSGRADE_PARENT": str(os.getpid())},
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, f"the stage ended with {process.wait()}"
        yield Stage(json.loads(line), process)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        finally:
            process.kill()
            assert process.stdout is not None
            process.stdout.close()


def eventually[T](look: Callable[[], T], timeout_s: float = TIMEOUT_S) -> T:
    """Look until the answer is true, and return it; the test fails when time is up."""
    deadline = time.monotonic() + timeout_s
    while not (seen := look()):
        assert time.monotonic() < deadline, f"still {seen!r} after {timeout_s:g} s"
        time.sleep(0.02)
    return seen


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """The three-tier stage, sixty times as fast as AWS, shared by a module's tests."""
    with running_stage("--time-scale", "60") as running:
        yield running
