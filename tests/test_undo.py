"""Undo and the looks that it is judged by: which steps wait, which are over, what is said."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest

from chaosgrade.aws import Call, ResourceGone
from chaosgrade.changes import reading, registry
from chaosgrade.changes import undo as undoing
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.journal import Entry, Intent, Journal, State
from chaosgrade.changes.model import Change, Live
from chaosgrade.changes.reading import looks, read, wait_until
from chaosgrade.changes.undo import Undone, undo
from chaosgrade.errors import AwsError, ChaosgradeError
from tests.canned_aws import CannedAws
from tests.fake_aws import STAGE, Dial, FakeAws, refuse, registered

PLACE = replace(STAGE, time_scale=900.0)


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Time stands still but for pauses; what they were."""
    pauses: list[float] = []
    monkeypatch.setattr(time, "sleep", pauses.append)
    monkeypatch.setattr(time, "monotonic", lambda: 1000.0 + sum(pauses))
    return pauses


@pytest.fixture(autouse=True)
def _fake_kinds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "SETTINGS", {**registered(registry.SETTINGS), "slow": SlowDial})


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite3")
    journal.open_run("r1", experiment="e", environment=PLACE, endpoint=None, started=1.0)
    yield journal
    journal.close()


@dataclass(frozen=True, slots=True)
class SlowDial(Dial):
    """A dial that settles when it is read for the third time."""

    kind: ClassVar[str] = "slow"

    @classmethod
    def read_all(cls, aws: Any, settings: Any) -> Any:
        found = reading.one_by_one(aws, settings, lambda aws, dial: Live(aws.read(dial.name)))
        return {s: replace(r, settled=len(aws.reads) > 2) for s, r in found.items()}


def intended(journal: Journal, *names: str, wanted: Any = 2, waves: Any = None) -> list[Entry]:
    """One transaction that turns dials from 1, each in a step of its own if so asked."""
    intents = [
        Intent(Change(Dial(name), wanted), 1, number if waves else 0)
        for number, name in enumerate(names)
    ]
    return journal.intend("r1", intents, lease_s=60.0, now=1.0)


def outcome(undone: list[Undone]) -> dict[str, tuple[State, str]]:
    return {
        registry.setting(u.entry.kind, u.entry.address).name: (u.state, u.detail) for u in undone
    }  # type: ignore[attr-defined]


def test_what_each_outcome_says(journal: Journal, seconds: list[float]) -> None:
    """Also in the journal."""
    aws: Any = FakeAws({"before": 1, "ours": 2, "theirs": 3}, PLACE)
    undone = undo(intended(journal, "before", "ours", "theirs", "gone"), journal, aws)
    assert outcome(undone) == {
        "before": (State.UNDONE, "was already as before: 1"),
        "ours": (State.UNDONE, "is as before again: 1"),
        "theirs": (State.CONFLICT, "is 3 now, neither our 2 nor the former 1"),
        "gone": (State.VANISHED, "no dial gone"),
    }
    assert {e.id: (e.state, e.detail) for e in journal.entries("r1")} == {
        u.entry.id: (u.state, u.detail) for u in undone
    }


def test_what_an_undo_that_fails_says(journal: Journal, seconds: list[float]) -> None:
    """The refusal, or else what it reads."""
    aws: Any = FakeAws({"a": 2}, PLACE, before_send=refuse("AccessDenied"))
    entries = intended(journal, "a")
    ((_, refused),) = outcome(undo(entries, None, aws)).values()
    assert refused.endswith("was refused with AccessDenied")
    assert seconds == []  # what was refused need not be waited for

    aws.send = lambda call: 1 / 0
    ((state, crashed),) = outcome(undo(entries, None, aws)).values()
    assert (state, crashed) == (State.UNREVERTED, "ZeroDivisionError: division by zero")

    aws.send = lambda call: {}
    ((state, ignored),) = outcome(undo(entries, None, aws)).values()
    assert state is State.UNREVERTED
    assert ignored == "reads back as 2, not settled as the former 1"
    assert sum(seconds) == pytest.approx(180 / 900)

    aws.before_read = refuse("Throttling")
    ((state, unread),) = outcome(undo(entries, None, aws)).values()
    assert (state, unread) == (State.UNREVERTED, "a was refused with Throttling")
    assert sum(seconds) == pytest.approx(180 / 900)  # nor what cannot be read


def test_a_refusal_is_told_though_the_setting_cannot_be_read_after_it(
    journal: Journal, seconds: list[float]
) -> None:
    """It is the cause."""
    aws: Any = FakeAws({"a": 2}, PLACE)

    def deny(call: Call) -> None:
        aws.before_read = refuse("Throttling")
        raise AwsError("denied", code="AccessDenied")

    aws.before_send = deny
    assert outcome(undo(intended(journal, "a"), None, aws)) == {"a": (State.UNREVERTED, "denied")}


def test_a_kind_that_is_not_known_stays_outstanding(journal: Journal) -> None:
    """The others of its step are undone."""
    aws: Any = FakeAws({"a": 2, "b": 2}, PLACE)
    known, unknown = intended(journal, "a", "b")
    unknown = replace(unknown, kind="later:dial")
    other = replace(known, id=99, address='{"name": "a", "colour": "red"}')
    undone = {u.entry.id: u for u in undo([known, unknown, other], None, aws)}
    assert undone[other.id].state is State.UNREVERTED
    assert "with fields that this version does not know" in undone[other.id].detail
    assert undone[known.id].state is State.UNDONE
    assert undone[unknown.id] == Undone(
        unknown,
        State.UNREVERTED,
        "the journal holds a change of kind 'later:dial', which this version does not know; "
        "undo it with the version that made it",
    )


def test_steps_wait_for_those_that_need_them_and_other_transactions_do_not(
    journal: Journal, seconds: list[float]
) -> None:
    """Several to a step; the last that failed is named."""
    first = intended(journal, "a", "b", waves=True)
    second = intended(journal, "c", "d", waves=True)
    aws: Any = FakeAws(dict.fromkeys("abcd", 2), PLACE)
    aws.before_send = lambda call: (
        refuse("Denied")(call) if call.parameters["Dial"] == "d" else None
    )
    undone = undo([*first, *second], journal, aws)
    assert [u.entry.id for u in undone] == [e.id for e in (second[1], second[0], *first[::-1])]
    found = outcome(undone)
    assert {name: state for name, (state, _) in found.items()} == {
        "a": State.UNDONE, "b": State.UNDONE, "c": State.UNREVERTED, "d": State.UNREVERTED,
    }  # fmt: skip
    assert found["c"] == (State.UNREVERTED, "has to wait: turn d to 2 is not undone")
    assert aws.dials == {"a": 1, "b": 1, "c": 2, "d": 2}


def test_an_earlier_change_of_the_same_setting_waits_and_its_step_goes_on(
    journal: Journal, seconds: list[float]
) -> None:
    """The former value of the later one is not the world's."""
    earlier = intended(journal, "a", "b")
    later = intended(journal, "a", wanted=3)
    later = [replace(e, before=2) for e in later]
    aws: Any = FakeAws({"a": 3, "b": 2}, PLACE)
    aws.before_send = lambda call: (
        refuse("Denied")(call) if call.parameters["Dial"] == "a" else None
    )
    undone = undo([*earlier, *later], journal, aws)
    assert [(u.entry.id, u.state) for u in undone[:1]] == [(later[0].id, State.UNREVERTED)]
    assert outcome(undone[1:]) == {
        "a": (State.UNREVERTED, "has to wait: turn a to 3 is not undone"),
        "b": (State.UNDONE, "is as before again: 1"),
    }


def test_only_what_looks_untouched_or_gone_is_looked_at_again(
    journal: Journal, seconds: list[float]
) -> None:
    """A call under way may still have its effect; a resource may not be listed yet."""
    aws: Any = FakeAws({"a": 2}, PLACE)
    undo(intended(journal, "a"), None, aws)
    assert seconds == []
    aws = FakeAws({"a": 1}, replace(PLACE, kind="stage", time_scale=1.0))
    undo(intended(journal, "a"), None, aws)
    assert undoing.IN_FLIGHT_S["stage"] <= sum(seconds) < 2.0
    seconds.clear()
    aws.environment = replace(PLACE, kind="aws", time_scale=1.0)
    undo(intended(journal, "a"), None, aws)
    assert undoing.IN_FLIGHT_S["aws"] <= sum(seconds) < 13.0
    seconds.clear()
    undo(intended(journal, "gone"), None, aws)
    assert 0.5 < sum(seconds) < 1.5


def test_a_resource_that_is_missing_for_a_moment_is_not_gone(
    journal: Journal, seconds: list[float]
) -> None:
    """Nor when two looks within half a second agree."""
    aws: Any = FakeAws({"a": 2}, replace(PLACE, time_scale=1.0))

    def missing_at_first(name: str) -> None:
        if sum(seconds) < 0.4:
            raise ResourceGone("not yet", code="NotFound")

    aws.before_read = missing_at_first
    assert outcome(undo(intended(journal, "a"), None, aws))["a"][0] is State.UNDONE
    assert aws.dials == {"a": 1}


def test_an_effect_that_comes_late_is_undone(journal: Journal, seconds: list[float]) -> None:
    """The call was under way when its sender died."""
    aws: Any = FakeAws({"a": 1}, replace(PLACE, time_scale=1.0))

    def late(name: str) -> None:
        if sum(seconds) > 0.3:
            aws.dials["a"] = 2
            aws.before_read = lambda name: None

    aws.before_read = late
    assert outcome(undo(intended(journal, "a"), None, aws))["a"][1] == "is as before again: 1"


def test_what_has_not_settled_is_waited_for(journal: Journal, seconds: list[float]) -> None:
    """Before it is restored, and after."""
    aws: Any = FakeAws({"a": 2}, replace(PLACE, time_scale=1.0))
    (entry,) = journal.intend("r1", [Intent(Change(SlowDial("a"), 2), 1)], lease_s=60.0, now=1.0)
    assert [u.state for u in undo([entry], None, aws)] == [State.UNDONE]
    assert len(aws.reads) == 4
    aws = FakeAws({"a": 2}, PLACE)
    aws.before_read = lambda name: aws.reads.clear()
    (undone,) = undo([entry], None, aws)
    assert undone.state is State.UNREVERTED
    assert undone.detail == "reads back as 1, not settled as the former 1"


def test_what_was_restored_is_waited_for(journal: Journal, seconds: list[float]) -> None:
    """AWS may show the former state for a while."""
    aws: Any = FakeAws({"a": 2}, replace(PLACE, time_scale=1.0))
    aws.send = lambda call: None

    def late(name: str) -> None:
        if sum(seconds) > 2.0:
            aws.dials["a"] = 1

    aws.before_read = late
    assert outcome(undo(intended(journal, "a"), None, aws))["a"] == (
        State.UNDONE,
        "is as before again: 1",
    )


def test_what_reads_as_neither_is_not_restored_for_a_change_to_nothing_new(
    journal: Journal, seconds: list[float]
) -> None:
    """A change to the value that it had makes no call."""
    aws: Any = FakeAws({"a": 1}, PLACE)
    assert outcome(undo(intended(journal, "a", wanted=1), None, aws))["a"][0] is State.UNDONE
    assert aws.sent == []


def test_looks_come_at_growing_intervals_and_a_last_time_at_the_end(seconds: list[float]) -> None:
    """At most 2 s apart."""
    assert len(list(looks(10.0))) == len(seconds) + 1
    growing = [0.1 * 1.5**n for n in range(8)]
    assert seconds[:-1] == pytest.approx([*growing, 2.0, 2.0])
    assert sum(seconds) == pytest.approx(10.0)
    seconds.clear()
    assert len(list(looks(0.5, lambda: bool(seconds)))) == 2
    seconds.clear()
    assert len(list(looks(0.0))) == 1
    assert seconds == []


def test_only_those_that_are_not_done_are_read_again(seconds: list[float]) -> None:
    """The last reading of each is told."""
    aws: Any = FakeAws({"a": 1, "b": 1})
    seen: list[tuple[Any, Any]] = []

    def done(setting: Any, found: Any) -> bool:
        seen.append((setting, found))
        return setting == Dial("a") or len(aws.reads) > 4

    last = wait_until(aws, [Dial("a"), Dial("b"), Dial("a")], done, timeout_s=60.0)
    assert last == {Dial("a"): Live(1), Dial("b"): Live(1)}
    assert sorted(aws.reads) == ["a", "b", "b", "b", "b"]
    assert {found.value for _, found in seen} == {1}
    stopped = wait_until(
        aws, [Dial("a")], lambda s, r: False, timeout_s=60.0, give_up=lambda: sum(seconds) > 5.0
    )
    assert stopped == {Dial("a"): Live(1)}
    assert 5.0 < sum(seconds) < 10.0


@pytest.mark.parametrize(
    ("raised", "message", "code"),
    [
        (ResourceGone("no group", code="NotFound"), "no group", "NotFound"),
        (AwsError("denied", code="AccessDenied"), "denied", "AccessDenied"),
        (KeyError("State"), "slow could not be read: KeyError: 'State'", "KeyError"),
    ],
)
def test_an_error_of_one_kind_concerns_its_settings(
    monkeypatch: pytest.MonkeyPatch, raised: Exception, message: str, code: str
) -> None:
    """A call that finds something missing says of no single setting that it is gone."""

    def failing(aws: Any, settings: Any) -> Any:
        raise raised

    monkeypatch.setattr(SlowDial, "read_all", failing)
    aws: Any = FakeAws({"a": 1})
    found = read(aws, [SlowDial("a"), Dial("a"), SlowDial("b")])
    assert found.pop(Dial("a")) == Live(1)
    assert set(found) == {SlowDial("a"), SlowDial("b")}
    for error in found.values():
        assert isinstance(error, AwsError)
        assert not isinstance(error, ResourceGone)
        assert (str(error), error.code) == (message, code)


def test_what_an_answer_leaves_out_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """By name."""
    monkeypatch.setattr(SlowDial, "read_all", lambda aws, settings: {})
    aws: Any = FakeAws()
    (error,) = read(aws, [SlowDial("a")]).values()
    assert isinstance(error, ResourceGone)
    assert (str(error), error.code) == ("a does not exist any more", "NotFound")


def test_an_error_that_is_no_answer_of_aws_is_told(journal: Journal) -> None:
    """Whatever keeps a dial from being read."""
    aws: Any = FakeAws({"a": 2}, PLACE)

    def confused(name: str) -> None:
        raise ChaosgradeError("no such profile")

    aws.before_read = confused
    assert outcome(undo(intended(journal, "a"), None, aws)) == {
        "a": (State.UNREVERTED, "no such profile")
    }


def test_what_others_have_resumed_does_not_keep_the_rest_suspended(
    journal: Journal, seconds: list[float]
) -> None:
    """Somebody on call may resume Launch in mid-outage: AZRebalance is still ours to resume."""
    setting = SuspendedProcesses("web", ("AZRebalance", "HealthCheck", "Launch"))
    change = Change(setting, ["AZRebalance", "HealthCheck", "Launch"])
    suspended = {"AZRebalance", "HealthCheck"}

    def resume(parameters: Any) -> Any:
        suspended.difference_update(parameters["ScalingProcesses"])
        return {}

    def groups(parameters: Any) -> Any:
        processes = [{"ProcessName": name} for name in suspended]
        group = {"AutoScalingGroupName": "web", "SuspendedProcesses": processes}
        return {"AutoScalingGroups": [group]}

    aws: Any = CannedAws({"DescribeAutoScalingGroups": groups, "ResumeProcesses": resume}, PLACE)
    entries = journal.intend("r1", [Intent(change, ["HealthCheck"])], lease_s=60.0, now=1.0)
    (undone,) = undo(entries, journal, aws)
    assert (undone.state, suspended) == (State.UNDONE, {"HealthCheck"})
    assert undone.detail == "is as before again: ['HealthCheck']"
    assert journal.outstanding("r1") == []

    suspended.clear()
    (undone,) = undo(entries, None, aws)
    assert (undone.state, undone.entry) == (State.CONFLICT, entries[0])
    assert undone.detail == (
        "is [] now, without what was ours: somebody else has changed the former ['HealthCheck']"
    )
