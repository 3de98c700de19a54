"""What a service's clients ask of it, attempt by attempt, from its load balancer's access logs.

Application Load Balancers log each request with its trace id, which who retries passes on: the
attempts of one request have one root. Logs come every five minutes, so they are read in the end.

Sources: Elastic Load Balancing, User Guide for Application Load Balancers, "Access logs for your
Application Load Balancer" and "Request tracing for your Application Load Balancer".
"""

import gzip
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import batched

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import ChaosgradeError, Exit, UsageError
from chaosgrade.evidence import EvidenceLog
from chaosgrade.probes.alb_entry import ALB_ENTRY
from chaosgrade.probes.retry_log import from_objects
from chaosgrade.session import Session
from chaosgrade.traffic.address import balancer_named

READS: tuple[str, ...] = (
    "elasticloadbalancing:DescribeLoadBalancerAttributes",
    "elasticloadbalancing:DescribeLoadBalancers",
    "s3:GetObject",
    "s3:ListBucket",
)
"""IAM actions that finding and reading the logs of a load balancer needs."""

_PUBLISHED_EVERY_S, _LATE_S = 300.0, 60.0
_LATE_AT_LEAST_S = 1.0
_LOOK_S = 0.1
_ATTEMPTS_PER_RECORD = 500
_STRAY_AT_MOST = 100  # one line in so many
_ROOT = re.compile(r"Root=([^;\"]+)")


class LogUnusable(ChaosgradeError):
    """The logs do not tell what clients did."""

    exit_code = Exit.INCONCLUSIVE


@dataclass(frozen=True, slots=True)
class Attempt:
    """One entry of a log.

    Args:
        request: which request it belongs to: the root of its trace; of one without, its own.
        client: address of whoever asked.
        at: when it came, in Unix seconds.
        ended: when it was answered, in Unix seconds.
        status: what it was answered.
    """

    request: str
    client: str
    at: float
    ended: float
    status: int


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where a load balancer's logs are.

    Args:
        name: of the load balancer.
        arn: its identity.
        bucket, prefix: as its attributes say.
    """

    name: str
    arn: str
    bucket: str
    prefix: str

    def folders(self, since: float, until: float) -> Iterator[str]:
        """What keys begin with, for each day from one Unix second to another."""
        _, _, _, region, account, resource = self.arn.split(":", 5)
        name = resource.removeprefix("loadbalancer/").replace("/", ".")
        day = datetime.fromtimestamp(since, UTC)
        while day.date() <= datetime.fromtimestamp(until, UTC).date():
            folder = f"AWSLogs/{account}/elasticloadbalancing/{region}/{day:%Y/%m/%d}"
            file = f"{account}_elasticloadbalancing_{region}_{name}_"
            yield f"{self.prefix + '/' if self.prefix else ''}{folder}/{file}"
            day += timedelta(days=1)


def place_of(aws: Aws, balancer: str) -> LogPlace:
    """Where the access logs of a load balancer are.

    Raises:
        TargetNotFound: there is no such load balancer.
        UsageError: it does not log.
    """
    arn = str(balancer_named(aws, balancer)["LoadBalancerArn"])
    call = Call("elbv2", "DescribeLoadBalancerAttributes", {"LoadBalancerArn": arn})
    attributes = {one["Key"]: one["Value"] for one in aws.send(call)["Attributes"]}
    if attributes.get("access_logs.s3.enabled") != "true":
        raise UsageError(
            f"load balancer {balancer} writes no access logs: set its attributes "
            "access_logs.s3.enabled and access_logs.s3.bucket"
        )
    prefix = str(attributes.get("access_logs.s3.prefix", "")).strip("/")
    return LogPlace(balancer, arn, str(attributes["access_logs.s3.bucket"]), prefix)


def read_attempts(aws: Aws, place: LogPlace, since: float) -> tuple[list[Attempt], int]:
    """All attempts that came from a moment on, by time, and how many lines were no entry.

    Args:
        since: Unix seconds.

    Raises:
        AwsError: the bucket cannot be read.
    """
    attempts: list[Attempt] = []
    unusable = 0
    for key in _keys(aws, place, since):
        answer = aws.send(Call("s3", "GetObject", {"Bucket": place.bucket, "Key": key}))
        for line in gzip.decompress(answer["Body"].read()).decode(errors="replace").splitlines():
            attempt = parsed(line)
            if attempt is None:
                unusable += 1
            elif attempt.at >= since:
                attempts.append(attempt)
    return sorted(attempts, key=lambda one: one.at), unusable


def parsed(line: str) -> Attempt | None:
    """The attempt that a line tells of; None if it is no entry of such a log."""
    entry = ALB_ENTRY.match(line)
    if entry is None:
        return None
    try:
        at, ended = _unix(entry["time"]), _unix(entry["ended"])
        status = 0 if entry["status"] == "-" else int(entry["status"])
    except ValueError:
        return None
    root = _ROOT.search(entry["trace"])
    own = f"{entry['address']}:{entry['port']} {entry['target']} {entry['time']}"
    return Attempt(root[1] if root else own, entry["address"], at, ended, status)


class AccessLogObserver:
    """Reads the logs of a run in the end and writes them as `calls` records.

    Args:
        session: the run.
        evidence: where records go.
        place: where the logs are.
    """

    def __init__(self, session: Session, evidence: EvidenceLog, place: LogPlace) -> None:
        self._session = session
        self._evidence = evidence
        self._place = place
        self._since = session.clock.now()

    def start(self) -> None:
        """Begin; what comes from now on counts.

        Raises:
            AwsError: the bucket cannot be listed.
        """
        self._since = self._session.clock.now()
        for _ in _keys(self._session.aws, self._place, self._since):
            break

    def stop(self) -> None:
        """Wait until the logs of the last minutes must be there, read all, record them.

        Raises:
            AwsError: they cannot be read.
            LogUnusable: there is nothing in them.
        """
        scale = self._session.aws.environment.time_scale
        wait_s = _PUBLISHED_EVERY_S / scale + max(_LATE_S / scale, _LATE_AT_LEAST_S)
        self._evidence.append("logs.awaited", balancer=self._place.name, wait_s=wait_s)
        deadline = time.monotonic() + wait_s
        while time.monotonic() < deadline and not self._session.stop.requested:
            time.sleep(_LOOK_S)
        attempts, unusable = read_attempts(self._session.aws, self._place, self._since)
        if not attempts and not self._session.stop.requested:
            raise LogUnusable(
                f"the access logs of {self._place.name} in s3://{self._place.bucket} hold nothing "
                f"of this run ({unusable} lines are no entries): nobody has called it, or logs are "
                "late"
            )
        if unusable * _STRAY_AT_MOST > len(attempts):
            raise LogUnusable(
                f"{unusable} lines in the access logs of {self._place.name} are no entries, beside "
                f"{len(attempts)} that are: attempts may be missing"
            )
        self._record(attempts, unusable)
        self._name_backoff(attempts)

    def _name_backoff(self, attempts: Sequence[Attempt]) -> None:
        """Record how these clients back off, as the gaps between their attempts tell."""
        from chaosgrade.probes import backoff  # SciPy takes a second that no other run has to spend

        rows = [
            {
                "client": one.client,
                "request": one.request,
                "time": one.at,
                "ended": one.ended,
                "status": one.status,
            }
            for one in attempts
        ]
        if rows:
            behaviour = backoff.observe(from_objects(rows)).behaviour
            self._evidence.append("retries", balancer=self._place.name, **behaviour.to_json())

    def _record(self, attempts: Sequence[Attempt], unusable: int) -> None:
        requests: dict[str, int] = {}
        for some in batched(attempts, _ATTEMPTS_PER_RECORD):
            start = some[0].at
            self._evidence.append(
                "calls",
                balancer=self._place.name,
                start=round(start, 6),
                unusable=unusable,
                calls=[
                    [
                        requests.setdefault(one.request, len(requests)),
                        round((one.at - start) * 1e3, 2),
                        round((one.ended - one.at) * 1e3, 2),
                        one.status,
                    ]
                    for one in some
                ],
            )
            unusable = 0


def observe(session: Session, *, balancer: str) -> AccessLogObserver:
    """An observer of what clients ask of the service behind an Application Load Balancer.

    Name it last: it waits for the logs of what the others have led to.

    Args:
        session: the run.
        balancer: name of the load balancer; its access logs must be enabled.

    Raises:
        TargetNotFound: there is no such load balancer.
        UsageError: it does not log.
    """
    if session.evidence is None:
        raise ValueError("an observer needs a run with evidence")
    return AccessLogObserver(session, session.evidence, place_of(session.aws, balancer))


def _keys(aws: Aws, place: LogPlace, since: float) -> Iterator[str]:
    """Files that were written from a moment on, in Unix seconds."""
    for folder in place.folders(since, time.time()):
        token: dict[str, str] = {}
        while True:
            asked = {"Bucket": place.bucket, "Prefix": folder, **token}
            page = aws.send(Call("s3", "ListObjectsV2", asked))
            for found in page.get("Contents", ()):  # without any, a page has no such key
                if found["LastModified"].timestamp() >= since - 1.0:  # S3 tells whole seconds
                    yield str(found["Key"])
            if not page.get("IsTruncated"):
                break
            token = {"ContinuationToken": page["NextContinuationToken"]}


def _unix(moment: str) -> float:
    return datetime.fromisoformat(moment).timestamp()
