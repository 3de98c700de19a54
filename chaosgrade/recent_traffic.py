"""What the last requests of a run came to, for the stop condition on its own error budget."""

import threading
from collections import deque

from chaosgrade.clock import Clock
from chaosgrade.evidence import Record

KEPT_S = 900.0
"""How long requests are remembered, in seconds."""


class RecentTraffic:
    """Counts requests as they are recorded.

    Args:
        clock: the run's time.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._seconds: deque[tuple[float, int, int]] = deque()

    def see(self, record: Record) -> None:
        """Take note of one record of evidence."""
        if record.kind != "traffic":
            return
        requests = record["requests"]
        failed = sum(1 for request in requests if request[2] != "ok")
        with self._lock:
            self._seconds.append((record.at, failed, len(requests)))
            while self._seconds and self._seconds[0][0] < record.at - KEPT_S:
                self._seconds.popleft()

    def tally(self, over_s: float) -> tuple[int, int]:
        """(failed, offered) requests that were recorded in the last `over_s` seconds."""
        since = self._clock.now() - over_s
        with self._lock:
            recent = [second for second in self._seconds if second[0] >= since]
        return sum(second[1] for second in recent), sum(second[2] for second in recent)
