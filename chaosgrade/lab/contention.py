"""Clients that contend for one row with optimistic locking, as in AWS's post on backoff.

Each client reads the row's version and writes with it; the write succeeds if nobody has written
since the read, otherwise the client backs off and begins again with a read. Every message takes
Normal(10, 2) ms. Calls are writes. The time is when the last answer has come. Source: Marc Brooker,
"Exponential Backoff And Jitter", AWS Architecture Blog (2015), and its simulator.

The simulation is exact and takes one step per success instead of one per message. After a write
has succeeded, whoever had read before it is bound to fail, whatever the others do, and reads again
after it; among all that have then read after it, the first to write succeeds. So a step finds the
first write of each trial and sends whoever it dooms on their way, for all trials at once.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chaosgrade.lab.gaps import Floats, Gaps, Whole
from chaosgrade.policies.retry import RetryPolicy

DELAY_MEAN_S, DELAY_SD_S = 0.010, 0.002
_AT_ONCE = 2**15  # clients of all trials of one block: its arrays stay in the cache


@dataclass(frozen=True, slots=True)
class Contention:
    """What happened in each trial.

    Args:
        calls: writes.
        time_s: when the last answer had come.
        gave_up: clients that the policy let go without a success.
    """

    calls: Whole
    time_s: Floats
    gave_up: Whole


def contend(
    policy: RetryPolicy,
    clients: int,
    trials: int,
    seed: int,
    on_progress: Callable[[float], None] = lambda share: None,
) -> Contention:
    """Simulate.

    Args:
        policy: of each client; its quota, if it has one, plays no part.
        clients: how many begin at the same moment.
        trials: how often, independently.
        seed: the same one gives the same trials.
        on_progress: hears which share is done.
    """
    block = max(32, _AT_ONCE // clients)
    sizes = [min(block, trials - done) for done in range(0, trials, block)]
    parts = []
    for number, size in enumerate(sizes):
        random = np.random.Generator(np.random.SFC64((seed, clients, number)))

        def on_step(share: float, before: int = number) -> None:
            on_progress((before + share) / len(sizes))

        parts.append(_Block(policy, clients, size, random).run(on_step))
    return Contention(
        calls=np.concatenate([part.calls for part in parts]),
        time_s=np.concatenate([part.time_s for part in parts]),
        gave_up=np.concatenate([part.gave_up for part in parts]),
    )


class _Block:
    """Some trials side by side: a row each, and in it a place for each client under way."""

    def __init__(
        self, policy: RetryPolicy, clients: int, trials: int, random: np.random.Generator
    ) -> None:
        self._limits = policy.attempts, policy.deadline_s
        self._random = random
        self._gaps = Gaps(policy.backoff)
        self._trials = trials
        self._clients = clients
        self._calls = np.zeros(trials, np.intp)
        self._gave_up = np.zeros(trials, np.intp)
        self._end_s = np.zeros(trials)
        places = trials * clients
        # When the server has read for a client, and when the client's write will arrive.
        self._read_s = self._messages_s(1, places)
        self._write_s = self._read_s + self._messages_s(2, places)
        self._failures = np.zeros(places, np.intp)
        self._gap_s = np.zeros(places if self._gaps.remembers else 0)

    def run(self, on_step: Callable[[float], None]) -> Contention:
        width = self._clients
        for left in range(self._clients, 0, -1):
            if left < 0.8 * width:
                self._narrow(width, left)
                width = left
            starts = np.arange(self._trials) * width
            first = starts + self._write_s.reshape(self._trials, width).argmin(axis=1)
            success_s = self._write_s[first]
            self._settle(first, success_s)
            self._remove(first, starts + left - 1)
            self._send_on(success_s, width)
            if left % 64 == 0:
                on_step(1 - left / self._clients)
        on_step(1.0)
        return Contention(self._calls, self._end_s, self._gave_up)

    def _messages_s(self, messages: int, draws: int) -> Floats:
        """How long so many messages take together, one after the other, in seconds."""
        delays = self._random.standard_normal(draws)
        delays *= DELAY_SD_S * math.sqrt(messages)
        delays += DELAY_MEAN_S * messages
        return delays

    def _settle(self, first: Whole, success_s: Floats) -> None:
        """A client of each trial is done: with success or, if no write is left, without."""
        happened = np.isfinite(success_s)
        self._calls += self._failures[first] + happened
        self._gave_up += ~happened
        answer_s = success_s + self._messages_s(1, self._trials)
        np.maximum(self._end_s, answer_s, out=self._end_s, where=happened)

    def _remove(self, first: Whole, last: Whole) -> None:
        """Whoever has the last place takes the place of the client that is done."""
        for table in self._tables():
            table[first] = table[last]
        self._read_s[last] = self._write_s[last] = np.inf

    def _narrow(self, width: int, left: int) -> None:
        """Drop the places of those that are done, which are the last ones."""

        def kept[T: np.generic](table: NDArray[T]) -> NDArray[T]:
            return table.reshape(self._trials, -1)[:, :left].reshape(-1)

        self._read_s, self._write_s = kept(self._read_s), kept(self._write_s)
        self._failures, self._gap_s = kept(self._failures), kept(self._gap_s)

    def _tables(self) -> Iterable[NDArray[Any]]:
        yield from (self._read_s, self._write_s, self._failures)
        if self._gaps.remembers:
            yield self._gap_s

    def _send_on(self, success_s: Floats, width: int) -> None:
        """Whoever had read before the success fails at its write, and reads anew."""
        read_before = self._read_s.reshape(-1, width) < success_s[:, np.newaxis]
        doomed = np.flatnonzero(read_before)
        failures = self._failures[doomed] + 1
        self._failures[doomed] = failures
        previous_s = self._gap_s[doomed] if self._gaps.remembers else None
        gap_s = self._gaps.draw_s(failures, previous_s, self._random)
        if self._gaps.remembers:
            self._gap_s[doomed] = gap_s
        failed_s = self._write_s[doomed]
        messages_s = self._messages_s(2, doomed.size)  # the refusal, and the next read
        read_s = failed_s + gap_s
        read_s += messages_s
        write_s = read_s + self._messages_s(2, doomed.size)
        if self._limits != (None, None):
            # Given what two messages take together, the first takes half, give or take.
            heard_s = failed_s + messages_s / 2
            heard_s += self._random.standard_normal(doomed.size) * DELAY_SD_S / math.sqrt(2)
            over = self._are_over(failures, heard_s + gap_s)
            np.maximum.at(self._end_s, doomed[over] // width, heard_s[over])
            read_s[over] = write_s[over] = np.inf
        self._read_s[doomed] = read_s
        self._write_s[doomed] = write_s

    def _are_over(self, failures: Whole, retry_s: Floats) -> NDArray[np.bool]:
        """Which retries the policy does not make."""
        attempts, deadline_s = self._limits
        over = np.zeros(failures.size, np.bool)
        if attempts is not None:
            over |= failures >= attempts
        if deadline_s is not None:
            over |= retry_s > deadline_s
        return over
