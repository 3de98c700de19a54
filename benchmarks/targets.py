"""Resolving targets among 10,000 instances: time, memory and calls, with pagination.

The instances are in moto on loopback, behind a socket. The peer is a plain boto3 paginator that
keeps the answers as they come.
"""

import argparse
import json
import os
import random
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor

import boto3
from zone_fault import slow_moto

from chaosgrade.actions.selection import Selection
from chaosgrade.aws import Aws, Call

_KEYS = {"aws_access_key_id": "moto", "aws_secret_access_key": "moto"}


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--instances", type=int, default=10_000)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    os.environ |= {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}
    with slow_moto(0.0) as world:
        ec2 = boto3.client("ec2", region_name="us-east-1", endpoint_url=world.url, **_KEYS)
        image = ec2.describe_images()["Images"][0]["ImageId"]
        vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
        subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.0.0/17")["Subnet"]["SubnetId"]

        def launch(_: int) -> None:
            # One reservation each: moto's pages hold so many reservations, AWS's so many instances.
            ec2.run_instances(
                ImageId=image, MinCount=1, MaxCount=1, SubnetId=subnet,
                TagSpecifications=[
                    {"ResourceType": "instance", "Tags": [{"Key": "Tier", "Value": "web"}]}
                ],
            )  # fmt: skip

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(launch, range(options.instances)))
        aws = Aws(region="us-east-1", endpoint_url=world.url)
        aws.send(Call("ec2", "DescribeVpcs"))  # neither half loads botocore's models
        selection = Selection(tags={"Tier": "web"}, count=options.instances)
        query = {"Filters": [{"Name": "tag:Tier", "Values": ["web"]}], "MaxResults": 1000}

        def chaosgrade() -> int:
            return len(selection.draw(aws, random.Random(1)))

        def paginator() -> int:
            pages = list(ec2.get_paginator("describe_instances").paginate(**query))
            return sum(len(r["Instances"]) for page in pages for r in page["Reservations"])

        told = {}
        for resolve in (paginator, chaosgrade):
            world.control("reset")
            began = time.perf_counter()
            resolve()
            elapsed = time.perf_counter() - began
            calls = world.control("calls")["DescribeInstances"]
            tracemalloc.start()  # which takes time of its own
            found = resolve()
            _, peak = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            told[resolve.__name__] = {
                "found": found, "s": elapsed, "peak_mb": peak / 1e6, "calls": calls,
            }  # fmt: skip
    if options.json:
        print(json.dumps(told))
        return
    for name, row in told.items():
        print(
            f"{name:>10}: {row['found']} instances in {row['s']:.2f} s, {row['calls']} calls, "
            f"peak {row['peak_mb']:.0f} MB"
        )
    ours, peer = told["chaosgrade"], told["paginator"]
    faster, smaller = peer["s"] / ours["s"], peer["peak_mb"] / ours["peak_mb"]
    print(f"{'ratio':>10}: time {faster:.2f}×, memory {smaller:.1f}×")


if __name__ == "__main__":
    main()
