"""Evidence of trials that never took place, where the truth is known exactly."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from chaosgrade.changes.spot import SpotInterruption
from chaosgrade.evidence import Record

START = 1_790_000_000.0
FAULT = START + 3.0
SCALE = 20.0
WINDOW = 15.0  # measured seconds
RATE = 200
SPOT_INTERRUPTION = SpotInterruption.kind
CUSTOMERS = 20

type Outcome = Callable[[float], str]
"""Outcome of a request by its intended time, in seconds after the fault."""


def records(
    outcome: Outcome = lambda _: "ok",
    *,
    health: tuple[tuple[float, int], ...] = ((-3.0, 6),),
    traffic_until: float = WINDOW + 1,
    fault: bool = True,
    attempts: int = 1,
    kind: str = "stage",
    ends_at: float = WINDOW,
    zone: Callable[[float, int], str] | None = None,
    notices: tuple[tuple[float, tuple[str, ...]], ...] = (),
    struck: tuple[str, ...] = (),
) -> list[Record]:
    """Evidence of a trial: 3 s of baseline, then the window, `RATE` requests a second.

    Args:
        zone: who served a request, by its intended time and its number; None as evidence was
            before it told zones.
        notices: marked Spot Instances by time; the targets are i-0 to i-5, and fail from the last.
        struck: Spot Instances that a change of the trial interrupts.
    """
    scale = SCALE if kind == "stage" else 1.0
    found: list[tuple[float, str, dict[str, Any]]] = [
        (
            START - 1,
            "run.start",
            {"window_s": WINDOW * scale, "environment": {"kind": kind, "time_scale": scale}},
        )
    ]
    if fault:
        found.append((FAULT, "fault.start", {}))
    found.append((FAULT + ends_at, "observation.end", {}))
    rows: list[list[Any]] = []
    zones: list[str] = []
    named = {} if zone is None else {"zones": zones}
    for index in range(round((3.0 + traffic_until) * RATE)):
        offset = index / RATE
        word = outcome(offset - 3.0)
        rows.append([offset * 1e3, index % CUSTOMERS, word, 2.0, 1 if word == "ok" else attempts])
        if zone is not None and word == "ok" and (name := zone(offset - 3.0, index)):
            if name not in zones:
                zones.append(name)
            rows[-1].append(zones.index(name))
    for index in range(0, len(rows), 20):
        batch = rows[index : index + 20]
        found.append(
            (
                START + batch[-1][0] / 1e3 + 0.1,
                "traffic",
                {"start": START, "requests": batch, **named},
            )
        )
    for at, marked in notices:
        found.append((FAULT + at, "spot_notices", {"marked": list(marked)}))
    for instance in struck:
        change = {"type": SPOT_INTERRUPTION, "resource": instance, "reversible": False}
        found.append((FAULT, "change.applied", change))
    for at, count in health:
        targets = {
            f"i-{n}": {"state": "healthy" if n < count else "unhealthy", "reason": None}
            for n in range(6)
        }
        found.append((FAULT + at, "target_health", {"target_group": "web", "targets": targets}))
    found.sort(key=lambda each: each[0])
    return [Record(seq, at, name, data) for seq, (at, name, data) in enumerate(found)]


def down(start: float, end: float, word: str = "timeout") -> Outcome:
    return lambda at: word if start - 1e-6 <= at < end - 1e-6 else "ok"


OBJECTIVES: Sequence[Mapping[str, Any]] = (
    {"metric": "availability", "at_least": "97%", "weight": 3, "because": "the arithmetic"},
    {"metric": "time_to_recover", "at_most": "60s", "weight": 2, "because": "the arithmetic"},
)


def trial(
    outcome: Outcome = lambda _: "ok",
    *,
    experiment: str = "instance-kill",
    pattern: str = "instance-loss",
    pillar: str = "elasticity",
    objectives: Sequence[Mapping[str, Any]] = OBJECTIVES,
    number: int = 1,
    met: bool = True,
    proven: bool = True,
    applied: bool = True,
    problem: str | None = None,
    status: str = "completed",
    undone: bool = True,
    at: float = 0.0,
    **figures: Any,
) -> list[Record]:
    """Evidence of a whole trial, by default a sound one.

    Args:
        at: seconds by which everything happened later.
        figures: passed to `records`.
    """
    found = [(r.at, r.kind, dict(r.data)) for r in records(outcome, **figures)]
    for _, kind, data in found:
        if kind == "run.start":
            data |= {
                "run": f"{experiment}-{number}", "experiment": experiment,
                "title": f"{experiment}: <b>something</b> breaks", "pattern": pattern,
                "pillar": pillar, "objectives": [dict(o) for o in objectives], "trial": number,
                "seed": 1,
            }  # fmt: skip
            data["environment"] |= {
                "account": "123456789012", "region": "us-east-1", "fabric": "loopback",
                "template": "three-tier", "parameters": {},
            }  # fmt: skip
    found.append((START, "hypothesis", {"when": "before", "met": met, "detail": "not met: six"}))
    if applied:
        change = {
            "change": 1, "type": "ec2:terminate-instance", "resource": "i-1",
            "zone": "us-east-1a", "summary": "terminate i-1", "reversible": False,
        }  # fmt: skip
        found.append((FAULT, "change.applied", change))
        effect = {"change": 1, "proven": proven, "detail": "i-1 is terminated"}
        found.append((FAULT, "change.effect", effect))
    if problem is not None:
        data = {"source": "traffic", "detail": problem, "exit_code": 3}
        found.append((FAULT + 1, "problem", data))
    found.append((FAULT + WINDOW + 2, "run.end", {"status": status, "undone": undone}))
    found.sort(key=lambda each: each[0])
    for _, kind, data in found:
        if kind == "traffic":
            data["start"] += at
    return [Record(seq, when + at, kind, data) for seq, (when, kind, data) in enumerate(found)]
