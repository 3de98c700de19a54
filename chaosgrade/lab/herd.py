"""A dependency that was down comes back, and its clients with it: the herd.

Clients ask a dependency for more or less what it can do. It goes down, all at once: every client
loses a call at that moment, and each call until it comes back fails when it arrives. From then on
it serves first come, first served, up to its capacity, and refuses what would wait too long;
refusing costs it some of the work that serving does. Clients retry by their policy. What a policy
is worth shows in what it saves, what it costs in calls, and how much later the dependency recovers
than if nobody had retried. Sources: Amazon Builders' Library, "Timeouts, retries, and backoff with
jitter" and "Using load shedding to avoid overload"; Bronson et al., "Metastable Failures in
Distributed Systems" (HotOS 2021).

The server works in ticks of 10 ms; all else happens when it happens.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chaosgrade.errors import UsageError
from chaosgrade.lab.agenda import Agenda
from chaosgrade.lab.contention import DELAY_MEAN_S, DELAY_SD_S
from chaosgrade.lab.gaps import Floats, Gaps, Whole
from chaosgrade.lab.shedding_server import TICK_S, SheddingServers, rank
from chaosgrade.policies.arguments import require_number, require_whole_number
from chaosgrade.policies.retry_notation import NotedPolicy
from chaosgrade.policies.retry_quota import SDK_FIRST_TRY_REFUND, SDK_RETRY_COST

BEFORE_S = 2.0
"""Quiet seconds before the outage."""
BIN_S = 0.1
"""Arrivals are counted by this."""
HERD_S = 10.0
"""Peak and mean are those of so many seconds after the dependency has come back."""
_TICKS_PER_BIN = round(BIN_S / TICK_S)
_CALM_SHARE = 0.1
_MOST_REQUESTS = 20_000_000


@dataclass(frozen=True, slots=True)
class Outage:
    """What happens, and to whom.

    Args:
        clients: how many; each has a retry quota of its own, if its policy has one.
        capacity: requests that the dependency serves per second.
        load: share of the capacity that the clients ask for, before retries.
        down_s: how long the dependency is down.
        after_s: how long it is watched when it is back.
        timeout_s: how long a client waits for an answer; the server does not learn that it left.
        queue_s: work beyond so many seconds is refused.
        refusal_cost: the work of refusing a call, as a share of that of serving it.

    Raises:
        UsageError: naming the first value that makes no sense.
    """

    clients: int = 500
    capacity: float = 250.0
    load: float = 0.5
    down_s: float = 10.0
    after_s: float = 40.0
    timeout_s: float = 1.0
    queue_s: float = 0.5
    refusal_cost: float = 0.05

    def __post_init__(self) -> None:
        require_whole_number("clients", self.clients, least=1)
        for name in ("capacity", "load", "down_s", "timeout_s", "queue_s"):
            require_number(name, getattr(self, name), above=True)
        require_number("after_s", self.after_s, least=1.0)
        require_number("refusal_cost", self.refusal_cost)


@dataclass(frozen=True, slots=True)
class HerdOutcome:
    """What happened, by trial; counts are from the beginning of the outage to the end.

    Args:
        requests: what customers wanted.
        calls: what the dependency was sent for it.
        successes: requests that ended well.
        struck: requests that began before the dependency was back.
        saved: those of them that ended well.
        peak_per_s, mean_per_s: calls per second in the first `HERD_S` after it was back.
        recovery_s: until the dependency refused a call, or let one time out, for the last time; not
            a number if that was in the last tenth of the time that it was watched.
        drained_s: until every struck request had its answer; not a number if one never had.
        arrivals_per_s: mean over trials, by bins of `BIN_S` from `BEFORE_S` before the outage.
    """

    requests: Whole
    calls: Whole
    successes: Whole
    struck: Whole
    saved: Whole
    peak_per_s: Floats
    mean_per_s: Floats
    recovery_s: Floats
    drained_s: Floats
    arrivals_per_s: Floats


def recover(
    policy: NotedPolicy,
    outage: Outage,
    trials: int,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
) -> HerdOutcome:
    """Simulate.

    Args:
        policy: of each client.
        trials: how often, independently.
        seed: the same one gives the same trials, and every policy the same requests.
        on_progress: hears which share is done.

    Raises:
        UsageError: that would be more requests than this machine is likely to hold.
    """
    length_s = BEFORE_S + outage.down_s + outage.after_s
    requests = trials * (outage.clients + outage.capacity * outage.load * length_s)
    if requests > _MOST_REQUESTS:
        raise UsageError(
            f"{requests:,.0f} requests are too many at a time, more than {_MOST_REQUESTS:,}: take "
            "fewer trials or clients, less capacity, or a shorter time"
        )
    return _Herd(policy, outage, trials, seed).run(on_progress)


class _Herd:
    """All trials side by side. Requests of all trials are numbered through."""

    def __init__(self, policy: NotedPolicy, outage: Outage, trials: int, seed: int) -> None:
        self._policy = policy
        self._outage = outage
        self._trials = trials
        self._gaps = Gaps(policy.retry.backoff)
        demand, conduct = np.random.SeedSequence((seed, outage.clients)).spawn(2)
        self._random = np.random.Generator(np.random.SFC64(conduct))
        self._ask(np.random.default_rng(demand))
        self._tries = np.zeros(self._trial.size, np.intp)
        self._gap_s = np.zeros(self._trial.size if self._gaps.remembers else 0)
        self._settled_s = np.full(self._trial.size, np.inf)
        self._succeeded = np.zeros(self._trial.size, np.bool)
        self._tokens = np.full(trials * outage.clients, policy.quota or 0, np.intp)
        self._arriving = Agenda()
        everything = np.arange(self._trial.size)
        self._arriving.put(everything, self._began_s + self._message_s(everything.size))
        self._servers = SheddingServers(
            trials,
            capacity=outage.capacity,
            queue_s=outage.queue_s,
            timeout_s=outage.timeout_s,
            refusal_cost=outage.refusal_cost,
        )
        self._last_trouble_s = np.full(trials, outage.down_s)
        self._first = -round(BEFORE_S / TICK_S)
        self._last = round((outage.down_s + outage.after_s) / TICK_S)
        bins = -(-(self._last - self._first) // _TICKS_PER_BIN)
        self._arrivals = np.zeros((trials, bins), np.intp)

    def _ask(self, random: np.random.Generator) -> None:
        """What customers want whatever happens: a Poisson stream, and one each at the outage."""
        outage = self._outage
        end_s = outage.down_s + outage.after_s
        rate = outage.capacity * outage.load
        numbers = random.poisson(rate * (BEFORE_S + end_s), self._trials)
        streaming = int(numbers.sum())
        everybody = np.arange(outage.clients)
        trial = np.repeat(np.arange(self._trials), numbers)
        began_s = random.uniform(-BEFORE_S, end_s, streaming)
        client = random.integers(0, outage.clients, streaming)
        lost = self._trials * outage.clients
        self._trial = np.concatenate((trial, np.repeat(np.arange(self._trials), outage.clients)))
        self._client = np.concatenate((client, np.tile(everybody, self._trials)))
        self._client += self._trial * outage.clients
        # Those that are lost arrive when the dependency has just gone down.
        self._began_s = np.concatenate((began_s, np.zeros(lost)))
        self._struck = (self._began_s >= 0) & (self._began_s < outage.down_s)

    def run(self, on_progress: Callable[[float], None]) -> HerdOutcome:
        outage = self._outage
        first, last = self._first, self._last
        back = round(outage.down_s / TICK_S)
        for tick in range(first, last):
            end_s = (tick + 1) * TICK_S
            calls, came_s = self._arriving.take_until(end_s)
            arrived = np.bincount(self._trial[calls], minlength=self._trials)
            self._arrivals[:, (tick - first) // _TICKS_PER_BIN] += arrived
            self._tries[calls] += 1
            if tick == 0:
                lost = self._servers.break_down()
                self._fail(lost, np.zeros(lost.size))
            if 0 <= tick < back:
                self._fail(calls, came_s)
            else:
                done = self._servers.serve(calls, self._trial[calls], came_s, end_s)
                self._succeed(done.done, end_s)
                self._fail(done.failed, done.failed_s)
                self._last_trouble_s[done.trouble] = max(outage.down_s, end_s)
            if tick % 50 == 0:
                on_progress((tick - first) / (last - first))
        on_progress(1.0)
        return self._outcome()

    def _message_s(self, size: int) -> Floats:
        delays = self._random.standard_normal(size)
        delays *= DELAY_SD_S
        delays += DELAY_MEAN_S
        return np.abs(delays, out=delays)

    def _succeed(self, calls: Whole, at_s: float) -> None:
        self._succeeded[calls] = True
        self._settled_s[calls] = at_s + self._message_s(calls.size)
        if self._policy.quota is not None:
            refund = np.where(self._tries[calls] > 1, SDK_RETRY_COST, SDK_FIRST_TRY_REFUND)
            np.add.at(self._tokens, self._client[calls], refund)
            np.minimum(self._tokens, self._policy.quota, out=self._tokens)

    def _fail(self, calls: Whole, at_s: Floats) -> None:
        """These calls fail at the dependency; their clients retry, or give up."""
        if not calls.size:
            return
        retry = self._policy.retry
        heard_s = at_s + self._message_s(calls.size)
        tries = self._tries[calls]
        previous_s = self._gap_s[calls] if self._gaps.remembers else None
        gap_s = self._gaps.draw_s(tries, previous_s, self._random)
        again = np.ones(calls.size, np.bool)
        if retry.attempts is not None:
            again &= tries < retry.attempts
        if retry.deadline_s is not None:
            again &= heard_s + gap_s - self._began_s[calls] <= retry.deadline_s
        if self._policy.quota is not None:
            again[again] = self._pay(self._client[calls[again]])
        self._settled_s[calls[~again]] = heard_s[~again]
        calls, gap_s, heard_s = calls[again], gap_s[again], heard_s[again]
        if self._gaps.remembers:
            self._gap_s[calls] = gap_s
        self._arriving.put(calls, heard_s + gap_s + self._message_s(calls.size))

    def _pay(self, client: Whole) -> NDArray[np.bool]:
        """Which of these retries their clients' quotas grant: as many as there are tokens for."""
        order = np.argsort(client, kind="stable")
        paid = np.empty(client.size, np.bool)
        ordered = client[order]
        granted = rank(ordered) < self._tokens[ordered] // SDK_RETRY_COST
        paid[order] = granted
        np.subtract.at(self._tokens, ordered[granted], SDK_RETRY_COST)
        return paid

    def _outcome(self) -> HerdOutcome:
        outage = self._outage

        def count(chosen: NDArray[np.bool]) -> Whole:
            return np.bincount(self._trial[chosen], minlength=self._trials)

        began = self._began_s >= 0
        first = round(BEFORE_S / BIN_S)
        herd_from = math.ceil((BEFORE_S + outage.down_s) / BIN_S - 1e-9)
        herd = self._arrivals[:, herd_from : herd_from + round(HERD_S / BIN_S)] / BIN_S
        settled_s = np.where(self._struck, self._settled_s, -np.inf)
        last_s = np.full(self._trials, outage.down_s)
        np.maximum.at(last_s, self._trial, settled_s)
        calm_from_s = outage.down_s + (1 - _CALM_SHARE) * outage.after_s
        recovered = self._last_trouble_s <= calm_from_s
        return HerdOutcome(
            requests=count(began),
            calls=self._arrivals[:, first:].sum(axis=1),
            successes=count(began & self._succeeded),
            struck=count(self._struck),
            saved=count(self._struck & self._succeeded),
            peak_per_s=herd.max(axis=1),
            mean_per_s=herd.mean(axis=1),
            recovery_s=np.where(recovered, self._last_trouble_s - outage.down_s, np.nan),
            drained_s=np.where(np.isfinite(last_s), last_s - outage.down_s, np.nan),
            arrivals_per_s=self._arrivals.mean(axis=0) / BIN_S,
        )
