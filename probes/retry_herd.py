"""What retries do to a dependency: the herd after a failure, and how fast clients come back."""

from dataclasses import dataclass

import numpy as np

from chaosgrade.probes.arrivals import Floats, Requests
from chaosgrade.probes.retry_limits import UNLIKELY

_FEWEST, _FEWEST_RETRIES = 20, 60
_WINDOWS, _STRAGGLERS = 100, 0.01
_FEWEST_FAILURES, _ANSWERED = 5, 0.95


@dataclass(frozen=True, slots=True)
class Recovery:
    """How fast clients come back.

    Args:
        s: seconds; None when nothing recovered, or too many still waited in the end.
        at_least_s: seconds that it takes at least; None when nothing recovered.
    """

    s: float | None
    at_least_s: float | None


_NO_RECOVERY = Recovery(None, None)


def since_failure(requests: Requests) -> Floats:
    """Seconds from its request's first attempt to each retry, in the order of the attempts."""
    start = np.repeat(requests.arrivals.time[requests.first], requests.sizes)
    return (requests.arrivals.time - start)[requests.number > 1]


def amplification(requests: Requests) -> float | None:
    """Attempts by request while everything fails; None where nothing failed at first.

    A success ends a request early: those that failed as often and went on stand for it. Source:
    E. L. Kaplan and P. Meier, "Nonparametric Estimation from Incomplete Observations" (1958).
    """
    struck = np.repeat(~requests.arrivals.succeeded[requests.first], requests.sizes)
    if not struck.any():
        return None
    made = np.bincount(requests.number[struck])[1:]
    succeeded = np.bincount(
        requests.number[struck & requests.arrivals.succeeded], minlength=len(made) + 1
    )[1:]
    failing = np.cumprod(1.0 - succeeded / made)[:-1]  # share that has failed so often
    return float((made / np.append(1.0, failing)).sum() / made[0])


def peak_to_mean(requests: Requests) -> float | None:
    """The load in the busiest hundredth of the time from failure to a retry, by the mean load.

    All requests are taken as if they had failed at once, which is when it matters. How long it
    takes until the first, the second … retry is each taken for a whole: gaps that grow are no herd.
    The last hundredth of each is left out: a straggler says nothing of the others. None where fewer
    than sixty retries can be compared: chance would decide.
    """
    times, number = since_failure(requests), requests.number[requests.number > 1]
    parts = []
    for n in np.flatnonzero(np.bincount(number) >= _FEWEST):
        since_s = times[number == n]
        part = since_s / max(float(np.quantile(since_s, 1 - _STRAGGLERS)), 0.001)
        parts.append(part[part <= 1.0])
    at = np.sort(np.concatenate([np.empty(0), *parts]))
    if len(at) < _FEWEST_RETRIES:
        return None
    within = np.searchsorted(at, at + 1 / _WINDOWS, side="right") - np.arange(len(at))
    return float(within.max()) * _WINDOWS / len(at)


def recovery(requests: Requests, pending: Floats) -> Recovery:
    """From the first success after failures until 95% of the requests that waited were answered.

    Args:
        requests: at least one.
        pending: of each, the probability that its next retry was still to come, see
            `retry_limits.to_come`. Those that had given up wait for nothing.
    """
    arrivals = requests.arrivals
    known = arrivals.status >= 0
    failed = known & ~arrivals.succeeded
    if not failed.any() or not arrivals.succeeded.any():
        return _NO_RECOVERY
    began = arrivals.time[failed].min()
    later = arrivals.succeeded & (arrivals.time > began)
    if not later.any():
        return _NO_RECOVERY
    recovered = float(arrivals.time[later].min())
    if int((failed & (arrivals.time < recovered)).sum()) < _FEWEST_FAILURES:
        return _NO_RECOVERY
    last = requests.last
    waited = ~arrivals.succeeded[requests.first] & (arrivals.time[requests.first] < recovered)
    back = waited & arrivals.succeeded[last] & (arrivals.time[last] >= recovered)
    waiting = waited & (requests.sizes > 1) & ~arrivals.succeeded[last] & (pending >= UNLIKELY)
    if not back.any() and not waiting.any():
        return _NO_RECOVERY
    took_s = np.where(back, arrivals.time[last] - recovered, np.inf)[back | waiting]
    answered_s = float(np.quantile(took_s, _ANSWERED, method="higher"))
    if np.isfinite(answered_s):
        return Recovery(answered_s, answered_s)
    return Recovery(None, max(0.0, arrivals.until - recovered))
