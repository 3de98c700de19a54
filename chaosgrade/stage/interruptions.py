"""Spot interruptions: what EC2 says of an instance before it takes it back, and when.

Source: Amazon EC2 User Guide, "Spot Instance interruption notices" and "EC2 instance rebalance
recommendations".
"""

from dataclasses import dataclass

from chaosgrade.stage.timing import INTERRUPTION_NOTICE_S


@dataclass(frozen=True, slots=True)
class Interruption:
    """The end of a Spot Instance, in AWS seconds.

    Args:
        recommended_at: when the rebalance recommendation was given.
        end_at: when the instance is taken back.
    """

    recommended_at: float
    end_at: float

    @property
    def notice_at(self) -> float:
        """When the interruption notice is given."""
        return self.end_at - INTERRUPTION_NOTICE_S


class Interruptions:
    """All that are under way."""

    def __init__(self) -> None:
        self._by_instance: dict[str, Interruption] = {}
        self._ended: set[str] = set()

    def begin(self, instance: str, now: float, after_s: float) -> None:
        """Recommend rebalancing now, and take the instance back after so many AWS seconds.

        One that is under way already goes on as it is.
        """
        self._by_instance.setdefault(instance, Interruption(now, now + after_s))

    def cancel(self, instance: str, now: float) -> None:
        """Take it back, unless the notice has been given: EC2 knows no way back from that."""
        known = self._by_instance.get(instance)
        if known and now < known.notice_at:
            del self._by_instance[instance]

    def of(self, instance: str) -> Interruption | None:
        """What an instance has been told; also after its end."""
        return self._by_instance.get(instance)

    def due(self, now: float) -> list[str]:
        """Instances whose time is over, each of them once."""
        over = [
            id_
            for id_, known in self._by_instance.items()
            if now >= known.end_at and id_ not in self._ended
        ]
        self._ended.update(over)
        return over
