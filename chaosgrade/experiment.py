"""Experiments on disk: found by name or path, loaded, and checked before anything starts."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from chaosgrade.errors import UsageError


@dataclass(frozen=True, slots=True)
class ExperimentFile:
    """An experiment that has been read and checked.

    Args:
        name: the file's name without its ending.
        path: the file.
        document: what is in it.
    """

    name: str
    path: Path
    document: Mapping[str, Any]


def shipped() -> dict[str, Path]:
    """The experiments that come with chaosgrade, by name."""
    folder = Path(str(resources.files("chaosgrade.experiments")))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def load(name_or_path: str) -> ExperimentFile:
    """Read an experiment, by the name of a shipped one or by path.

    Raises:
        UsageError: there is none, it is not YAML or JSON, or Chaos Toolkit or the `chaosgrade`
            extension would not accept it.
    """
    path = _find(name_or_path)
    document = _parse(path)
    _check(path, document)
    return ExperimentFile(path.stem, path, document)


def suite(name: str) -> list[str]:
    """Names of the experiments of a suite.

    Raises:
        UsageError: there is no such suite.
    """
    known = _suites()
    if name not in known:
        raise UsageError(f"there is no suite {name!r}; there are: {', '.join(sorted(known))}")
    return [str(experiment) for experiment in known[name]["experiments"]]


def suites() -> list[str]:
    """Names of all suites."""
    return list(_suites())


def _suites() -> dict[str, Any]:
    text = (resources.files("chaosgrade.policies") / "suites.yaml").read_text(encoding="utf-8")
    known: dict[str, Any] = yaml.safe_load(text)
    return known


def _find(name_or_path: str) -> Path:
    names = shipped()
    if name_or_path in names:
        return names[name_or_path]
    path = Path(name_or_path)
    if path.is_file():
        return path.absolute()
    if path.suffix in (".yaml", ".yml", ".json") or "/" in name_or_path:
        raise UsageError(f"there is no experiment file {name_or_path}")
    close = difflib.get_close_matches(name_or_path, names, n=1)
    hint = f"did you mean {close[0]}?" if close else f"there are: {', '.join(names)}"
    raise UsageError(f"there is no experiment {name_or_path!r}; {hint}")


def _parse(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        raise UsageError(f"{path}:{where} is not YAML: {error.problem}") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path} is not YAML: {' '.join(str(error).split())}") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise UsageError(f"{path} holds a {type(document).__name__}, not an experiment")
    return document


def _check(path: Path, document: Mapping[str, Any]) -> None:
    # Late: these take a moment to import, and finding a misspelt name must not wait for it.
    from chaoslib.exceptions import ChaosException
    from chaoslib.experiment import ensure_experiment_is_valid

    from chaosgrade.policies.objectives import parse_extension
    from chaosgrade.probes import observers

    try:
        ensure_experiment_is_valid(document)
    except ChaosException as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())}") from None
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not an experiment of Chaos Toolkit: {error}") from None
    try:
        observers.check(parse_extension(document).observers)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    if not any(
        control.get("provider", {}).get("module") == "chaosgrade.control"
        for control in document.get("controls", [])
    ):
        raise UsageError(
            f"{path} lacks the control chaosgrade.control: without it nothing is graded"
        )
