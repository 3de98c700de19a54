"""Makes one fault and undoes it, as a run would: `python -m tests.safety.runner FAULT`.

Prints "opened" once its watchdog is up, "made" after the fault, "undone" at the end. Told
`stay` as a second argument, it dies of SIGKILL after the fault.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from chaosgrade import session
from chaosgrade.actions.instances import terminate_instances
from chaosgrade.actions.targets import deregister_targets
from chaosgrade.actions.zones import black_hole_zone, power_off_zone
from tests.safety.inventory import ZONE

FAULTS: dict[str, Callable[[], Any]] = {
    "black_hole_zone": lambda: black_hole_zone(ZONE, suspend=["Launch", "AZRebalance"]),
    "power_off_zone": lambda: power_off_zone(ZONE),
    "deregister_targets": lambda: deregister_targets("web", count=2),
    "terminate_instances": lambda: terminate_instances(group="group-0", count=1),
}


def main() -> None:
    """Make the fault, undo it."""
    FAULTS[sys.argv[1]]()
    print("made", flush=True)
    if sys.argv[2:] == ["stay"]:
        os.kill(os.getpid(), signal.SIGKILL)
    session.undo_standalone()
    print("undone", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
