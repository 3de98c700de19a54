"""The peer's half of `benchmarks/zone_fault.py`, run by an environment of its own.

Fails and recovers one zone with aws-az-failure-chaostoolkit; prints one JSON object.
"""

import importlib
import json
import sys
import time


def main() -> None:
    """`zone_fault_peer.py ZONE FOLDER SERVICE...`"""
    zone, folder, *services = sys.argv[1:]
    configuration = {"aws_region": "us-east-1"}
    told = {"fail_s": 0.0, "recover_s": 0.0, "error": None, "recovery": None}
    modules = {name: importlib.import_module(f"azchaosaws.{name}.actions") for name in services}
    began = time.monotonic()
    try:
        for name, module in modules.items():
            path = f"{folder}/{name}.json"
            module.fail_az(az=zone, dry_run=False, state_path=path, configuration=configuration)
    except Exception as error:
        told["error"] = f"{type(error).__name__}: {error}"
    told["fail_s"] = time.monotonic() - began
    began = time.monotonic()
    try:
        for name, module in modules.items():
            module.recover_az(state_path=f"{folder}/{name}.json", configuration=configuration)
    except Exception as error:
        told["recovery"] = f"{type(error).__name__}: {error}"
    told["recover_s"] = time.monotonic() - began
    print(json.dumps(told))


if __name__ == "__main__":
    main()
