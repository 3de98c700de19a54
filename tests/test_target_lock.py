"""One run per target on one machine: whoever dies gives it back."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from moto import mock_aws

from chaosgrade.aws import Aws, Call, Environment
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, Refused
from tests.canned_aws import CannedAws
from tests.fake_aws import STAGE, FakeAws

NO_AWS: Any = FakeAws()

_HOLDER = """
import sys, time
from pathlib import Path
from tests.test_target_lock import lock
held = lock(Path(sys.argv[1]))
held.acquire("r1", 60.0)
print("held", flush=True)
time.sleep(60)
"""


def lock(folder: Path, **environment: str) -> TargetLock:
    place = replace(STAGE, **environment)  # type: ignore[arg-type]
    return TargetLock(folder, place, "http://a", aws=FakeAws(), table=None, clock=Clock())  # type: ignore[arg-type]


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    """Also in the same process; another Region is another target."""
    held = lock(tmp_path)
    held.acquire("r1", 60.0)
    with pytest.raises(Refused, match=rf"run r1 \(process {os.getpid()}, since 20.*halt"):
        lock(tmp_path).acquire("r2", 60.0)
    lock(tmp_path, region="eu-west-1").acquire("r2", 60.0)
    held.confirm(60.0)
    held.release()
    lock(tmp_path).acquire("r3", 60.0)


@pytest.fixture
def _far_east(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Local time is not UTC."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        yield
    time.tzset()


@pytest.mark.usefixtures("_far_east")
def test_the_refusal_says_who_and_since_when(tmp_path: Path) -> None:
    """Whatever stood in the file before, and whatever stands there now."""
    clock = Clock(wall=0.0, ticks=lambda: 0.0, monotonic=0.0)
    path = tmp_path / "http-a-123456789012-us-east-1.lock"
    path.write_text("x" * 500)
    held = TargetLock(tmp_path, STAGE, "http://a", aws=NO_AWS, table=None, clock=clock)
    held.acquire("r1", 60.0)
    says = (
        "run {} (process {}, since {}) is at work on http://a/123456789012/us-east-1: one run at a "
        "time; wait for it, or stop it with `chaosgrade halt`"
    )
    assert refusal(lock(tmp_path)) == says.format("r1", os.getpid(), "1970-01-01 00:00:00 UTC")
    for damaged in ("", "[]", "{"):
        path.write_text(damaged)
        assert refusal(lock(tmp_path)) == says.format("(unknown)", "?", "?")
    held.release()
    held.release()
    lock(tmp_path).acquire("r2", 60.0)


def test_the_lock_is_the_users_alone_and_its_folder_is_made(tmp_path: Path) -> None:
    """Others cannot hold a target up."""
    folder = tmp_path / "deep" / "down"
    held = TargetLock(
        folder, replace(STAGE, region="Any"), None, aws=NO_AWS, table=None, clock=Clock()
    )
    held.acquire("r1", 60.0)
    (path,) = folder.iterdir()
    assert path.name == "aws-123456789012-Any.lock"
    assert (path.stat().st_mode & 0o777, folder.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.fixture
def dynamodb(monkeypatch: pytest.MonkeyPatch) -> Iterator[Aws]:
    """moto's, with the table."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "moto")
    with mock_aws():
        aws = Aws(region="us-east-1")
        aws.client("dynamodb").create_table(
            TableName="locks",
            BillingMode="PAY_PER_REQUEST",
            AttributeDefinitions=[{"AttributeName": "target", "AttributeType": "S"}],
            KeySchema=[{"AttributeName": "target", "KeyType": "HASH"}],
        )
        yield aws


PLACE = Environment("aws", "123456789012", "us-east-1")
TARGET = "aws/123456789012/us-east-1"


def machine(folder: Path, aws: Aws, at: float = 1000.0, table: str = "locks") -> TargetLock:
    """The lock as a machine of its own has it, at a moment."""
    clock = Clock(wall=at, ticks=lambda: 0.0, monotonic=0.0)
    return TargetLock(folder / str(at), PLACE, None, aws=aws, table=table, clock=clock)


def item(aws: Aws) -> dict[str, str]:
    found = aws.client("dynamodb").get_item(TableName="locks", Key={"target": {"S": TARGET}})
    return {name: next(iter(value.values())) for name, value in found["Item"].items()}


@pytest.mark.usefixtures("_far_east")
def test_the_item_is_taken_kept_and_given_back(tmp_path: Path, dynamodb: Aws) -> None:
    """Its lease has room for clocks that differ; the token grows with every holder."""
    ours = machine(tmp_path, dynamodb)
    ours.acquire("r1", 60.0)
    held = {"target": TARGET, "holder": "r1", "fencing": "1"}
    assert item(dynamodb) == {**held, "expires": "1120"}
    ours.confirm(100.0)
    assert item(dynamodb) == {**held, "expires": "1160"}
    assert refusal(machine(tmp_path, dynamodb, 1160.0)) == (
        f"run r1 is at work on {TARGET} from another machine: one run at a time; "
        "wait until 1970-01-01 00:19:20 UTC"
    )
    ours.release()
    assert item(dynamodb) == {**held, "expires": "0"}
    assert ours.token is None
    theirs = machine(tmp_path, dynamodb, 500.0)
    theirs.acquire("r2", 60.0)
    assert theirs.token == 2


def test_who_slept_past_the_lease_has_lost_and_takes_nothing_back(
    tmp_path: Path, dynamodb: Aws
) -> None:
    """Also when the next holder calls its run the same, or has the same token."""
    ours = machine(tmp_path, dynamodb)
    ours.acquire("r1", 60.0)
    theirs = machine(tmp_path, dynamodb, 1121.0)
    theirs.acquire("r1", 60.0)
    held = item(dynamodb)
    with pytest.raises(Refused) as caught:
        ours.confirm(60.0)
    assert str(caught.value) == f"run r1 has lost its lock on {TARGET}: it slept past its lease"
    ours.release()
    assert item(dynamodb) == held
    dynamodb.client("dynamodb").update_item(
        TableName="locks",
        Key={"target": {"S": TARGET}},
        UpdateExpression="SET holder = :other",
        ExpressionAttributeValues={":other": {"S": "r9"}},
    )
    with pytest.raises(Refused, match="has lost its lock"):
        theirs.confirm(60.0)
    theirs.release()
    assert item(dynamodb)["expires"] == held["expires"]


def test_what_was_not_taken_is_not_given_back(tmp_path: Path) -> None:
    """Nothing is sent for it."""
    aws: Any = CannedAws()
    machine(tmp_path, aws).release()
    assert aws.sent == []


def test_a_refused_item_leaves_the_file_free(tmp_path: Path, dynamodb: Aws) -> None:
    """And one that cannot be decided is refused."""
    nowhere = machine(tmp_path, dynamodb, table="none")
    assert refusal(nowhere).startswith(
        "whether another run is at work cannot be decided, so this one is refused: "
        "lock_table none: dynamodb:UpdateItem was refused with ResourceNotFoundException"
    )
    nowhere.release()
    machine(tmp_path, dynamodb).acquire("r1", 60.0)


def test_a_holder_that_cannot_be_told_is_still_a_holder(tmp_path: Path) -> None:
    """Its item may be gone when it is looked at."""
    taken = AwsError("taken", code="ConditionalCheckFailedException")
    denied = AwsError("denied", code="AccessDenied")
    strange = {"Item": {"expires": {"N": "soon"}, "holder": {"S": "r1"}}}
    for answer in (denied, {}, strange):
        aws: Any = CannedAws({"UpdateItem": taken, "GetItem": answer})
        assert refusal(machine(tmp_path, aws)) == (
            f"run (unknown) is at work on {TARGET} from another machine: one run at a time; "
            "wait until its lease is over"
        )
        key = {"TableName": "locks", "Key": {"target": {"S": TARGET}}}
        assert aws.sent[1] == Call("dynamodb", "GetItem", {**key, "ConsistentRead": True})


def refusal(lock: TargetLock) -> str:
    with pytest.raises(Refused) as caught:
        lock.acquire("r2", 60.0)
    return str(caught.value)


def test_a_killed_holder_has_let_go(tmp_path: Path) -> None:
    """The kernel sees to it."""
    root = Path(__file__).parent.parent
    holder = subprocess.Popen(
        [sys.executable, "-c", _HOLDER, str(tmp_path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(root)},
        cwd=root,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(Refused, match="run r1"):
        lock(tmp_path).acquire("r2", 60.0)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    holder.stdout.close()
    lock(tmp_path).acquire("r2", 60.0)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    """With what to set."""
    (tmp_path / "file").touch()
    path = tmp_path / "file" / "http-a-123456789012-us-east-1.lock"
    assert refusal(lock(tmp_path / "file")) == (
        f"the lock {path} cannot be used: File exists; set CHAOSGRADE_STATE_DIR to a folder that "
        "can be written"
    )
