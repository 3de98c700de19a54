"""Figures of a run, computed from its evidence and from nothing else.

`measure` is a pure function: the same records give the same figures on any machine, today or in a
year. Durations are in AWS time: on the stage, where the control plane's waits are divided by the
time scale, a measured duration is multiplied by it and marked `projected`.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Measurement:
    """One figure.

    Args:
        metric: its name, as objectives use it.
        value: the figure; None when the evidence holds no data for it.
        unit: "share" (0 to 1), "s" or "count".
        low, high: the sampling error: the interval in which the true figure lies.
        censored: the observation ended first: the true figure is at least `value`.
        projected: stage time multiplied by the time scale.
        reason: why there is no value, or what bounds it; one sentence.
        evidence: sequence numbers of the records behind it.
    """

    metric: str
    value: float | None
    unit: str
    low: float | None = None
    high: float | None = None
    censored: bool = False
    projected: bool = False
    reason: str = ""
    evidence: tuple[int, ...] = ()
