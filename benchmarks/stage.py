"""What the stage takes: seconds from its start until it is ready, from a terminated instance until
its replacement is in service, from Ctrl-C until it is gone; megabytes of memory when it is ready.
Each figure over several stages started one after another."""

import argparse
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3

_TIMEOUT_S = 60.0


def measure(fabric: str) -> dict[str, float]:
    """One stage: {"ready_s", "memory_mb", "replaced_s", "down_s"}."""
    began = time.monotonic()
    stage = subprocess.Popen(
        [Path(sys.executable).parent / "chaosgrade", "stage", "up", "--json", "--fabric", fabric],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert stage.stdout is not None
        document = json.loads(stage.stdout.readline())
        found = {"ready_s": time.monotonic() - began, "memory_mb": _memory_mb(stage.pid)}
        found["replaced_s"] = _replaced(document)
        began = time.monotonic()
    finally:
        stage.send_signal(signal.SIGINT)
        stage.wait(timeout=10)
    return {**found, "down_s": time.monotonic() - began}


def _memory_mb(pid: int) -> float:
    """Of a process and its descendants; what several share is counted once (proc(5), Pss)."""
    pss_kb = 0
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text("ascii").splitlines():
        if line.startswith("Pss:"):
            pss_kb += int(line.split()[1])
    children = [
        int(child)
        for thread in Path(f"/proc/{pid}/task").iterdir()
        for child in (thread / "children").read_text("ascii").split()
    ]
    return pss_kb / 1024 + sum(map(_memory_mb, children))


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
    arguments.add_argument("--fabric", default="auto")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    runs = [measure(options.fabric) for _ in range(options.runs)]
    figures = {name: [run[name] for run in runs] for name in runs[0]}
    if options.json:
        print(json.dumps(figures))
        return
    for name, values in figures.items():
        title, _, unit = name.partition("_")
        print(f"{title:10} " + "  ".join(f"{value:6.2f}" for value in values), end="")
        print(f" {unit}   median {statistics.median(values):.2f} {unit}")


if __name__ == "__main__":
    main()
