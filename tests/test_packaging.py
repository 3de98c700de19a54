"""What ships is what is in the repository."""

import tomllib
from importlib import resources
from pathlib import Path

ROOT = Path(__file__).parent.parent
SETTINGS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]


def _folder(package: str) -> Path:
    return ROOT / SETTINGS["package-dir"].get(package, package.replace(".", "/"))


def test_every_folder_with_code_is_listed() -> None:
    """A package that is not listed would be missing from the wheel."""
    found = {
        ".".join(("chaosgrade", *init.parent.relative_to(ROOT / "chaosgrade").parts))
        for init in (ROOT / "chaosgrade").rglob("__init__.py")
    }
    found |= {
        f"chaosgrade.{top}"
        for top in ("actions", "probes", "policies", "experiments")
        if (ROOT / top / "__init__.py").exists()
    }
    assert set(SETTINGS["packages"]) == found


def test_each_link_leads_to_its_top_folder() -> None:
    """Type checkers and editors find the installed names through these links."""
    for top in ("actions", "probes", "policies", "experiments"):
        link = ROOT / "chaosgrade" / top
        assert link.is_symlink()
        assert link.resolve() == (ROOT / top).resolve()


def test_every_data_file_ships() -> None:
    """A YAML file or template that no pattern covers would be missing from the wheel."""
    for package in SETTINGS["packages"]:
        patterns = SETTINGS["package-data"].get(package, [])
        folder = _folder(package)
        shipped = {path for pattern in patterns for path in folder.glob(pattern)}
        nested = {_folder(other) for other in SETTINGS["packages"] if other != package}
        for path in folder.rglob("*"):
            inside_another = any(path.is_relative_to(o) for o in nested if o != folder)
            if path.is_symlink() or inside_another or path.suffix not in (".yaml", ".j2"):
                continue
            if any(parent.is_symlink() for parent in path.parents if parent != ROOT):
                continue
            assert path in shipped, f"{path} is not shipped"


def test_the_shipped_experiments_are_found_where_they_are_installed() -> None:
    """Names on the command line are looked up in the installed package."""
    names = {p.name for p in resources.files("chaosgrade.experiments").iterdir()}
    assert {"instance-kill.yaml", "web-process-hang.yaml"} <= names
