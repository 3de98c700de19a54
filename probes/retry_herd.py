"""What retries do to a dependency: the herd after a failure, and how fast clients come back."""

import numpy as np

from chaosgrade.probes.arrivals import Floats, Requests

_FEWEST = 20
_WINDOWS = 100
_FEWEST_FAILURES = 5


def since_failure(requests: Requests) -> Floats:
    """Seconds from its request's first attempt to each retry, in the order of the attempts."""
    start = np.repeat(requests.arrivals.time[requests.first], requests.sizes)
    return (requests.arrivals.time - start)[requests.number > 1]


def peak_to_mean(requests: Requests) -> float | None:
    """The load of the busiest hundredth of the time from failure to last retry, by the mean load.

    All requests are taken as if they had failed at once, which is when it matters. None where
    fewer than twenty were retried: chance would decide.
    """
    if int((requests.sizes > 1).sum()) < _FEWEST:
        return None
    times = np.sort(since_failure(requests))
    window = max(float(times[-1]) / _WINDOWS, 0.001)
    busiest = int(
        (np.searchsorted(times, times + window, side="right") - np.arange(len(times))).max()
    )
    return busiest / (len(times) * window / max(float(times[-1]), window))


def recovery_s(requests: Requests) -> float | None:
    """From the first success after failures until 95% of the requests that waited were answered.

    None where nothing recovered: too few failures before the first success, or nobody came back.
    """
    arrivals = requests.arrivals
    known = arrivals.status >= 0
    failed = known & ~arrivals.succeeded
    if not failed.any() or not arrivals.succeeded.any():
        return None
    began = arrivals.time[failed].min()
    later = arrivals.succeeded & (arrivals.time > began)
    if not later.any():
        return None
    recovered = float(arrivals.time[later].min())
    if int((failed & (arrivals.time < recovered)).sum()) < _FEWEST_FAILURES:
        return None
    last = requests.last
    waited = (requests.sizes > 1) & (arrivals.time[requests.first] < recovered)
    back = waited & arrivals.succeeded[last] & (arrivals.time[last] >= recovered)
    if not back.any():
        return None
    return float(np.quantile(arrivals.time[last[back]] - recovered, 0.95))
