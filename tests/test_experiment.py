"""Experiments are found, read and checked before anything starts; what is wrong is one line."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from chaosgrade import experiment
from chaosgrade.errors import UsageError
from chaosgrade.experiment import shipped


@pytest.mark.parametrize("name", list(shipped()))
def test_every_shipped_experiment_is_valid(name: str) -> None:
    """Chaos Toolkit and the extension both accept it."""
    assert experiment.load(name).document["title"]


def test_every_suite_names_experiments_that_exist() -> None:
    """The main job must not fail on a misspelt name."""
    for every in experiment.suites():
        for name in experiment.suite(every):
            experiment.load(name)


def test_a_misspelt_name_is_answered_with_the_right_one() -> None:
    """At 3 a.m. nobody wants a list."""
    with pytest.raises(UsageError, match="did you mean instance-kill"):
        experiment.load("instance-kil")


def test_a_name_like_nothing_is_answered_with_all() -> None:
    """So that the user can choose."""
    with pytest.raises(
        UsageError,
        match="instance-kill, poison-request, rds-failover, retry-storm, spot-flip, web-",
    ):
        experiment.load("xyzzy")


def test_an_unknown_suite_is_named() -> None:
    """With those that there are."""
    with pytest.raises(UsageError, match=r"'nightmare'.*default"):
        experiment.suite("nightmare")


def _changed(tmp_path: Path, **changes: Any) -> Path:
    document = yaml.safe_load(shipped()["instance-kill"].read_text())
    document.update(changes)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def test_malformed_yaml_names_line_and_column(tmp_path: Path) -> None:
    """The place, as an editor counts it."""
    path = tmp_path / "broken.yaml"
    path.write_text("title: x\nmethod: [a\n")
    with pytest.raises(UsageError, match="line 3, column 1 is not YAML"):
        experiment.load(str(path))


def test_an_experiment_without_the_control_is_refused(tmp_path: Path) -> None:
    """It would run ungraded, without undo of ours."""
    with pytest.raises(UsageError, match=r"chaosgrade\.control"):
        experiment.load(str(_changed(tmp_path, controls=[])))


def test_an_unknown_observer_is_refused(tmp_path: Path) -> None:
    """Before a stage is started for it."""
    extension = yaml.safe_load(shipped()["instance-kill"].read_text())["extensions"][0]
    extension["observers"] = [{"probe": "telepathy"}]
    with pytest.raises(UsageError, match=r"telepathy.*traffic"):
        experiment.load(str(_changed(tmp_path, extensions=[extension])))


def test_a_wrong_argument_of_an_observer_is_refused(tmp_path: Path) -> None:
    """Misspelt options must not be ignored."""
    extension = yaml.safe_load(shipped()["instance-kill"].read_text())["extensions"][0]
    extension["observers"] = [
        {"probe": "target_health", "target_group": "web", "targetgroup": "web"}
    ]
    with pytest.raises(UsageError, match="targetgroup"):
        experiment.load(str(_changed(tmp_path, extensions=[extension])))


@pytest.mark.parametrize("text", ["", "[]", "just words", "title: 3"])
def test_what_is_no_experiment_is_one_line(tmp_path: Path, text: str) -> None:
    """Whatever is in the file, no traceback."""
    path = tmp_path / "odd.yaml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        experiment.load(str(path))
    assert "\n" not in str(caught.value)
    assert "odd.yaml" in str(caught.value)
