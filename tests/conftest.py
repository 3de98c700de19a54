"""For all tests: what waits for a stage begins first; properties have no deadline."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # a busy machine takes its time
settings.load_profile("patient")

os.environ["MOTO_EC2_LOAD_DEFAULT_AMIS"] = "false"  # any image id will do, and a thousand take time


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests on a stage mostly wait: the others fill the gaps, and make up for uneven ends."""
    items.sort(key=lambda item: item.get_closest_marker("stage") is None)


@pytest.fixture
def command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[[str], tuple[int, str, str]]:
    """Runs `chaosgrade` with arguments in this process as in one of its own, in an empty folder and
    without AWS's variables: exit code, output, errors."""
    from chaosgrade import session
    from chaosgrade.cli import main

    def run(arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(session, "_connected", {})  # what other tests were connected to
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            monkeypatch.delenv(name)
        monkeypatch.setattr(sys, "argv", ["chaosgrade", *arguments.split()])
        monkeypatch.setattr(sys, "stdout", sys.stdout)  # main puts its own in their place
        monkeypatch.setattr(sys, "stderr", sys.stderr)
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    return run
