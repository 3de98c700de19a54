"""Tools that users already have work against a stage as against AWS."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.stage.conftest import Stage

BIN = Path(sys.executable).parent


def tool(stage: Stage, *command: str) -> str:
    """What a tool of this environment prints, with the variables that the stage told."""
    done = subprocess.run(
        [str(BIN / command[0]), *command[1:]],
        env={**os.environ, **stage.document["env"], "AWS_PAGER": ""},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_aws_cli_reads_and_writes(stage: Stage) -> None:
    """Groups, target health, a tag there and back."""

    def aws(*words: str) -> Any:
        return json.loads(tool(stage, "aws", *words, "--output", "json") or "null")

    (group,) = aws(
        "autoscaling", "describe-auto-scaling-groups", "--auto-scaling-group-names", "web"
    )["AutoScalingGroups"]
    assert (group["AutoScalingGroupName"], group["DesiredCapacity"]) == ("web", 6)
    targets = aws(
        "elbv2", "describe-target-health", "--target-group-arn", group["TargetGroupARNs"][0]
    )["TargetHealthDescriptions"]
    assert len(targets) == 6
    instance = group["Instances"][0]["InstanceId"]
    aws("ec2", "create-tags", "--resources", instance, "--tags", "Key=seen,Value=yes")
    (tag,) = aws(
        "ec2", "describe-tags", "--filters", f"Name=resource-id,Values={instance}",
        "Name=key,Values=seen",
    )["Tags"]  # fmt: skip
    assert tag["Value"] == "yes"


def test_the_probes_of_chaostoolkit_aws_tell_the_truth(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that the shipped experiments use as their steady state."""
    from chaosaws.asg.probes import desired_equals_healthy
    from chaosaws.elbv2.probes import targets_health_count

    for name, value in stage.document["env"].items():
        monkeypatch.setenv(name, value)
    assert targets_health_count(tg_names=["web"]) == {"web": {"healthy": 6}}
    assert desired_equals_healthy(asg_names=["web"]) is True
