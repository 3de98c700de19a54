"""What the stage's control plane and the played AWS say to each other: values, no behaviour."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import NotRequired, TypedDict

from chaosgrade.stage.capacity_pools import CapacityPools
from chaosgrade.stage.interruptions import Interruption
from chaosgrade.stage.ssm_documents import Invocation
from chaosgrade.stage.user_data import UserData

ACCOUNT = "123456789012"


@dataclass(frozen=True, slots=True)
class Host:
    """An EC2 instance as the data plane needs it."""

    id: str
    state: str
    zone: str
    subnet: str
    address: str
    boot_s: float
    """AWS seconds that it needs before its workload listens."""
    image: str = ""
    instance_type: str = ""
    spot: bool = False
    tags: Mapping[str, str] = field(default_factory=dict)
    user_data: UserData = field(default_factory=UserData)


@dataclass(frozen=True, slots=True)
class TargetHealth:
    """As DescribeTargetHealth tells it."""

    state: str
    reason: str | None = None
    description: str | None = None


class Activity(TypedDict):
    """A scaling activity, as DescribeScalingActivities gives it."""

    ActivityId: str
    AutoScalingGroupName: str
    Description: str
    Cause: str
    StartTime: datetime
    EndTime: NotRequired[datetime]
    StatusCode: str
    StatusMessage: NotRequired[str]
    Progress: int


@dataclass(frozen=True, slots=True)
class Place:
    """Where a server of a database is.

    Args:
        name: of the server: a DB cluster's are its DB instances, others are called as their zone.
        endpoint: a DNS name that leads to it, whatever part it plays; None if it has none.
        tier: of two that could be promoted, the one of the lower tier is.
    """

    name: str
    zone: str
    subnet: str
    endpoint: str | None = None
    tier: int = 0


@dataclass(frozen=True, slots=True)
class Database:
    """A DB instance or a DB cluster as the data plane needs it.

    Args:
        id: as its ARN ends: "db:" or "cluster:" and its identifier.
        endpoint: a DNS name that leads to the primary.
        reader_endpoint: one that leads to the followers; None if they cannot be read from.
        places: of the primary and of its followers.
        name: of the database that it begins with; None for no other than PostgreSQL's own.
        asynchronous: whether followers lag and are promoted all the same.
        source: id of the DB instance whose read replica it is.
    """

    id: str
    endpoint: str
    reader_endpoint: str | None
    port: int
    places: tuple[Place, ...]
    user: str
    password: str
    name: str | None
    asynchronous: bool
    source: str | None

    @property
    def identifier(self) -> str:
        """What AWS's customers call it by."""
        return self.id.partition(":")[2]


@dataclass(frozen=True, slots=True)
class DatabaseHooks:
    """What moto's replaced methods of Amazon RDS ask the stage; databases are called by their id.

    Args:
        restart: restarts a server in place; the primary if no server is named.
        fail_over: has a follower take over, the named one if there is a name.
        promote: makes a read replica a DB instance of its own.
    """

    restart: Callable[[str, str | None], None]
    fail_over: Callable[[str, str | None], None]
    promote: Callable[[str], None]


@dataclass(frozen=True, slots=True)
class CacheNode:
    """A node of a replication group.

    Args:
        endpoint: its own DNS name.
        subnet: where its server is.
    """

    id: str
    endpoint: str
    subnet: str


@dataclass(frozen=True, slots=True)
class CacheGroup:
    """A replication group as the data plane needs it.

    Args:
        primary_endpoint: the DNS name that leads to the primary, whichever that is.
        reader_endpoint: the DNS name that leads to the replicas.
        nodes: the first is the primary at the beginning.
        fails_over: whether a replica takes over by itself.
    """

    id: str
    port: int
    primary_endpoint: str
    reader_endpoint: str
    nodes: tuple[CacheNode, ...]
    fails_over: bool


@dataclass(frozen=True, slots=True)
class KeptResource:
    """A table, bucket or queue of the template.

    Args:
        id: what `Ref` gives.
        attributes: what `Fn::GetAtt` gives.
    """

    id: str
    attributes: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Hooks:
    """What moto's replaced methods ask the stage.

    Args:
        address: gives out an address in a subnet.
        target_health: of (target group ARN, target id, port).
        draining: (id, port) of targets of a group that are being drained.
        command: runs (document, parameters, instance id).
        activities: scaling activities of a group (None: of all), the latest first.
        terminating: notes that (group, instance) is terminated because of (cause).
        runs: whether an instance is running.
        reboot: restarts the processes of an instance.
        now: AWS seconds since the stage began.
        interruption: what a Spot Instance has been told of its end.
        pools: the capacity that EC2 has left.
        has_bucket: whether Amazon S3 has a bucket of that name.
    """

    address: Callable[[str], str]
    target_health: Callable[[str, str, int], TargetHealth]
    draining: Callable[[str], list[tuple[str, int]]]
    command: Callable[[str, Mapping[str, list[str]], str], Invocation]
    activities: Callable[[str | None], list[Activity]]
    terminating: Callable[[str, str, str], None]
    runs: Callable[[str], bool]
    reboot: Callable[[str], None]
    now: Callable[[], float]
    interruption: Callable[[str], Interruption | None]
    pools: CapacityPools
    has_bucket: Callable[[str], bool]
