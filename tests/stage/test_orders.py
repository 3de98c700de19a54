"""The sample workload's orders: what the web tier promises, and how each flaw breaks it."""

import contextlib
import json
import socket
import threading
import time
from collections.abc import Iterator

import psycopg
import pytest

from chaosgrade.stage.workload.resolver import Resolver
from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.shop import PASSWORD, Answer, ask, shop, subnet_of, web

pytestmark = pytest.mark.stage
_SCALE = 60.0
_FAILOVER_S = 60 / _SCALE


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    """A failover takes a second; loopback, so that clients of the tests reach what is inside."""
    with running_stage("--time-scale", f"{_SCALE:g}", "--fabric", "loopback") as running:
        running.client("autoscaling").suspend_processes(
            AutoScalingGroupName="web", ScalingProcesses=["ReplaceUnhealthy"]
        )
        yield running


def place(url: str, id_: str, timeout_s: float = 8.0) -> Answer:
    return ask(
        f"{url}/orders", {"id": id_, "customer": "ann", "product": "tea"}, timeout_s=timeout_s
    )


def listed(url: str, prefix: str) -> list[str]:
    """Ids of all orders, page by page."""
    found: list[str] = []
    after = 0
    while True:
        answer = ask(f"{url}/orders?prefix={prefix}&after={after}&limit=2")
        assert answer.status == 200, answer
        found += [order["id"] for order in answer.document["orders"]]
        if (after := answer.document["next"]) is None:
            return found


def primary(stage: Stage) -> str:
    return Resolver(stage.document["dns"]).resolve(stage.document["databases"]["shop"])


class LosesReply:
    """Stands before the primary, on another port, and can lose the answer to an INSERT."""

    def __init__(self, stage: Stage) -> None:
        host = primary(stage)
        self._server = socket.create_server((host, 0))
        self._database = (host, 5432)
        self.port = self._server.getsockname()[1]
        self.armed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._server.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                database = socket.create_connection(self._database)
                for ends in ((client, database), (database, client)):
                    threading.Thread(target=self._pass, args=ends, daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if b"INSERT 0 1" in data and self.armed.is_set():
                    self.armed.clear()
                    break
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


def test_an_order_is_committed_once_and_listed(stage: Stage) -> None:
    """201 with its number, the same number again for the same id; pages by rising number."""
    ids = [f"list-{n}" for n in range(5)]
    first = [place(shop(stage), id_) for id_ in ids]
    assert [answer.status for answer in first] == [201] * 5
    assert [answer.document["id"] for answer in first] == ids
    assert all(answer.headers["X-Instance"] and answer.headers["X-Zone"] for answer in first)
    again = place(shop(stage), ids[2])
    assert (again.status, again.document) == (201, first[2].document)
    place(shop(stage), "other-1")
    assert listed(shop(stage), "list-") == ids
    with psycopg.connect(
        host=primary(stage), user="shop", password=PASSWORD, dbname="shop"
    ) as connection:
        rows = connection.execute("SELECT id, number FROM orders WHERE id LIKE 'list-%'").fetchall()
    assert dict(rows) == {answer.document["id"]: answer.document["number"] for answer in first}


@pytest.mark.parametrize(
    "body",
    [
        b"", b"tea", b"[]", b"{}", b'{"id": "1", "customer": "ann"}', b"\xff",
        b'{"id": "", "customer": "ann", "product": "tea"}',
        b'{"id": 7, "customer": "ann", "product": "tea"}',
        b'{"id": "a\\u0000", "customer": "ann", "product": "tea"}',
        json.dumps({"id": "x" * 201, "customer": "ann", "product": "tea"}).encode(),
    ],
)  # fmt: skip
def test_a_bad_order_is_refused(stage: Stage, body: bytes) -> None:
    """400 with a reason, and nothing is kept."""
    answer = ask(f"{shop(stage)}/orders", raw=body)
    assert answer.status == 400
    assert answer.document["error"]


@pytest.mark.parametrize("query", ["limit=0", "limit=5001", "limit=x", "after=-1", "prefix=%00"])
def test_a_bad_question_is_refused(stage: Stage, query: str) -> None:
    """400 with a reason."""
    answer = ask(f"{shop(stage)}/orders?{query}")
    assert answer.status == 400
    assert answer.document["error"]


def test_a_lost_reply_is_found_out_or_leads_to_a_second_order(stage: Stage) -> None:
    """A commit in doubt is tried again under the order's id; blindly, it is there twice."""
    with psycopg.connect(
        host=primary(stage), user="shop", password=PASSWORD, dbname="shop", autocommit=True
    ) as connection:
        connection.execute("CREATE DATABASE blind")
    between = LosesReply(stage)
    sound = web(stage, DATABASE_PORT=between.port)
    blind = web(stage, DATABASE_PORT=between.port, DATABASE_NAME="blind", WRITE_RETRY="blind")
    for url, expected in ((sound, ["lost-1"]), (blind, ["lost-1", "lost-1"])):
        assert place(url, "whole-1").status == 201
        between.armed.set()
        answer = place(url, "lost-1")
        assert not between.armed.is_set()
        assert answer.status == 201, answer
        assert listed(url, "lost-") == expected
        assert listed(url, "whole-") == ["whole-1"]
    between.close()


def receipts(stage: Stage) -> set[str]:
    """Ids of the orders that have one."""
    with psycopg.connect(
        host=primary(stage), user="shop", password=PASSWORD, dbname="shop"
    ) as connection:
        try:
            found = connection.execute("SELECT id FROM orders JOIN receipts USING (number)")
        except psycopg.errors.UndefinedTable:
            return set()  # no worker has begun yet
        return {id_ for (id_,) in found.fetchall()}


def test_orders_get_their_receipts_even_if_every_worker_dies(stage: Stage) -> None:
    """The queue keeps them until the group has launched another worker."""
    assert place(shop(stage), "receipt-1").status == 201
    eventually(lambda: "receipt-1" in receipts(stage))
    ec2 = stage.client("ec2")
    workers = [
        instance["InstanceId"]
        for reservation in ec2.describe_instances(
            Filters=[
                {"Name": "tag:Tier", "Values": ["worker"]},
                {"Name": "instance-state-name", "Values": ["running"]},
            ]
        )["Reservations"]
        for instance in reservation["Instances"]
    ]
    assert len(workers) == 2
    ec2.terminate_instances(InstanceIds=workers)
    ids = {f"receipt-{n}" for n in range(2, 20)}
    assert {place(shop(stage), id_).status for id_ in ids} == {201}
    eventually(lambda: ids <= receipts(stage))


def test_a_failover_is_survived_by_who_asks_for_the_address_and_drops_what_is_dead(
    stage: Stage,
) -> None:
    """Writes go on a second after the promotion; with one flaw they fail for good."""
    flawed = {
        "cached": web(stage, DATABASE_ADDRESS="cached"),
        "dead": web(stage, DATABASE_TIMEOUTS="false"),
    }
    for name, url in flawed.items():
        assert place(url, f"{name}-before").status == 201
    assert place(shop(stage), "sound-before").status == 201
    stage.client("rds").reboot_db_instance(DBInstanceIdentifier="shop", ForceFailover=True)
    began = time.monotonic()
    refused = eventually(lambda: (a := place(shop(stage), "sound-0")).status == 503 and a)
    assert refused.document["error"]
    assert refused.after_s < 3.0  # fails fast
    assert ask(shop(stage)).status == 200  # the rest of the shop does not need the database
    assert ask(f"{shop(stage)}/health").status == 200
    tries = iter(range(10_000))
    eventually(lambda: place(shop(stage), f"sound-{next(tries)}").status == 201, 10)
    assert time.monotonic() - began < _FAILOVER_S + 3.0
    assert ask(f"{shop(stage)}/health/deep").status == 200
    eventually(
        lambda: all(place(shop(stage), f"sound-{next(tries)}").status == 201 for _ in "123456")
    )
    for name, url in flawed.items():
        for number in range(3):
            assert place(url, f"{name}-{number}").status == 503
    assert "sound-before" in listed(shop(stage), "sound-")


def test_a_database_that_falls_silent_is_given_up_unless_there_are_no_timeouts(
    stage: Stage,
) -> None:
    """A network ACL cuts the web servers off: 503 in time, or an answer that never comes."""
    ec2 = stage.client("ec2")
    urls = {"sound": web(stage), "patient": web(stage, DATABASE_TIMEOUTS="false")}
    subnet = subnet_of(stage, urls["sound"])
    assert subnet == subnet_of(stage, urls["patient"])
    for name, url in urls.items():
        assert place(url, f"silent-{name}").status == 201
    (acl,) = ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [subnet]}]
    )["NetworkAcls"]
    deny = {"NetworkAclId": acl["NetworkAclId"], "RuleNumber": 1, "Egress": True}
    ec2.create_network_acl_entry(
        **deny, Protocol="6", RuleAction="deny", CidrBlock="0.0.0.0/0",
        PortRange={"From": 5432, "To": 5432},
    )  # fmt: skip
    assert place(shop(stage), "silent-elsewhere").status == 201
    given_up = place(urls["sound"], "silent-0", timeout_s=9.0)
    assert given_up.status == 503
    assert given_up.after_s < 8.0
    assert ask(f"{urls['sound']}/health/deep", timeout_s=2.5).status == 503
    assert place(urls["patient"], "silent-1", timeout_s=3.0).status == 0
    ec2.delete_network_acl_entry(**deny)
    eventually(lambda: place(urls["sound"], "silent-2").status == 201)
