"""Failing and recovering an Availability Zone, beside aws-az-failure-chaostoolkit.

Both work on the same inventory in moto on loopback, where each call takes 100 ms longer, as on the
real service. The peer is installed from PyPI into an environment of its own. Printed are wall time
and calls for 10, 100 and 500 subnets and for 50 Auto Scaling groups, the ratios, and what a
throttled swap leaves dark.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

_HERE = Path(__file__).parent
_PEER = _HERE.parent / ".bench" / "peer"
_ZONES = ("us-east-1a", "us-east-1b")
_PEER_PACKAGES = ("aws-az-failure-chaostoolkit==0.1.10", "setuptools<80")
_TAGS = [{"Key": "chaosgrade", "Value": "allowed"}, {"Key": "AZ_FAILURE", "Value": "True"}]
_SAFETY = """
aws:
  accounts:
    - {account: "123456789012", regions: [us-east-1]}
  limits:
    ec2:subnet: {count: 1000, share: 50%}
    autoscaling:group: {count: 100}
  min_healthy: 0%
"""


@dataclass(frozen=True)
class Half:
    """One tool's run: seconds, calls by operation, errors, subnets left dark."""

    fail_s: float
    recover_s: float
    error: str | None
    recovery: str | None
    calls: dict[str, int]
    dark: int

    @property
    def total_s(self) -> float:
        """There and back."""
        return self.fail_s + self.recover_s

    @property
    def count(self) -> int:
        """Calls, there and back."""
        return sum(self.calls.values())


class World:
    """A slow moto, and a fast way past its delay to build and look.

    Args:
        url: its endpoint.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        keys = {"aws_access_key_id": "moto", "aws_secret_access_key": "moto"}
        config = Config(max_pool_connections=64, retries={"total_max_attempts": 1})

        def client(service: str) -> Any:
            return boto3.client(
                service, region_name="us-east-1", endpoint_url=url, config=config, **keys
            )

        self.ec2, self.autoscaling = client("ec2"), client("autoscaling")

    def control(self, what: str) -> dict[str, int]:
        """Ask the server itself."""
        request = urllib.request.Request(f"{self.url}/_bench/{what}", method="POST")
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(json.load(answer))

    def build(self, subnets: int, groups: int) -> None:
        """One VPC with `subnets` in the first zone and as many in the second, and groups."""
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/moto-api/reset", method="POST"), timeout=30
        ).close()
        vpc = self.ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        from concurrent.futures import ThreadPoolExecutor

        def subnet(number: int) -> str:
            made = self.ec2.create_subnet(
                VpcId=vpc,
                CidrBlock=f"10.0.{number // 4}.{number % 4 * 64}/26",
                AvailabilityZone=_ZONES[number % 2],
                TagSpecifications=[{"ResourceType": "subnet", "Tags": _TAGS}],
            )
            return str(made["Subnet"]["SubnetId"])

        with ThreadPoolExecutor(32) as pool:
            ids = list(pool.map(subnet, range(subnets * 2)))
        if not groups:
            return
        image = self.ec2.describe_images()["Images"][0]["ImageId"]
        self.autoscaling.create_launch_configuration(
            LaunchConfigurationName="small", ImageId=image, InstanceType="t3.nano"
        )

        def group(number: int) -> None:
            self.autoscaling.create_auto_scaling_group(
                AutoScalingGroupName=f"group-{number}",
                LaunchConfigurationName="small",
                MinSize=0,
                MaxSize=2,
                DesiredCapacity=0,
                VPCZoneIdentifier=f"{ids[0]},{ids[1]}",
                Tags=[{**tag, "PropagateAtLaunch": False} for tag in _TAGS],
            )

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(group, range(groups)))

    def dark(self) -> int:
        """Subnets whose network ACL is not their VPC's default."""
        pages = self.ec2.get_paginator("describe_network_acls").paginate()
        acls = [acl for page in pages for acl in page["NetworkAcls"]]
        return sum(len(acl["Associations"]) for acl in acls if not acl["IsDefault"])


@contextmanager
def slow_moto(delay_s: float) -> Iterator[World]:
    """A server of its own process."""
    server = subprocess.Popen(
        [sys.executable, _HERE / "slow_moto.py", str(delay_s)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        yield World(server.stdout.readline().strip())
    finally:
        server.terminate()
        server.wait(10)


def run(command: list[str], world: World, folder: str) -> Half:
    """Run one tool on the world and count."""
    world_env = {
        **os.environ,
        "AWS_ENDPOINT_URL": world.url,
        "AWS_ACCESS_KEY_ID": "moto",
        "AWS_SECRET_ACCESS_KEY": "moto",
        "AWS_DEFAULT_REGION": "us-east-1",
        "CHAOSGRADE_STATE_DIR": folder,
        "CHAOSGRADE_SAFETY": f"{folder}/safety.yaml",
    }
    Path(folder, "safety.yaml").write_text(_SAFETY)
    done = subprocess.run(
        command, env=world_env, capture_output=True, text=True, timeout=600, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {done.stderr[-2000:]}")
    told = json.loads(done.stdout.splitlines()[-1])
    calls = world.control("calls")
    return Half(**told, calls=calls, dark=world.dark())


def peer_python() -> str:
    """The peer's environment, made on first use."""
    python = _PEER / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", _PEER], check=True)
        subprocess.run([python, "-m", "pip", "install", "-qqq", *_PEER_PACKAGES], check=True)
    return str(python)


def compare(
    world: World, subnets: int, groups: int, *, throttle: tuple[int, int] | None = None
) -> dict[str, Half]:
    """Both tools on the same inventory, one after the other."""
    services = ["ec2", "asg"] if groups else ["ec2"]
    halves = {}
    for tool in ("peer", "ours"):
        world.build(subnets, groups)
        world.control("reset")
        if throttle:
            first, count = throttle
            operation = "ReplaceNetworkAclAssociation"
            world.control(f"throttle?operation={operation}&first={first}&count={count}")
        with tempfile.TemporaryDirectory() as folder:
            if tool == "peer":
                script = str(_HERE / "zone_fault_peer.py")
                command = [peer_python(), script, _ZONES[0], folder, *services]
            else:
                script = str(_HERE / "zone_fault_ours.py")
                command = [sys.executable, script, _ZONES[0]]
                command += ["Launch", "AZRebalance"] if groups else []
            halves[tool] = half = run(command, world, folder)
            if not throttle and (half.error or half.recovery or half.dark):
                raise SystemExit(f"{tool} failed: {half}")
    return halves


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--delay-ms", type=float, default=100.0)
    arguments.add_argument("--subnets", type=int, nargs="+", default=[10, 100, 500])
    arguments.add_argument("--groups", type=int, default=50)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows = []
    with slow_moto(options.delay_ms / 1000) as world:
        for subnets in options.subnets:
            rows.append((f"{subnets} subnets", subnets, compare(world, subnets, 0)))
        rows.append((f"{options.groups} groups", 2, compare(world, 2, options.groups)))
        # As many answers as the peer's client takes before it gives up.
        throttled = compare(world, 100, 0, throttle=(41, 5))
    if options.json:
        document = {name: {t: vars(h) for t, h in halves.items()} for name, _, halves in rows}
        document["throttled"] = {tool: vars(half) for tool, half in throttled.items()}
        print(json.dumps(document, indent=2))
        return
    print(f"fail + recover, {options.delay_ms:.0f} ms a call{'':13}peer            ours     ratio")
    for name, count, halves in rows:
        peer, ours = halves["peer"], halves["ours"]
        print(
            f"{name:>12}  wall {peer.fail_s:6.2f} + {peer.recover_s:6.2f} s"
            f"   {ours.fail_s:6.2f} + {ours.recover_s:6.2f} s   {peer.total_s / ours.total_s:6.1f}×"
        )
        print(f"{'':>12}  calls {peer.count:>14}   {ours.count:>15}")
        if "subnets" in name:
            print(
                f"{'':>12}  ours per subnet and direction: {ours.count / 2 / count:.2f}"
                f" ({ours.count - 2 * count} calls besides the swaps)"
            )
        else:
            per_group = sum(ours.calls.get(o, 0) for o in ("SuspendProcesses", "ResumeProcesses"))
            print(f"{'':>12}  ours per group: {per_group / options.groups:.2f}")
    print("\nthrottled from swap 41 of 100 on, five times:")
    for tool, half in throttled.items():
        outcome = half.error or "completed"
        print(f"  {tool}: {outcome[:110]}; left dark: {half.dark}")


if __name__ == "__main__":
    main()
