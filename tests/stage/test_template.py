"""Templates are checked before anything starts."""

from pathlib import Path

import pytest

from chaosgrade.errors import UsageError
from chaosgrade.stage import template

REGION = "us-east-1"


def write(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, "utf-8")
    return str(path)


def test_defaults_and_given_values_are_merged() -> None:
    """Every parameter has its effective value, as text."""
    chosen = template.load("three-tier", ["FleetType=fixed", "BootSeconds=60"], REGION)
    assert chosen.name == "three-tier"
    assert chosen.parameters["FleetType"] == "fixed"
    assert chosen.parameters["BootSeconds"] == "60"
    assert chosen.parameters["HealthCheckProtocol"] == "HTTP"


@pytest.mark.parametrize(
    ("name", "assignments", "words"),
    [
        ("four-tier", [], ["four-tier", "three-tier"]),
        ("/nowhere/a.yaml", [], ["/nowhere/a.yaml", "No such file"]),
        ("three-tier", ["FleetType"], ["FleetType", "Key=Value"]),
        ("three-tier", ["Fleet=fixed"], ["Fleet", "FleetType"]),
        ("three-tier", ["FleetType=none"], ["none", "auto-scaling", "fixed"]),
        ("three-tier", ["DesiredCapacity=many"], ["many", "number"]),
        ("three-tier", ["DesiredCapacity=10"], ["10", "1 to 9"]),
    ],
)
def test_what_somebody_wrote_wrong_is_named(
    name: str, assignments: list[str], words: list[str]
) -> None:
    """One line with the value and what would be right."""
    with pytest.raises(UsageError) as caught:
        template.load(name, assignments, REGION)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Resources: [", ["mine.yaml"]),
        ("just text", ["Resources"]),
        ("Resources: {}", ["Resources"]),
        ("Parameters: 3\nResources: {Net: {Type: 'AWS::EC2::VPC'}}", ["Parameters"]),
        ("Resources: {Net: &n {Type: 'AWS::EC2::VPC', Properties: *n}}", ["mine.yaml", "alias"]),
        ("Resources: {Code: {Type: 'AWS::Lambda::Function'}}", ["Code", "AWS::Lambda::Function"]),
    ],
)
def test_a_template_that_cannot_be_played_is_refused(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    """Malformed text and resource types without consequences end in one line."""
    with pytest.raises(UsageError) as caught:
        template.load(write(tmp_path, text), [], REGION)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


def test_a_parameter_without_a_value_is_asked_for(tmp_path: Path) -> None:
    """A template of one's own may have parameters without defaults."""
    text = "Parameters: {Size: {Type: String}}\nResources: {Net: {Type: 'AWS::EC2::VPC'}}"
    path = write(tmp_path, text)
    with pytest.raises(UsageError, match="--parameter Size="):
        template.load(path, [], REGION)
    assert template.load(path, ["Size=3"], REGION).parameters == {"Size": "3"}
