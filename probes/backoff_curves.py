"""How the gap grows from retry to retry, before cap and jitter."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from chaosgrade.probes.backoff_law import Floats

_GOLDEN = (1.0 + math.sqrt(5.0)) / 2.0
_MOST = 60.0  # beyond it every cap has long decided, and a float would overflow


@dataclass(frozen=True, slots=True)
class Curve:
    """A rule of growth.

    Args:
        name: "none", "fixed", "linear", "stepped", "fibonacci", "doubling" or "exponential".
        family: what clients are called that wait exactly so.
        open: names of its parameters: "base_s", "factor" or "step_s".
    """

    name: str
    family: str
    open: tuple[str, ...]

    def at(self, n: Floats, values: Mapping[str, float]) -> Floats:
        """The gap before retry n in seconds, for each n from 1."""
        if self.name == "none":
            return np.zeros(len(n))
        return values["base_s"] * self._multiple(n, values)

    def _multiple(self, n: Floats, values: Mapping[str, float]) -> Floats:
        """The gap by the base."""
        match self.name:
            case "fixed":
                return np.ones(len(n))
            case "linear":
                return n
            case "stepped":
                return 1.0 + values["step_s"] / values["base_s"] * (n - 1.0)
            case "fibonacci":
                return _fibonacci(n)
        factor = 2.0 if self.name == "doubling" else values["factor"]
        grown: Floats = factor ** np.minimum(n - 1.0, _MOST)
        return grown

    def start(self, n: Floats, level_s: Floats, capped: bool) -> dict[str, float]:
        """Parameters with which the curve comes near a level for each n.

        Args:
            n: numbers of retries, in rising order.
            level_s: where the gap before each lies, in seconds, above 0.
            capped: whether the last of them may lie at a cap.
        """
        if self.name == "none":
            return {}
        values = {"base_s": 1.0}
        ends = slice(0, 2) if capped else slice(None)
        if self.name == "stepped":
            rise = float(np.polyfit(n[ends], level_s[ends], 1)[0]) if len(n) > 1 else level_s[0]
            step_s = max(rise, 0.001)
            return {
                "base_s": max(float(level_s[0] - step_s * (n[0] - 1.0)), 0.01),
                "step_s": step_s,
            }
        if self.name == "exponential":
            rise = float(np.polyfit(n[ends], np.log(level_s[ends]), 1)[0]) if len(n) > 1 else 1.0
            values["factor"] = min(max(math.exp(rise), 1.35), 10.0)
        ends = slice(0, 1) if capped else slice(None)
        ratios = np.log(level_s[ends] / self.at(n[ends], values))
        return {**values, "base_s": float(np.exp(np.median(ratios)))}


def _fibonacci(n: Floats) -> Floats:
    """1, 1, 2, 3, 5 …, by Binet's formula."""
    bounded = np.minimum(n, _MOST)
    return np.round((_GOLDEN**bounded - (-_GOLDEN) ** -bounded) / math.sqrt(5.0))


NONE = Curve("none", "none", ())
FIXED = Curve("fixed", "fixed", ("base_s",))
LINEAR = Curve("linear", "linear", ("base_s",))
STEPPED = Curve("stepped", "linear", ("base_s", "step_s"))
FIBONACCI = Curve("fibonacci", "fibonacci", ("base_s",))
DOUBLING = Curve("doubling", "exponential", ("base_s",))
EXPONENTIAL = Curve("exponential", "exponential", ("base_s", "factor"))
