"""Rules: every weight has a reason, every declaration is checked, every error is one line."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgrade.errors import UsageError
from chaosgrade.experiment import shipped
from chaosgrade.policies.grading import load_grading
from chaosgrade.policies.objectives import format_value, parse_extension, parse_objectives

GOOD: dict[str, Any] = {
    "name": "chaosgrade",
    "pattern": "instance-loss",
    "pillar": "elasticity",
    "window": "5m",
    "observers": [{"probe": "traffic", "url": "http://x"}],
    "objectives": [{"metric": "availability", "at_least": "97%", "because": "arithmetic"}],
}


def parse(**changes: Any) -> Any:
    return parse_extension({"extensions": [{**GOOD, **changes}]})


def test_every_weight_has_a_reason_and_every_pattern_a_remedy() -> None:
    """They are judgements: they must be open to dispute."""
    grading = load_grading()
    assert all(len(pillar.reason) > 20 for pillar in grading.pillars.values())
    for name, pattern in grading.patterns.items():
        assert len(pattern.reason) > 20, name
        assert len(pattern.remedy) > 20, name
        assert pattern.section, name
    assert set(grading.pillars) == {p.pillar for p in grading.patterns.values()}


def test_patterns_name_experiments_that_exist() -> None:
    """A test that is promised must be there."""
    named = {p.experiment for p in load_grading().patterns.values() if p.experiment}
    assert named <= set(shipped())


def test_bands_cover_every_score() -> None:
    """From 0 to 100, best first."""
    grading = load_grading()
    assert [grading.grade_of(s) for s in (100, 90, 89.9, 80, 70, 60, 59.9, 0)] == list("AABBCDFF")
    assert grading.worse("B", "D") == "D"


def test_a_wrong_rule_is_named(tmp_path: Path) -> None:
    """File, place, problem."""
    path = tmp_path / "mine.yaml"
    path.write_text("bands: []\n")
    with pytest.raises(UsageError, match=r"mine\.yaml: "):
        load_grading(path)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda r: r["bands"].reverse(), "bands"),
        (lambda r: r["bands"].pop(), "bands"),
        (lambda r: r["coverage_caps"].append({"below": 0.3, "cap": "E"}), "'E'"),
        (lambda r: r["caps"]["not_recovered"].update(grade="E"), "'E'"),
        (lambda r: r["pillars"].update(x={"weight": 1, "reason": "y"}), "pillar x"),
        (lambda r: r["patterns"]["multi-az"].update(pillar="x"), "multi-az"),
        (lambda r: r["patterns"]["multi-az"].update(weight=float("inf")), "multi-az.weight"),
    ],
)
def test_rules_that_cannot_grade_are_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None], named: str
) -> None:
    """When they are read, in one line, and not as a traceback in the middle of a run."""
    rules = yaml.safe_load(Path("policies/grading.yaml").read_text())
    change(rules)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(rules))
    with pytest.raises(UsageError, match=r"mine\.yaml: ") as caught:
        load_grading(path)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_extension_is_read() -> None:
    """Units are converted, defaults filled in."""
    extension = parse()
    (objective,) = extension.objectives
    assert extension.window_s == 300
    assert (objective.target, objective.at_least, objective.weight) == (0.97, True, 1.0)
    assert objective.text == "≥ 97%"
    assert (extension.after_s, extension.template) == (0.0, "three-tier")
    extension = parse(after="2m", template="services")
    assert (extension.after_s, extension.template) == (120.0, "services")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"pattern": "telepathy"}, "'telepathy'"),
        ({"pillar": "security"}, "belongs to pillar elasticity"),
        ({"window": "soon"}, "'soon'"),
        ({"window": "0s"}, "above 0"),
        ({"window": 300}, "got 300"),
        ({"after": "later"}, "'later'"),
        ({"template": ""}, "template"),
        ({"observers": []}, "observers"),
        ({"objectives": []}, "objectives"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wrong_extension_is_one_line_with_its_value(changes: dict[str, Any], named: str) -> None:
    """So that it can be mended without reading code."""
    with pytest.raises(UsageError) as caught:
        parse(**changes)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("objective", "named"),
    [
        ({"metric": "happiness", "at_least": "97%"}, "happiness"),
        ({"metric": "availability", "at_most": "97%"}, "at_least"),
        ({"metric": "availability"}, "exactly one"),
        ({"metric": "availability", "at_least": "97%", "at_most": "98%"}, "exactly one"),
        ({"metric": "availability", "at_least": "970%"}, "more than 100%"),
        ({"metric": "availability", "at_least": "60s"}, "is no share"),
        ({"metric": "time_to_recover", "at_most": "60"}, "write 60s"),
        ({"metric": "time_to_recover", "at_most": "60s", "weight": 0}, "got 0"),
        ({"metric": "time_to_recover", "at_most": "60s", "weight": float("inf")}, "weight"),
        ({"metric": "time_to_recover", "at_most": "60s", "because": " "}, "because"),
        ({"metric": "time_to_recover", "at_most": "60s", "because": ""}, "because"),
    ],
)
def test_a_wrong_objective_is_one_line_with_its_value(
    objective: dict[str, Any], named: str
) -> None:
    """Number, field, remedy."""
    with pytest.raises(UsageError) as caught:
        parse_objectives([{"because": "x", **objective}])
    assert named in str(caught.value)
    assert "objective 1" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_objective_that_is_there_twice_is_refused() -> None:
    """One trial would count as two."""
    once = {"metric": "availability", "at_least": "97%", "because": "x"}
    again = {**once, "at_least": "0.97", "weight": 3, "because": "y"}
    with pytest.raises(UsageError, match=r"objective 2: availability ≥ 97% is there already"):
        parse_objectives([once, again])
    assert len(parse_objectives([once, {**once, "at_least": "99%"}])) == 2


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (None, "s", "—"),
        (0.9, "share", "90%"),
        (0.98765, "share", "98.8%"),
        (0.99876, "share", "99.88%"),
        (0.999876, "share", "99.988%"),
        (1.0, "share", "100%"),
        (23.456, "s", "23 s"),
        (2.345, "s", "2.3 s"),
        (250.0, "ms", "250 ms"),
        (1.0, "count", "1"),
        (1.234, "count", "1.23"),
    ],
)
def test_figures_are_written_as_people_do(value: float | None, unit: str, text: str) -> None:
    """99.99% must not read as 100%."""
    assert format_value(value, unit) == text
