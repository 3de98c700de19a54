"""How long the stage takes: from its start until it is ready, and from a terminated instance until
its replacement is in service. Each figure over several stages started one after another."""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3

_TIMEOUT_S = 60.0


def measure() -> tuple[float, float]:
    """Seconds until ready, and measured seconds from terminate to six healthy targets again."""
    began = time.monotonic()
    stage = subprocess.Popen(
        [Path(sys.executable).parent / "chaosgrade", "stage", "up", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stage.stdout is not None
        document = json.loads(stage.stdout.readline())
        ready_s = time.monotonic() - began
        return ready_s, _replaced(document)
    finally:
        stage.terminate()
        stage.wait(timeout=10)


def _replaced(document: dict[str, Any]) -> float:
    ec2, elbv2 = (
        boto3.client(
            service,
            endpoint_url=document["endpoint"],
            region_name=document["region"],
            aws_access_key_id="stage",
            aws_secret_access_key="stage",
        )
        for service in ("ec2", "elbv2")
    )
    arn = elbv2.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"]

    def healthy() -> set[str]:
        described = elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        return {d["Target"]["Id"] for d in described if d["TargetHealth"]["State"] == "healthy"}

    victim = min(healthy())
    began = time.monotonic()
    ec2.terminate_instances(InstanceIds=[victim])
    while len(healthy() - {victim}) < 6:
        if time.monotonic() - began > _TIMEOUT_S:
            raise SystemExit(f"{victim} was not replaced within {_TIMEOUT_S:g} s")
        time.sleep(0.02)
    return time.monotonic() - began


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--runs", type=int, default=5)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    ready, replaced = zip(*(measure() for _ in range(options.runs)), strict=True)
    if options.json:
        print(json.dumps({"ready_s": ready, "replaced_s": replaced}))
        return
    for name, seconds in (("ready", ready), ("replaced", replaced)):
        print(f"{name:10} " + "  ".join(f"{s:5.2f} s" for s in seconds), end="")
        print(f"   median {statistics.median(seconds):.2f} s")


if __name__ == "__main__":
    main()
