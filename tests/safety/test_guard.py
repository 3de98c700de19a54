"""The guard: what may be touched, counted against live state before anything leaves."""

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from chaosgrade import session
from chaosgrade.actions.instances import terminate_instances
from chaosgrade.actions.targets import deregister_targets
from chaosgrade.actions.zones import black_hole_zone
from chaosgrade.aws import Aws
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Change
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.changes.target_registration import DEREGISTERED, TargetRegistration
from chaosgrade.clock import Clock
from chaosgrade.errors import Refused
from chaosgrade.policies.safety import Limit, Profile, Window, load_safety
from tests.safety.figures import WHOLE
from tests.safety.inventory import REGION, ZONE, Account, Inventory
from tests.safety.wire import Sent, Wire, failing

ACCOUNT = "123456789012"
TAG = [{"Key": "chaosgrade", "Value": "allowed"}]
ALLOWED = replace(
    load_safety()["aws"],
    accounts={ACCOUNT: (REGION,)},
    min_healthy=0.0,
    limits={
        "autoscaling:group": Limit(5),
        "ec2:instance": Limit(9, 1.0),
        "ec2:subnet": Limit(9, 0.5),
        "elbv2:target": Limit(9, 1.0),
    },
)

type Begin = Callable[..., Engine]


@pytest.fixture
def inventory(account: Account, wire: Wire) -> Inventory:
    with wire.paused():
        return account.build()


@pytest.fixture
def begin(aws: Aws, journal: Journal) -> Iterator[Begin]:
    """Open a run under some rules; its actions then use it."""

    def opened(run: str = "r1", *, profile: Profile = ALLOWED, **rules: Any) -> Engine:
        clock = Clock()
        guard = Guard(replace(profile, **rules), aws, journal, run, clock)
        journal.open_run(run, experiment="e", environment=aws.environment, endpoint=None, started=1)
        engine = Engine(aws, guard, journal, run, clock, lease_s=600.0)
        session.activate(session.Session(aws, engine, random.Random(1), clock))
        return engine

    yield opened
    session.activate(None)


def refused(wire: Wire, says: str, action: Callable[..., Any], **arguments: Any) -> None:
    """The action is refused in one line, and nothing was written."""
    wire.sent.clear()
    with pytest.raises(Exception, match=says) as caught:
        action(**arguments)
    assert "\n" not in str(caught.value)
    assert wire.writes() == []


def test_what_carries_the_tag_may_be_touched(
    wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """The rules can be met."""
    begin()
    terminate_instances(group="group-0", count=1)
    assert [sent.operation for sent in wire.writes()] == ["TerminateInstances"]


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({"accounts": {}}, "account 123456789012 is not allowed"),
        ({"accounts": {"123456789013": (REGION,)}}, "account 123456789012 is not allowed"),
        ({"accounts": {ACCOUNT: ("us-east-2",)}}, "Region us-east-1 is not allowed"),
        ({"limits": {}}, "gives no limit for ec2:instance"),
        ({"limits": {"ec2:instance": Limit(1)}}, "2 ec2:instance would be touched .* limit is 1"),
        ({"limits": {"ec2:instance": Limit(None, 0.3)}}, r"2 of 6 ec2:instance .* limit is 30%"),
        ({"opt_in": ("chaosgrade", "Allowed")}, "does not carry the opt-in tag"),
        ({"opt_in": ("chaosgrade", "allow*")}, "does not carry the opt-in tag"),
        ({"opt_in": ("Chaosgrade", "allowed")}, "does not carry the opt-in tag"),
        ({"untouched_zones": 2}, "1 would stay untouched, untouched_zones is 2"),
        ({"min_healthy": 0.5}, "0 of 2 in group-0 would stay healthy, min_healthy is 50%"),
        (
            {"window": Window(frozenset(), time(0), time(0), ZoneInfo("UTC"))},
            "outside the time window",
        ),
    ],
)
def test_each_rule_refuses_with_its_number(
    wire: Wire, inventory: Inventory, begin: Begin, rules: dict[str, Any], says: str
) -> None:
    """One line, no write on the wire."""
    begin(**rules)
    zone = None if "min_healthy" in rules or "limits" in rules else ZONE
    count = 1 if zone else 2
    refused(wire, says, terminate_instances, group="group-0", zone=zone, count=count)


@pytest.mark.parametrize("zone", [ZONE, "us-east-1b"])
def test_a_cut_subnet_takes_its_instances_with_it(
    wire: Wire, inventory: Inventory, begin: Begin, zone: str
) -> None:
    """A group loses what runs in the zone, though no instance is named; moto puts both in one."""
    begin(min_healthy=1.0)
    if zone == ZONE:
        says = "0 of 2 in group-0 would stay healthy, min_healthy is 100%"
        refused(wire, says, black_hole_zone, zone=zone)
    else:
        assert black_hole_zone(zone)


@pytest.mark.parametrize("count", [3, 4])
def test_targets_left_in_their_group_are_counted(
    wire: Wire, inventory: Inventory, begin: Begin, count: int
) -> None:
    """A balancer keeps the healthy targets that the rule asks for."""
    begin(min_healthy=0.5)
    if count == 3:
        assert len(deregister_targets("web", count=3)) == 3
    else:
        says = "2 of 6 in web would stay healthy, min_healthy is 50%"
        refused(wire, says, deregister_targets, target_group="web", count=4)


def test_an_unhealthy_target_is_no_capacity(
    account: Account, wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """What does not serve now can neither be lost nor left."""
    with wire.paused():
        account.ec2.stop_instances(InstanceIds=[inventory.instances["us-east-1b"][0]])
    begin(min_healthy=0.5)
    chosen = list(inventory.instances[ZONE][:3])
    says = "2 of 6 in web would stay healthy"
    refused(wire, says, deregister_targets, target_group="web", targets=chosen)


def test_two_zones_are_not_touched_at_once(wire: Wire, inventory: Inventory, begin: Begin) -> None:
    """By two actions of one run either."""
    begin(untouched_zones=0, limits={"ec2:subnet": Limit(9)})
    black_hole_zone(ZONE)
    refused(wire, "2 Availability Zones would be touched", black_hole_zone, zone="us-east-1b")


def test_strikes_of_a_run_count_though_they_are_over(
    wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """A limit of one is not one at a time, again and again."""
    begin(limits={"ec2:instance": Limit(1)})
    terminate_instances(group="group-0", zone=ZONE)
    refused(wire, "2 ec2:instance would be touched", terminate_instances, group="group-1")


def test_what_another_run_has_outstanding_counts(
    wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """Two runs together do not exceed what one may."""
    begin("r1", limits={"elbv2:target": Limit(1)})
    deregister_targets("web", count=1)
    begin("r2", limits={"elbv2:target": Limit(1)})
    refused(wire, "2 elbv2:target would be touched", deregister_targets, target_group="web")


def test_what_another_run_has_changed_is_not_changed_on_top(
    wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """Whoever undid second would bring the other's value back."""
    target = inventory.instances[ZONE][0]
    begin("r1")
    deregister_targets("web", targets=[target])
    second = begin("r2")
    change = Change(TargetRegistration(inventory.target_group, target, 80), DEREGISTERED)
    refused(wire, "run r1 has changed .* not undone it yet", lambda: second.apply([change]))


def test_a_tag_that_is_removed_in_mid_run_protects_from_then_on(
    account: Account, wire: Wire, inventory: Inventory, begin: Begin
) -> None:
    """The owner's way to say stop."""
    begin()
    first, *_ = terminate_instances(group="group-0", zone=ZONE)
    with wire.paused():
        every = [i for ids in inventory.instances.values() for i in ids]
        account.ec2.delete_tags(Resources=every, Tags=TAG)
    refused(wire, "opt-in tag", terminate_instances, group="group-1", zone=ZONE)
    assert first["proven"]


def test_a_tag_removed_while_a_transaction_waits_stops_its_next_calls(
    account: Account, wire: Wire, inventory: Inventory, begin: Begin, monkeypatch: Any
) -> None:
    """Live state older than its limit is read again before a call leaves, and all is undone."""
    from chaosgrade.changes import guard

    monkeypatch.setattr(guard, "FRESH_S", -1.0)
    with wire.paused():
        before = account.state()
    engine = begin()

    def untag(sent: Sent, answer: Any) -> Any:
        if sent.operation == "CreateNetworkAcl":
            with wire.paused():
                account.ec2.delete_tags(Resources=list(inventory.subnets[ZONE]), Tags=TAG)
        return None

    wire.answer = untag
    with pytest.raises(Exception, match="opt-in tag"):
        black_hole_zone(ZONE)
    swaps = [sent for sent in wire.sent if sent.operation == "ReplaceNetworkAclAssociation"]
    with wire.paused():
        assert account.state() == before
    assert swaps == []
    assert engine.undo() == []


@pytest.mark.parametrize("how", ["denied", "error-500", "timeout"])
def test_a_check_that_fails_refuses(
    wire: Wire, inventory: Inventory, begin: Begin, how: str
) -> None:
    """An error is not permission."""
    begin()
    wire.answer = lambda sent, aws: (
        failing(how, sent, aws) if sent.operation == "DescribeSubnets" else None
    )
    looks = 0

    def second_look(sent: Sent, aws: Any) -> Any:
        nonlocal looks
        if sent.operation != "DescribeSubnets":
            return None
        looks += 1  # the first is the action's own
        return failing(how, sent, aws) if looks > 1 else None

    wire.answer = second_look
    refused(wire, "the blast radius cannot be decided", black_hole_zone, zone=ZONE)


@pytest.mark.skipif(not WHOLE, reason="16 s of moto: make safety")
def test_pages_are_counted_to_the_last(
    account: Account, wire: Wire, begin: Begin, aws: Aws
) -> None:
    """A population of several pages is all of it: 3 of 1,020 are less than 1%."""
    with wire.paused():
        account.build(vpcs=1, subnets=1, groups=0, instances=510)
    begin(limits={"ec2:instance": Limit(None, 0.01)}, zones_at_once=None, untouched_zones=0)
    terminate_instances(tags={"chaosgrade": "allowed"}, count=3)
    assert len(wire.writes()) == 3


@pytest.mark.parametrize(("lease_s", "says"), [(0.0, "leaves no time"), (3601.0, "max_lease")])
def test_a_lease_that_is_no_time_or_too_long_is_refused(
    aws: Aws, journal: Journal, lease_s: float, says: str
) -> None:
    """Before anything is opened."""
    guard = Guard(ALLOWED, aws, journal, "r1", Clock())
    with pytest.raises(Refused, match=says):
        guard.check_lease(lease_s)


def test_a_lock_that_is_lost_stops_the_next_transaction(
    wire: Wire, aws: Aws, inventory: Inventory, journal: Journal, tmp_path: Any
) -> None:
    """The fencing token is looked at before each."""
    aws.client("dynamodb").create_table(
        TableName="locks",
        BillingMode="PAY_PER_REQUEST",
        AttributeDefinitions=[{"AttributeName": "target", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "target", "KeyType": "HASH"}],
    )
    clock = Clock()

    def lock(machine: str, clock: Clock) -> TargetLock:
        folder = tmp_path / machine
        return TargetLock(folder, aws.environment, None, aws=aws, table="locks", clock=clock)

    ours = lock("one", clock)
    ours.acquire("r1", 60.0)
    with pytest.raises(Refused, match=r"run r1 is at work on .* from another machine"):
        lock("two", clock).acquire("r2", 60.0)
    later = lock("two", Clock(wall=clock.wall + 3600))
    later.acquire("r2", 60.0)
    assert (ours.token, later.token) == (1, 2)
    journal.open_run("r1", experiment="e", environment=aws.environment, endpoint=None, started=1)
    guard = Guard(ALLOWED, aws, journal, "r1", clock)
    engine = Engine(aws, guard, journal, "r1", clock, lock=ours)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    wire.sent.clear()
    with pytest.raises(Exception, match="has lost its lock"):
        terminate_instances(group="group-0")
    assert "TerminateInstances" not in {sent.operation for sent in wire.sent}
    ours.release()  # changes nothing of the other's
    later.confirm(60.0)
