"""chaosgrade's commands as a user starts them, in a folder and with a journal of their own."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from chaosgrade.experiment import shipped

BIN = Path(sys.executable).parent


def start(
    folder: Path, *command: str, environ: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [str(BIN / command[0]), *command[1:]],
        cwd=folder,
        env={**os.environ, "CHAOSGRADE_STATE_DIR": str(folder / "state"), **(environ or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, *command: str) -> tuple[int, dict[str, Any]]:
    process = start(folder, *command, "--json")
    output, errors = process.communicate(timeout=590)
    assert "Traceback" not in errors
    return process.returncode, json.loads(output)


def wait_for(process: "subprocess.Popen[str]", words: str) -> list[str]:
    """Read standard error until a line has these words."""
    assert process.stderr is not None
    seen: list[str] = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return seen
    raise AssertionError(f"{words!r} never came: {seen}")


def short_hang(folder: Path, window: str = "60s") -> Path:
    """The experiment web-process-hang with a window of 60 s, which is 3 s on the stage."""
    document = yaml.safe_load(shipped()["web-process-hang"].read_text())
    document["extensions"][0]["window"] = window
    path = folder / "hang.yaml"
    path.write_text(yaml.safe_dump(document))
    return path
