"""The sample workload's products, sessions and images, and the services that keep them."""

import http.client
import socket
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import urlsplit

import pytest
from botocore.exceptions import ClientError
from valkey import Valkey

from chaosgrade.stage.workload.aws_client import AwsClient
from chaosgrade.stage.workload.resolver import Resolver
from chaosgrade.stage.workload.sessions import DynamoSessions, Session, SessionChanged
from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.shop import Answer, ask, shop, subnet_of, web

pytestmark = pytest.mark.stage
_IMAGES = "shop-images-123456789012"
_CACHE_PORT = 6379


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A cache fails over in half a second; loopback, so that the tests reach what is inside."""
    with running_stage("--time-scale", "60", "--fabric", "loopback") as running:
        yield running


def cached(stage: Stage, url: str = "", **settings: object) -> str:
    """The URL of a web server of its own, with a cache."""
    return web(
        stage, CACHE_HOST=stage.document["caches"]["shop"], CACHE_PORT=_CACHE_PORT, **settings
    )


def cache(answer: Answer) -> str:
    """Where a product is from."""
    return str(answer.headers["X-Cache"])


def primary(stage: Stage) -> str:
    """The address of the cache's primary, as its name leads there now."""
    return Resolver(stage.document["dns"]).resolve(stage.document["caches"]["shop"])


def group(stage: Stage) -> dict[str, Any]:
    """The shop's cache, which is the only one."""
    (found,) = stage.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    return dict(found)


def roles(stage: Stage) -> dict[str, str]:
    members = group(stage)["NodeGroups"][0]["NodeGroupMembers"]
    return {member["CacheClusterId"]: member["CurrentRole"] for member in members}


# -- products


def test_a_product_comes_from_the_database_once_and_then_from_the_cache(stage: Stage) -> None:
    """Whichever instance is asked; what the shop does not sell is not found."""
    answers = [ask(f"{shop(stage)}/products/7") for _ in range(12)]
    assert {answer.status for answer in answers} == {200}
    assert {cache(answer) for answer in answers[1:]} == {"hit"}
    assert answers[0].document == {"id": "7", "name": "Tea no. 7", "price_cents": 249}
    assert len({answer.headers["X-Instance"] for answer in answers}) == 6
    assert ask(f"{shop(stage)}/products/101").status == 404
    assert ask(f"{shop(stage)}/products/{'7' * 201}").status == 400
    assert ask(f"{shop(stage)}/products/7", {}).status == 405


def test_the_shop_serves_while_its_cache_fails_over(stage: Stage) -> None:
    """From the database meanwhile; then the name leads to what was the replica, roles and zones
    included, and the events tell of it."""
    elasticache = stage.client("elasticache")
    before, address = roles(stage), primary(stage)
    seen: Counter[tuple[int, str]] = Counter()

    def asked(wanted: str) -> bool:
        answer = ask(f"{shop(stage)}/products/8")
        seen[answer.status, cache(answer)] += 1
        return cache(answer) == wanted

    eventually(lambda: asked("hit"))
    answer = elasticache.test_failover(ReplicationGroupId="shop", NodeGroupId="0001")
    assert answer["ReplicationGroup"]["Status"] == "modifying"
    with pytest.raises(elasticache.exceptions.InvalidReplicationGroupStateFault):
        elasticache.test_failover(ReplicationGroupId="shop", NodeGroupId="0001")
    eventually(lambda: asked("away"))
    eventually(lambda: group(stage)["Status"] == "available")
    assert primary(stage) != address
    assert roles(stage) == {
        node: "replica" if role == "primary" else "primary" for node, role in before.items()
    }
    for _ in range(6):
        eventually(lambda: asked("hit"))
    assert {status for status, _ in seen} == {200}
    events = elasticache.describe_events(SourceIdentifier="shop")["Events"]
    assert [event["Message"] for event in events] == [
        "Test Failover API called for node group 0001",
        "Failover from primary node shop-001 to replica node shop-002 completed",
    ]
    clusters = elasticache.describe_cache_clusters()["CacheClusters"]
    assert {c["CacheClusterId"]: c["CacheClusterStatus"] for c in clusters} == {
        "shop-001": "available", "shop-002": "available",
    }  # fmt: skip


def test_a_cache_that_falls_silent_is_given_up_quickly(stage: Stage) -> None:
    """A network ACL cuts one web server off; another in another subnet does not notice."""
    ec2 = stage.client("ec2")
    url = cached(stage)
    eventually(lambda: cache(ask(f"{url}/products/9")) == "hit")
    (acl,) = ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [subnet_of(stage, url)]}]
    )["NetworkAcls"]
    deny = {"NetworkAclId": acl["NetworkAclId"], "RuleNumber": 1, "Egress": True}
    ec2.create_network_acl_entry(
        **deny, Protocol="6", RuleAction="deny", CidrBlock="0.0.0.0/0",
        PortRange={"From": _CACHE_PORT, "To": _CACHE_PORT},
    )  # fmt: skip
    eventually(lambda: cache(ask(f"{url}/products/9")) == "away")  # rules are in force soon
    answers = [ask(f"{url}/products/9") for _ in range(10)]
    assert {(answer.status, cache(answer)) for answer in answers} == {(200, "away")}
    assert max(answer.after_s for answer in answers) < 4.0
    assert cache(ask(f"{shop(stage)}/products/9")) in ("hit", "miss")
    ec2.delete_network_acl_entry(**deny)
    eventually(lambda: cache(ask(f"{url}/products/9")) == "hit")


def test_the_cache_stands_in_for_a_database_that_is_away(stage: Stage) -> None:
    """With what it last knew, marked as stale; without the fallback, or the product, 503."""
    entry = '[{"id": "10", "name": "Old tea", "price_cents": 1}, 0.0]'
    Valkey(primary(stage), _CACHE_PORT).set("product:10", entry)
    sound = cached(stage, DATABASE_PORT=1)
    # A busy machine may keep the cache from answering in time once.
    eventually(lambda: cache(ask(f"{sound}/products/10")) == "stale")
    answer = ask(f"{sound}/products/10")
    assert (answer.status, cache(answer)) == (200, "stale")
    assert answer.document["name"] == "Old tea"
    assert ask(f"{sound}/products/11").status == 503
    flawed = cached(stage, DATABASE_PORT=1, CACHED_FALLBACK="false")
    assert ask(f"{flawed}/products/10").status == 503


def test_a_replication_group_is_made_and_unmade_by_its_api(stage: Stage) -> None:
    """Where it was asked for; its names lead to it until it is deleted."""
    elasticache, names = stage.client("elasticache"), Resolver(stage.document["dns"])
    elasticache.create_replication_group(
        ReplicationGroupId="own", ReplicationGroupDescription="of my own", Engine="valkey",
        NumCacheClusters=2, AutomaticFailoverEnabled=True, MultiAZEnabled=True, Port=6380,
        CacheSubnetGroupName="shop", PreferredCacheClusterAZs=["us-east-1c", "us-east-1a"],
    )  # fmt: skip

    def made() -> dict[str, Any] | None:
        (found,) = elasticache.describe_replication_groups(ReplicationGroupId="own")[
            "ReplicationGroups"
        ]
        return dict(found["NodeGroups"][0]) if found["Status"] == "available" else None

    shard = eventually(made)
    assert shard is not None
    assert [m["PreferredAvailabilityZone"] for m in shard["NodeGroupMembers"]] == [
        "us-east-1c", "us-east-1a",
    ]  # fmt: skip
    leads = {name: shard[name]["Address"] for name in ("PrimaryEndpoint", "ReaderEndpoint")}
    hosts = [eventually(lambda name=name: names.resolve(name)) for name in leads.values()]  # type: ignore[misc]  # bound now
    assert [Valkey(host, 6380).info("replication")["role"] for host in hosts] == [
        "master", "slave",
    ]  # fmt: skip
    elasticache.delete_replication_group(ReplicationGroupId="own")

    def gone() -> bool:
        try:
            Resolver(stage.document["dns"]).resolve(leads["PrimaryEndpoint"])
        except LookupError:
            return True
        return False

    eventually(gone)
    with pytest.raises(elasticache.exceptions.ReplicationGroupNotFoundFault):
        elasticache.describe_replication_groups(ReplicationGroupId="own")


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"Engine": "redis"}, "InvalidParameterValue"),
        ({"NumNodeGroups": 2}, "InvalidParameterValue"),
        ({"NumCacheClusters": 7}, "InvalidParameterValue"),
        ({"AuthToken": "a-secret-of-16-letters"}, "InvalidParameterValue"),
        ({"TransitEncryptionEnabled": True}, "InvalidParameterValue"),
        ({"PreferredCacheClusterAZs": ["us-east-1f"]}, "InvalidParameterValue"),
        ({"AutomaticFailoverEnabled": True}, "InvalidParameterCombination"),
        ({"NumCacheClusters": 2, "MultiAZEnabled": True}, "InvalidParameterCombination"),
        ({"CacheSubnetGroupName": "none"}, "CacheSubnetGroupNotFoundFault"),
    ],
)
def test_a_cache_that_would_not_be_what_it_says_is_refused(
    stage: Stage, wrong: dict[str, Any], code: str
) -> None:
    """With the error that ElastiCache has for it."""
    usual = {"ReplicationGroupDescription": "x", "Engine": "valkey", "CacheSubnetGroupName": "shop"}
    with pytest.raises(ClientError) as caught:
        stage.client("elasticache").create_replication_group(
            ReplicationGroupId="bad", **{**usual, **wrong}
        )
    assert caught.value.response["Error"]["Code"] == code
    assert group(stage)["Status"] == "available"


# -- sessions


def begin(url: str, **cart: int) -> dict[str, Any]:
    answer = ask(f"{url}/sessions", {"cart": cart})
    assert answer.status == 201, answer
    return dict(answer.document)


def replace(url: str, session: str, version: int, **cart: int) -> Answer:
    return ask(f"{url}/sessions/{session}", {"version": version, "cart": cart}, method="PUT")


def test_any_instance_serves_any_session(stage: Stage) -> None:
    """And changes it under its version only: who was late is told."""
    session = begin(shop(stage), tea=1)
    assert (session["version"], session["cart"]) == (1, {"tea": 1})
    where = f"{shop(stage)}/sessions/{session['id']}"
    answers = [ask(where) for _ in range(12)]
    assert [answer.document for answer in answers] == [session] * 12
    assert len({answer.headers["X-Instance"] for answer in answers}) == 6
    changed = replace(shop(stage), session["id"], 1, tea=2, milk=1)
    assert (changed.status, changed.document["version"]) == (200, 2)
    assert replace(shop(stage), session["id"], 1, tea=3).status == 409
    assert ask(where).document == changed.document
    assert ask(f"{shop(stage)}/sessions/none").status == 404
    assert replace(shop(stage), "none", 1).status == 404


def test_of_several_who_change_a_session_at_once_one_succeeds(stage: Stage) -> None:
    """The condition is checked and the change made in one."""
    session = begin(shop(stage))
    with ThreadPoolExecutor(12) as customers:
        answers = list(
            customers.map(lambda n: replace(shop(stage), session["id"], 1, tea=n), range(1, 13))
        )
    assert sorted(answer.status for answer in answers) == [200] + [409] * 11
    (winner,) = (answer for answer in answers if answer.status == 200)
    assert ask(f"{shop(stage)}/sessions/{session['id']}").document == winner.document


def test_a_session_outlives_its_instance_unless_it_was_in_its_memory(stage: Stage) -> None:
    """What an instance keeps for itself no other knows, even while it runs."""
    ec2 = stage.client("ec2")
    for settings, status in (
        ({"SESSION_STORE": "dynamodb", "SESSIONS_TABLE": "sessions"}, 200),
        ({"SESSION_STORE": "memory"}, 404),
    ):
        first, second = web(stage, **settings), web(stage, **settings)
        session = begin(first, tea=1)
        assert ask(f"{first}/sessions/{session['id']}").document == session
        assert ask(f"{second}/sessions/{session['id']}").status == status
        (reservation,) = ec2.describe_instances(
            Filters=[{"Name": "private-ip-address", "Values": [str(urlsplit(first).hostname)]}]
        )["Reservations"]
        ec2.terminate_instances(InstanceIds=[reservation["Instances"][0]["InstanceId"]])
        assert ask(f"{second}/sessions/{session['id']}").status == status


def test_an_expired_session_is_none_though_it_is_still_there(stage: Stage) -> None:
    """DynamoDB deletes it within days."""
    session = begin(shop(stage))
    dynamodb = stage.client("dynamodb")
    dynamodb.update_item(
        TableName="sessions", Key={"id": {"S": session["id"]}},
        UpdateExpression="SET expires = :then", ExpressionAttributeValues={":then": {"N": "1"}},
    )  # fmt: skip
    assert ask(f"{shop(stage)}/sessions/{session['id']}").status == 404
    assert replace(shop(stage), session["id"], 1).status == 404
    ttl = dynamodb.describe_time_to_live(TableName="sessions")["TimeToLiveDescription"]
    assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "expires"}


@pytest.mark.parametrize(
    "body", [b"tea", b"[]", b'{"cart": []}', b'{"cart": {"tea": 0}}', b'{"cart": {"tea": true}}']
)
def test_a_bad_session_is_refused(stage: Stage, body: bytes) -> None:
    """400 with a reason."""
    answer = ask(f"{shop(stage)}/sessions", raw=body)
    assert answer.status == 400
    assert answer.document["error"]


class LosesAnswer:
    """Stands before the stage's endpoint, and loses the first answer to UpdateItem."""

    def __init__(self, stage: Stage) -> None:
        self.lost = threading.Event()
        self._endpoint = urlsplit(stage.document["endpoint"])
        self._server = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._server.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            with client, client.makefile("rb") as reader:
                request, fields = reader.readline().split(), http.client.parse_headers(reader)
                body = reader.read(int(fields["Content-Length"]))
                upstream = http.client.HTTPConnection(
                    str(self._endpoint.hostname), self._endpoint.port
                )
                upstream.request(request[0].decode(), "/", body, dict(fields.items()))
                answer = upstream.getresponse()
                said = answer.read()
                if "UpdateItem" in fields["X-Amz-Target"] and not self.lost.is_set():
                    self.lost.set()
                    continue
                head = f"HTTP/1.1 {answer.status} x\r\nContent-Length: {len(said)}\r\n"
                client.sendall(f"{head}Connection: close\r\n\r\n".encode() + said)


async def test_a_change_that_the_sdk_sends_again_is_found_to_be_ones_own(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the first was lost; the second meets the version that the first has made."""
    between = LosesAnswer(stage)
    for name, value in (stage.document["env"] | {"AWS_ENDPOINT_URL": between.url}).items():
        monkeypatch.setenv(name, value)
    sessions = DynamoSessions("sessions", AwsClient("dynamodb"))
    session = await sessions.begin({})
    assert await sessions.replace(session.id, 1, {"tea": 1}) == Session(session.id, 2, {"tea": 1})
    assert between.lost.is_set()
    with pytest.raises(SessionChanged):
        await sessions.replace(session.id, 1, {"tea": 2})
    between.close()


# -- images


def put(url: str, product: str, image: bytes) -> Answer:
    return ask(f"{url}/images/{product}", raw=image, method="PUT", kind="image/svg+xml")


def test_every_version_of_an_image_is_kept(stage: Stage) -> None:
    """The last is served; one that was deleted comes back with its delete marker's end."""
    url, s3 = shop(stage), stage.client("s3")
    assert ask(f"{url}/images/7").status == 404
    first, second = put(url, "7", b"<svg>1</svg>"), put(url, "7", b"<svg>2</svg>")
    assert (first.status, second.status) == (201, 201)
    assert first.document["version"] != second.document["version"]
    served = ask(f"{url}/images/7")
    assert (served.status, served.document) == (200, "<svg>2</svg>")
    assert served.headers["X-Version"] == second.document["version"]
    assert served.headers["ETag"] == second.headers["ETag"] != first.headers["ETag"]
    assert served.headers["Content-Type"] == "image/svg+xml"
    listed = s3.list_object_versions(Bucket=_IMAGES, Prefix="7")["Versions"]
    assert {version["VersionId"] for version in listed} == {
        first.document["version"], second.document["version"],
    }  # fmt: skip
    marker = s3.delete_object(Bucket=_IMAGES, Key="7")["VersionId"]
    assert ask(f"{url}/images/7").status == 404
    s3.delete_object(Bucket=_IMAGES, Key="7", VersionId=marker)
    assert ask(f"{url}/images/7").document == "<svg>2</svg>"


def test_a_bad_image_is_refused(stage: Stage) -> None:
    """No name that another could be mistaken for, no empty body, none that is too long."""
    assert put(shop(stage), "..", b"<svg/>").status == 400
    assert put(shop(stage), "a%2Fb", b"<svg/>").status == 400
    assert put(shop(stage), "8", b"").status == 400
    assert put(shop(stage), "8", b"x" * 65537).status == 413


def test_the_flaws_are_parameters_of_the_template() -> None:
    """Sessions in memory are known to one instance of two; the bucket keeps no versions."""
    parameters = {
        "SessionStore": "memory", "ImageVersioning": "suspended", "DesiredCapacity": "2",
        "WorkerCapacity": "0", "DatabaseMultiAz": "false",
    }  # fmt: skip
    options = [word for pair in parameters.items() for word in ("--parameter", "=".join(pair))]
    with running_stage("--time-scale", "60", *options) as flawed:
        session = begin(shop(flawed))
        where = f"{shop(flawed)}/sessions/{session['id']}"
        answers = {a.headers["X-Instance"]: a.status for a in (ask(where) for _ in range(8))}
        assert sorted(answers.values()) == [200, 404]
        for image in (b"<svg>1</svg>", b"<svg>2</svg>"):
            assert put(shop(flawed), "7", image).document["version"] == "null"
        listed = flawed.client("s3").list_object_versions(Bucket=_IMAGES)["Versions"]
        assert [version["VersionId"] for version in listed] == ["null"]


# -- the services that keep them


def test_who_waits_for_messages_holds_nobody_up(stage: Stage) -> None:
    """Calls to the same services and to others are answered meanwhile."""
    sqs, dynamodb, ec2 = (stage.client(name) for name in ("sqs", "dynamodb", "ec2"))
    queue = sqs.create_queue(QueueName="waiting")["QueueUrl"]
    with ThreadPoolExecutor(1) as waiting:
        received = waiting.submit(sqs.receive_message, QueueUrl=queue, WaitTimeSeconds=20)
        for _ in range(5):
            dynamodb.describe_table(TableName="sessions")
            sqs.get_queue_attributes(QueueUrl=queue)
            ec2.describe_vpcs()
        assert not received.done()
        sqs.send_message(QueueUrl=queue, MessageBody="tea")
        (message,) = received.result(10)["Messages"]
    assert message["Body"] == "tea"


def test_what_is_kept_comes_back_as_it_was(stage: Stage) -> None:
    """Keys with spaces, metadata, half a megabyte; also by a link that was signed beforehand."""
    s3, body = stage.client("s3"), bytes(range(256)) * 2000
    where = {"Bucket": "backups", "Key": "a b/ü+%.bin"}
    s3.create_bucket(Bucket="backups")
    s3.put_object(**where, Body=body, Metadata={"made_by": "shop"})
    got = s3.get_object(**where)
    assert (got["Body"].read(), got["Metadata"]) == (body, {"made_by": "shop"})
    assert s3.head_object(**where)["ContentLength"] == len(body)
    with urllib.request.urlopen(s3.generate_presigned_url("get_object", where)) as answer:
        assert answer.read() == body


def test_a_notification_reaches_the_queue_that_has_asked_for_it(stage: Stage) -> None:
    """What these services do among themselves works as well."""
    sns, sqs = stage.client("sns"), stage.client("sqs")
    queue = sqs.create_queue(QueueName="news")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]
    topic = sns.create_topic(Name="news")["TopicArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn["QueueArn"])
    sns.publish(TopicArn=topic, Message="tea is out")
    (message,) = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5)["Messages"]
    assert "tea is out" in message["Body"]


def test_what_they_do_not_know_is_refused_in_their_own_format(stage: Stage) -> None:
    """Not with a page of HTML that SDKs would ask for again."""
    with pytest.raises(ClientError) as caught:
        stage.client("dynamodb").list_global_tables()
    assert caught.value.response["Error"]["Code"] == "NotImplemented"
    assert "ListGlobalTables" in caught.value.response["Error"]["Message"]
