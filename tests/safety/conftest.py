"""An account in moto within this process, and what breaks calls to it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from chaosgrade.aws import Aws
from chaosgrade.changes.journal import Journal
from chaosgrade.session import activate
from tests.safety.figures import FIGURES
from tests.safety.inventory import REGION, Account
from tests.safety.wire import Wire


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """Sees, and may break, every call that botocore sends in this process."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "moto")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    with mock_aws(), Wire() as wire:
        yield wire


@pytest.fixture
def account(wire: Wire) -> Account:
    """The account as its owner reaches it, past the wire."""
    with wire.paused():
        return Account()


@pytest.fixture
def aws(wire: Wire) -> Aws:
    """The account as chaosgrade reaches it."""
    return Aws(region=REGION)


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Journal]:
    """A journal of its own."""
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path))
    journal = Journal()
    yield journal
    journal.close()
    activate(None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A process that ran some of the tests hands its figures in."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["safety"] = FIGURES.counted()


class OfAllProcesses:
    """What each process that ran some of the tests has counted."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any) -> None:
        """One process has ended; one that was killed has nothing to hand in."""
        FIGURES.add(getattr(node, "workeroutput", {}).get("safety", {}))


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(OfAllProcesses())


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The figures of `make safety`."""
    if not FIGURES.cases:
        return
    terminalreporter.section("safety")
    for attack, cases in sorted(FIGURES.cases.items()):
        terminalreporter.write_line(
            f"{attack}: {cases} cases, left behind {FIGURES.left_behind[attack]}, "
            f'false "completed" {FIGURES.false_completed[attack]}'
        )
