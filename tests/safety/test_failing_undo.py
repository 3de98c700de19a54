"""AWS fails at calls of the undo, one and two at a time: undone, or said not to be.

`make safety` tries every call in every way, and every pair; here it is a seeded sample.
"""

import itertools
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from botocore.awsrequest import AWSResponse
from moto import mock_aws

from chaosgrade import session
from chaosgrade.aws import Aws
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal, State
from chaosgrade.clock import Clock
from chaosgrade.policies.safety import load_safety
from tests.safety.figures import FIGURES, WHOLE
from tests.safety.inventory import REGION, Account
from tests.safety.runner import FAULTS
from tests.safety.wire import WAYS, Sent, Wire, failing

CALLS = {"black_hole_zone": 9, "power_off_zone": 11, "deregister_targets": 4}
"""How many different calls the undo of each fault makes; a call that is made again is the same."""


@dataclass(frozen=True)
class Failure:
    """How the call of one number fails: at its first attempt, or as long as it is tried."""

    number: int
    way: str
    persistent: bool

    def __str__(self) -> str:
        return f"{self.number}-{self.way}-{'for-good' if self.persistent else 'once'}"


@dataclass
class Failures:
    """Answers the calls of one undo."""

    failures: tuple[Failure, ...]
    numbers: dict[tuple[str, str], int] = field(default_factory=dict)
    failed: set[int] = field(default_factory=set)

    def __call__(self, sent: Sent, aws: Callable[[], Any]) -> AWSResponse | None:
        number = self.numbers.setdefault((sent.operation, sent.body), len(self.numbers))
        for failure in self.failures:
            if failure.number == number and (failure.persistent or number not in self.failed):
                self.failed.add(number)
                return failing(failure.way, sent, aws)
        return None


def singles() -> list[tuple[str, tuple[Failure, ...]]]:
    """Each call of each undo in each way."""
    return [
        (fault, (Failure(number, way, persistent),))
        for fault, calls in CALLS.items()
        for number in range(calls)
        for way in WAYS
        for persistent in (False, True)
        # A resource that is not found for good does not exist: that is no failure.
        if not (way == "not-found" and persistent)
    ]


def pairs() -> list[tuple[str, tuple[Failure, ...]]]:
    """Each two calls in each two ways; powering a zone off would only repeat its network ACLs."""
    return [
        (fault, (Failure(one, way, True), Failure(two, other, False)))
        for fault, calls in CALLS.items()
        if fault != "power_off_zone"
        for one, two in itertools.permutations(range(calls), 2)
        for way in WAYS
        for other in WAYS
        if way != "not-found"
    ]


def sample(cases: list[Any], count: int) -> list[Any]:
    return cases if WHOLE else random.Random(2).sample(cases, count)


@dataclass
class World:
    """One account for all cases: each leaves it as it found it."""

    wire: Wire
    account: Account
    aws: Aws


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "moto")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "moto")
        with mock_aws(), Wire() as wire:
            account = Account()
            account.build(vpcs=2, subnets=1, groups=2, instances=0)
            yield World(wire, account, Aws(region=REGION))


def name(case: Any) -> str:
    return case if isinstance(case, str) else "+".join(map(str, case))


@pytest.mark.parametrize(
    ("fault", "failures"), [*sample(singles(), 24), *sample(pairs(), 16)], ids=name
)
def test_a_failing_undo_is_undone_or_said_not_to_be(
    fault: str, failures: tuple[Failure, ...], world: World, journal: Journal
) -> None:
    """Never a false "completed"; and once AWS works again, everything is as before."""
    attack = f"failing undo calls, {('one', 'two')[len(failures) - 1]} at a time"
    with world.wire.paused():
        before = world.account.state()
    clock, aws = Clock(), world.aws
    guard = Guard(load_safety()["stage"], aws, journal, "r1", clock)
    journal.open_run("r1", experiment="e", environment=aws.environment, endpoint=None, started=1)
    engine = Engine(aws, guard, journal, "r1", clock)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    FAULTS[fault]()
    world.wire.answer = Failures(failures)
    FIGURES.tried(attack)
    undone = engine.undo()
    world.wire.clear()
    with world.wire.paused():
        after = world.account.state()
    if all(one.state != State.UNREVERTED for one in undone):
        assert after == before, FIGURES.false(attack)
    assert {str(one.state) for one in undone} <= {"undone", "unreverted"}
    again = engine.undo()
    with world.wire.paused():
        after = world.account.state()
    if after != before:
        FIGURES.left(attack)
    assert after == before, again
    world.wire.clear()
    assert engine.undo() == []
    assert world.wire.sent == []


@pytest.mark.parametrize("fault", CALLS)
def test_the_cases_reach_every_call(fault: str, world: World, journal: Journal) -> None:
    """An undo that made more calls than are listed would be failed at too few of them."""
    clock, aws = Clock(), world.aws
    guard = Guard(load_safety()["stage"], aws, journal, "r1", clock)
    journal.open_run("r1", experiment="e", environment=aws.environment, endpoint=None, started=1)
    engine = Engine(aws, guard, journal, "r1", clock)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    FAULTS[fault]()
    world.wire.answer = counted = Failures(())
    engine.undo()
    world.wire.clear()
    assert len(counted.numbers) == CALLS[fault]
