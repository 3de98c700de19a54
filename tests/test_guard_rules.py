"""The guard's rules at their limits, and how old what they are checked against may be."""

import threading
import time as time_module
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chaosgrade.aws import Environment
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.instance import InstanceState, TerminateInstance
from chaosgrade.changes.journal import Intent, Journal, State
from chaosgrade.changes.model import Change
from chaosgrade.changes.network_acl import BlockingAcl, SubnetAcl
from chaosgrade.changes.target_registration import TargetRegistration
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, Refused
from chaosgrade.policies.safety import Limit, Profile, Window, load_safety
from tests.canned_aws import CannedAws, instance, reservations, tags
from tests.fake_aws import Dial

PLACE = Environment("aws", "123456789012", "us-east-1")
ZONES = {"i-1": "us-east-1a", "i-2": "us-east-1a", "i-3": "us-east-1b", "i-4": "us-east-1c"}
FREE: Profile = replace(
    load_safety()["aws"],
    accounts=None,
    opt_in=None,
    limits={},
    zones_at_once=None,
    untouched_zones=0,
    min_healthy=0.0,
    window=None,
    max_lease_s=None,
)


def off(id_: str) -> Change:
    return Change(InstanceState(id_, ZONES[id_]), "stopped")


def account(**more: Any) -> CannedAws:
    """Four instances in three zones, one group, and two subnets."""
    members = {id_: instance(id_, zone, aws_autoscaling_groupName="g", chaosgrade="allowed")
               for id_, zone in ZONES.items()}  # fmt: skip

    def instances(parameters: Any) -> Any:
        (filters,) = parameters["Filters"] or [{"Name": "all", "Values": []}]
        ids = filters["Values"] if filters["Name"] == "instance-id" else list(members)
        return reservations(*(members[id_] for id_ in ids))

    group = {
        "AutoScalingGroupName": "g",
        "DesiredCapacity": 4,
        "Instances": [
            {"InstanceId": id_, "LifecycleState": "InService", "HealthStatus": "Healthy"}
            for id_ in ZONES
        ],
        "Tags": tags(),
    }
    subnets = [{"SubnetId": f"subnet-{z}", "AvailabilityZone": f"us-east-1{z}"} for z in "ab"]
    answers: Mapping[str, Any] = {
        "DescribeInstances": instances,
        "DescribeAutoScalingGroups": {"AutoScalingGroups": [group]},
        "DescribeSubnets": {"Subnets": subnets},
    }
    return CannedAws({**answers, **more}, PLACE)


def guard(aws: Any = None, journal: Journal | None = None, run: str = "r1", **rules: Any) -> Guard:
    return Guard(replace(FREE, **rules), aws or account(), journal, run, Clock(wall=1000.0))


def refusal(guard: Guard, *changes: Change) -> str:
    with pytest.raises(Refused) as caught:
        guard.check(changes)
    return str(caught.value)


def test_without_rules_nothing_is_asked() -> None:
    """Nor for no change at all, whatever the rules."""
    aws = account()
    guard(aws).check([off("i-1"), off("i-3")])
    nothing = guard(aws, accounts={})
    nothing.check([])
    assert aws.sent == []


def test_a_lease_is_refused_from_its_first_second_too_many() -> None:
    """With both numbers; no longest one allows any."""
    guard().check_lease(1e9)
    rule = guard(max_lease_s=60.0)
    rule.check_lease(0.5)
    rule.check_lease(60.0)
    says = {
        0.0: "a lease of 0 s leaves no time for a change: make it longer",
        -1.0: "a lease of -1 s leaves no time for a change: make it longer",
        61.0: "the changes would stay for up to 61 s, max_lease is 60 s: shorten the experiment's "
        "window, or raise max_lease in safety.yaml",
    }
    for lease_s, text in says.items():
        with pytest.raises(Refused) as caught:
            rule.check_lease(lease_s)
        assert str(caught.value) == text


def test_only_named_accounts_and_their_regions_are_allowed() -> None:
    """Each refusal says what is."""
    guard(accounts={"123456789012": ("us-east-1",)}, limits={"ec2:instance": Limit()}).check(
        [off("i-1")]
    )
    assert refusal(guard(accounts={"1": ("us-east-1",)}), off("i-1")) == (
        "account 123456789012 is not allowed: changes to real accounts are denied unless "
        "safety.yaml names them under aws.accounts; see `chaosgrade plan`"
    )
    for regions, named in ((("eu-west-1", "us-east-2"), "eu-west-1, us-east-2"), ((), "none")):
        assert refusal(guard(accounts={"123456789012": regions}), off("i-1")) == (
            f"Region us-east-1 is not allowed in account 123456789012, only {named}: "
            "see aws.accounts in safety.yaml"
        )


def test_the_window_is_asked_at_every_call() -> None:
    """1000 s after midnight UTC on a Thursday."""
    utc = ZoneInfo("UTC")
    within = Window(frozenset({3}), time(0), time(1), utc)
    guard(window=within).check([off("i-1")])
    outside = guard(window=Window(frozenset({3}), time(1), time(2), utc))
    says = "outside the time window (thu 01:00–02:00 UTC): see window in safety.yaml"
    assert refusal(outside, off("i-1")) == says
    with pytest.raises(Refused, match="outside"):
        outside.admit(off("i-1"))


def test_as_many_as_the_limit_are_allowed_and_no_more() -> None:
    """Each resource counts once; what chaosgrade creates does not count."""
    ours = Change(BlockingAcl("vpc-1", "x"), {})
    rule = guard(limits={"ec2:instance": Limit(2)}, accounts={"123456789012": ("us-east-1",)})
    rule.check([off("i-1"), off("i-2"), off("i-1"), ours])
    assert refusal(rule, off("i-1"), off("i-2"), off("i-3")) == (
        "3 ec2:instance would be touched at once, the limit is 2: choose fewer, or raise "
        "limits.ec2:instance.count in safety.yaml"
    )
    assert refusal(rule, Change(SubnetAcl("vpc-1", "subnet-a", "us-east-1a"), "acl-1")) == (
        "safety.yaml gives no limit for ec2:subnet: name one under limits"
    )


def test_a_share_is_of_all_that_there_are() -> None:
    """What is not listed any more but touched belongs to the whole."""
    rule = guard(limits={"ec2:instance": Limit(None, 0.5)})
    rule.check([off("i-1"), off("i-2")])
    assert refusal(rule, *map(off, ("i-1", "i-2", "i-3"))) == (
        "3 of 4 ec2:instance would be touched at once, the limit is 50%: choose fewer, or raise "
        "limits.ec2:instance.share in safety.yaml"
    )
    gone = Change(TerminateInstance("i-9", "us-east-1a"))
    says = refusal(rule, gone, off("i-1"), off("i-2"))
    assert says.startswith("3 of 5 ")


def test_targets_are_counted_in_the_groups_that_are_touched() -> None:
    """Which these are, the ids of the touched ones tell."""
    arn = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123"
    health = [{"Target": {"Id": f"i-{n}", "Port": 80}} for n in range(3)]
    aws = account(
        DescribeTags={"TagDescriptions": [{"ResourceArn": arn, "Tags": []}]},
        DescribeTargetHealth={"TargetHealthDescriptions": health},
    )
    rule = guard(aws, limits={"elbv2:target": Limit(None, 0.5)})
    first, second = (Change(TargetRegistration(arn, f"i-{n}", 80), "deregistered") for n in (0, 1))
    rule.check([first])
    assert refusal(rule, first, second).startswith("2 of 3 elbv2:target would be touched")


def test_every_kind_is_counted() -> None:
    """One that no rule asks about does not hide the next."""
    rule = guard(limits={"ec2:subnet": Limit(None, 0.4)})
    subnet = Change(SubnetAcl("vpc-1", "subnet-a", "us-east-1a"), "acl-1")
    assert refusal(rule, off("i-1"), subnet).startswith("1 of 2 ec2:subnet ")


def test_what_lacks_the_tag_is_named() -> None:
    """The first of several, in the order of ids."""
    aws = account(
        DescribeInstances=reservations(instance("i-2", chaosgrade="allowed"), instance("i-3"))
    )
    rule = guard(aws, opt_in=("chaosgrade", "allowed"))
    rule.check([off("i-2")])
    end = "does not carry the opt-in tag chaosgrade=allowed: tag what may be broken"
    assert refusal(rule, off("i-3")) == f"i-3 {end}"
    assert refusal(rule, off("i-4"), off("i-3")) == f"i-3 and 1 more {end}"
    filters = aws.sent[0].parameters["Filters"]
    assert filters == [{"Name": "tag:chaosgrade", "Values": ["allowed"]}]


def test_without_a_tag_that_must_be_carried_none_is_missed() -> None:
    """What the census does not list may be touched all the same."""
    guard(untouched_zones=1).check([Change(TerminateInstance("i-9", "us-east-1a"))])


def test_what_cannot_be_counted_is_refused() -> None:
    """When a rule asks for its number."""
    dial = Change(Dial("a"), 2)
    guard().check([dial])
    says = "fake:dial cannot be counted, so touching it is refused here"
    for rules in (
        {"untouched_zones": 1},
        {"opt_in": ("chaosgrade", "allowed")},
        {"limits": {"fake:dial": Limit(None, 1.0)}},
    ):
        assert refusal(guard(**rules), dial) == says
    guard(limits={"fake:dial": Limit(1)}).check([dial])


def test_as_many_zones_stay_untouched_as_are_asked_for() -> None:
    """Counted among those in which there is something."""
    rule = guard(untouched_zones=2)
    rule.check([off("i-1"), off("i-2")])
    assert refusal(rule, off("i-1"), off("i-3")) == (
        "of the Availability Zones with ec2:instance (us-east-1a, us-east-1b, us-east-1c) 1 would "
        "stay untouched, untouched_zones is 2"
    )
    rule.check([Change(SuspendedProcesses("g", ("Launch",)), ["Launch"])])
    guard(untouched_zones=4).check([Change(TerminateInstance("i-9", "us-east-1z"))])


def test_as_many_zones_as_allowed_are_touched_at_once() -> None:
    """A resource without a zone touches none."""
    rule = guard(zones_at_once=1)
    group = Change(SuspendedProcesses("g", ("Launch",)), ["Launch"])
    rule.check([off("i-1"), off("i-2"), group])
    assert refusal(rule, off("i-1"), off("i-3")) == (
        "2 Availability Zones would be touched at once (us-east-1a, us-east-1b), zones_at_once is 1"
    )


def test_so_much_of_a_group_stays_healthy() -> None:
    """Of its desired capacity; one that loses nothing is not judged."""
    aws = account()
    rule = guard(aws, min_healthy=0.5)
    rule.check([off("i-1"), off("i-2")])
    assert refusal(rule, off("i-1"), off("i-2"), off("i-3")) == (
        "1 of 4 in g would stay healthy, min_healthy is 50%: choose fewer"
    )
    poor = {"AutoScalingGroupName": "g", "DesiredCapacity": 4, "Instances": []}
    losing_none = account(DescribeAutoScalingGroups={"AutoScalingGroups": [poor]})
    guard(losing_none, min_healthy=1.0).check([off("i-1")])
    with pytest.raises(Refused):
        guard(min_healthy=1.0).check([off("i-1")])


def test_an_error_is_not_permission() -> None:
    """Whatever it is."""
    aws = account(DescribeInstances=AwsError("throttled", code="Throttling"))
    assert refusal(guard(aws, untouched_zones=1), off("i-1")) == (
        "the blast radius cannot be decided, so it is refused: throttled"
    )


@pytest.fixture
def seconds(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the monotonic clock shows, to be set."""
    shown = [100.0]
    monkeypatch.setattr(time_module, "monotonic", lambda: shown[0])
    return shown


def test_live_state_is_read_anew_in_good_time(seconds: list[float]) -> None:
    """Half way by whoever comes first, at the end by everyone. 5 s are allowed."""
    aws = account()
    rule = guard(aws, untouched_zones=1)
    change = off("i-1")
    rule.check([change])
    for later, looks in ((2.5, 1), (0.1, 2), (2.5, 2), (2.5, 3), (5.1, 4), (0.0, 4)):
        seconds[0] += later
        rule.admit(change)
        assert len(aws.sent) == looks


def test_nobody_waits_for_who_looks_while_the_state_is_fresh(seconds: list[float]) -> None:
    """When it is not, they do, and then look no second time."""
    asked, answer = threading.Event(), threading.Event()
    usual = account().answers["DescribeInstances"]

    def slow(parameters: Any) -> Any:
        if seconds[0] > 100.0:
            asked.set()
            assert answer.wait(10)
        return usual(parameters)

    aws = account(DescribeInstances=slow)
    rule = guard(aws, untouched_zones=1)
    change = off("i-1")
    rule.check([change])
    seconds[0] += 3.0
    looking = threading.Thread(target=rule.admit, args=[change])
    looking.start()
    assert asked.wait(10)
    beside = threading.Thread(target=rule.admit, args=[change], daemon=True)
    beside.start()
    beside.join(5)
    assert not beside.is_alive()
    seconds[0] += 3.0  # too old now
    waiting = threading.Thread(target=rule.admit, args=[change], daemon=True)
    waiting.start()
    waiting.join(0.05)
    assert waiting.is_alive()
    answer.set()
    for thread in (looking, waiting):
        thread.join(10)
        assert not thread.is_alive()
    assert len(aws.sent) == 2


def test_the_state_is_as_old_as_its_reading_began(seconds: list[float]) -> None:
    """A slow answer is an old one."""

    def slow(parameters: Any) -> Any:
        seconds[0] += 3.0
        return reservations(*(instance(id_, zone) for id_, zone in ZONES.items()))

    aws = account(DescribeInstances=slow)
    rule = guard(aws, untouched_zones=1)
    change = off("i-1")
    rule.check([change])
    rule.admit(change)
    assert len(aws.sent) == 2


def test_a_stale_transaction_is_counted_as_it_was(seconds: list[float]) -> None:
    """One that has been overtaken by another is counted on top of it."""
    rule = guard(limits={"ec2:instance": Limit(1)})
    first, second = off("i-1"), off("i-2")
    rule.check([first])
    seconds[0] += 6.0
    rule.admit(first)
    rule.check([second])
    rule.admit(second)
    with pytest.raises(Refused, match="2 ec2:instance would be touched at once, the limit is 1"):
        rule.admit(first)


def test_the_tag_is_asked_again_of_what_has_not_left_yet(seconds: list[float]) -> None:
    """What this transaction has terminated itself is listed no more, which is no lack of a tag."""
    running = dict(ZONES)

    def listed(parameters: Any) -> Any:
        return reservations(
            *(instance(id_, zone, chaosgrade="allowed") for id_, zone in running.items())
        )

    rule = guard(account(DescribeInstances=listed), opt_in=("chaosgrade", "allowed"))
    batch = [Change(TerminateInstance(id_, ZONES[id_])) for id_ in ("i-1", "i-2", "i-3")]
    rule.check(batch)
    rule.admit(batch[0])
    del running["i-1"]
    seconds[0] += 6.0
    rule.admit(batch[1])
    del running["i-2"], running["i-3"]  # the last by somebody else
    seconds[0] += 6.0
    with pytest.raises(Refused, match="i-3 does not carry the opt-in tag"):
        rule.admit(batch[2])
    with pytest.raises(Refused, match="i-1 and 2 more does not carry"):
        rule.check(batch)


def test_nothing_is_admitted_unchecked() -> None:
    """Not even the first call of all."""
    with pytest.raises(Refused, match="the limit is 0"):
        guard(limits={"ec2:instance": Limit(0)}).admit(off("i-1"))


def test_a_survey_that_fails_half_way_leaves_the_lock_free(seconds: list[float]) -> None:
    """The next call looks again."""
    answers = [account().answers["DescribeInstances"], AwsError("throttled", code="Throttling")]
    aws = account(
        DescribeInstances=lambda p: answers[1] if seconds[0] == 103.0 else answers[0](p)  # type: ignore[operator]
    )
    rule = guard(aws, untouched_zones=1)
    change = off("i-1")
    rule.check([change])
    seconds[0] = 103.0
    with pytest.raises(Refused, match="throttled"):
        rule.admit(change)
    seconds[0] = 104.0
    rule.admit(change)
    assert len(aws.sent) == 3


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    journal = Journal(tmp_path / "journal.sqlite3")
    for started, (run, region) in enumerate(
        {"elsewhere": "eu-west-1", "r1": "us-east-1", "r2": "us-east-1"}.items()
    ):
        place = replace(PLACE, region=region)
        journal.open_run(
            run, experiment="e", environment=place, endpoint=None, started=float(started)
        )
    yield journal
    journal.close()


def intend(journal: Journal, run: str, change: Change, state: State) -> None:
    entries = journal.intend(run, [Intent(change, "running")], lease_s=60.0, now=1.0)
    journal.mark(entries, state)


@pytest.mark.parametrize(
    ("run", "change", "state", "counts"),
    [
        ("r1", off("i-1"), State.APPLIED, True),
        ("r1", off("i-1"), State.UNDONE, False),
        ("r1", Change(TerminateInstance("i-1", "us-east-1a")), State.APPLIED, True),
        ("r2", off("i-1"), State.APPLIED, True),
        ("r2", off("i-1"), State.UNDONE, False),
        ("r2", Change(TerminateInstance("i-1", "us-east-1a")), State.APPLIED, False),
        ("elsewhere", off("i-1"), State.APPLIED, False),
    ],
)
def test_what_is_touched_already_counts(
    journal: Journal, run: str, change: Change, state: State, counts: bool
) -> None:
    """Settings until they are undone, strikes of this run for good, all of this place only."""
    intend(journal, run, change, state)
    rule = guard(journal=journal, limits={"ec2:instance": Limit(1)})
    if counts:
        assert refusal(rule, off("i-2")).startswith("2 ec2:instance would be touched")
    else:
        rule.check([off("i-2")])


def test_what_carried_the_tag_when_it_was_touched_need_not_any_more(journal: Journal) -> None:
    """An instance that was terminated is not in the census."""
    intend(journal, "r1", Change(TerminateInstance("i-9", "us-east-1a")), State.APPLIED)
    guard(journal=journal, opt_in=("chaosgrade", "allowed")).check([off("i-1")])


def test_no_two_runs_change_one_setting(journal: Journal) -> None:
    """One run may, again and again."""
    intend(journal, "r2", off("i-1"), State.APPLIED)
    assert refusal(guard(journal=journal), off("i-1")) == (
        "run r2 has changed i-1 and not undone it yet (power off i-1 in us-east-1a): "
        "see `chaosgrade status`"
    )
    guard(journal=journal, run="r2").check([off("i-1")])
