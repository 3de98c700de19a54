"""Which purchase option and instance type an Auto Scaling group launches next: pure rules.

Source: Amazon EC2 Auto Scaling User Guide, "Auto Scaling groups with multiple instance types and
purchase options" and "Allocation strategies for multiple instance types". Rounding towards
On-Demand is an assumption.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_DIVERSE = "lowest-price"
STRATEGIES = (
    _DIVERSE,
    "capacity-optimized",
    "capacity-optimized-prioritized",
    "price-capacity-optimized",
)
_NOT_PLAYED = ("WeightedCapacity", "LaunchTemplateSpecification", "InstanceRequirements")


@dataclass(frozen=True, slots=True)
class Mix:
    """What a group buys.

    Args:
        types: instance types, the preferred first.
        on_demand_base: so many are On-Demand first.
        on_demand_percent: the share of On-Demand Instances above that, in percent.
        strategy: Spot allocation strategy.
        pools: how many types "lowest-price" spreads over in each zone.
    """

    types: tuple[str, ...]
    on_demand_base: int = 0
    on_demand_percent: float = 100.0
    strategy: str = _DIVERSE
    pools: int = 2

    @classmethod
    def of(cls, policy: Mapping[str, Any], default_type: str) -> "Mix":
        """From a MixedInstancesPolicy and the instance type of its launch template.

        Raises:
            ValueError: a value that AWS does not have, or a part that the stage does not play.
        """
        overrides: Sequence[Mapping[str, Any]] = policy["LaunchTemplate"].get("Overrides") or ()
        for override in overrides:
            for part in _NOT_PLAYED:
                if part in override and str(override[part]) != "1":
                    raise ValueError(f"the stage does not play {part} in a MixedInstancesPolicy")
        distribution: Mapping[str, Any] = policy.get("InstancesDistribution") or {}
        mix = cls(
            tuple(dict.fromkeys(str(o["InstanceType"]) for o in overrides)) or (default_type,),
            int(distribution.get("OnDemandBaseCapacity", 0)),
            float(distribution.get("OnDemandPercentageAboveBaseCapacity", 100)),
            str(distribution.get("SpotAllocationStrategy", _DIVERSE)),
            int(distribution.get("SpotInstancePools", 2)),
        )
        if mix.strategy not in STRATEGIES:
            raise ValueError(
                f"SpotAllocationStrategy must be one of {', '.join(STRATEGIES)}, got {mix.strategy}"
            )
        if mix.on_demand_base < 0 or not 0 <= mix.on_demand_percent <= 100:
            raise ValueError(
                "OnDemandBaseCapacity must be 0 or more and OnDemandPercentageAboveBaseCapacity "
                f"from 0 to 100, got {mix.on_demand_base} and {mix.on_demand_percent:g}"
            )
        return mix

    def on_demand_of(self, desired: int) -> int:
        """How many of so many instances are On-Demand."""
        above = max(0, desired - self.on_demand_base)
        return min(desired, self.on_demand_base) + math.ceil(above * self.on_demand_percent / 100)

    def order(
        self,
        *,
        spot: bool,
        room: Callable[[str], float],
        running: Callable[[str], tuple[int, int]],
    ) -> list[str]:
        """The instance types in the order in which they are tried in one zone.

        Without prices, "lowest-price" takes the first `pools` types for the cheapest. The other
        strategies take the pool with the most room; among equals the group spreads.

        Args:
            spot: which purchase option; On-Demand goes by priority.
            room: how many more instances of a type the zone's pool holds; below 0 for one that is
                to be avoided.
            running: how many Spot Instances of a type the group has, in the zone and in all.
        """
        if not spot:
            return list(self.types)
        place = {type_: number for number, type_ in enumerate(self.types)}
        if self.strategy == _DIVERSE:
            cheap = set(self.types[: self.pools])
            return sorted(self.types, key=lambda t: (t not in cheap, running(t), place[t]))
        if self.strategy == "capacity-optimized-prioritized":
            return sorted(self.types, key=lambda t: (room(t) <= 0, place[t]))
        return sorted(self.types, key=lambda t: (-room(t), running(t), place[t]))
