"""Our half of `benchmarks/zone_fault.py`: fails and recovers one zone; prints one JSON object."""

import json
import os
import sys
import time

from chaoslib.exceptions import ActivityFailed

from chaosgrade import session
from chaosgrade.actions.zones import black_hole_zone


def main() -> None:
    """`zone_fault_ours.py ZONE [PROCESS...]`"""
    zone, *processes = sys.argv[1:]
    told = {"fail_s": 0.0, "recover_s": 0.0, "error": None, "recovery": None}
    began = time.monotonic()
    try:
        black_hole_zone(
            zone,
            tags={"chaosgrade": "allowed"},
            suspend=processes,
            configuration={"aws_region": "us-east-1"},
        )
    except ActivityFailed as error:
        told["error"] = str(error)
    told["fail_s"] = time.monotonic() - began
    began = time.monotonic()
    left = [one for one in session.undo_standalone() if one.state == "unreverted"]
    told["recovery"] = f"{len(left)} not undone" if left else None
    told["recover_s"] = time.monotonic() - began
    print(json.dumps(told), flush=True)
    os._exit(0)  # the executor is torn down by the process's end, as in a run


if __name__ == "__main__":
    main()
