"""What trials come to: rows for tables, documents and pictures."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from chaosgrade.lab.contention import Contention
from chaosgrade.lab.herd import HerdOutcome
from chaosgrade.policies.retry_notation import NotedPolicy


@dataclass(frozen=True, slots=True)
class Figure:
    """One quantity over the trials.

    Args:
        mean: None when a trial has none.
        sd: standard deviation of the trials; None for a single one.
    """

    mean: float | None
    sd: float | None


def figure(values: ArrayLike) -> Figure:
    """Mean and standard deviation; of nothing that is unknown in any trial."""
    numbers = np.asarray(values, dtype=float)
    if not np.isfinite(numbers).all():
        return Figure(None, None)
    return Figure(float(numbers.mean()), float(numbers.std(ddof=1)) if numbers.size > 1 else None)


@dataclass(frozen=True, slots=True)
class ContentionRow:
    """A policy at a number of clients.

    Args:
        calls: writes.
        time_ms: until the last answer.
        gave_up: clients that ended without success.
    """

    policy: NotedPolicy
    clients: int
    calls: Figure
    time_ms: Figure
    gave_up: Figure

    @staticmethod
    def of(policy: NotedPolicy, clients: int, trials: Contention) -> "ContentionRow":
        """The row of these trials."""
        return ContentionRow(
            policy,
            clients,
            calls=figure(trials.calls),
            time_ms=figure(trials.time_s * 1000),
            gave_up=figure(trials.gave_up),
        )

    def to_json(self) -> dict[str, Any]:
        """As the document has it; times in ms."""
        return {
            "policy": self.policy.text,
            "clients": self.clients,
            **_flat({"calls": self.calls, "time": self.time_ms, "gave_up": self.gave_up}),
        }


@dataclass(frozen=True, slots=True)
class HerdRow:
    """A policy under an outage.

    Args:
        calls: what the dependency was sent.
        amplification: calls per success.
        calls_per_request: 1 without retries.
        saved_share: of the requests that the outage struck, those that ended well.
        peak_per_s: calls per second when the dependency was back.
        peak_to_mean: of the calls in that time.
        recovery_s, drained_s: see `HerdOutcome`.
        not_recovered, not_drained: trials in which that never came.
        arrivals_per_s: see `HerdOutcome`.
    """

    policy: NotedPolicy
    clients: int
    calls: Figure
    amplification: Figure
    calls_per_request: Figure
    saved_share: Figure
    peak_per_s: Figure
    peak_to_mean: Figure
    recovery_s: Figure
    drained_s: Figure
    not_recovered: int
    not_drained: int
    arrivals_per_s: tuple[float, ...]

    @staticmethod
    def of(policy: NotedPolicy, clients: int, trials: HerdOutcome) -> "HerdRow":
        """The row of these trials."""
        return HerdRow(
            policy,
            clients,
            calls=figure(trials.calls),
            amplification=figure(_ratio(trials.calls, trials.successes)),
            calls_per_request=figure(_ratio(trials.calls, trials.requests)),
            saved_share=figure(_ratio(trials.saved, trials.struck)),
            peak_per_s=figure(trials.peak_per_s),
            peak_to_mean=figure(_ratio(trials.peak_per_s, trials.mean_per_s)),
            recovery_s=figure(trials.recovery_s),
            drained_s=figure(trials.drained_s),
            not_recovered=int(np.isnan(trials.recovery_s).sum()),
            not_drained=int(np.isnan(trials.drained_s).sum()),
            arrivals_per_s=tuple(trials.arrivals_per_s.tolist()),
        )

    def to_json(self, baseline: "HerdRow") -> dict[str, Any]:
        """As the document has it.

        Args:
            baseline: the same outage without retries.
        """
        then, now = baseline.recovery_s.mean, self.recovery_s.mean
        figures = (
            "calls", "amplification", "calls_per_request", "saved_share", "peak_per_s",
            "peak_to_mean", "recovery_s", "drained_s",
        )  # fmt: skip
        return {
            "policy": self.policy.text,
            "clients": self.clients,
            **_flat({name: getattr(self, name) for name in figures}),
            "recovery_delay_s": None if then is None or now is None else now - then,
            "not_recovered": self.not_recovered,
            "not_drained": self.not_drained,
        }


def policy_to_json(policy: NotedPolicy) -> dict[str, Any]:
    """What a policy's name stands for; no number where there is no limit."""
    retry = policy.retry
    numbers = {
        **asdict(retry.backoff),  # type: ignore[call-overload]
        "attempts": retry.attempts,
        "deadline_s": retry.deadline_s,
        "quota": policy.quota,
    }
    finite = {name: None if value == math.inf else value for name, value in numbers.items()}
    return {"family": policy.family, **finite}


def _flat(figures: Mapping[str, Figure]) -> dict[str, float | None]:
    return {
        f"{name}_{part}": value
        for name, one in figures.items()
        for part, value in (("mean", one.mean), ("sd", one.sd))
    }


def _ratio(part: ArrayLike, whole: ArrayLike) -> ArrayLike:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.divide(part, whole)
