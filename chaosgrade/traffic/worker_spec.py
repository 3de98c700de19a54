"""What a process that offers requests is told, by whoever starts it."""

from typing import Protocol


class WorkerSpec(Protocol):
    """What a worker is told, as far as its process is concerned."""

    @property
    def wall(self) -> float:
        """With `monotonic`, the run's clock anchor, see `chaosgrade.clock.Clock`."""
        ...

    @property
    def monotonic(self) -> float:
        """See `wall`."""
        ...

    @property
    def deadline_s(self) -> float:
        """No request is due later than this after the start, whoever is still listening."""
        ...

    @property
    def ending_s(self) -> float:
        """The longest that the worker goes on after its last request was due, in seconds."""
        ...

    @property
    def sockets(self) -> int:
        """The most connections that can be open at once: every request hangs."""
        ...
