"""The capacity that EC2 has left, by pool: an instance type in an Availability Zone.

How much a pool holds is the stage's own affair: AWS does not tell. Source of the messages: Amazon
EC2 Auto Scaling User Guide, "Troubleshoot Amazon EC2 Auto Scaling: EC2 instance launch failures".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

SPOT, ON_DEMAND = "spot", "on-demand"
_FIELDS = {"instance_type", "zone", "spot", "on_demand"}


class InsufficientCapacity(Exception):
    """A pool has no room; AWS's error code is InsufficientInstanceCapacity."""


@dataclass(frozen=True, slots=True)
class Pool:
    """An instance type in an Availability Zone."""

    instance_type: str
    zone: str


class CapacityPools:
    """How many instances each pool holds; a pool with as many as that has no room for another.

    Args:
        spot: what each pool holds of Spot Instances at first; infinite without a number.
    """

    def __init__(self, spot: float = math.inf) -> None:
        self._first = {SPOT: spot, ON_DEMAND: math.inf}
        self._capacity: dict[tuple[Pool, str], float] = {}

    def capacity(self, pool: Pool, option: str) -> float:
        """How many instances of a purchase option ("spot", "on-demand") the pool holds."""
        return self._capacity.get((pool, option), self._first[option])

    def order(self, order: Mapping[str, Any]) -> None:
        """Set a pool's capacity; what runs in it goes on running.

        Args:
            order: {"instance_type", "zone", "spot"?, "on_demand"?}: numbers from 0 up, or null for
                no limit. What is left out stays.

        Raises:
            ValueError: it is not that.
        """
        unknown = sorted(set(order) - _FIELDS)
        if unknown:
            raise ValueError(
                f"{', '.join(unknown)} unknown; there are {', '.join(sorted(_FIELDS))}"
            )
        names = [order.get(field) for field in ("instance_type", "zone")]
        if not all(isinstance(name, str) and name for name in names):
            raise ValueError("instance_type and zone must name the pool")
        pool = Pool(str(names[0]), str(names[1]))
        given = {option: order[f] for f, option in _OPTIONS.items() if f in order}
        for option, number in given.items():
            if number is not None and (
                not isinstance(number, int) or isinstance(number, bool) or number < 0
            ):
                raise ValueError(f"{option} must be a number from 0 up or null, got {number!r}")
        for option, number in given.items():
            self._capacity[pool, option] = math.inf if number is None else number

    def told(self) -> dict[str, Any]:
        """Every pool whose capacity was set, as `order` takes it."""
        pools = sorted(
            {pool for pool, _ in self._capacity}, key=lambda p: (p.instance_type, p.zone)
        )
        return {
            "pools": [
                {
                    "instance_type": pool.instance_type,
                    "zone": pool.zone,
                    **{field: _number(self.capacity(pool, o)) for field, o in _OPTIONS.items()},
                }
                for pool in pools
            ]
        }


_OPTIONS = {"spot": SPOT, "on_demand": ON_DEMAND}


def _number(capacity: float) -> int | None:
    return None if capacity == math.inf else int(capacity)


def no_capacity(pool: Pool, option: str) -> InsufficientCapacity:
    """What EC2 says of a pool without room."""
    more = (
        "There is no Spot capacity available that matches your request."
        if option == SPOT
        else "Our system will be working on provisioning additional capacity. You can currently "
        f"get {pool.instance_type} capacity by not specifying an Availability Zone in your request "
        "or choosing another."
    )
    return InsufficientCapacity(
        f"We currently do not have sufficient {pool.instance_type} capacity in the "
        f"Availability Zone you requested ({pool.zone}). {more}"
    )
