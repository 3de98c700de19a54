"""How the system's own reaction shows in the health of its targets."""

from collections.abc import Sequence
from dataclasses import dataclass

from chaosgrade.history import Health


@dataclass(frozen=True, slots=True)
class Capacity:
    """Healthy targets around a fault.

    Args:
        before: the state when the fault began.
        lost: the first change after which a target that was healthy is not, or is gone.
        restored: the change from which on as many targets are healthy as before, until the end;
            None when that did not happen, or nothing dropped.
        lowest: the change with the fewest healthy targets, `before` included.
        dropped: whether the number of healthy targets was ever lower than before.
    """

    before: Health
    lost: Health | None
    restored: Health | None
    lowest: Health
    dropped: bool


def read_capacity(health: Sequence[Health], fault_at: float, end: float) -> Capacity | None:
    """Capacity from the fault to the end of the window; None when none was known at the fault.

    Args:
        health: every change, in order.
        fault_at, end: Unix seconds.
    """
    known = [change for change in health if change.at <= fault_at]
    if not known:
        return None
    before = known[-1]
    after = [change for change in health if fault_at < change.at <= end]
    count = len(before.healthy)
    low = [index for index, change in enumerate(after) if len(change.healthy) < count]
    restored = after[low[-1] + 1] if low and low[-1] + 1 < len(after) else None
    return Capacity(
        before=before,
        lost=next((change for change in after if before.healthy - change.healthy), None),
        restored=restored,
        lowest=min([before, *after], key=lambda change: len(change.healthy)),
        dropped=bool(low),
    )
