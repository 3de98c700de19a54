"""Wall-clock time that cannot jump within a run.

Evidence from several processes is put on one axis, and an NTP step in mid-run must not bend it:
wall time is read once and advanced by the monotonic clock, which all processes of a machine share.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """Unix seconds that only move forward.

    Args:
        wall: Unix time at the anchor, in seconds.
        monotonic: `time.monotonic()` at the anchor, in seconds.
        ticks: the monotonic source; tests pass their own.
    """

    wall: float = field(default_factory=time.time)
    monotonic: float = field(default_factory=time.monotonic)
    ticks: Callable[[], float] = time.monotonic

    def now(self) -> float:
        """Unix seconds at this moment."""
        return self.wall + (self.ticks() - self.monotonic)
