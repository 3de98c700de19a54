"""What `chaosgrade run` costs over plain `chaos run`: the same experiment on the same stage.

Pairs are run alternately in one go; printed is the wall time of each and the ratio of medians.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import boto3

from chaosgrade.experiment import shipped

_EXPERIMENT = "instance-kill"
_BIN = Path(sys.executable).parent


def _timed(command: list[str], folder: str, environ: Mapping[str, str]) -> float:
    began = time.monotonic()
    done = subprocess.run(command, cwd=folder, env=environ, capture_output=True, check=False)
    elapsed = time.monotonic() - began
    if done.returncode not in (0, 1):
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr.decode()}")
    return elapsed


def _wait_until_whole(environ: Mapping[str, str]) -> None:
    """Until the fleet that the last run has hit is six healthy targets again."""
    client = boto3.client(
        "elbv2", endpoint_url=environ["AWS_ENDPOINT_URL"], region_name=environ["AWS_REGION"],
        aws_access_key_id=environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=environ["AWS_SECRET_ACCESS_KEY"],
    )  # fmt: skip
    arn = client.describe_target_groups(Names=["web"])["TargetGroups"][0]["TargetGroupArn"]
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        described = client.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        if [d["TargetHealth"]["State"] for d in described] == ["healthy"] * 6:
            return
        time.sleep(0.2)
    raise SystemExit("the stage did not become whole again within 60 s")


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--pairs", type=int, default=3)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    stage = subprocess.Popen(
        [_BIN / "chaosgrade", "stage", "up", "--json"], stdout=subprocess.PIPE, text=True
    )
    times: dict[str, list[float]] = {"chaos run": [], "chaosgrade run": []}
    try:
        assert stage.stdout is not None
        ready = json.loads(stage.stdout.readline())
        environ = {**os.environ, **ready["env"]}
        ours = [str(_BIN / "chaosgrade"), "run", _EXPERIMENT, "--stage", ready["endpoint"]]
        plain = [str(_BIN / "chaos"), "--no-version-check", "run", str(shipped()[_EXPERIMENT])]
        with tempfile.TemporaryDirectory() as folder:
            for _ in range(options.pairs):
                for name, command in (("chaos run", plain), ("chaosgrade run", ours)):
                    _wait_until_whole(environ)
                    times[name].append(_timed(command, folder, environ))
    finally:
        stage.terminate()
        stage.wait(timeout=10)
    ratio = statistics.median(times["chaosgrade run"]) / statistics.median(times["chaos run"])
    if options.json:
        print(json.dumps({"seconds": times, "ratio": ratio}))
        return
    for name, seconds in times.items():
        print(f"{name:16} " + "  ".join(f"{s:6.2f} s" for s in seconds))
    print(f"ratio of medians {ratio:.3f}")


if __name__ == "__main__":
    main()
