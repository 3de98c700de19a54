"""Network ACLs: what they let through, and what processes feel of it."""

import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from chaosgrade.stage import namespaces
from chaosgrade.stage.network_acls import Rule, Subnet, connects, cuts
from chaosgrade.stage.workload.resolver import Resolver
from tests.stage.conftest import Stage, eventually, running_stage
from tests.stage.vantage import socket_at

ALL = IPv4Network("0.0.0.0/0")
OPEN = (Rule(100, True, True, "-1", ALL), Rule(100, False, True, "-1", ALL))
A = Subnet("a", IPv4Network("10.0.1.0/24"), OPEN)
B = Subnet("b", IPv4Network("10.0.2.0/24"), OPEN)
DARK = Subnet("d", IPv4Network("10.0.3.0/24"), ())


def subnet(*rules: Rule) -> Subnet:
    return Subnet("s", IPv4Network("10.0.9.0/24"), rules)


def test_a_subnet_without_rules_is_cut_from_all_but_itself() -> None:
    """The implicit deny; what stays within a subnet is not filtered."""
    assert cuts([A, B, DARK], [80]) == {
        ("", "d", 80), ("a", "d", 80), ("b", "d", 80),
        ("d", "", 80), ("d", "a", 80), ("d", "b", 80),
    }  # fmt: skip
    assert connects(DARK, DARK, 80)
    assert connects(None, A, 80)
    assert connects(A, B, 80)


def test_the_lowest_number_that_matches_decides() -> None:
    deny_b = Rule(10, False, False, "6", B.network)
    assert not connects(B, subnet(deny_b, *OPEN), 80)
    assert connects(A, subnet(deny_b, *OPEN), 80)
    late = Rule(200, False, False, "6", B.network)
    assert connects(B, subnet(late, *OPEN), 80)
    udp = Rule(10, False, False, "17", ALL)
    assert connects(B, subnet(udp, *OPEN), 80)


def test_an_answer_needs_a_rule_of_its_own() -> None:
    """Network ACLs keep no state: ephemeral ports must be open on the way back."""
    web_in = Rule(100, False, True, "6", ALL, (80, 80))
    assert not connects(A, subnet(web_in), 80)
    back = Rule(100, True, True, "6", ALL, (1024, 65535))
    assert connects(A, subnet(web_in, back), 80)
    assert not connects(A, subnet(web_in, back), 81)
    narrow = Rule(100, True, True, "6", ALL, (32768, 50000))
    assert not connects(A, subnet(web_in, narrow), 80)


@pytest.fixture(scope="module", params=["namespaces", "loopback"])
def stage(request: pytest.FixtureRequest) -> Iterator[Stage]:
    """Health checks at intervals of a third of a second; a group that replaces nothing."""
    if request.param == "namespaces" and not namespaces.possible():
        pytest.skip("this machine gives no network namespaces to this user")
    with running_stage("--time-scale", "30", "--fabric", request.param) as running:
        assert running.document["fabric"] == request.param
        running.client("autoscaling").suspend_processes(
            AutoScalingGroupName="web", ScalingProcesses=["ReplaceUnhealthy"]
        )
        yield running


def instances(stage: Stage) -> list[tuple[str, str, str]]:
    """(id, zone, address) of the web tier, as far as it runs."""
    reservations = stage.client("ec2").describe_instances(
        Filters=[
            {"Name": "instance-state-name", "Values": ["running"]},
            {"Name": "tag:Tier", "Values": ["web"]},
        ]
    )["Reservations"]
    return [
        (i["InstanceId"], i["Placement"]["AvailabilityZone"], i["PrivateIpAddress"])
        for reservation in reservations
        for i in reservation["Instances"]
    ]


def connecting(stage: Stage, source: str, address: str) -> str:
    """How a connection from an instance to port 8080 ends: "open", "hangs" or "refused"."""
    with socket_at(stage, source) as client:
        client.settimeout(0.15)
        try:
            client.connect((address, 8080))
        except TimeoutError:
            return "hangs"
        except ConnectionRefusedError:
            return "refused"
        return "open"


def fates(stage: Stage) -> dict[str, set[str]]:
    """How connections from zone a to the instances of each zone end."""
    running = instances(stage)
    source = next(address for _, zone, address in running if zone == "us-east-1a")
    found: dict[str, set[str]] = {}
    for _, zone, address in running:
        found.setdefault(zone, set()).add(connecting(stage, source, address))
    return found


def acl_of(stage: Stage, zone: str) -> dict[str, Any]:
    """The association of the subnet in a zone that has instances: of the template, not default."""
    ec2 = stage.client("ec2")
    (mine,) = ec2.describe_subnets(
        Filters=[
            {"Name": "availability-zone", "Values": [zone]},
            {"Name": "tag:Name", "Values": ["web-*"]},
        ]
    )["Subnets"]
    acl = ec2.describe_network_acls(
        Filters=[{"Name": "association.subnet-id", "Values": [mine["SubnetId"]]}]
    )["NetworkAcls"][0]
    (association,) = [a for a in acl["Associations"] if a["SubnetId"] == mine["SubnetId"]]
    return {"vpc": mine["VpcId"], "cidr": mine["CidrBlock"], **association}


def healthy_zones(stage: Stage) -> Counter[str]:
    """How many targets are healthy, by zone."""
    elbv2 = stage.client("elbv2")
    arn = elbv2.describe_target_groups()["TargetGroups"][0]["TargetGroupArn"]
    zones = {id_: zone for id_, zone, _ in instances(stage)}
    return Counter(
        zones[target["Target"]["Id"]]
        for target in elbv2.describe_target_health(TargetGroupArn=arn)["TargetHealthDescriptions"]
        if target["TargetHealth"]["State"] == "healthy"
    )


def led_to(stage: Stage) -> int:
    """How many nodes the balancer's name leads to."""
    (balancer,) = stage.client("elbv2").describe_load_balancers()["LoadBalancers"]
    server = stage.document["dns"]
    return len({Resolver(server).resolve(balancer["DNSName"]) for _ in range(40)})


ZONES = ("us-east-1a", "us-east-1b", "us-east-1c")
EVERYWHERE = {zone: {"open"} for zone in ZONES}


@pytest.mark.stage
def test_a_blocking_acl_cuts_and_the_former_heals(stage: Stage) -> None:
    """Connecting hangs, what is established stalls and goes on; other zones feel nothing, and the
    balancer's name leads to them only."""
    ec2 = stage.client("ec2")
    assert led_to(stage) == 3
    eventually(lambda: healthy_zones(stage) == dict.fromkeys(ZONES, 2))
    place = acl_of(stage, "us-east-1b")
    addresses = {zone: address for _, zone, address in instances(stage)}
    inside, neighbour = (a for _, zone, a in instances(stage) if zone == "us-east-1b")
    established = socket_at(stage, addresses["us-east-1a"])
    established.settimeout(2)
    established.connect((inside, 8080))
    request = b"GET / HTTP/1.1\r\nHost: shop\r\n\r\n"
    established.sendall(request)
    assert b"200 OK" in established.recv(4096)
    acl = ec2.create_network_acl(VpcId=place["vpc"])["NetworkAcl"]["NetworkAclId"]
    new = ec2.replace_network_acl_association(
        AssociationId=place["NetworkAclAssociationId"], NetworkAclId=acl
    )["NewAssociationId"]
    eventually(lambda: fates(stage) == {**EVERYWHERE, "us-east-1b": {"hangs"}})
    assert (
        connecting(stage, neighbour, inside) == "open"
    )  # traffic within the subnet is not filtered
    established.sendall(request)
    established.settimeout(0.2)
    with pytest.raises(TimeoutError):
        established.recv(4096)
    eventually(lambda: healthy_zones(stage) == {"us-east-1a": 2, "us-east-1c": 2})
    for _ in range(20):  # by the node of zone a, which uses the targets of zones a and c now
        with urllib.request.urlopen(stage.document["balancers"]["web"], timeout=1) as answer:
            assert answer.headers["X-Zone"] != "us-east-1b"
    eventually(lambda: led_to(stage) == 2)
    ec2.replace_network_acl_association(AssociationId=new, NetworkAclId=place["NetworkAclId"])
    eventually(lambda: fates(stage) == EVERYWHERE)
    eventually(lambda: led_to(stage) == 3)
    established.settimeout(5)
    assert b"200 OK" in established.recv(4096)
    established.close()
    eventually(lambda: healthy_zones(stage) == dict.fromkeys(ZONES, 2))
    ec2.delete_network_acl(NetworkAclId=acl)


@pytest.mark.stage
def test_one_rule_cuts_what_it_names(stage: Stage) -> None:
    """A deny entry for one network: its connections hang. A killed process refuses, and a machine
    that is stopped hangs again: these are different faults."""
    ec2 = stage.client("ec2")
    place, other = acl_of(stage, "us-east-1b"), acl_of(stage, "us-east-1a")
    by_zone = {zone: (id_, address) for id_, zone, address in instances(stage)}
    source, third = by_zone["us-east-1a"][1], by_zone["us-east-1c"][1]
    victim, address = by_zone["us-east-1b"]
    entry = {"NetworkAclId": place["NetworkAclId"], "RuleNumber": 50, "Egress": False}
    ec2.create_network_acl_entry(
        **entry, Protocol="6", RuleAction="deny", CidrBlock=other["cidr"],
        PortRange={"From": 8080, "To": 8080},
    )  # fmt: skip
    eventually(lambda: connecting(stage, source, address) == "hangs")
    assert connecting(stage, third, address) == "open"
    ec2.delete_network_acl_entry(**entry)
    eventually(lambda: connecting(stage, source, address) == "open")
    stage.client("ssm").send_command(
        InstanceIds=[victim],
        DocumentName="AWSFIS-Run-Kill-Process",
        Parameters={"ProcessName": ["web"], "Signal": ["SIGKILL"]},
    )
    eventually(lambda: connecting(stage, source, address) == "refused")
    ec2.reboot_instances(InstanceIds=[victim])
    eventually(lambda: connecting(stage, source, address) == "open")
    ec2.terminate_instances(InstanceIds=[victim])
    eventually(lambda: connecting(stage, source, address) == "hangs")


@pytest.mark.stage
def test_mistakes_with_network_acls_are_awss(stage: Stage) -> None:
    ec2 = stage.client("ec2")
    place = acl_of(stage, "us-east-1c")
    for code, call, parameters in (
        ("InvalidAssociationID.NotFound", ec2.replace_network_acl_association,
         {"AssociationId": "aclassoc-0", "NetworkAclId": place["NetworkAclId"]}),
        ("InvalidNetworkAclID.NotFound", ec2.replace_network_acl_association,
         {"AssociationId": place["NetworkAclAssociationId"], "NetworkAclId": "acl-0"}),
        ("InvalidNetworkAclEntry.NotFound", ec2.delete_network_acl_entry,
         {"NetworkAclId": place["NetworkAclId"], "RuleNumber": 7, "Egress": True}),
    ):  # fmt: skip
        with pytest.raises(ClientError) as error:
            call(**parameters)
        assert error.value.response["Error"]["Code"] == code
    assert acl_of(stage, "us-east-1c") == place


@pytest.mark.stage
def test_plain_chaos_toolkit_cuts_and_heals_a_zone(stage: Stage, tmp_path: Path) -> None:
    """Our action without any control of ours: cut while it runs, undone when it has ended."""
    experiment = tmp_path / "cut.yaml"
    experiment.write_text("""
title: cut a zone
description: no control of ours
method:
  - type: action
    name: cut
    provider:
      type: python
      module: chaosgrade.actions.zones
      func: black_hole_zone
      arguments: {zone: us-east-1c}
    pauses: {after: 3}
""")
    run = subprocess.Popen(
        [sys.executable, "-m", "chaostoolkit", "--no-log-file", "--no-version-check", "run",
         "--journal-path", str(tmp_path / "journal.json"), str(experiment)],
        env={**stage.document["env"], "CHAOSGRADE_STATE_DIR": str(tmp_path), "PATH": "/usr/bin"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=tmp_path,
    )  # fmt: skip
    cut = {**EVERYWHERE, "us-east-1c": {"hangs"}}
    while run.poll() is None and fates(stage) != cut:
        time.sleep(0.05)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 0, out.decode()
    assert run.poll() is not None
    eventually(lambda: fates(stage) == EVERYWHERE)
