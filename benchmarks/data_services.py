"""What an application's data costs the control plane: calls to DynamoDB as fast as they are
answered, and how long a call to EC2 takes meanwhile. Beside it a plain `moto_server`, one process
for all."""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import boto3

_CLIENTS = 4
_TABLE = "benchmark"
_BETWEEN_CALLS_S = 0.05
_CREDENTIAL = "Credential=stage/20260101/us-east-1/dynamodb/aws4_request"


@contextmanager
def stage() -> Iterator[str]:
    """Yields the endpoint of a stage."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "chaosgrade", "stage", "up", "--json"],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield str(json.loads(process.stdout.readline())["endpoint"])
    finally:
        process.terminate()
        process.wait(timeout=10)


@contextmanager
def moto_server() -> Iterator[str]:
    """Yields the endpoint of moto's own server."""
    process = subprocess.Popen(
        [Path(sys.executable).parent / "moto_server", "-p", "0"],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stderr is not None
        url = next(
            line.split()[-1] for line in process.stderr if "Running on http://127.0.0.1" in line
        )
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


def client(service: str, endpoint: str) -> Any:
    """A boto3 client of an endpoint."""
    return boto3.client(
        service,
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="stage",
        aws_secret_access_key="stage",
    )


class Load:
    """Clients that update items, each as soon as its last call is answered."""

    def __init__(self, endpoint: str) -> None:
        self.calls = 0
        self._place = urlsplit(endpoint)
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(_CLIENTS)]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        connection = http.client.HTTPConnection(str(self._place.hostname), self._place.port)
        body = json.dumps(
            {
                "TableName": _TABLE,
                "Key": {"id": {"S": str(number)}},
                "UpdateExpression": "SET cart = :c ADD version :one",
                "ExpressionAttributeValues": {":c": {"S": "tea"}, ":one": {"N": "1"}},
            }
        )
        headers = {
            "Authorization": f"AWS4-HMAC-SHA256 {_CREDENTIAL}, SignedHeaders=host, Signature=0",
            "X-Amz-Target": "DynamoDB_20120810.UpdateItem",
            "Content-Type": "application/x-amz-json-1.0",
        }
        while not self._over.is_set():
            connection.request("POST", "/", body, headers)
            answer = connection.getresponse()
            said = answer.read()
            if answer.status != 200:
                raise SystemExit(f"UpdateItem: {answer.status} {said[:200]!r}")
            self.calls += 1


def measure(endpoint: str, seconds: float) -> dict[str, float]:
    """Calls to DynamoDB a second; milliseconds of a call to EC2 without them and meanwhile."""
    client("dynamodb", endpoint).create_table(
        TableName=_TABLE,
        BillingMode="PAY_PER_REQUEST",
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
    )
    ec2 = client("ec2", endpoint)
    ec2.describe_vpcs()
    alone = _durations(ec2, seconds / 2)
    load = Load(endpoint)
    began = time.monotonic()
    beside = _durations(ec2, seconds)
    elapsed = time.monotonic() - began
    load.stop()
    return {
        "data_calls_per_s": load.calls / elapsed,
        "control_ms_alone": 1000 * statistics.median(alone),
        "control_ms_p50": 1000 * statistics.median(beside),
        "control_ms_p90": 1000 * statistics.quantiles(beside, n=10)[-1],
    }


def _durations(ec2: Any, seconds: float) -> list[float]:
    found = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        ec2.describe_vpcs()
        found.append(time.monotonic() - began)
        time.sleep(_BETWEEN_CALLS_S)
    return found


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=10.0)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    found = {}
    for name, peer in (("stage", stage), ("moto_server", moto_server)):
        with peer() as endpoint:
            found[name] = measure(endpoint, options.seconds)
    if options.json:
        print(json.dumps(found))
        return
    for figure in found["stage"]:
        ours, theirs = found["stage"][figure], found["moto_server"][figure]
        print(f"{figure:18} stage {ours:7.1f}   moto_server {theirs:7.1f}   {ours / theirs:.2f} ×")


if __name__ == "__main__":
    main()
