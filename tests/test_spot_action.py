"""Spot interruptions through FIS: counted, proven, and nothing of ours is left."""

import json
import random
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosgrade import session
from chaosgrade.actions.spot import interrupt_spot_instances
from chaosgrade.aws import Aws
from chaosgrade.changes import registry
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal, State
from chaosgrade.changes.model import Live, address
from chaosgrade.changes.recovery import open_runs, recover
from chaosgrade.changes.spot import (
    NAME_TAG,
    PRESENT,
    InterruptionTemplate,
    RunningInterruption,
)
from chaosgrade.clock import Clock
from chaosgrade.evidence import EvidenceLog, read
from chaosgrade.policies.safety import Limit, Profile, load_safety
from chaosgrade.probes import spot_notices
from tests.stage.conftest import Stage, eventually, running_stage

pytestmark = pytest.mark.stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage("--time-scale", "60") as running:
        yield running


@pytest.fixture
def journal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Journal]:
    monkeypatch.setenv("CHAOSGRADE_STATE_DIR", str(tmp_path / "state"))
    journal = Journal()
    yield journal
    journal.close()
    session.activate(None)


def begin(stage: Stage, journal: Journal, profile: Profile | None = None, seed: int = 1) -> Engine:
    """An engine for a run on the stage, active for actions."""
    aws = Aws(
        region=stage.document["region"],
        endpoint_url=stage.document["endpoint"],
        access_key=("stage", "stage"),
    )
    clock = Clock()
    journal.open_run(
        "r1",
        experiment="e",
        environment=aws.environment,
        endpoint=aws.endpoint_url,
        started=clock.now(),
    )
    guard = Guard(profile or load_safety()["stage"], aws, journal, "r1", clock)
    engine = Engine(aws, guard, journal, "r1", clock)
    session.activate(session.Session(aws, engine, random.Random(seed), clock))
    return engine


def spots(stage: Stage) -> set[str]:
    running = [{"Name": "instance-state-name", "Values": ["running"]}]
    return {
        i["InstanceId"]
        for r in stage.client("ec2").describe_instances(Filters=running)["Reservations"]
        for i in r["Instances"]
        if i.get("InstanceLifecycle") == "spot"
    }


def writes(stage: Stage) -> dict[str, int]:
    """Calls so far that were more than a look, of FIS."""
    url = stage.document["endpoint"] + "/_chaosgrade/calls"
    with urllib.request.urlopen(url, timeout=5) as answer:
        calls: dict[str, int] = json.load(answer)
    return {k: n for k, n in calls.items() if k.startswith("fis:") and ":List" not in k}


def experiments(stage: Stage) -> list[str]:
    found = stage.client("fis").list_experiments()["experiments"]
    return sorted(e["state"]["status"] for e in found)


def whole(stage: Stage) -> bool:
    (group,) = stage.client("autoscaling").describe_auto_scaling_groups(
        AutoScalingGroupNames=["web"]
    )["AutoScalingGroups"]
    return [i["LifecycleState"] for i in group["Instances"]] == ["InService"] * 6


def test_an_interruption_is_proven_by_its_notice_and_leaves_nothing(
    stage: Stage, journal: Journal
) -> None:
    """Only Spot Instances are drawn; a running experiment is stopped, its template deleted."""
    before = spots(stage)
    engine = begin(stage, journal)
    told = interrupt_spot_instances(group="web", share_percent=50, no_capacity_minutes=30)
    assert all(one["proven"] for one in told), told
    hit = {one["resource"] for one in told if one["resource"].startswith("i-")}
    assert len(hit) == 2
    assert hit < before
    (template,) = stage.client("fis").list_experiment_templates()["experimentTemplates"]
    assert NAME_TAG in template["tags"]
    assert experiments(stage) == ["running"]
    assert {str(u.state) for u in engine.undo()} == {"undone"}
    assert stage.client("fis").list_experiment_templates()["experimentTemplates"] == []
    assert experiments(stage) == ["stopped"]
    assert engine.undo() == []
    eventually(lambda: not hit & spots(stage) and whole(stage))


def test_notices_are_recorded_while_they_last(
    stage: Stage, journal: Journal, tmp_path: Path
) -> None:
    """From when an instance is marked for termination until it has ended; no other is listed."""
    eventually(lambda: whole(stage))
    path = tmp_path / "evidence.jsonl"
    engine = begin(stage, journal)
    with EvidenceLog(path, Clock()) as evidence, session.activity(None) as current:
        observer = spot_notices.observe(replace(current, evidence=evidence))
        observer.start()
        told = interrupt_spot_instances(group="web", count=1)
        eventually(lambda: len(read(path)) == 3)
        observer.stop()
    assert [record["marked"] for record in read(path)] == [[], [told[-1]["resource"]], []]
    assert spot_notices.spot_notices() == []
    engine.undo()


def test_a_dead_run_is_recovered_from_its_journal(stage: Stage, journal: Journal) -> None:
    """A later process stops the experiment and deletes the template; commands for a person, too."""
    begin(stage, journal)
    interrupt_spot_instances(tags={"Tier": "web"}, count=1)
    (run,) = open_runs(journal)
    assert [entry.kind for entry in run.entries] == ["fis:experiment", "fis:experiment-template"]
    for entry in run.entries:
        setting = registry.setting(entry.kind, entry.address)
        (call,) = setting.calls(entry.before, Live(entry.wanted))
        assert '--id "$(aws fis list-experiment' in call.as_cli()
    undone = recover(run, journal)
    assert {one.state for one in undone} == {State.UNDONE}
    assert stage.client("fis").list_experiment_templates()["experimentTemplates"] == []
    eventually(lambda: whole(stage))


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"ec2:instance": Limit(count=1)}, "2 ec2:instance would be touched"),
        ({"ec2:instance": Limit(share=0.2)}, "2 of 8 ec2:instance"),
    ],
)
def test_the_guard_counts_interrupted_instances(
    stage: Stage, journal: Journal, limits: dict[str, Limit], words: str
) -> None:
    """As terminated ones; nothing has been sent to FIS by then."""
    eventually(lambda: whole(stage))
    profile = replace(load_safety()["stage"], limits=limits)
    begin(stage, journal, profile)
    before = writes(stage)
    # The terminated ones of other tests are gone from the share.
    with pytest.raises(Exception, match=words):
        interrupt_spot_instances(group="web", count=2)
    assert writes(stage) == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"warning_minutes": 1}, "warning_minutes must be 2 to 4, got 1"),
        ({"no_capacity_minutes": -1}, "got -1"),
        ({"group": None, "tags": {"Tier": "web"}, "no_capacity_minutes": 5}, "needs a group"),
        ({"count": 99}, "lifecycle spot"),
        ({"role_arn": "arn:aws:iam::123456789012:user/me"}, "roleArn"),
    ],
)
def test_mistakes_are_named(
    stage: Stage, journal: Journal, arguments: dict[str, Any], words: str
) -> None:
    """And no instance is warned."""
    begin(stage, journal)
    before = experiments(stage)
    with pytest.raises(Exception, match=words):
        interrupt_spot_instances(**{"group": "web", **arguments})
    assert experiments(stage) == before


def test_without_a_role_there_is_one_clear_line(stage: Stage, journal: Journal) -> None:
    """Which role is looked for, and what else can be done."""
    begin(stage, journal)
    iam = stage.client("iam")
    (name,) = iam.list_role_policies(RoleName="chaosgrade-fis")["PolicyNames"]
    iam.delete_role_policy(RoleName="chaosgrade-fis", PolicyName=name)
    iam.delete_role(RoleName="chaosgrade-fis")
    with pytest.raises(Exception, match=r"no role chaosgrade-fis .* give role_arn"):
        interrupt_spot_instances(group="web")


def test_the_journal_rebuilds_the_settings() -> None:
    """From their fields as JSON."""
    for setting in (
        InterruptionTemplate("n", "role", ("a", "b"), 2, "arn", "z", 5),
        RunningInterruption("n", "web"),
    ):
        text = json.dumps(address(setting))
        assert registry.setting(setting.kind, text) == setting


def test_more_than_five_instances_take_several_targets() -> None:
    """FIS takes five ARNs for each."""
    setting = InterruptionTemplate("n", "role", tuple("abcdefg"), 2)
    (call,) = setting.calls(PRESENT, Live(None))
    targets = call.parameters["targets"]
    assert [len(t["resourceArns"]) for t in targets.values()] == [5, 2]
    assert len(call.parameters["actions"]) == 2
