"""How much of a Spot interruption notice was left when the load balancer sent its instance nothing.

What the evidence does not hold has no value and a reason, never a zero.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from chaosgrade.figures import Figure
from chaosgrade.history import Health, History, Notices

NOTICE_S = 120.0
"""From the notice until the instance is taken back, in AWS seconds. Source: Amazon EC2 User Guide,
"Spot Instance interruption notices"."""


@dataclass(frozen=True, slots=True)
class _Left:
    """What one interrupted instance had left, in measured seconds, and the records that tell it."""

    instance: str
    left_s: float
    evidence: tuple[int, ...]


def notice_left(history: History) -> Figure:
    """The least that was left to any interrupted instance that was in service after the fault.

    An instance that leaves service before its notice is given has all of it left.
    """
    if history.fault_at is None:
        return Figure(None, reason="no fault was injected")
    notices = dict(_given(history, history.fault_at))
    interrupted = sorted({*notices, *history.struck})
    health = _since(history.health, history.fault_at)
    if not history.notices:
        return Figure(None, reason="notices of Spot Instances were not observed")
    if not interrupted:
        return Figure(None, reason="no Spot Instance was interrupted")
    if not health:
        return Figure(None, reason="no target health was recorded before the fault")
    results = [_left(history, one, notices.get(one), health) for one in interrupted]
    found = [result for result in results if isinstance(result, _Left)]
    unknown = [result for result in results if isinstance(result, str)]
    if unknown or not found:
        nobody = "no interrupted Spot Instance was a target in service"
        return Figure(None, reason=unknown[0] if unknown else nobody)
    return _least(history, found)


def _left(
    history: History, instance: str, notice: Notices | None, health: Sequence[Health]
) -> _Left | str | None:
    """What one instance had left, or why that is not known; None when it was no target."""
    observed_until = history.window_end or 0.0
    notice_s = NOTICE_S / history.time_scale
    end = notice.at + notice_s if notice else observed_until
    seen = [change for change in health if change.at <= end]
    serving = [number for number, change in enumerate(seen) if _in_service(change, instance)]
    if not serving:
        return None  # nobody is sent to it, and nobody notices that it leaves
    in_service = serving[-1] == len(seen) - 1
    if end > observed_until:
        return f"the observation ended before the notice of {instance} did"
    if notice is None and in_service:
        return f"{instance} was in service and got no notice"
    decided = seen[-1] if in_service else seen[serving[-1] + 1]
    # One that left without a notice has gone before it was due.
    left_s = 0.0 if in_service else min(notice_s, end - decided.at) if notice else notice_s
    return _Left(instance, left_s, tuple(one.seq for one in (notice, decided) if one))


def _least(history: History, found: Sequence[_Left]) -> Figure:
    notice_s, look_s = NOTICE_S / history.time_scale, history.look_s
    fault = () if history.fault_seq is None else (history.fault_seq,)
    least = min(found, key=lambda one: one.left_s)
    late = sum(not one.left_s for one in found)
    reason = f"{least.instance} was the last of {len(found)} to leave service"
    if late:
        reason = f"in service until the end of the notice: {late} of {len(found)}"
    # Notice and health are each up to one look older than their records.
    low, high = max(0.0, least.left_s - look_s), min(notice_s, least.left_s + look_s)
    return Figure(least.left_s, low, high, reason=reason, evidence=(*fault, *least.evidence))


def _given(history: History, fault_at: float) -> Iterator[tuple[str, Notices]]:
    """Instances that got their notice after the fault, each with the record that first has it."""
    known = set[str]()
    for notices in history.notices:
        if notices.at > fault_at:
            yield from ((instance, notices) for instance in notices.marked - known)
        known |= notices.marked


def _since(health: Sequence[Health], fault_at: float) -> Sequence[Health]:
    """The state when the fault began, and every later one; empty when the first is unknown."""
    before = [number for number, change in enumerate(health) if change.at <= fault_at]
    return health[before[-1] :] if before else ()


def _in_service(health: Health, instance: str) -> bool:
    return any(target.endswith(f"/{instance}") for target in health.healthy)
