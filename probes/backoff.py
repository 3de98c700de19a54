"""How clients back off, from when their attempts arrive: the family and its parameters.

From a program, with one element of each column for one attempt, in any order:

    from chaosgrade.probes.arrivals import Arrivals
    from chaosgrade.probes.backoff import observe

    behaviour = observe(Arrivals.of(client, time, status)).behaviour
    print(behaviour.family, behaviour.base_s, behaviour.reasons)
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from chaoslib.types import Configuration, Secrets

from chaosgrade.probes.arrivals import UNKNOWN, Arrivals, Flags, Floats, Requests
from chaosgrade.probes.backoff_families import JITTERED, Gaps
from chaosgrade.probes.backoff_inference import CERTAIN, Explanation, explain
from chaosgrade.probes.retry_herd import amplification, peak_to_mean, recovery, since_failure
from chaosgrade.probes.retry_limits import Survival, limits, retry_after, to_come
from chaosgrade.probes.standstill import stood_still
from chaosgrade.retries import INCONCLUSIVE, RetryBehaviour, RetryTrace
from chaosgrade.session import aws_of, reported

__all__ = ["retry_behaviour"]

READS: tuple[str, ...] = ("s3:ListBucket", "s3:GetObject")
"""IAM actions that reading logs from a bucket needs; files and arrivals need none."""

_FEWEST_UNRETRIED = 3
_WATCHED_S = 5.0  # who retries at all, while somebody waits, has then begun to
_STEADY = frozenset({"none", "fixed"})
_MOST_GAPS, _MOST_PER_RETRY, _MOST_RETRIES = 600, 120, 24
_PICTURED = 4000
_NO_STATUS = "the record tells no status: every attempt was taken for one that failed"


@dataclass(frozen=True, slots=True)
class Observation:
    """What was found, and what a picture of it shows."""

    behaviour: RetryBehaviour
    trace: RetryTrace


def retry_behaviour(
    logs: Sequence[str] | str | None = None,
    arrivals: Sequence[Mapping[str, Any]] | None = None,
    format: str | None = None,
    idle_s: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> dict[str, Any]:
    """How clients retry, as `chaosgrade observe retries --json` tells it, without a verdict.

    Arguments:
        logs: files or s3://bucket/prefix addresses; one or several.
        arrivals: instead of logs, objects with `client`, `time` in seconds, and optionally
            `status`, `request`, `ended` and `retry_after`.
        format: "json", "csv" or "alb"; found out when not given.
        idle_s: a pause of a client, in seconds, after which a new request begins.

    Example:
        ```yaml
        type: probe
        name: clients-back-off-with-jitter
        tolerance: {type: jsonpath, path: $.family, expect: [full-jitter]}
        provider:
          type: python
          module: chaosgrade.probes.backoff
          func: retry_behaviour
          arguments: {logs: access.jsonl}
        ```
    """
    from chaosgrade.errors import UsageError
    from chaosgrade.probes import retry_log

    with reported() as session:
        if (logs is None) == (arrivals is None):
            raise UsageError("give either logs or arrivals")
        if arrivals is not None:
            seen = retry_log.from_objects(arrivals)
        else:
            names = [logs] if isinstance(logs, str) else list(logs or ())
            seen = retry_log.read(
                names, format=format, aws=lambda: session.aws if session else aws_of(configuration)
            )
        return observe(seen, idle_s).behaviour.to_json()


def observe(arrivals: Arrivals, idle_s: float | None = None) -> Observation:
    """How the clients behave whose attempts these are.

    Args:
        arrivals: in any order.
        idle_s: as of `Requests.of`.
    """
    requests = Requests.of(arrivals, idle_s)
    if not len(requests.first):
        left_out = requests.arrivals.left_out
        nothing = left_out[-1:] or ("no attempt was seen",)
        return Observation(
            RetryBehaviour(INCONCLUSIVE, reasons=nothing, left_out=left_out),
            RetryTrace({}, {}, (), ()),
        )
    answered, decided = retry_after(requests)
    usable = ~np.isnan(requests.gap)
    if answered != "ignored":
        usable &= ~decided
    failed = ~requests.arrivals.succeeded[requests.first]
    why_not = _why_not(requests, failed, usable, answered)
    explanation = None if why_not[1] or not usable.any() else explain(_sample(requests, usable))
    behaviour = _behaviour(requests, failed, answered, why_not, explanation)
    return Observation(behaviour, _trace(requests, usable, explanation))


def _why_not(
    requests: Requests, failed: Flags, usable: Flags, answered: str
) -> tuple[str, tuple[str, ...]]:
    """The family and reasons where there are no gaps to be explained; else ("", ())."""
    retried = failed & (requests.sizes > 1)
    if not failed.any():
        return INCONCLUSIVE, ("no attempt failed: there was nothing to retry",)
    if not retried.any():
        return _unretried(requests, failed)
    if not usable.any():
        return INCONCLUSIVE, (
            f"Retry-After decided every gap ({answered}): observe without it to see the backoff",
        )
    if not requests.gap[usable].any():
        return INCONCLUSIVE, (
            "all attempts of a request have the very same time: the clock of the record is too "
            "coarse, or lines are there several times",
        )
    if standstill := stood_still(requests, usable):
        return INCONCLUSIVE, (standstill,)
    return "", ()


def _unretried(requests: Requests, failed: Flags) -> tuple[str, tuple[str, ...]]:
    """Whether clients that were not seen to retry never do."""
    count = int(failed.sum())
    waited_s = requests.arrivals.until - requests.arrivals.time[requests.last[failed]]
    what = f"none of {count} failed requests was retried within {waited_s.max():.1f} s"
    if count < _FEWEST_UNRETRIED:
        few = f"{what}: too few to tell; observe at least {_FEWEST_UNRETRIED}"
        return INCONCLUSIVE, (few,)
    if np.count_nonzero(waited_s >= _WATCHED_S) < _FEWEST_UNRETRIED:
        soon = f"{what}: retries may be to come; go on for {_WATCHED_S:g} s after a failure"
        return INCONCLUSIVE, (soon,)
    return "no-retry", (what,)


def _sample(requests: Requests, usable: Flags) -> Gaps:
    """Gaps to be explained: enough of every retry number, and no more."""
    previous = np.full(len(requests.gap), np.nan)
    previous[1:] = np.where(usable[:-1], requests.gap[:-1], np.nan)
    number = requests.number - 1
    kept = np.flatnonzero(usable & (number <= _MOST_RETRIES))
    chosen = []
    share = max(8, min(_MOST_PER_RETRY, _MOST_GAPS // max(1, len(np.unique(number[kept])))))
    for n in np.unique(number[kept]):
        rows = kept[number[kept] == n]
        chosen.append(rows[:: -(-len(rows) // share)])
    rows = np.sort(np.concatenate(chosen))
    arrivals = requests.arrivals
    return Gaps(number[rows], requests.gap[rows], previous[rows], arrivals.grain_s, arrivals.late_s)


def _behaviour(
    requests: Requests,
    failed: Flags,
    answered: str,
    why_not: tuple[str, tuple[str, ...]],
    explanation: Explanation | None,
) -> RetryBehaviour:
    arrivals = requests.arrivals
    family, reasons = why_not
    known: dict[str, Any] = {}
    untold = () if (arrivals.status != UNKNOWN).any() else (_NO_STATUS,)
    if explanation is not None:
        family = INCONCLUSIVE if explanation.doubts else explanation.family
        reasons = explanation.doubts or explanation.grounds
        known = _parameters(explanation, certain=not explanation.doubts)
    pending = to_come(requests, _survival(explanation))
    found, back = limits(requests, pending), recovery(requests, pending)
    sizes = requests.sizes[failed]
    if explanation is not None:
        known["longest_gap_s"] = _longest(explanation, found.attempts, found.limited)
    return RetryBehaviour(
        family=family,
        attempts=1 if family == "no-retry" else found.attempts,
        clients=1 + int(np.count_nonzero(np.diff(arrivals.client))),  # they are sorted by it
        reasons=(*reasons, *untold),
        attempts_limited=True if family == "no-retry" else found.limited,
        attempts_most=int(requests.sizes.max()),
        deadline_s=found.deadline_s,
        retry_after=answered,
        retry_quota=found.quota,
        requests=len(requests.first),
        failed=int(failed.sum()),
        retried=int((sizes > 1).sum()),
        amplification=amplification(requests),
        peak_to_mean=peak_to_mean(requests),
        recovery_s=back.s,
        recovery_at_least_s=back.at_least_s,
        left_out=arrivals.left_out,
        **known,
    )


def _parameters(explanation: Explanation, *, certain: bool) -> dict[str, Any]:
    """Fields of `RetryBehaviour` that a fitted family decides; few of them when it is doubtful."""
    fit, odds = explanation.fit, explanation.odds
    candidate, values = fit.candidate, fit.values
    shown = {name: share for name, share in odds.items() if share >= 0.001}
    likely = [name for name, share in odds.items() if share > 1 - CERTAIN]
    immediate = candidate.immediate or candidate.family == "none"
    base_s = values.get("base_s")
    share, width_s = _jitter(explanation)
    known: dict[str, Any] = {"nearest": explanation.family, "odds": shown}
    if all(name not in JITTERED for name in likely):
        known["jitter_share"] = 0.0
    elif certain or all(name in JITTERED for name in likely):
        known["jitter_share"] = share
    if not certain:
        return known
    factor = {"fixed": 1.0, "doubling": 2.0}.get(candidate.curve.name, values.get("factor"))
    return {
        **known,
        "first_retry_immediate": immediate,
        "base_s": base_s,
        "factor": 3.0 if candidate.form == "decorrelated" else factor,
        "cap_s": values.get("cap_s"),
        "jitter_s": width_s,
        "step_s": values.get("step_s", base_s if candidate.curve.name == "linear" else None),
    }


def _jitter(explanation: Explanation) -> tuple[float, float]:
    """The random share of the gap before the last retry, and the width before the first."""
    candidate, values = explanation.fit.candidate, explanation.fit.values
    base_s, cap_s = values.get("base_s", 0.0), values.get("cap_s", math.inf)
    around = values.get("share", 0.0)
    if candidate.form != "on-top":
        return {
            "exact": (0.0, 0.0),
            "full": (1.0, min(base_s, cap_s)),
            "equal": (0.5, min(base_s, cap_s) / 2),
            "around": (2 * around / (1 + around), 2 * around * base_s),
            "decorrelated": (2 / 3, 2 * base_s),
        }[candidate.form]
    jitter_s = values["jitter_s"]
    nominal_s = float(candidate.nominal(np.array([float(explanation.last)]), values)[0])
    if candidate.cap == "after":
        top_s = min(nominal_s + jitter_s, cap_s)
        return max(top_s - nominal_s, 0.0) / top_s, jitter_s
    return jitter_s / (min(nominal_s, cap_s) + jitter_s), jitter_s


def _survival(explanation: Explanation | None) -> Survival | None:
    """How long the gap before a retry lasts, the unseen ones too."""
    if explanation is None:
        return None
    fit, middle = explanation.fit, explanation.middle_s

    def survival(number: int, left_s: Floats) -> Floats:
        count = len(left_s)
        gaps = Gaps(np.full(count, number), left_s, np.full(count, middle))
        law = fit.candidate.law(fit.values, gaps)
        # A stray may take any time: nothing is quite certain.
        return np.clip(1.0 - law.cumulative(left_s), 1e-3, 1.0)

    return survival


def _longest(explanation: Explanation, attempts: int | None, limited: bool | None) -> float | None:
    """The longest gap that clients can make; None when nothing seems to bound it."""
    fit = explanation.fit
    last = attempts - 1 if attempts and limited else None
    likely = {name for name, share in explanation.odds.items() if share > 1 - CERTAIN}
    if explanation.doubts and last is None and likely - _STEADY:
        return None  # it may be one of those whose gaps grow
    if fit.candidate.form == "decorrelated":
        if "cap_s" in fit.values:
            return float(fit.values["cap_s"])
        return float(fit.values["base_s"] * 3.0**last) if last else None
    growing = fit.candidate.curve.name not in ("none", "fixed")
    if growing and "cap_s" not in fit.values and last is None:
        return None
    number = np.array([last or 60], dtype=np.int64)
    law = fit.candidate.law(fit.values, Gaps(number, np.zeros(1), np.full(1, np.nan)))
    high = float(law.high[0])
    return min(high, law.ceiling) if law.ceiling is not None else high


def _trace(requests: Requests, usable: Flags, explanation: Explanation | None) -> RetryTrace:
    number, gaps_s = requests.number - 1, {}
    ranges_s = {}
    for n in np.unique(number[usable])[:12]:
        rows = requests.gap[usable & (number == n)]
        gaps_s[int(n)] = tuple(map(float, rows[:: -(-len(rows) // 400)]))
    if explanation is not None and not explanation.doubts:
        for n in gaps_s:
            ranges_s[n] = _range(explanation, n)
    since = since_failure(requests)
    retries = number[requests.number > 1]
    every = -(-max(len(since), 1) // _PICTURED)
    return RetryTrace(
        gaps_s, ranges_s, tuple(map(float, since[::every])), tuple(map(int, retries[::every]))
    )


def _range(explanation: Explanation, number: int) -> tuple[float, float]:
    fit = explanation.fit
    one = Gaps(np.array([number]), np.zeros(1), np.full(1, explanation.middle_s))
    law = fit.candidate.law(fit.values, one)
    low, high = float(law.low[0]), float(law.high[0])
    if law.ceiling is not None:
        low, high = min(low, law.ceiling), min(high, law.ceiling)
    return low, high
