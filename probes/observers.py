"""Observers that an experiment names in its `chaosgrade` extension, by name.

```yaml
observers:
  - {probe: traffic, balancer: web, rate: 200, customers: 50}
  - {probe: target_health, target_group: web}
  - {probe: group_capacity, group: web}
  - {probe: spot_notices}
  - {probe: ledger, balancer: web, rate: 50}
  - {probe: database, identifier: shop}
  - {probe: access_log, balancer: recommendations}
```
"""

import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from chaosgrade.errors import UsageError
from chaosgrade.probes import (
    access_log,
    database,
    group_capacity,
    ledger,
    spot_notices,
    target_health,
    traffic,
)
from chaosgrade.session import Session


class Observer(Protocol):
    """Watches in the background and writes evidence."""

    def start(self) -> None:
        """Begin; returns when the first observation is recorded.

        Raises:
            ChaosgradeError: it cannot observe.
        """
        ...

    def stop(self) -> None:
        """End; returns when everything observed is recorded."""
        ...


OBSERVERS: Mapping[str, Callable[..., Observer]] = {
    "access_log": access_log.observe,
    "traffic": traffic.observe,
    "target_health": target_health.observe,
    "group_capacity": group_capacity.observe,
    "spot_notices": spot_notices.observe,
    "ledger": ledger.observe,
    "database": database.observe,
}


def check(specifications: Sequence[Mapping[str, Any]]) -> None:
    """Check names and arguments of observers without starting any.

    Raises:
        UsageError: an unknown probe or argument, or a missing one.
    """
    for specification in specifications:
        name = str(specification.get("probe"))
        if name not in OBSERVERS:
            raise UsageError(
                f"observer {name!r} is unknown; there are: {', '.join(sorted(OBSERVERS))}"
            )
        signature = inspect.signature(OBSERVERS[name])
        try:
            signature.bind(None, **_arguments(specification))
        except TypeError as error:
            raise UsageError(f"observer {name}: {error}") from None


def build(session: Session, specifications: Sequence[Mapping[str, Any]]) -> list[Observer]:
    """The observers of an experiment, ready to start.

    Raises:
        UsageError: as `check`.
        ChaosgradeError: what they are to watch does not exist.
    """
    check(specifications)
    return [OBSERVERS[s["probe"]](session, **_arguments(s)) for s in specifications]


def reads(specifications: Sequence[Mapping[str, Any]]) -> set[str]:
    """IAM actions that these need, such as "elasticloadbalancing:DescribeTargetHealth".

    Args:
        specifications: of observers, or of any of our probes with its module's name as `probe`.

    Raises:
        UsageError: there is no such probe.
    """
    found: set[str] = set()
    for specification in specifications:
        name = str(specification.get("probe"))
        try:
            declared: tuple[str, ...] = importlib.import_module(f"chaosgrade.probes.{name}").READS
        except (ImportError, AttributeError):
            raise UsageError(f"chaosgrade has no probes named {name!r}") from None
        # Whoever has the address, or the file, need not ask AWS for it.
        if specification.get("url") is None and specification.get("file") is None:
            found.update(declared)
    return found


def _arguments(specification: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in specification.items() if name != "probe"}
