"""Writes the tables of docs/stage-operations.md from the code; what is between them is by hand.

    stage_operations.py            writes the tables anew
    stage_operations.py --check    ends with 1 when they are not what the code says
    stage_operations.py --json     prints {service: {operation: {"kind", "text"}}}, for every
                                   operation that botocore knows of these services

A table stands between `<!-- NAME -->` and `<!-- end -->`, where NAME is a service as boto3 has it,
`stored services`, `refused` or `resource types`.
"""

import argparse
import difflib
import itertools
import json
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from pathlib import Path

import botocore.session

from chaosgrade.stage.operations import SERVICES, Kind, Operation, Service
from chaosgrade.stage.template import SUPPORTED

PAGE = Path(__file__).parents[1] / "docs" / "stage-operations.md"
_TABLE = re.compile(r"(<!-- ([\w ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def _code(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _service(service: Service) -> str:
    """What is played, and what is stored only."""
    rows = ["| Operation | | What happens |", "| --- | --- | --- |"]
    for what, names in itertools.groupby(service.played.items(), key=lambda item: item[1]):
        operations = _code(name for name, _ in names)
        rows.append(f"| {operations} | {what.kind} | {what.text} |")
    lines = rows if service.played else []
    names = service.stored.split()
    summary = f"<details><summary>Stored only: {len(names)} operations</summary>"
    return "\n".join([*lines, "", summary, "", *textwrap.wrap(_code(names), 100), "", "</details>"])


def _stored_services() -> str:
    rows = ["| Service | Operations |", "| --- | --- |"]
    for service in SERVICES:
        if not service.played and not service.refused:
            rows.append(f"| {service.title} | {_code(service.stored.split())} |")
    return "\n".join(rows)


def _refused() -> str:
    rows = ["| Service | Operation | Why |", "| --- | --- | --- |"]
    for service in SERVICES:
        reasons = itertools.groupby(service.refused.items(), key=lambda item: item[1])
        for why, names in reasons:
            rows.append(f"| {service.title} | {_code(name for name, _ in names)} | {why} |")
    return "\n".join(rows)


def _resource_types() -> str:
    lines = []
    for kind in dict.fromkeys(SUPPORTED.values()):
        types = _code(sorted(name for name, known in SUPPORTED.items() if known == kind))
        lines += textwrap.wrap(f"- {kind}: {types}", 100, subsequent_indent="  ")
    return "\n".join(lines)


_TABLES: dict[str, Callable[[], str]] = {
    "stored services": _stored_services,
    "refused": _refused,
    "resource types": _resource_types,
    **{
        service.name: (lambda service=service: _service(service))
        for service in SERVICES
        if service.played or service.refused
    },
}


def page(text: str) -> str:
    """The page with its tables written anew.

    Raises:
        SystemExit: a table is missing, or of nothing that there is.
    """
    names = [name for _, name, _ in _TABLE.findall(text)]
    if sorted(names) != sorted(_TABLES):
        difference = ", ".join(sorted(set(names) ^ set(_TABLES))) or "doubled names"
        raise SystemExit(f"{PAGE.name}: tables and code do not agree on: {difference}")
    return _TABLE.sub(lambda m: f"{m[1]}{_TABLES[m[2]]()}\n{m[3]}", text)


def classified() -> dict[str, dict[str, dict[str, str]]]:
    """Every operation of the services that the stage knows."""
    session = botocore.session.get_session()
    unknown = Operation(Kind.UNSUPPORTED)
    found: dict[str, dict[str, dict[str, str]]] = {}
    for service in SERVICES:
        operations = service.operations
        found[service.name] = {
            name: {"kind": known.kind, "text": known.text}
            for name in session.get_service_model(service.name).operation_names
            for known in [operations.get(name, unknown)]
        }
    return found


def main() -> None:
    """Write, check or print."""
    parser = argparse.ArgumentParser(description="Tables of docs/stage-operations.md.")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if options.json:
        print(json.dumps(classified(), indent=1))
        return
    written = PAGE.read_text("utf-8")
    wanted = page(written)
    if not options.check:
        PAGE.write_text(wanted, "utf-8")
    elif wanted != written:
        lines = difflib.unified_diff(
            written.splitlines(), wanted.splitlines(), PAGE.name, "what the code says", lineterm=""
        )
        print("\n".join(lines))
        sys.exit(f"{PAGE.name} is not what the code says: run make docs")


if __name__ == "__main__":
    main()
