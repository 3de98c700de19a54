"""When customers were refused, and for how long, told apart from ordinary noise.

A failed request belongs to an outage when the stretch that begins with it holds more failures than
the baseline explains: a number that the baseline's failures make less likely than 1 in 10,000 is
no noise, and neither are three failures or more in a row, unless the baseline explains those.
Failures too thin for any stretch are compared once more, over all requests together, so that a
system that fails 1% for ever is not called healthy. An outage ends when success stays at the
baseline's level for a whole stretch.

An outage starts at its first failed request and ends at the first later one that was not refused,
by their intended times. A boundary is known to one interval between requests that would have met
the fault: 1 / rate in a total outage; in a partial one, where a few requests may miss it by luck,
so many that all of them doing so has a chance below 5%.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from chaosgrade.history import Request

_NOISE = 1e-4  # every failure begins a stretch: many chances to be wrong
_NOISE_ONCE = 1e-2  # one chance to be wrong
_UNSEEN = 0.05
_LEAST = 3  # so many failures in a row


@dataclass(frozen=True, slots=True)
class Outage:
    """A maximal interval with success below the baseline's level.

    Args:
        start, end: Unix seconds; `end` is the observation's end when `open`.
        spacing_s: seconds between requests: it was at most this much shorter.
        error_s: how far each boundary may lie further out, in seconds.
        failed, offered: requests intended within.
        open: it had not ended, as far as was observed.
        evidence: the records with its first and last failure.
    """

    start: float
    end: float
    spacing_s: float
    error_s: float
    failed: int
    offered: int
    open: bool
    evidence: tuple[int, ...]

    @property
    def duration_s(self) -> float:
        """Measured seconds."""
        return self.end - self.start

    @property
    def longest_s(self) -> float:
        """The longest it can have been: `end` lies already one spacing beyond the last failure."""
        return self.duration_s + 2 * self.error_s - self.spacing_s


@dataclass(frozen=True, slots=True)
class Baseline:
    """How many requests failed before the fault, and what follows for later ones.

    Args:
        failed, offered: requests.
    """

    failed: int
    offered: int

    def allowed(self, offered: int, chance: float = _NOISE) -> int:
        """The most failures among `offered` requests that the baseline still explains.

        More have a chance below `chance`, by the beta-binomial predictive distribution from
        Jeffreys' prior: a short baseline without failures does not prove that there are none.
        """
        a, b = self.failed + 0.5, self.offered - self.failed + 0.5
        log_term = _log_beta(a, b + offered) - _log_beta(a, b)
        below = 0.0
        for failed in range(offered):
            below += math.exp(log_term)
            if 1 - below < chance:
                return failed
            log_term += math.log((offered - failed) * (a + failed))
            log_term -= math.log((failed + 1) * (b + offered - failed - 1))
        return offered


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def find_outages(
    requests: Sequence[Request],
    *,
    end: float,
    stretch_s: float,
    baseline: Baseline,
) -> list[Outage]:
    """The outages among `requests`, in order.

    Args:
        requests: by intended time.
        end: the end of the observation, Unix seconds.
        stretch_s: how long success must stay at the baseline's level to end an outage.
        baseline: what is normal.
    """
    failures = [index for index, request in enumerate(requests) if not request.ok]
    marked = _beyond_noise(requests, failures, baseline, stretch_s)
    rest = len(failures) - len(marked)
    if rest > baseline.allowed(len(requests) - len(marked), _NOISE_ONCE):
        marked = failures
    return [
        _outage(requests, _trim(chain, baseline), end, stretch_s)
        for chain in _chains(requests, marked, stretch_s)
    ]


def find_total_outages(requests: Sequence[Request], *, end: float) -> list[Outage]:
    """Maximal intervals in which every request failed, three of them or more."""
    outages = []
    first: int | None = None
    for index, request in enumerate(requests):
        if request.ok:
            if first is not None and index - first >= _LEAST:
                outages.append(_outage(requests, range(first, index), end, 0.0))
            first = None
        elif first is None:
            first = index
    if first is not None and len(requests) - first >= _LEAST:
        whole = _outage(requests, range(first, len(requests)), end, 0.0)
        outages.append(replace(whole, end=end, open=True))
    return outages


def _beyond_noise(
    requests: Sequence[Request], failures: Sequence[int], baseline: Baseline, stretch_s: float
) -> list[int]:
    allowed: dict[int, int] = {}
    marked: list[int] = []
    reach = 0  # first request beyond the stretch
    beyond = 0  # first failure beyond the stretch
    for position, index in enumerate(failures):
        until = requests[index].at + stretch_s
        while reach < len(requests) and requests[reach].at < until:
            reach += 1
        while beyond < len(failures) and failures[beyond] < reach:
            beyond += 1
        offered = reach - index
        if offered not in allowed:
            allowed[offered] = baseline.allowed(offered)
        until_failure = beyond
        if beyond - position <= allowed[offered]:
            # Too few for a whole stretch, but all in a row is no noise either.
            row = _in_a_row(failures, position)
            if row < _LEAST or row <= baseline.allowed(row):
                continue
            until_failure = position + row
        known = marked[-1] if marked else -1
        marked += [failure for failure in failures[position:until_failure] if failure > known]
    return marked


def _in_a_row(failures: Sequence[int], position: int) -> int:
    """How many requests failed without a success in between, from `failures[position]` on."""
    end = position + 1
    while end < len(failures) and failures[end] == failures[end - 1] + 1:
        end += 1
    return end - position


def _chains(
    requests: Sequence[Request], failures: Sequence[int], stretch_s: float
) -> list[list[int]]:
    chains: list[list[int]] = []
    for index in failures:
        if chains and requests[index].at - requests[chains[-1][-1]].at <= stretch_s:
            chains[-1].append(index)
        else:
            chains.append([index])
    return chains


def _trim(chain: list[int], baseline: Baseline) -> list[int]:
    """`chain` without noise at its ends: a stray failure nearby is not its boundary."""
    for _ in range(2):
        chain = [-index for index in reversed(_trim_head(chain, baseline))]
    return chain


def _trim_head(chain: list[int], baseline: Baseline) -> list[int]:
    for strays in (3, 2, 1):
        rest = chain[strays:]
        if len(rest) < 3:
            continue
        gap = rest[0] - chain[strays - 1]
        usual = (rest[-1] - rest[0]) / (len(rest) - 1)
        # At random, a gap ten times the usual one has a chance of e^-10.
        if gap > 10 * usual and strays <= baseline.allowed(rest[0] - chain[0]):
            return rest
    return chain


def _outage(
    requests: Sequence[Request], failures: Sequence[int], end: float, stretch_s: float
) -> Outage:
    first, last = requests[failures[0]], requests[failures[-1]]
    after = requests[failures[-1] + 1].at if failures[-1] + 1 < len(requests) else end
    offered = failures[-1] - failures[0] + 1
    spacing = (after - first.at) / offered
    # With a share s of requests failing, the next g all succeed with a chance of (1 - s)^g.
    share = len(failures) / offered
    gap = 1.0 if share > 1 - _UNSEEN else max(1.0, math.log(_UNSEEN) / math.log1p(-share))
    return Outage(
        start=first.at,
        end=after,
        spacing_s=spacing,
        error_s=gap * spacing,
        failed=len(failures),
        offered=offered,
        open=end - last.at < stretch_s,
        evidence=tuple(dict.fromkeys((first.seq, last.seq))),
    )
