"""The balancer plays Elastic Load Balancing's rules on real connections to real processes."""

import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator

import pytest

from tests.stage.children import (
    BALANCER,
    HOSTS,
    Child,
    ScriptedTarget,
    child,
    configure,
    exchange,
    free_address,
    get,
    header,
    launch,
    read_all,
    runs,
    status,
    target_group,
)

_OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def hosts() -> Iterator[Child]:
    """One zygote for all tests."""
    with child(HOSTS) as started:
        yield started


@pytest.fixture
def balancer() -> Iterator[Child]:
    """A balancer without any configuration."""
    with child(BALANCER) as started:
        yield started


@pytest.fixture
def address() -> tuple[str, int]:
    """Where the balancer shall listen."""
    return free_address()


_numbers = iter(range(1, 1_000_000))


def _fleet(hosts: Child, count: int) -> dict[str, tuple[str, int]]:
    """{instance: address} of new web servers."""
    fleet = {f"i-{next(_numbers)}": free_address() for _ in range(count)}
    for instance, address in fleet.items():
        launch(hosts, instance, address)
    return fleet


def _until_healthy(balancer: Child, *instances: str) -> None:
    balancer.wait_until_seen("listening")
    for _ in instances:
        found = balancer.wait_for("health", state="healthy")
        assert found["id"] in instances


def _answered(address: tuple[str, int], count: int) -> Counter[str]:
    """How many of `count` requests each instance answered."""
    return Counter(header(get(address), "X-Instance") for _ in range(count))


def _kill(hosts: Child, instance: str, name: str = "SIGKILL") -> None:
    assert hosts.ask(op="signal", instance=instance, process="web", signal=name)["ok"]


def test_requests_go_round_the_healthy_targets(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """Each gets its share, exactly."""
    fleet = _fleet(hosts, 3)
    configure(balancer, address, target_group(fleet))
    _until_healthy(balancer, *fleet)
    assert _answered(address, 9) == dict.fromkeys(fleet, 3)


def test_a_killed_target_is_taken_out_and_comes_back(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """502 until the threshold is reached, the others afterwards, all after its recovery."""
    fleet = _fleet(hosts, 2)
    victim, other = fleet
    configure(balancer, address, target_group(fleet, check={"interval_s": 0.2}))
    _until_healthy(balancer, *fleet)
    _kill(hosts, victim)
    assert sorted(status(get(address)) for _ in range(2)) == [200, 502]
    found = balancer.wait_for("health", id=victim)
    assert (found["state"], found["reason"]) == ("unhealthy", "Target.FailedHealthChecks")
    assert _answered(address, 4) == {other: 4}
    launch(hosts, victim, fleet[victim])
    balancer.wait_for("health", id=victim, state="healthy")
    assert _answered(address, 4) == {victim: 2, other: 2}


def test_a_paused_target_fails_by_timeout(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """It still accepts connections: only the missing answer tells."""
    fleet = _fleet(hosts, 1)
    (victim,) = fleet
    configure(balancer, address, target_group(fleet, check={"timeout_s": 0.1}))
    _until_healthy(balancer, victim)
    _kill(hosts, victim, "SIGSTOP")
    found = balancer.wait_for("health", id=victim)
    assert (found["state"], found["reason"]) == ("unhealthy", "Target.Timeout")


def test_a_terminated_target_fails_by_timeout(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """A machine that is gone does not even refuse."""
    fleet = _fleet(hosts, 1)
    (victim,) = fleet
    configure(balancer, address, target_group(fleet, check={"timeout_s": 0.1}))
    _until_healthy(balancer, victim)
    hosts.send(op="terminate", instance=victim)
    found = balancer.wait_for("health", id=victim)
    assert (found["state"], found["reason"]) == ("unhealthy", "Target.Timeout")


def test_a_wrong_code_is_told(balancer: Child, address: tuple[str, int]) -> None:
    """With the reason and the code, as in the API's answer."""
    target = ScriptedTarget(lambda connection, request: False)
    target.health = target.health.replace(b"200 OK", b"500 Oops")
    configure(balancer, address, target_group({"i-500": target.address}))
    found = balancer.wait_for("health", state="unhealthy")
    assert found["reason"] == "Target.ResponseCodeMismatch"
    assert found["description"] == "Health checks failed with these codes: [500]"
    target.close()


def test_a_new_target_gets_nothing_while_another_is_healthy(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """It is registered at once and starts after its first pass."""
    fleet = _fleet(hosts, 2)
    first, second = fleet
    _kill(hosts, second, "SIGSTOP")
    patient = {"timeout_s": 10, "interval_s": 20}
    configure(balancer, address, target_group(fleet, check=patient))
    _until_healthy(balancer, first)
    assert _answered(address, 4) == {first: 4}
    _kill(hosts, second, "SIGCONT")
    balancer.wait_for("health", id=second, state="healthy")
    assert _answered(address, 4) == {first: 2, second: 2}


def test_it_fails_open_when_every_target_is_unhealthy(
    balancer: Child, address: tuple[str, int]
) -> None:
    """Requests go to all of them: a health check that is wrong must not become an outage."""

    def answer(connection: socket.socket, request: bytes) -> bool:
        connection.sendall(_OK)
        return True

    targets = {f"i-{n}": ScriptedTarget(answer) for n in range(2)}
    for target in targets.values():
        target.health = target.health.replace(b"200 OK", b"503 Sick")
    configure(balancer, address, target_group({n: t.address for n, t in targets.items()}))
    for _ in targets:
        balancer.wait_for("health", state="unhealthy")
    assert [status(get(address)) for _ in range(4)] == [200] * 4
    for target in targets.values():
        target.close()


def test_no_registered_target_is_503(balancer: Child, address: tuple[str, int]) -> None:
    """And the client's connection lives on."""
    configure(balancer, address, target_group({}))
    balancer.wait_for("listening")
    twice = (
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
    )
    assert exchange(address, twice).count(b"HTTP/1.1 503 ") == 2


@pytest.mark.parametrize("answer", [b"", b"\x00garbage\r\n\r\n", b"HTTP/1.1 abc\r\n\r\n"])
def test_a_target_that_breaks_off_or_answers_nonsense_is_502(
    balancer: Child, address: tuple[str, int], answer: bytes
) -> None:
    """The client learns that the target is at fault."""

    def behave(connection: socket.socket, request: bytes) -> bool:
        connection.sendall(answer)
        return False

    target = ScriptedTarget(behave)
    configure(balancer, address, target_group({"i-bad": target.address}))
    _until_healthy(balancer, "i-bad")
    assert status(get(address)) == 502
    target.close()


def test_an_answer_that_breaks_off_in_the_middle_is_cut(
    balancer: Child, address: tuple[str, int]
) -> None:
    """Its head has been passed on: no second head may follow."""

    def behave(connection: socket.socket, request: bytes) -> bool:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
        return False

    target = ScriptedTarget(behave)
    configure(balancer, address, target_group({"i-half": target.address}))
    _until_healthy(balancer, "i-half")
    assert get(address).endswith(b"\r\n\r\nhalf")
    target.close()


def test_draining_finishes_what_is_under_way(balancer: Child, address: tuple[str, int]) -> None:
    """A deregistered target gets nothing new; its answer still arrives; then it is let go."""
    asked, may_answer = threading.Event(), threading.Event()

    def slow(connection: socket.socket, request: bytes) -> bool:
        asked.set()
        assert may_answer.wait(10)
        connection.sendall(_OK)
        return True

    leaving = ScriptedTarget(slow)
    configure(balancer, address, target_group({"i-leaving": leaving.address}))
    _until_healthy(balancer, "i-leaving")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert asked.wait(10)
        configure(balancer, address, target_group({}, deregistration_delay_s=20), time_scale=20)
        while status(get(address)) != 503:  # until the order has been obeyed
            pass
        may_answer.set()
        assert read_all(client).endswith(b"ok")
    assert balancer.wait_for("drained")["id"] == "i-leaving"
    leaving.close()


def test_what_is_not_finished_when_the_delay_is_over_is_cut(
    balancer: Child, address: tuple[str, int]
) -> None:
    """The balancer closes the connection; the client gets a 502."""
    asked = threading.Event()

    def silent(connection: socket.socket, request: bytes) -> bool:
        asked.set()
        return True

    target = ScriptedTarget(silent)
    configure(balancer, address, target_group({"i-silent": target.address}))
    _until_healthy(balancer, "i-silent")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert asked.wait(10)
        configure(balancer, address, target_group({}, deregistration_delay_s=0.2))
        assert status(read_all(client)) == 502
    balancer.wait_for("drained", id="i-silent")
    target.close()


def test_a_target_that_says_nothing_for_the_idle_timeout_is_given_up(
    balancer: Child, address: tuple[str, int]
) -> None:
    """The client gets a 504; the attribute is its load balancer's."""
    target = ScriptedTarget(lambda connection, request: True)
    configure(balancer, address, target_group({"i-silent": target.address}), idle_timeout_s=0.2)
    balancer.wait_for("listening")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert status(read_all(client)) == 504
    target.close()


def test_a_target_registered_again_while_it_drains_is_new(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """It is checked and used at once, and is not told as drained until it has left again."""
    fleet = _fleet(hosts, 1)
    (victim,) = fleet
    for _ in range(2):
        configure(balancer, address, target_group(fleet, deregistration_delay_s=0.2))
        _until_healthy(balancer, victim)
        assert _answered(address, 1) == {victim: 1}
        configure(balancer, address, target_group({}, deregistration_delay_s=0.2))
    balancer.wait_for("drained", id=victim)
    assert sum(e["event"] == "drained" for e in balancer.events) == 1


def test_the_targets_of_a_deleted_group_are_let_go_at_once(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """Nobody has to wait for a delay that no longer exists."""
    fleet = _fleet(hosts, 2)
    configure(balancer, address, target_group(fleet, deregistration_delay_s=900))
    _until_healthy(balancer, *fleet)
    configure(balancer, address)
    assert {balancer.wait_for("drained")["id"] for _ in fleet} == set(fleet)
    assert status(get(address)) == 503


def test_a_deleted_balancer_drops_its_clients(balancer: Child, address: tuple[str, int]) -> None:
    """And listens no more."""
    configure(balancer, address, target_group({}))
    balancer.wait_for("listening")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert status(client.recv(65536)) == 503
        balancer.send(op="configure", time_scale=1, balancers=[], target_groups=[])
        assert client.recv(1) == b""
    with pytest.raises(ConnectionRefusedError):
        get(address)


def test_a_client_that_leaves_cancels_its_request(
    balancer: Child, address: tuple[str, int]
) -> None:
    """The target sees its connection close."""
    asked, closed = threading.Event(), threading.Event()

    def silent(connection: socket.socket, request: bytes) -> bool:
        asked.set()
        assert connection.recv(1) == b""
        closed.set()
        return False

    target = ScriptedTarget(silent)
    configure(balancer, address, target_group({"i-silent": target.address}))
    _until_healthy(balancer, "i-silent")
    with socket.create_connection(address) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert asked.wait(10)
    assert closed.wait(10)
    target.close()


@pytest.mark.parametrize(("method", "expected"), [(b"GET", 200), (b"POST", 502)])
def test_a_kept_connection_that_the_target_closes_is_replaced_for_a_safe_request(
    balancer: Child, address: tuple[str, int], method: bytes, expected: int
) -> None:
    """Only where the target cannot have done the work twice."""
    requests = Counter[int]()

    def closes_after_one(connection: socket.socket, request: bytes) -> bool:
        requests[connection.fileno()] += 1
        if requests[connection.fileno()] == 2:
            requests[connection.fileno()] = 0
            return False
        connection.sendall(_OK)
        return True

    target = ScriptedTarget(closes_after_one)
    configure(balancer, address, target_group({"i-closes": target.address}))
    _until_healthy(balancer, "i-closes")
    assert status(get(address)) == 200
    request = method + b" / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert status(exchange(address, request)) == expected
    target.close()


def test_bodies_pass_unchanged_in_any_framing(balancer: Child, address: tuple[str, int]) -> None:
    """Chunks, lengths and bodies that end with the connection, in pieces of any size."""
    chunked = b"3\r\nabc\r\n5;note=x\r\n\r\n0\r\n\r\n0\r\nTrailer: t\r\n\r\n"

    def behave(connection: socket.socket, request: bytes) -> bool:
        if request.startswith(b"POST"):
            while not request.endswith(b"x\r\n0\r\n\r\n"):
                request += connection.recv(65536)
            body = request.partition(b"\r\n\r\n")[2]
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body))
            connection.sendall(body)
            return True
        if request.startswith(b"GET /close"):
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nto the end")
            return False
        for byte in b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked:
            connection.sendall(bytes([byte]))
        return True

    target = ScriptedTarget(behave)
    configure(balancer, address, target_group({"i-body": target.address}))
    _until_healthy(balancer, "i-body")
    assert get(address, "/chunked").endswith(b"\r\n\r\n" + chunked)
    assert get(address, "/close").endswith(b"\r\n\r\nto the end")
    body = b"10000\r\n" + b"x" * 65536 + b"\r\n0\r\n\r\n"
    request = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + body
    assert exchange(address, request).partition(b"\r\n\r\n")[2] == body
    target.close()


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 70000, 400),
        (b"POST / HTTP/1.1\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 1_200_000, 413),
    ],
)
def test_a_request_that_cannot_be_passed_on_is_refused(
    balancer: Child, address: tuple[str, int], request_: bytes, expected: int
) -> None:
    """Before any target sees it."""
    configure(balancer, address, target_group({}))
    balancer.wait_for("listening")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(request_)
        assert status(client.recv(65536)) == expected


def test_the_target_learns_who_asked(balancer: Child, address: tuple[str, int]) -> None:
    """By X-Forwarded-For; what is meant for one hop is taken off."""
    seen: list[bytes] = []

    def behave(connection: socket.socket, request: bytes) -> bool:
        seen.append(request)
        connection.sendall(_OK.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        return False

    target = ScriptedTarget(behave)
    configure(balancer, address, target_group({"i-who": target.address}))
    _until_healthy(balancer, "i-who")
    assert b"Connection:" not in get(address)
    assert b"\r\nX-Forwarded-For: 127." in seen[0]
    assert b"Connection:" not in seen[0]
    target.close()


def test_another_order_keeps_health_and_tells_nothing_twice(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """Only the target that is new is told of."""
    fleet = _fleet(hosts, 2)
    first, second = fleet
    configure(balancer, address, target_group({first: fleet[first]}))
    _until_healthy(balancer, first)
    told = len(balancer.events)
    configure(balancer, address, target_group(fleet, slow_start_s=1), target_group({}, arn="tg2"))
    _until_healthy(balancer, second)
    assert [(e["event"], e["id"]) for e in balancer.events[told:]] == [("health", second)] * 2


def test_a_target_in_slow_start_gets_less(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """Beside one that takes its full share, a new one begins near nothing."""
    fleet = _fleet(hosts, 2)
    first, second = fleet
    configure(balancer, address, target_group({first: fleet[first]}, slow_start_s=900))
    _until_healthy(balancer, first)
    configure(balancer, address, target_group(fleet, slow_start_s=900))
    _until_healthy(balancer, second)
    assert _answered(address, 20)[first] >= 19


def test_a_taken_port_is_told_and_the_rest_goes_on(
    balancer: Child, address: tuple[str, int]
) -> None:
    """Once the port is free, the next order opens it."""
    with socket.create_server(address):
        configure(balancer, address, target_group({}))
        told = balancer.wait_for("error", name="web")
        assert "in use" in told["detail"]
    configure(balancer, address, target_group({}))
    balancer.wait_for("listening", name="web")
    assert status(get(address)) == 503


def test_a_network_balancer_splices_connections(balancer: Child, address: tuple[str, int]) -> None:
    """Bytes both ways, whatever they are; one end may finish first; one target per connection."""
    targets = {}
    for name in ("i-0", "i-1"):

        def echo(connection: socket.socket, request: bytes, name: str = name) -> bool:
            connection.sendall(name.encode() + b":" + request)
            return True

        targets[name] = ScriptedTarget(echo)
    group = target_group({n: t.address for n, t in targets.items()}, check={"protocol": "TCP"})
    configure(balancer, address, group, protocol="TCP")
    _until_healthy(balancer, *targets)
    said = set()
    for _ in range(2):
        with socket.create_connection(address, timeout=10) as client:
            for word in (b"\x00one", b"two"):
                client.sendall(word)
                who, _, heard = client.recv(100).partition(b":")
                assert heard == word
                said.add(who)
            client.shutdown(socket.SHUT_WR)
            assert client.recv(1) == b""
    assert said == {b"i-0", b"i-1"}
    for target in targets.values():
        target.close()


def test_a_network_balancer_ends_connections_to_an_unhealthy_target(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """A customer of a paused machine is let go, and finds another with the next connection."""
    fleet = _fleet(hosts, 1)
    (victim,) = fleet
    group = target_group(fleet, check={"timeout_s": 0.1})
    configure(balancer, address, group, protocol="TCP")
    _until_healthy(balancer, victim)
    request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(request)
        assert status(client.recv(65536)) == 200
        _kill(hosts, victim, "SIGSTOP")
        client.sendall(request)
        with pytest.raises(ConnectionResetError):
            client.recv(1)
    balancer.wait_for("health", id=victim, state="unhealthy")


@pytest.mark.parametrize("ends", [False, True])
def test_a_network_balancer_ends_connections_after_the_delay_if_it_is_to(
    balancer: Child, address: tuple[str, int], *, ends: bool
) -> None:
    """By default they go on for as long as client and target want; unlike an application one's."""

    def echo(connection: socket.socket, request: bytes) -> bool:
        connection.sendall(request)
        return True

    target = ScriptedTarget(echo)
    changes = {"deregistration_delay_s": 0.1, "ends_connections": ends}
    check = {"protocol": "TCP"}
    group = target_group({"i-1": target.address}, check=check, **changes)
    configure(balancer, address, group, protocol="TCP")
    _until_healthy(balancer, "i-1")
    with socket.create_connection(address, timeout=10) as client:
        client.sendall(b"one")
        assert client.recv(100) == b"one"
        configure(balancer, address, target_group({}, check=check, **changes), protocol="TCP")
        balancer.wait_for("drained", id="i-1")
        if ends:
            with pytest.raises(ConnectionResetError):
                client.recv(1)
        else:
            client.sendall(b"two")
            assert client.recv(100) == b"two"
    target.close()


def test_a_network_balancer_resets_whom_no_target_takes(
    hosts: Child, balancer: Child, address: tuple[str, int]
) -> None:
    """There is no status code in which it could say so."""
    fleet = _fleet(hosts, 1)
    (victim,) = fleet
    _kill(hosts, victim)
    configure(balancer, address, target_group(fleet, check={"protocol": "TCP"}), protocol="TCP")
    balancer.wait_for("listening")
    with pytest.raises(ConnectionResetError):
        get(address)


def test_the_balancer_leaves_at_the_end_of_standard_input() -> None:
    """With clients and targets connected, and deaf to an interrupt meant for its parent."""
    with child(BALANCER) as balancer:
        address = free_address()
        configure(balancer, address, target_group({"i-nowhere": free_address()}))
        balancer.wait_for("listening")
        balancer.process.send_signal(signal.SIGINT)
        with socket.create_connection(address) as client:
            client.sendall(b"GET / HTTP/1.1\r\n")
            assert balancer.leave() == 0
    assert not runs(balancer.process.pid)


_OF_A_MINUTE = {"interval_s": 6.0, "timeout_s": 300.0}
"""Of a check where a minute is a second long."""


def test_each_minute_tells_what_was_counted_in_it(
    balancer: Child, address: tuple[str, int]
) -> None:
    """Answers by their class, and how long they took; the balancer's own ones are others."""
    target = ScriptedTarget(lambda connection, request: bool(connection.sendall(_OK)))
    groups = target_group({"i-1": target.address}, check=_OF_A_MINUTE)
    configure(balancer, address, groups, time_scale=60.0)
    balancer.wait_until_seen("listening")
    balancer.wait_for("health", state="healthy")
    for _ in range(3):
        assert status(get(address)) == 200
    counted: Counter[str] = Counter()
    while counted["RequestCount"] < 3:
        told = balancer.wait_for("requests", balancer="lb", zone="us-east-1a", target_group="tg")
        counted.update(told["sums"])
        assert told["second"] % 60 == 0
        assert sum(count for _, count in told["response_times"]) == told["sums"]["RequestCount"]
    assert counted == {"RequestCount": 3, "HTTPCode_Target_2XX_Count": 3}
    target.close()
    assert status(get(address)) == 502
    told = balancer.wait_for("requests")
    assert told["sums"] == {
        "RequestCount": 1, "TargetConnectionErrorCount": 1,
        "HTTPCode_ELB_5XX_Count": 1, "HTTPCode_ELB_502_Count": 1,
    }  # fmt: skip
    assert told["response_times"] == []


def test_flows_of_a_layer_4_balancer_are_counted(balancer: Child, address: tuple[str, int]) -> None:
    """New ones once, open ones at each look, by zone and over all of them."""
    target = ScriptedTarget(lambda connection, request: True)
    groups = target_group({"i-1": target.address}, check={**_OF_A_MINUTE, "protocol": "TCP"})
    configure(balancer, address, groups, protocol="TCP", time_scale=60.0)
    balancer.wait_until_seen("listening")
    balancer.wait_for("health", state="healthy")
    with socket.create_connection(address):
        assert balancer.wait_for("requests")["sums"] == {"NewFlowCount": 1}
        for zone in ("", "us-east-1a"):
            while balancer.wait_for("flows", balancer="lb", zone=zone)["active"][-1] != 1:
                pass
    target.close()
