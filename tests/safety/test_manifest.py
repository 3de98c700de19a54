"""Undo from AWS alone: what is in the tags of a blocking network ACL."""

import pytest

from chaosgrade.changes import manifest
from chaosgrade.changes.instance import InstanceState
from chaosgrade.changes.manifest import Former
from chaosgrade.changes.network_acl import SubnetAcl


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
    wanted = [(f.setting.kind, f.before, f.wanted) for f in formers(count)]
    assert [(kind, before, wanted) for kind, _, before, wanted in items] == wanted
    for tags in parts:
        assert len(tags) <= 50 - 3  # the name, the opt-in tag and the ACL's own come on top
        assert all(len(key) <= 128 and len(value) <= 256 for key, value in tags.items())


def test_a_large_zone_takes_several_network_acls() -> None:
    """A resource takes 50 tags."""
    assert len(manifest.written(formers(3000), run="r1", expires=0.0)) > 1


@pytest.mark.parametrize("damage", ["cut", "changed", "missing"])
def test_damaged_tags_are_told_not_guessed(damage: str) -> None:
    """Restoring half of it, or something else, would be a new fault."""
    (tags,) = manifest.written(formers(40), run="r1", expires=0.0)
    last = max(key for key in tags if "undo-" in key)
    if damage == "missing":
        del tags[last]
    else:
        tags[last] = tags[last][:-9] if damage == "cut" else "A" * len(tags[last])
    with pytest.raises(ValueError):  # noqa: PT011 - zlib, base64 and JSON say it differently
        manifest.read(tags)
