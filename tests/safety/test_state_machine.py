"""Two operators, a third party and an AWS that fails: whatever the order, the promises hold.

Hypothesis chooses what happens. Values are unique, so that each tells who has set it: `run-…` an
operator, `third-…` somebody else, `first-…` nobody yet.

One thing is left out: a run that changes a dial again while its first change of it stands. That
breaks two promises today; the two tests at the end show how.
"""

import contextlib
import enum
import itertools
import os
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    rule,
    run_state_machine_as_test,
)

import chaosgrade.changes.undo as undoing
from chaosgrade.aws import Call, ResourceGone
from chaosgrade.changes import registry
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Entry, Journal, RunRow, State
from chaosgrade.changes.model import Change, Live, Resource
from chaosgrade.changes.reading import one_by_one
from chaosgrade.changes.recovery import OpenRun, recover
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, ChaosgradeError
from chaosgrade.policies.safety import Limit, load_safety
from tests.fake_aws import STAGE, FakeAws, guard, refuse

EXAMPLES = int(os.environ.get("CHAOSGRADE_SAFETY_EXAMPLES", "120"))
"""How many histories are tried."""

PLACE = replace(STAGE, time_scale=100_000.0)
"""What AWS takes minutes for is over within a few milliseconds."""

ZONES = {"a1": "az-a", "a2": "az-a", "a3": "az-a", "b1": "az-b", "b2": "az-b"}
COUNT = 2
"""How many dials may be touched at once, in one zone."""

TRANSACTIONS = (
    (("a1",),),
    (("a2",),),
    (("b1",),),
    (("a1", "a2"),),
    (("b1", "b2"),),
    (("a1",), ("a2",)),
    (("a2",), ("a1",)),
    (("a3",), ("a1",)),
    (("b1",), ("b2",)),
    (("a1", "a2", "a3"),),  # too many
    (("a1", "b1"),),  # in two zones
    (("a2",), ("b2",)),
)
"""Dials by wave."""


class Fate(enum.Enum):
    """What becomes of a call."""

    WORKS = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    """It has its effect, and its answer does not arrive."""
    DIES_BEFORE = enum.auto()
    """The process that makes it dies, and it never leaves."""
    DIES_AFTER = enum.auto()
    """The process that makes it dies, and it has its effect."""


class Outage(enum.Enum):
    """What keeps failing."""

    READS = enum.auto()
    REFUSES = enum.auto()
    LOSES_ANSWERS = enum.auto()
    KILLS_BEFORE = enum.auto()
    KILLS_AFTER = enum.auto()
    NO_CREDENTIALS = enum.auto()
    """A recovering process has none."""
    STRANGE_CREDENTIALS = enum.auto()
    """A recovering process has those of another account."""


class Meanwhile(enum.Enum):
    """What happens when the calls of a first wave have been made, before anybody looks."""

    NOTHING = enum.auto()
    OTHER_UNDOES = enum.auto()
    OTHER_APPLIES = enum.auto()
    IS_STOPPED = enum.auto()
    """The run itself is undone by another thread."""
    THIRD_TURNS_OURS = enum.auto()
    THIRD_TURNS_NEXT = enum.auto()
    THIRD_DELETES_OURS = enum.auto()


class Death(BaseException):
    """The end of an operator's process: nothing of it runs any more."""


@dataclass(frozen=True, slots=True)
class ZonedDial:
    """A setting of the fake in a zone."""

    name: str
    zone: str
    kind: ClassVar[str] = "fake:zoned-dial"
    reads: ClassVar[tuple[str, ...]] = ("fake:ReadDial",)
    writes: ClassVar[tuple[str, ...]] = ("fake:TurnDial",)

    @property
    def resource(self) -> Resource:
        return Resource("fake:dial", self.name, self.zone)

    @classmethod
    def read_all(cls, aws: Any, settings: Any) -> Any:
        def look(aws: Any, dial: ZonedDial) -> Live:
            return Live(aws.read(dial.name))

        return one_by_one(aws, settings, look)

    def calls(self, value: Any, live: Live) -> tuple[Call, ...]:
        return (Call("fake", "TurnDial", {"Dial": self.name, "Value": value}),)

    def summary(self, value: Any) -> str:
        return f"turn {self.name} to {value}"


class Wave:
    """Makes calls sent side by side have their effects in one order, once all have left."""

    def __init__(self, values: Sequence[str]) -> None:
        self._waiting = list(values)
        self._missing = set(values)
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def turn(self, value: str) -> Iterator[None]:
        """Wait for it, and pass it on."""
        with self._changed:
            self._missing.discard(value)
            self._changed.notify_all()
            mine = self._changed.wait_for(
                lambda: not self._missing and self._waiting[0] == value, timeout=20
            )
            assert mine, f"{self._missing} were never sent"
        try:
            yield
        finally:
            with self._changed:
                self._waiting.remove(value)
                self._changed.notify_all()


@dataclass(frozen=True)
class Plan:
    """What becomes of one call of an operator's fault."""

    fate: Fate
    wave: Wave
    batch: int
    number: int
    meanwhile: Callable[[], None] = lambda: None


@dataclass
class World(FakeAws):
    """Dials, who has turned them, and what must never have happened to them."""

    owner: dict[str, str] = field(default_factory=dict)
    """What each dial would be without any operator."""
    plans: dict[str, Plan] = field(default_factory=dict)
    """By the value that a call sets; a call without one undoes something."""
    steps: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Transaction and wave by value."""
    failing: Outage | None = None
    failing_dial: str | None = None
    calls: int = 0
    violations: list[str] = field(default_factory=list)

    def send(self, call: Call) -> dict[str, Any]:
        name, value = call.parameters["Dial"], call.parameters["Value"]
        plan = self.plans.pop(value, None)
        with self._lock:
            self.calls += 1
        if plan is None:
            self._judge_undo(name)
            self._make(name, value, self._fate(name))
            return {}
        with plan.wave.turn(value):
            self.steps[value] = (plan.batch, plan.number)
            fate = self._fate(name) if plan.fate is Fate.WORKS else plan.fate
            self._make(name, value, fate, plan.meanwhile)
        return {}

    def read(self, name: str) -> Any:
        if self._fails(name) is Outage.READS:
            raise AwsError(f"{name} cannot be read", code="Throttling")
        return super().read(name)

    def ours(self) -> dict[str, str]:
        """The dials that show an operator's value."""
        return {name: value for name, value in self.dials.items() if value.startswith("run-")}

    def third_party(self, name: str, value: str | None) -> None:
        """Somebody else turns or recreates a dial, or deletes it."""
        with self._lock:
            for values in (self.dials, self.owner):
                if value is None:
                    values.pop(name, None)
                else:
                    values[name] = value

    def _fails(self, name: str) -> Outage | None:
        return self.failing if self.failing_dial in (None, name) else None

    def _fate(self, name: str) -> Fate:
        return {
            Outage.REFUSES: Fate.REFUSED,
            Outage.LOSES_ANSWERS: Fate.LOST,
            Outage.KILLS_BEFORE: Fate.DIES_BEFORE,
            Outage.KILLS_AFTER: Fate.DIES_AFTER,
        }.get(self._fails(name), Fate.WORKS)  # type: ignore[arg-type]  # None is no key

    def _make(
        self, name: str, value: str, fate: Fate, then: Callable[[], None] = lambda: None
    ) -> None:
        if fate is Fate.DIES_BEFORE:
            raise Death
        if fate is Fate.REFUSED:
            raise AwsError(f"{name} was refused", code="Throttling")
        with self._lock:
            if name not in self.dials:
                raise ResourceGone(f"no dial {name}", code="DialNotFound")
            self.dials[name] = value
            self._judge_extent()
        then()
        if fate is Fate.DIES_AFTER:
            raise Death
        if fate is Fate.LOST:
            raise AwsError(f"the answer about {name} was lost", code="ReadTimeoutError")

    def _judge_extent(self) -> None:
        ours = self.ours()
        if len(ours) > COUNT:
            self.violations.append(f"too many dials are touched: {ours}")
        if len({ZONES[name] for name in ours}) > 1:
            self.violations.append(f"dials of two zones are touched: {ours}")

    def _judge_undo(self, name: str) -> None:
        with self._lock:
            now, ours = self.dials.get(name), self.ours()
        if now is None:
            return
        if name not in ours:
            self.violations.append(f"an undo overwrites {name}, which shows {now}")
            return
        batch, number = self.steps[now]
        for other in ours.values():
            if self.steps[other][0] == batch and self.steps[other][1] > number:
                self.violations.append(f"{now} is undone while {other} still needs it")


@dataclass
class Operator:
    """A person who starts one run after the other."""

    name: str
    run: str = ""
    engine: Engine | None = None


class Operators(RuleBasedStateMachine):
    """What may happen; `owner` of the world is what must be left in the end."""

    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)
        self._folder = tempfile.TemporaryDirectory()
        self._journal = Journal(Path(self._folder.name) / "journal.sqlite3")
        first = {name: f"first-{name}" for name in ZONES}
        self._world = World(dict(first), environment=PLACE, owner=dict(first))
        self._operators = (Operator("one"), Operator("two"))
        self._meddled: set[str] = set()
        self._fails_for = 0
        self._issued: dict[str, set[str]] = {name: set() for name in ZONES}

    # What happens.

    @rule(
        who=st.sampled_from((0, 1)),
        waves=st.sampled_from(TRANSACTIONS),
        fates=st.tuples(*[st.sampled_from(Fate)] * 3),
        calm=st.booleans(),
        meanwhile=st.sampled_from(Meanwhile),
    )
    def applies(
        self,
        who: int,
        waves: Sequence[Sequence[str]],
        fates: Sequence[Fate],
        calm: bool,
        meanwhile: Meanwhile,
    ) -> None:
        """An operator changes dials; in calm, every call works as far as AWS does."""
        chosen = [Fate.WORKS] * 3 if calm else fates
        self._apply(self._operators[who], waves, chosen, meanwhile)

    @rule(who=st.sampled_from((0, 1)))
    def undoes(self, who: int) -> None:
        """An operator ends the run."""
        self._undo(self._operators[who])

    @rule()
    def recovers(self) -> None:
        """Somebody calls `recover`: what dead runs have left is undone."""
        self._recover_dead()

    @rule(who=st.sampled_from((0, 1)))
    def watchdog_comes(self, who: int) -> None:
        """The lease of a run that is under way is over."""
        for row in self._journal.runs():
            if row.id == self._operators[who].run:
                self._recover(row)

    @rule(name=st.sampled_from(tuple(ZONES)))
    def third_party_turns(self, name: str) -> None:
        """Somebody else turns a dial, or makes it anew."""
        self._meddle(name, f"third-{next(self._numbers)}")

    @rule(name=st.sampled_from(tuple(ZONES)))
    def third_party_deletes(self, name: str) -> None:
        """Somebody else removes a dial."""
        self._meddle(name, None)

    @rule(
        how=st.sampled_from(Outage),
        name=st.sampled_from((None, *ZONES)),
        lasts=st.integers(1, 4),
    )
    def aws_fails(self, how: Outage, name: str | None, lasts: int) -> None:
        """For one dial or all, and for a while: as long as so many rules."""
        self._world.failing, self._world.failing_dial = how, name
        self._fails_for = lasts + 1

    @rule()
    def everybody_cleans_up(self) -> None:
        """With an AWS that works, nothing of any run stays, and nothing of others is lost."""
        self._world.failing = None
        for operator in self._operators:
            self._undo(operator)
        self._recover_dead()
        assert self._world.dials == self._world.owner, "left behind, or overwritten"
        calls = self._world.calls
        for row in self._journal.runs():
            assert self._journal.outstanding(row.id) == []
            assert self._recover(row) == []
        # Nor would one do harm that takes everything for outstanding.
        undoing.undo(self._entries(), None, self._world)  # type: ignore[arg-type]
        assert self._world.calls == calls, "a second recover has written"

    # What always holds.

    @invariant()
    def outages_end(self) -> None:
        """Asked after each rule."""
        self._fails_for -= 1
        if self._fails_for <= 0:
            self._world.failing = None

    @invariant()
    def nothing_is_overwritten_nor_too_much_touched(self) -> None:
        """As judged at each call."""
        assert self._world.violations == []

    @invariant()
    def the_journal_tells_the_truth(self) -> None:
        """No change counts as undone while it shows, and none is blamed on others wrongly."""
        shown = set(self._world.ours().values())
        outstanding = set()
        for entry in self._entries():
            if entry.outstanding:
                outstanding.add(entry.wanted)
            if entry.state is State.UNDONE:
                assert entry.wanted not in shown, f'false "completed": {entry}'
            if entry.state in (State.CONFLICT, State.VANISHED):
                assert entry.wanted in self._meddled, f"nobody else has touched it: {entry}"
        assert shown <= outstanding, "shown, and nobody will undo it"

    def teardown(self) -> None:
        try:
            self.everybody_cleans_up()
        finally:
            self._journal.close()
            self._folder.cleanup()

    # How.

    def _apply(
        self,
        operator: Operator,
        waves: Sequence[Sequence[str]],
        fates: Sequence[Fate],
        meanwhile: Meanwhile,
    ) -> None:
        if operator.engine is None and not self._start(operator):
            return
        mine = self._journal.outstanding(operator.run)
        standing = {registry.subject(entry.kind, entry.address).resource.id for entry in mine}
        if standing & {name for wave in waves for name in wave}:
            return  # see the top
        left = iter(fates)
        batch = next(self._numbers)
        changes = []
        for number, names in enumerate(waves):
            values = {name: f"{operator.run}-{name}-{next(self._numbers)}" for name in names}
            wave = Wave(tuple(values.values()))
            for name, value in values.items():
                self._issued[name].add(value)
                plan = Plan(next(left), wave, batch, number)
                if number == 0 and name == names[-1]:
                    plan = replace(plan, meanwhile=self._in_between(meanwhile, operator, waves))
                self._world.plans[value] = plan
            changes.append([Change(ZonedDial(n, ZONES[n]), v) for n, v in values.items()])
        assert operator.engine is not None
        engine = operator.engine
        with self._lives(operator), contextlib.suppress(ChaosgradeError):
            engine.apply(*changes)
        if meanwhile is Meanwhile.IS_STOPPED:
            self._undo(operator)  # as the end of a run that was stopped does

    def _in_between(
        self, meanwhile: Meanwhile, operator: Operator, waves: Sequence[Sequence[str]]
    ) -> Callable[[], None]:
        """What happens between a call's effect and its answer."""
        (other,) = (o for o in self._operators if o is not operator)
        touched = waves[0][-1]
        engine = operator.engine
        assert engine is not None
        does: Mapping[Meanwhile, Callable[[], object]] = {
            Meanwhile.NOTHING: lambda: None,
            Meanwhile.OTHER_UNDOES: partial(self._undo, other),
            Meanwhile.OTHER_APPLIES: partial(
                self._apply, other, [["a3"]], [Fate.WORKS], Meanwhile.NOTHING
            ),
            Meanwhile.IS_STOPPED: engine.undo,
            Meanwhile.THIRD_TURNS_OURS: partial(
                self._meddle, touched, f"third-{next(self._numbers)}"
            ),
            Meanwhile.THIRD_TURNS_NEXT: partial(
                self._meddle, waves[-1][0], f"third-{next(self._numbers)}"
            ),
            Meanwhile.THIRD_DELETES_OURS: partial(self._meddle, touched, None),
        }

        def happens() -> None:
            does[meanwhile]()

        return happens

    def _start(self, operator: Operator) -> bool:
        """A run starts only when nothing of a dead one is left, as `refuse_while_outstanding`."""
        self._recover_dead()
        if any(self._journal.outstanding(row.id) for row in self._dead()):
            return False
        operator.run = f"run-{next(self._numbers)}"
        self._journal.open_run(
            operator.run, experiment="e", environment=PLACE, endpoint=None, started=1.0
        )
        profile = replace(
            load_safety()["stage"],
            opt_in=None,
            limits={"fake:dial": Limit(count=COUNT)},
            zones_at_once=1,
            untouched_zones=0,
            min_healthy=0.0,
        )
        aws: Any = self._world
        rules = Guard(profile, aws, self._journal, operator.run, Clock())
        operator.engine = Engine(aws, rules, self._journal, operator.run, Clock())
        return True

    def _undo(self, operator: Operator) -> None:
        if operator.engine is None:
            return
        with self._lives(operator):
            operator.engine.undo()
            operator.engine = None  # what is left is somebody else's, as when the process ends

    @contextlib.contextmanager
    def _lives(self, operator: Operator | None) -> Iterator[None]:
        """Until a call is the death of the process; what kills it kills once."""
        try:
            yield
        except Death:
            if self._world.failing in (Outage.KILLS_BEFORE, Outage.KILLS_AFTER):
                self._world.failing = None
            if operator is not None:
                operator.engine = None

    def _dead(self) -> list[RunRow]:
        alive = {operator.run for operator in self._operators if operator.engine is not None}
        return [row for row in self._journal.runs() if row.id not in alive]

    def _recover_dead(self) -> None:
        for row in self._dead():
            self._recover(row)

    def _recover(self, row: RunRow) -> list[undoing.Undone]:
        found = OpenRun(row, False, tuple(self._journal.outstanding(row.id)))
        with self._lives(None):
            return recover(found, self._journal, reach=self._reach)
        return []

    def _reach(self, row: RunRow) -> Any:
        if self._world.failing is Outage.NO_CREDENTIALS:
            raise AwsError("no credentials", code="ExpiredToken")
        if self._world.failing is Outage.STRANGE_CREDENTIALS:
            return FakeAws(environment=replace(PLACE, account="210987654321"))
        return self._world

    def _meddle(self, name: str, value: str | None) -> None:
        self._meddled |= self._issued[name]
        self._world.third_party(name, value)

    def _entries(self) -> list[Entry]:
        return [entry for row in self._journal.runs() for entry in self._journal.entries(row.id)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """The dials of this file, and an undo that need not wait."""
    monkeypatch.setattr(registry, "SETTINGS", {**registry.SETTINGS, ZonedDial.kind: ZonedDial})
    # A call here has had its effect when its process dies, or never has one.
    monkeypatch.setitem(undoing.IN_FLIGHT_S, PLACE.kind, 0.0)
    monkeypatch.setattr(undoing, "_CONFIRM_S", 0.0)


def test_no_order_of_events_breaks_a_promise() -> None:
    """Faults, failing calls, deaths, undo, recovery and third parties, in any order."""
    run_state_machine_as_test(
        Operators,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=25,
            derandomize=True,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=PLACE, endpoint=None, started=1.0)
    yield journal
    journal.close()


def twice_changed(journal: Journal, aws: FakeAws) -> Engine:
    """A run that turns one dial from 1 to 2, and then to 3."""
    engine = Engine(aws, guard(aws, journal), journal, "r1", Clock())  # type: ignore[arg-type]
    for value in (2, 3):
        engine.apply([Change(ZonedDial("a1", ZONES["a1"]), value)])
    return engine


def test_a_change_waits_until_a_later_one_of_its_dial_is_undone(journal: Journal) -> None:
    """An undo that fails once for the later change must not give the earlier one up."""
    aws = FakeAws({"a1": 1}, environment=PLACE)
    engine = twice_changed(journal, aws)
    aws.before_send = refuse("Throttling")
    engine.undo()
    aws.before_send = lambda call: None
    engine.undo()
    assert aws.dials == {"a1": 1}


def test_what_was_undone_before_its_answer_came_stays_undone(journal: Journal) -> None:
    """A run that is stopped during a call undoes it; the answer then changes nothing."""
    aws = FakeAws({"a1": 1}, environment=PLACE)
    send = aws.send

    def stopped_during_the_second(call: Call) -> dict[str, Any]:
        answer = send(call)
        if call.parameters["Value"] == 3:
            Engine(aws, guard(aws, journal), journal, "r1", Clock()).undo()  # type: ignore[arg-type]
        return answer

    aws.send = stopped_during_the_second  # type: ignore[method-assign]
    twice_changed(journal, aws)
    assert aws.dials == {"a1": 1}
    assert {entry.state for entry in journal.entries("r1")} == {State.UNDONE}
