"""Access logs of load balancers as the observer finds, reads and records them."""

import gzip
import io
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chaosgrade import evidence
from chaosgrade.changes.engine import Planner
from chaosgrade.clock import Clock
from chaosgrade.errors import TargetNotFound, UsageError
from chaosgrade.evidence import EvidenceLog
from chaosgrade.probes import access_log
from chaosgrade.probes.access_log import LogPlace, LogUnusable, observe, place_of, read_attempts
from chaosgrade.session import Session
from chaosgrade.stage.access_log import AccessLog, Exchange
from tests.canned_aws import CannedAws
from tests.fake_aws import STAGE

ARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/shop/50dc6c495c0c9188"
FOLDER = "own/AWSLogs/123456789012/elasticloadbalancing/us-east-1/2026/09/21/"
FILE = FOLDER + "123456789012_elasticloadbalancing_us-east-1_app.shop.50dc6c495c0c9188_"


def file_of(*exchanges: Exchange, stray: int = 0) -> bytes:
    """What a node publishes, and lines that are no entries."""
    log = AccessLog(ARN, "10.0.0.1")
    log.bucket = "logs"
    for exchange in exchanges:
        log.add(exchange, "group", exchange.created_at + 0.01)
    published = log.take(0.0)
    text = gzip.decompress(published[1]) if published else b""
    return gzip.compress(text + b"nonsense\n" * stray)


def exchange(root: str, at: float, status: int = 503) -> Exchange:
    return Exchange(b"GET / HTTP/1.1\r\n\r\n", f"Root={root}", "10.0.0.9:1", at, status=status)


def aws(files: dict[str, bytes], written: datetime, **attributes: str) -> Any:
    known = {
        "access_logs.s3.enabled": "true", "access_logs.s3.bucket": "logs",
        "access_logs.s3.prefix": "own", **attributes,
    }  # fmt: skip

    def listed(asked: Any) -> dict[str, Any]:
        keys = [key for key in files if key.startswith(asked["Prefix"])]
        rest = (
            keys[keys.index(asked["ContinuationToken"]) :] if "ContinuationToken" in asked else keys
        )
        page: dict[str, Any] = {"IsTruncated": len(rest) > 1}
        if rest:
            page["Contents"] = [{"Key": rest[0], "LastModified": written}]
        if len(rest) > 1:
            page["NextContinuationToken"] = rest[1]
        return page

    return CannedAws(
        {
            "DescribeLoadBalancers": {"LoadBalancers": [{"LoadBalancerArn": ARN}]},
            "DescribeLoadBalancerAttributes": {
                "Attributes": [{"Key": k, "Value": v} for k, v in known.items()]
            },
            "ListObjectsV2": listed,
            "GetObject": lambda asked: {"Body": io.BytesIO(files[asked["Key"]])},
        },
        # So fast that five minutes are hardly a moment.
        environment=replace(STAGE, time_scale=1e6),
    )


def test_logs_are_where_the_attributes_say_day_by_day() -> None:
    place = place_of(aws({}, datetime.now(UTC)), "shop")
    assert place == LogPlace("shop", ARN, "logs", "own")
    day = datetime(2026, 9, 21, 23, 59, tzinfo=UTC)
    first, second = place.folders(day.timestamp(), (day + timedelta(minutes=2)).timestamp())
    assert first == FILE
    assert second == FILE.replace("/09/21/", "/09/22/")


def test_a_load_balancer_without_logs_or_that_is_not_there_is_named() -> None:
    """With what to set."""
    silent = aws({}, datetime.now(UTC), **{"access_logs.s3.enabled": "false"})
    with pytest.raises(
        UsageError, match=r"shop writes no access logs: set .*access_logs\.s3\.bucket"
    ):
        place_of(silent, "shop")
    nobody = CannedAws({"DescribeLoadBalancers": {"LoadBalancers": []}})
    with pytest.raises(TargetNotFound, match="no load balancer shop"):
        place_of(nobody, "shop")  # type: ignore[arg-type]


def test_every_page_is_read_and_what_was_before_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By time, whatever the order of files; files that are older are not fetched."""
    since = datetime(2026, 9, 21, 12, 0, tzinfo=UTC)
    monkeypatch.setattr(access_log.time, "time", lambda: since.timestamp() + 60)
    at = since.timestamp()
    files = {
        FILE + "b": file_of(exchange("1-b", at + 2), stray=1),
        FILE + "a": file_of(exchange("1-a", at - 1), exchange("1-a", at + 1, 200)),
        FOLDER + "another": b"not ours",
    }
    place = LogPlace("shop", ARN, "logs", "own")
    attempts, unusable = read_attempts(aws(files, since), place, at)
    assert [(one.request, one.at - at, one.status) for one in attempts] == [
        ("1-a", pytest.approx(1, abs=1e-5), 200), ("1-b", pytest.approx(2, abs=1e-5), 503),
    ]  # fmt: skip
    assert unusable == 1
    assert read_attempts(aws(files, since - timedelta(hours=1)), place, at) == ([], 0)


def observed(tmp_path: Path, content: bytes, at: datetime) -> list[evidence.Record]:
    """What a run records whose load balancer has published this."""
    place = LogPlace("shop", ARN, "logs", "own")
    (folder,) = set(place.folders(at.timestamp(), at.timestamp()))
    files = {folder + "a": content}
    with EvidenceLog(tmp_path / "evidence.jsonl", Clock()) as log:
        session = Session(aws(files, at), Planner(), random.Random(1), Clock(), evidence=log)
        observer = observe(session, balancer="shop")
        observer.start()
        observer.stop()
    return evidence.read(tmp_path / "evidence.jsonl")


def test_attempts_are_recorded_by_call_and_their_backoff_is_named(tmp_path: Path) -> None:
    at = datetime.now(UTC) + timedelta(seconds=5)
    moment = at.timestamp()
    chance = random.Random(1)
    calls = []
    for n in range(60):
        when = moment + n / 10
        for bound_s in (0.0, 0.2, 0.4):
            when += chance.uniform(0.0, bound_s) + 0.01
            calls.append(exchange(f"1-{n}", when))
    records = observed(tmp_path, file_of(*calls), at)
    (recorded,) = [r for r in records if r.kind == "calls"]
    assert len(recorded["calls"]) == 180
    assert [call for call, *_ in recorded["calls"]].count(7) == 3
    (retries,) = [r for r in records if r.kind == "retries"]
    assert (retries["family"], retries["attempts_most"]) == ("full-jitter", 3)


@pytest.mark.parametrize(
    ("stray", "said"), [(0, "hold nothing of this run"), (3, "attempts may be missing")]
)
def test_logs_that_tell_too_little_are_no_evidence(tmp_path: Path, stray: int, said: str) -> None:
    at = datetime.now(UTC) + timedelta(seconds=5)
    some = [exchange("1-1", at.timestamp(), 200)] * 90 if stray else []
    with pytest.raises(LogUnusable, match=said):
        observed(tmp_path, file_of(*some, stray=stray), at)
