"""When clients stop retrying: attempt limit, deadline, quota; and what they do with Retry-After."""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from chaosgrade.probes.arrivals import Flags, Floats, Integers, Requests

_LATE_S = 0.1
UNLIKELY = 0.01
"""Below this probability of a retry to come, a request is over."""

_FEWEST_OF_CLIENT = 4

type Survival = Callable[[int, Floats], Floats]
"""Probability that the gap before retry n lasts longer than each of some times, in seconds."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far clients go.

    Args:
        attempts: of a request that fails throughout; None when no limit was seen.
        limited: whether they stop there; None when it was not seen.
        deadline_s: time after the first attempt from which no more are made; None for none seen.
        quota: retries that a client was granted before it stopped; None for no quota seen.
    """

    attempts: int | None
    limited: bool | None
    deadline_s: float | None
    quota: int | None


def to_come(requests: Requests, survival: Survival | None) -> Floats:
    """Probability that each request's next retry, if it makes one, was not to be seen yet.

    Args:
        requests: at least one.
        survival: of the family that was found; None when it is not known.
    """
    arrivals, last, sizes = requests.arrivals, requests.last, requests.sizes
    ended = np.where(np.isnan(arrivals.ended[last]), arrivals.time[last], arrivals.ended[last])
    return _pending(sizes, np.maximum(arrivals.until - ended, 0.0), requests, survival)


def limits(requests: Requests, pending: Floats) -> Limits:
    """Limits of requests that failed to the end.

    Args:
        requests: at least one.
        pending: of each, `to_come`.
    """
    arrivals, last, sizes = requests.arrivals, requests.last, requests.sizes
    failed = ~arrivals.succeeded[last]
    if not failed.any():
        return Limits(None, None, None, None)
    # A request may have had another retry to come when the observation ended.
    over = failed & (pending < UNLIKELY)
    most = int(sizes[failed].max())
    at_most = failed & (sizes == most)
    quota = _quota(requests, failed, most)
    short = over & (sizes < most)
    # One of them alone may always have had one to come; all of them together hardly.
    none_to_come = float(np.exp(np.log(np.maximum(pending[at_most], 1e-300)).sum())) < UNLIKELY
    if quota is None and short.sum() > 0.1 * max(1, int(over.sum())):
        deadline_s = _deadline(requests, over)
        return Limits(None, True if deadline_s else None, deadline_s, None)
    limited = True if none_to_come else None
    if most > 1 and at_most.sum() < 0.5 * failed.sum() and quota is None:
        # They are at all stages: nobody was seen to stop.
        return Limits(None, limited, None, None)
    if limited is None and most > 1 and bool((arrivals.succeeded[last] & (sizes >= most)).any()):
        return Limits(None, None, None, quota)
    return Limits(most, limited, None, quota)


def _pending(
    sizes: Integers,
    left_s: Floats,
    requests: Requests,
    survival: Survival | None,
) -> Floats:
    pending = np.ones(len(sizes))
    gaps = requests.gap[~np.isnan(requests.gap)]
    longest_s = float(np.max(gaps)) if len(gaps) else math.inf
    for size in np.unique(sizes):
        where = sizes == size
        if survival is not None and size < 60:
            pending[where] = survival(int(size), left_s[where])
        else:
            pending[where] = np.where(left_s[where] > 4 * longest_s + _LATE_S, 0.0, 1.0)
    return pending


def _deadline(requests: Requests, over: Flags) -> float | None:
    """A time that explains why requests stop after different numbers of attempts.

    Either no attempt begins later, or the first that does is the last: in both cases the last
    attempts of those that had room for more lie closer to one time than chance would have it.
    """
    time, first, last = requests.arrivals.time, requests.first, requests.last
    elapsed = (time[last] - time[first])[over]
    if len(elapsed) < 10:
        return None
    following = elapsed + _next_at_most(requests)[over]
    before = (time[np.maximum(last - 1, first)] - time[first])[over]
    if before.max() <= elapsed.min() + _LATE_S:  # the first attempt after it is the last
        return float((before.max() + elapsed.min()) / 2)
    if np.mean(following >= elapsed.max() - _LATE_S) > 0.98:  # no attempt begins after it
        return float(elapsed.max())
    return None


def _next_at_most(requests: Requests) -> Floats:
    """The longest gap that was seen up to the retry that each request did not make.

    Few requests get as far as the last retries, those with short gaps: earlier ones count too.
    """
    longest = np.zeros(int(requests.sizes.max()) + 2)
    seen = ~np.isnan(requests.gap)
    np.maximum.at(longest, requests.number[seen] - 1, requests.gap[seen])
    longest = np.maximum.accumulate(longest)
    after = longest[np.minimum(requests.sizes, len(longest) - 1)]
    return np.where(after > 0, after, np.inf)


def _quota(requests: Requests, failed: Flags, most: int) -> int | None:
    """Retries after which clients that go on making requests no longer retry them."""
    if most < 2:
        return None
    starts = requests.arrivals.time[requests.first]
    client = requests.arrivals.client[requests.first]
    # Most logs have few requests of many clients: those tell nothing, and would take long.
    often = np.flatnonzero(np.bincount(client)[client] >= 2 * _FEWEST_OF_CLIENT)
    order = often[np.lexsort((starts[often], client[often]))]
    client, sizes, failed = client[order], requests.sizes[order], failed[order]
    granted = []
    edges = np.flatnonzero(np.diff(client)) + 1
    for rows in np.split(np.arange(len(client)), edges):
        part = rows[failed[rows]]
        if len(part) < 2 * _FEWEST_OF_CLIENT:
            continue
        retries = sizes[part] - 1
        dry = int(np.flatnonzero(retries)[-1]) + 1 if retries.any() else 0
        full = retries[: max(dry - 2, 0)] == most - 1
        if len(part) - dry >= _FEWEST_OF_CLIENT and len(full) and full.mean() > 0.9:
            granted.append(int(retries.sum()))
    return int(np.median(granted)) if granted else None


def retry_after(requests: Requests) -> tuple[str, Flags]:
    """What clients do with Retry-After, and which gaps it may have decided.

    Returns "honoured", "ignored", "unclear" or "not-seen", and a flag for each attempt.
    """
    asked = np.full(len(requests.gap), np.nan)
    asked[1:] = requests.arrivals.retry_after[:-1]
    decided = ~np.isnan(asked) & ~np.isnan(requests.gap) & (asked > 0)
    if not decided.any():
        return "not-seen", decided
    gap, wanted = requests.gap[decided], asked[decided]
    slack = np.maximum(0.02, 0.02 * wanted)
    early = gap < wanted - slack
    if early.mean() > 0.2:
        return "ignored", decided
    if early.mean() > 0.05:
        return "unclear", decided
    # Whoever waits longer anyway has not honoured anything.
    # Of 1.5 s the standard's header says 2: it has whole seconds only.
    off = np.minimum(np.abs(gap - wanted), np.abs(gap - np.ceil(wanted)))
    at = off <= np.maximum(0.1, 0.1 * wanted)
    own = requests.gap[~decided & ~np.isnan(requests.gap)]
    shorter = len(own) > 0 and float(np.median(own)) < float(np.median(wanted)) / 2
    return ("honoured" if at.mean() > 0.5 or shorter else "unclear"), decided
