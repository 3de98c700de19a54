"""The zone faults: one transaction over many resources, and few calls."""

import random
from typing import Any

import pytest

from chaosgrade import session
from chaosgrade.actions.zones import black_hole_zone, power_off_zone
from chaosgrade.aws import Aws
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal, State
from chaosgrade.clock import Clock
from chaosgrade.policies.safety import load_safety
from tests.safety.inventory import ZONE, Account, Inventory
from tests.safety.wire import Sent, Wire, failing


@pytest.fixture
def inventory(account: Account, wire: Wire) -> Inventory:
    with wire.paused():
        return account.build()


@pytest.fixture
def engine(aws: Aws, journal: Journal) -> Engine:
    clock = Clock()
    profile = load_safety()["stage"]  # the rules have tests of their own
    journal.open_run(
        "r1", experiment="e", environment=aws.environment, endpoint=None, started=clock.now()
    )
    engine = Engine(aws, Guard(profile, aws, journal, "r1", clock), journal, "r1", clock)
    session.activate(session.Session(aws, engine, random.Random(1), clock))
    return engine


def state(account: Account, wire: Wire) -> dict[str, Any]:
    with wire.paused():
        return account.state()


def test_every_subnet_of_the_zone_goes_dark_and_comes_back(
    account: Account, wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """In several VPCs, each to the network ACL that it had, with nothing of ours left."""
    before = state(account, wire)
    told = black_hole_zone(ZONE, suspend=["Launch", "AZRebalance"])
    with wire.paused():
        assert account.dark() == sorted(inventory.subnets[ZONE])
    assert all(one["proven"] for one in told)
    during = state(account, wire)
    assert set(map(tuple, during["suspended"].values())) == {("AZRebalance", "Launch")}
    assert {str(u.state) for u in engine.undo()} == {"undone"}
    assert state(account, wire) == before
    calls = len(wire.writes())
    assert engine.undo() == []
    assert len(wire.writes()) == calls


def test_the_calls_are_one_per_subnet_and_a_few(
    account: Account, wire: Wire, engine: Engine
) -> None:
    """Reading is batched: 60 subnets more cost 60 calls more, there and back."""
    with wire.paused():
        account.build(vpcs=1, subnets=70, groups=0, instances=0)
    wire.clear()
    black_hole_zone(ZONE)
    forward = len(wire.sent)
    engine.undo()
    assert forward - 70 <= 12
    assert len(wire.sent) - forward - 70 <= 6


def test_powering_off_stops_the_instances_too(
    account: Account, wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """And starts them again."""
    before = state(account, wire)
    power_off_zone(ZONE)
    during = state(account, wire)["instances"]
    assert {during[i] for i in inventory.instances[ZONE]} == {"stopped"}
    assert {during[i] for i in inventory.instances["us-east-1b"]} == {"running"}
    engine.undo()
    assert state(account, wire) == before


def test_groups_are_suspended_before_anything_goes_dark_and_resumed_after_everything_is_back(
    wire: Wire, inventory: Inventory, engine: Engine, journal: Journal
) -> None:
    """A group would end the instances that are just being started; also if one cannot be."""
    wire.clear()
    power_off_zone(ZONE, suspend=["Launch", "Terminate"])
    there = [sent.operation for sent in wire.writes()]
    suspended = [n for n, operation in enumerate(there) if operation == "SuspendProcesses"]
    dark = ("ReplaceNetworkAclAssociation", "StopInstances")
    assert max(suspended) < min(there.index(operation) for operation in dark)
    wire.clear()
    wire.answer = lambda sent, answer: (
        failing("denied", sent, answer) if sent.operation == "StartInstances" else None
    )
    engine.undo()
    assert "ResumeProcesses" not in [sent.operation for sent in wire.sent]
    wire.clear()
    engine.undo()
    back = [sent.operation for sent in wire.writes()]
    assert back.index("ResumeProcesses") > max(
        n for n, operation in enumerate(back) if operation == "StartInstances"
    )
    assert journal.outstanding("r1") == []


def test_what_is_dark_already_is_not_cut_off_again(
    wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """Its former network ACL would be one of ours, which goes away."""
    black_hole_zone(ZONE, vpcs=inventory.vpcs[:1])
    calls = len(wire.writes())
    with pytest.raises(
        Exception, match=r"is dark already, by chaosgrade's network ACL chaosgrade:"
    ):
        black_hole_zone(ZONE)
    assert len(wire.writes()) == calls


def test_one_refused_swap_undoes_all(
    account: Account, wire: Wire, inventory: Inventory, engine: Engine, journal: Journal
) -> None:
    """Half a dark zone is no experiment: nothing stays."""
    before = state(account, wire)
    swaps = 0

    def third_is_denied(sent: Sent, answer: Any) -> Any:
        nonlocal swaps
        if sent.operation != "ReplaceNetworkAclAssociation":
            return None
        swaps += 1
        return failing("denied", sent, answer) if swaps == 3 else None

    wire.answer = third_is_denied
    with pytest.raises(Exception, match="UnauthorizedOperation"):
        black_hole_zone(ZONE)
    assert state(account, wire) == before
    assert journal.outstanding("r1") == []


def test_a_zone_without_subnets_is_a_missing_target(
    wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """Nothing would be broken, so nothing would be proven."""
    for arguments in ({"zone": "us-east-1f"}, {"zone": ZONE, "tags": {"no": "such"}}):
        with pytest.raises(Exception, match="no subnet"):
            black_hole_zone(**arguments)  # type: ignore[arg-type]
    assert wire.writes() == []


def test_a_process_that_does_not_exist_is_refused(
    wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """With the names that there are, and without a call."""
    with pytest.raises(Exception, match="'Lunch' is none of Auto Scaling's"):
        black_hole_zone(ZONE, suspend=["Lunch"])
    assert wire.writes() == []


def test_a_subnet_that_somebody_moved_is_left_alone(
    account: Account, wire: Wire, inventory: Inventory, engine: Engine
) -> None:
    """The others come back."""
    before = state(account, wire)
    black_hole_zone(ZONE)
    moved = inventory.subnets[ZONE][0]
    with wire.paused():
        own = account.ec2.create_network_acl(VpcId=inventory.vpcs[0])["NetworkAcl"]["NetworkAclId"]
        account.associate(moved, own)
    outcomes = {u.entry.summary: u.state for u in engine.undo()}
    assert [s for s, outcome in outcomes.items() if outcome is State.CONFLICT] == [
        f"cut {moved} in {ZONE} off"
    ]
    after = state(account, wire)
    assert after["subnets"] == {**before["subnets"], moved: own}
    assert after["acls"] == sorted([*before["acls"], own])
