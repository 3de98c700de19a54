"""A runbook: one experiment for a person, complete, in order, and safe to copy."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgrade import runbook
from chaosgrade.aws import Call, Environment, Lookup
from chaosgrade.changes.model import Resource
from chaosgrade.experiment import ExperimentFile, load, shipped
from chaosgrade.plan import Plan, PlannedChange
from chaosgrade.policies.grading import load_grading
from chaosgrade.policies.safety import load_safety
from chaosgrade.runbook import LastRun, Place, tolerance_in_words
from chaosgrade.score import grade
from chaosgrade.verdict import judge
from tests.stage.conftest import Stage, eventually, running_stage
from tests.synthetic import trial

BIN = Path(sys.executable).parent
ZONE = "us-east-1a"
PLACE = Place("--region us-east-1", "instance-kill --target aws", None, lasting=True)
WHERE = Environment("aws", "123456789012", "us-east-1")


def planned(number: int, *, reversible: bool = True, **changes: Any) -> PlannedChange:
    lookup = Lookup(Call("ec2", "DescribeNetworkAcls"), "NetworkAcls[0].NetworkAclId")
    change = PlannedChange(
        summary=f"change number {number}",
        kind="test:dial",
        reversible=reversible,
        resource=Resource("test:dial", f"dial-{number}", ZONE),
        before=f"it's {number}",
        calls=(Call("ec2", "Forward", {"Number": number}),),
        undo=(Call("ec2", "Back", {"Number": number, "AclId": lookup}),) if reversible else (),
        reads=("ec2:DescribeDials",),
        writes=("ec2:Turn",),
    )
    return replace(change, **changes)


def plan(*changes: PlannedChange, **fields: Any) -> Plan:
    given = Plan(environment=WHERE, seed=7, changes=changes, foreign=(), refusal="")
    return replace(given, **fields)


def content(
    plan: Plan, *, document: dict[str, Any] | None = None, last: LastRun | None = None,
    place: Place = PLACE,
) -> dict[str, Any]:  # fmt: skip
    file = load("instance-kill")
    if document is not None:
        file = ExperimentFile("mine", Path("mine.yaml"), document)
    profile = load_safety()["aws"]
    return runbook.content(file, plan, profile, place, at=0.0, last=last)


def section(text: str, number: int) -> str:
    """The text of one numbered section."""
    return text.partition(f"## {number}. ")[2].partition("\n## ")[0]


def commands(text: str) -> list[str]:
    """What stands in fenced blocks, each whole."""
    return re.findall(r"^```sh\n(.*?)\n```$", text, re.DOTALL | re.MULTILINE)


def test_forward_is_in_order_and_back_is_the_reverse() -> None:
    """One block for each command, each a command of the AWS CLI that says where."""
    text = runbook.markdown(content(plan(planned(1), planned(2))))
    forward, back = commands(section(text, 3)), commands(section(text, 5))
    assert [json.loads(shlex.split(c)[4]) for c in forward[1:]] == [{"Number": 1}, {"Number": 2}]
    assert [json.loads(shlex.split(c)[4]) for c in back] == [{"Number": 2}, {"Number": 1}]
    assert all(c.endswith("--region us-east-1") for c in (*forward[1:], *back))
    assert all("\n" not in command for command in commands(text))
    assert "$(aws ec2 describe-network-acls" in back[0]
    assert forward[0] == "chaosgrade run instance-kill --target aws --seed 7"


def test_what_is_irreversible_stands_out_and_has_no_way_back() -> None:
    """In the blast radius, at its command, and where a way back is looked for."""
    text = runbook.markdown(content(plan(planned(1), planned(2, reversible=False))))
    assert "**IRREVERSIBLE: change number 2**" in section(text, 2)
    assert "change number 2: **IRREVERSIBLE**" in section(text, 3)
    assert "change number 1: **IRREVERSIBLE**" not in text
    assert "**No way back: change number 2**" in section(text, 5)
    assert len(commands(section(text, 5))) == 1
    assert "dial-2" not in section(text, 6)


def test_the_preconditions_name_account_tag_permissions_and_steady_state() -> None:
    """Everything that can be looked at before anything is broken."""
    text = section(runbook.markdown(content(plan(planned(1)))), 1)
    identity, permissions = commands(text)
    assert identity.startswith("aws sts get-caller-identity")
    assert permissions == "chaosgrade iam-policy instance-kill --target aws --seed 7"
    assert "123456789012" in text
    assert "`chaosgrade=allowed`" in text
    assert '`chaosaws.elbv2.probes.targets_health_count(tg_names=["web"])`' in text
    assert "$.web.healthy must be 6" in text


def test_what_to_watch_and_when_to_stop() -> None:
    """Observers, bounds with their reasons, and every criterion to abort."""
    text = runbook.markdown(content(plan(planned(1))))
    watch = section(text, 4)
    for words in ("balancer web", "≥ 97%", "One of six targets gets 1/6", "300 s of AWS time"):
        assert words in watch
    assert '"Every target of the web tier is healthy" does not hold' in watch
    assert commands(watch) == ["chaosgrade halt", "chaosgrade recover"]
    document = yaml.safe_load(shipped()["instance-kill"].read_text())
    document["extensions"][0]["objectives"][0]["critical"] = True
    critical = runbook.markdown(content(plan(planned(1)), document=document))
    assert "Critical objective: availability must be ≥ 97%" in section(critical, 4)


def test_as_before_tells_each_value_and_whether_it_was_looked_at() -> None:
    """A presumed value is called so."""
    presumed = planned(2, reads=("ssm:SendCommand",))
    before = section(runbook.markdown(content(plan(planned(1), presumed))), 6)
    one, two = [line for line in before.splitlines() if "test:dial" in line]
    assert "`dial-1`" in one
    assert """`"it's 1"`""" in one
    assert "presumed" not in one
    assert "presumed" in two


def test_a_value_that_could_not_be_read_is_no_empty_way_back() -> None:
    """It says so instead of leaving a gap; a change that is none says that."""
    unread, idle = planned(1, undo=()), planned(2, calls=(), undo=())
    text = runbook.markdown(content(plan(unread, idle)))
    assert "could not be read" in section(text, 5)
    assert "Nothing was changed" in section(text, 5)
    assert "It is so already" in section(text, 3)


def test_a_refusal_foreign_actions_and_a_stage_that_is_gone_are_said_first() -> None:
    """At 3 a.m. nobody reads to the end."""
    place = replace(PLACE, lasting=False, role="arn:aws:iam::1:role/chaos")
    given = plan(planned(1), refusal="account 1 is not allowed", foreign=("drop_tables",))
    text = runbook.markdown(content(given, place=place))
    assert "account 1 is not allowed" in text.partition("## 1.")[0]
    assert "An example only" in text.partition("## 1.")[0]
    document = yaml.safe_load(shipped()["instance-kill"].read_text())
    document["rollbacks"] = [{"type": "action", "name": "mend it", "provider": {}}]
    assert "rollback: mend it" in section(runbook.markdown(content(given, document=document)), 5)
    assert "Not chaosgrade's: drop\\_tables" in section(text, 2)
    assert "`arn:aws:iam::1:role/chaos`" in section(text, 1)


def test_the_last_run_is_what_to_expect() -> None:
    """With its date, grade, figures and bounds; none is said, too."""
    assert "no run on record" in section(runbook.markdown(content(plan(planned(1)))), 7)
    verdict = judge(trial())
    score = grade([verdict], load_grading(), now=lambda: verdict.started)
    last = LastRun("runs/r1", verdict, score)
    given = content(plan(planned(1)), last=last)
    text = section(runbook.markdown(given), 7)
    assert given["expected"]["date"] in text
    assert f"grade {score.grade}" in text
    assert "`runs/r1`" in text
    for one in verdict.objectives:
        assert one.measured in text


def test_words_of_an_experiment_cannot_become_markup_or_commands() -> None:
    """Titles, names and values are other people's text."""
    document = yaml.safe_load(shipped()["instance-kill"].read_text())
    document["title"] = "x: <b>bold</b> | `code` *star*\n# heading"
    hypothesis = document["steady-state-hypothesis"]["probes"][0]
    hypothesis["provider"]["arguments"] = {"tg_names": ["a`b"]}
    change = planned(1, calls=(Call("ec2", "Forward", {"Name": "a ``` b; rm -rf /'$(x)'"}),))
    text = runbook.markdown(content(plan(change), document=document))
    assert "\\<b\\>bold\\</b\\> \\| \\`code\\` \\*star\\* \\# heading" in text
    assert "``` b; rm -rf /" in text
    (fence,) = re.findall(r"^(`{4,})sh\n(.*?)\n\1$", text, re.DOTALL | re.MULTILINE)
    assert json.loads(shlex.split(fence[1])[4]) == {"Name": "a ``` b; rm -rf /'$(x)'"}
    assert '`` chaosaws.elbv2.probes.targets_health_count(tg_names=["a`b"]) ``' in text


@pytest.mark.parametrize(
    ("tolerance", "words"),
    [
        (6, "must be 6"),
        (True, "must be true"),
        ("ok", 'must be "ok"'),
        ([1, 2], "must be from 1 to 2"),
        ([200, 201, 204], "must be one of 200, 201, 204"),
        ({"type": "range", "range": [0.9, 1]}, "must be from 0.9 to 1"),
        ({"type": "regex", "target": "body", "pattern": "^a"}, "body must match ^a"),
        ({"type": "jsonpath", "path": "$.a", "expect": [6]}, "$.a must be 6"),
        ({"type": "jsonpath", "path": "$.a", "expect": "x"}, '$.a must be "x"'),
        ({"type": "jsonpath", "path": "$.a", "count": 2}, "$.a must be found 2 times"),
        ({"type": "jsonpath", "path": "$.a"}, "$.a must be found"),
        (
            {"type": "probe", "name": "p", "provider": {"module": "m", "func": "f"}},
            "must satisfy m.f",
        ),
    ],
)
def test_every_tolerance_of_chaos_toolkit_has_words(tolerance: Any, words: str) -> None:
    """As Chaos Toolkit judges it."""
    assert tolerance_in_words(tolerance) == words


# With a real stage


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    with running_stage("--time-scale", "20") as running:
        yield running


def environ(folder: Path, stage: Stage | None = None) -> dict[str, str]:
    given = {k: v for k, v in os.environ.items() if not k.startswith("AWS_")}
    return {
        **given,
        **(stage.document["env"] if stage else {}),
        "AWS_PAGER": "",
        "CHAOSGRADE_STATE_DIR": str(folder / "state"),
        "PATH": f"{BIN}:{os.environ['PATH']}",
    }


def written(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / "chaosgrade"), "runbook", *arguments],
        cwd=folder,
        env=environ(folder),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def shell(folder: Path, stage: Stage, command: str) -> str:
    """What a command prints that a person has copied into a shell."""
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        env=environ(folder, stage),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def registered(stage: Stage) -> set[str]:
    """Ids of the targets of the group "web" that are registered and not draining."""
    elbv2 = stage.client("elbv2")
    (group,) = elbv2.describe_target_groups(Names=["web"])["TargetGroups"]
    health = elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])
    return {
        described["Target"]["Id"]
        for described in health["TargetHealthDescriptions"]
        if described["TargetHealth"]["State"] != "draining"
    }


@pytest.mark.stage
def test_the_printed_commands_change_the_stage_and_bring_it_back(
    tmp_path: Path, stage: Stage
) -> None:
    """Copied from the page into a shell, with the real AWS CLI: there, and back."""
    document = yaml.safe_load(shipped()["instance-kill"].read_text())
    document["method"][0]["provider"] |= {
        "module": "chaosgrade.actions.targets",
        "func": "deregister_targets",
        "arguments": {"target_group": "web", "count": 2},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(document))
    done = written(tmp_path, "mine.yaml", "--stage", stage.document["endpoint"], "--out", "rb.md")
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    text = (tmp_path / "rb.md").read_text()
    before = registered(stage)
    assert shell(tmp_path, stage, commands(section(text, 1))[0]).strip() == "123456789012"
    forward, back = commands(section(text, 3))[1:], commands(section(text, 5))
    assert (len(forward), len(back)) == (2, 2)
    for command in forward:
        shell(tmp_path, stage, command)
    gone = before - registered(stage)
    assert len(gone) == 2
    assert all(any(target in command for command in forward) for target in gone)
    for command in back:
        shell(tmp_path, stage, command)
    eventually(lambda: registered(stage) == before)
    values = [line for line in section(text, 6).splitlines() if '`"registered"`' in line]
    assert len(values) == 2


@pytest.mark.stage
def test_json_is_the_same_content_and_a_run_is_found(tmp_path: Path, stage: Stage) -> None:
    """The latest run under runs/ of this experiment; damaged ones and others are passed over."""
    for number, name in enumerate(("instance-kill", "web-process-hang", "instance-kill")):
        folder = tmp_path / "runs" / f"r{number}"
        folder.mkdir(parents=True)
        start = {"seq": 0, "at": 1000.0 + number, "kind": "run.start", "run": f"r{number}"}
        fields = {"experiment": name, "objectives": [], "window_s": 300, "environment": {}}
        (folder / "evidence.jsonl").write_text(json.dumps({**start, **fields}) + "\n")
    (tmp_path / "runs" / "torn").mkdir()
    (tmp_path / "runs" / "torn" / "evidence.jsonl").write_text('{"seq": 0, "at')
    url = stage.document["endpoint"]
    done = written(tmp_path, "instance-kill", "--stage", url, "--seed", "3", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert document["expected"]["run"] == "r2"
    assert document["seed"] == 3
    assert document["irreversible"]
    assert runbook.markdown(document).startswith("# Runbook: instance-kill\n")


@pytest.mark.stage
def test_mistakes_end_as_those_of_plan(tmp_path: Path, stage: Stage) -> None:
    """No target: 3. A file that cannot be written: 2. One line each."""
    url = stage.document["endpoint"]
    text = shipped()["instance-kill"].read_text().replace("Tier: web", "Tier: nothing")
    (tmp_path / "mine.yaml").write_text(text)
    unmatched = written(tmp_path, "mine.yaml", "--stage", url)
    unwritable = written(tmp_path, "instance-kill", "--stage", url, "--out", "no/where.md")
    assert (unmatched.returncode, unwritable.returncode) == (3, 2)
    assert "Tier" in unmatched.stderr
    assert "no/where.md" in unwritable.stderr
    assert len(unmatched.stderr.splitlines()) == len(unwritable.stderr.splitlines()) == 1
    assert unmatched.stdout == unwritable.stdout == ""
