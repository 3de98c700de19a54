"""The rules of Auto Scaling, as a pure function of a group's state."""

from collections import Counter
from dataclasses import replace

import pytest

from chaosgrade.stage.autoscaling import (
    IN_SERVICE,
    PENDING,
    TERMINATING,
    Group,
    Launch,
    Member,
    Terminate,
    decide,
    found_unhealthy,
)

A, B, C = "us-east-1a", "us-east-1b", "us-east-1c"


def member(name: str, zone: str, **changes: object) -> Member:
    return replace(Member(name, zone, IN_SERVICE, in_service_for_s=600.0), **changes)  # type: ignore[arg-type]


def group(*members: Member, desired: int | None = None, **changes: object) -> Group:
    plain = Group(
        name="web",
        desired=len(members) if desired is None else desired,
        zones=(A, B, C),
        suspended=frozenset(),
        health_type="ELB",
        grace_s=30.0,
        members=members,
    )
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_an_empty_group_is_spread_over_its_zones() -> None:
    """Six instances make two in each of three zones."""
    launches = decide(group(desired=6))
    assert all(isinstance(launch, Launch) for launch in launches)
    assert Counter(d.zone for d in launches if isinstance(d, Launch)) == {A: 2, B: 2, C: 2}


def test_a_group_at_its_desired_capacity_does_nothing() -> None:
    """Pending instances count, so that one is not launched twice."""
    assert decide(group(member("1", A), member("2", B, lifecycle=PENDING))) == []


def test_a_replacement_goes_to_the_emptiest_zone() -> None:
    """Not to the first one, and an instance on its way out does not count."""
    (launch,) = decide(
        group(member("1", A), member("2", B, lifecycle=TERMINATING), member("3", C), desired=3)
    )
    assert isinstance(launch, Launch)
    assert launch.zone == B


@pytest.mark.parametrize("process", ["Launch"])
def test_suspended_launch_leaves_the_group_short(process: str) -> None:
    """Missing capacity stays missing."""
    assert decide(group(member("1", A), desired=3, suspended=frozenset({process}))) == []


def test_elb_health_counts_only_for_groups_that_ask_for_it() -> None:
    """The default health type EC2 keeps an instance that customers cannot use."""
    refused = member("1", A, refused=True)
    assert list(found_unhealthy(group(refused))) == ["1"]
    assert list(found_unhealthy(group(refused, health_type="EC2,ELB"))) == ["1"]
    assert found_unhealthy(group(refused, health_type="EC2")) == {}


def test_grace_covers_the_load_balancers_opinion_but_not_a_terminated_instance() -> None:
    """The grace period is counted from the moment in service."""
    young = member("1", A, in_service_for_s=29.9, refused=True)
    assert found_unhealthy(group(young)) == {}
    assert list(found_unhealthy(group(replace(young, in_service_for_s=30.0)))) == ["1"]
    assert list(found_unhealthy(group(replace(young, running=False)))) == ["1"]


def test_suspended_health_checks_find_nothing() -> None:
    """HealthCheck suspended: even a terminated instance stays healthy on the books."""
    gone = group(member("1", A, running=False), suspended=frozenset({"HealthCheck"}))
    assert found_unhealthy(gone) == {}


@pytest.mark.parametrize("process", ["ReplaceUnhealthy", "Terminate"])
def test_an_unhealthy_instance_stays_while_its_replacement_is_suspended(process: str) -> None:
    """Either suspension keeps it in the group."""
    sick = member("1", A, healthy=False)
    (decision,) = decide(group(sick))
    assert isinstance(decision, Terminate)
    assert decide(group(sick, suspended=frozenset({process}))) == []


def test_a_group_that_shrinks_counts_an_unhealthy_instance_that_leaves_once() -> None:
    """It makes up the surplus: neither is another one taken beside it, nor itself twice."""
    sick = member("sick", A, healthy=False, in_service_for_s=900.0)
    decisions = decide(group(sick, member("2", A), member("3", B), desired=2))
    assert [d.instance for d in decisions if isinstance(d, Terminate)] == ["sick"]


def test_an_instance_that_ends_before_it_is_in_service_is_replaced() -> None:
    """Otherwise it would count for ever, and the group be one short."""
    ended = member("1", A, lifecycle=PENDING, running=False)
    assert list(found_unhealthy(group(ended))) == ["1"]
    (decision,) = decide(group(replace(ended, healthy=False)))
    assert isinstance(decision, Terminate)


def test_scale_in_takes_the_oldest_of_the_fullest_zone() -> None:
    """Zones stay balanced, and protected instances stay."""
    members = (
        member("old", A, in_service_for_s=900.0, protected=True),
        member("middle", A, in_service_for_s=800.0),
        member("young", A, in_service_for_s=100.0),
        member("other", B, in_service_for_s=1000.0),
    )
    (decision,) = decide(group(*members, desired=3))
    assert isinstance(decision, Terminate)
    assert decision.instance == "middle"


def test_scale_in_takes_nothing_while_terminate_is_suspended() -> None:
    """The group stays too large."""
    members = (member("1", A), member("2", B))
    assert decide(group(*members, desired=1, suspended=frozenset({"Terminate"}))) == []


def test_rebalancing_launches_before_it_terminates() -> None:
    """An uneven group grows by one first, in the empty zone, unless that is suspended."""
    uneven = group(member("1", A), member("2", A), member("3", B))
    (decision,) = decide(uneven)
    assert isinstance(decision, Launch)
    assert decision.zone == C
    assert decide(replace(uneven, suspended=frozenset({"AZRebalance"}))) == []
    grown = replace(uneven, members=(*uneven.members, member("4", C)))
    (decision,) = decide(grown)
    assert isinstance(decision, Terminate)
    assert decision.instance in {"1", "2"}


def test_a_zone_that_the_group_no_longer_uses_is_not_launched_into() -> None:
    """Shrinking the subnets moves new capacity into those that are left."""
    (launch,) = decide(group(member("1", A), desired=2, zones=(A,)))
    assert isinstance(launch, Launch)
    assert launch.zone == A
