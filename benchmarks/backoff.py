"""The contention laboratory: calls simulated per second, and whether they are the right ones.

The peer is the same model written plainly, a message at a time from a heap, as AWS's own simulator
is, which did about 185,000 calls/s on a machine of this class at rest. Both run the five policies
at the five sizes of `aws_backoff.json`; their means are compared with each other and with that
table. The exit code is 1 if any two are more than three standard errors of their difference apart.
"""

import argparse
import heapq
import json
import math
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from chaosgrade.lab.contention import contend
from chaosgrade.policies.backoff_families import (
    Backoff,
    DecorrelatedJitter,
    EqualJitter,
    Exponential,
    FullJitter,
    NoBackoff,
)
from chaosgrade.policies.retry import RetryPolicy

TABLE = json.loads(Path(__file__).with_name("aws_backoff.json").read_text())
AWS_CALLS_PER_S = 185_000
BASE_MS, CAP_MS = 5.0, 2000.0
# AWS's simulator doubles its base before the first retry.
OURS: dict[str, Backoff] = {
    "none": NoBackoff(),
    "exponential": Exponential(2 * BASE_MS / 1000, CAP_MS / 1000),
    "equal": EqualJitter(2 * BASE_MS / 1000, CAP_MS / 1000),
    "full": FullJitter(2 * BASE_MS / 1000, CAP_MS / 1000),
    "decorrelated": DecorrelatedJitter(BASE_MS / 1000, CAP_MS / 1000),
}


def gaps(policy: str, draw: random.Random) -> Iterator[float]:
    """The gaps of one client, in ms."""
    bound, previous = BASE_MS, BASE_MS
    while True:
        bound = min(CAP_MS, 2 * bound)
        if policy == "none":
            yield 0.0
        elif policy == "exponential":
            yield bound
        elif policy == "equal":
            yield bound / 2 + draw.uniform(0, bound / 2)
        elif policy == "full":
            yield draw.uniform(0, bound)
        else:
            previous = min(CAP_MS, draw.uniform(BASE_MS, 3 * previous))
            yield previous


def plain(policy: str, clients: int, draw: random.Random) -> tuple[int, float]:
    """Calls and ms of one trial, a message at a time."""
    version = calls = 0
    now = 0.0
    waits = [gaps(policy, draw) for _ in range(clients)]
    normal = draw.normalvariate
    # When a message arrives, whose it is, what it is, and the version that it carries.
    messages = [(normal(10, 2), client, "read", 0) for client in range(clients)]
    heapq.heapify(messages)
    while messages:
        now, client, kind, carried = heapq.heappop(messages)
        at = now + normal(10, 2)
        if kind == "read":
            heapq.heappush(messages, (at, client, "version", version))
        elif kind == "version":
            heapq.heappush(messages, (at, client, "write", carried))
        elif kind == "write":
            calls += 1
            won = carried == version
            version += won
            heapq.heappush(messages, (at, client, "won" if won else "lost", 0))
        elif kind == "lost":
            heapq.heappush(messages, (at + next(waits[client]), client, "read", 0))
    return calls, now


def timed[T](work: Callable[[], T]) -> tuple[T, float]:
    began = time.perf_counter()
    result = work()
    return result, time.perf_counter() - began


def apart(ours: list[float], mean: float, sd: float, trials: int) -> float:
    """By how many standard errors of the difference two means are apart."""
    error = math.sqrt(statistics.variance(ours) / len(ours) + sd**2 / trials)
    return (statistics.fmean(ours) - mean) / error


def main() -> None:
    """Measure, compare and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--trials", type=int, default=1000, help="of ours")
    arguments.add_argument("--plain-trials", type=int, default=50, help="of the plain rendering")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rows = []
    for policy, backoff in OURS.items():
        retry = RetryPolicy(None, backoff)
        for column, clients in enumerate(TABLE["clients"]):
            draw = random.Random(f"{options.seed} {policy} {clients}")
            trials, plain_s = timed(
                lambda p=policy, c=clients, d=draw: [
                    plain(p, c, d) for _ in range(options.plain_trials)
                ]
            )
            outcome, ours_s = timed(
                lambda r=retry, c=clients: contend(r, c, options.trials, options.seed)
            )
            measured = {
                "calls": (outcome.calls.tolist(), [calls for calls, _ in trials]),
                "time": ((outcome.time_s * 1000).tolist(), [ms for _, ms in trials]),
            }
            row = {
                "policy": policy,
                "clients": clients,
                "calls_per_s": outcome.calls.sum() / ours_s,
                "plain_calls_per_s": sum(calls for calls, _ in trials) / plain_s,
                "calls": int(outcome.calls.sum()),
                "plain_calls": sum(calls for calls, _ in trials),
                "s": ours_s,
                "plain_s": plain_s,
            }
            for name, (ours, theirs) in measured.items():
                aws, sd = TABLE[name][policy][column], statistics.stdev(ours)
                row |= {
                    f"{name}_mean": statistics.fmean(ours),
                    f"{name}_sd": sd,
                    f"{name}_aws": aws,
                    f"{name}_from_aws": apart(ours, aws, sd, TABLE["trials"]),
                    f"{name}_from_plain": apart(
                        ours, statistics.fmean(theirs), statistics.stdev(theirs), len(theirs)
                    ),
                }
            rows.append(row)
    ours_rate = sum(r["calls"] for r in rows) / sum(r["s"] for r in rows)
    plain_rate = sum(r["plain_calls"] for r in rows) / sum(r["plain_s"] for r in rows)
    distances = [abs(r[f"{n}_from_{w}"]) for r in rows for n in ("calls", "time")
                 for w in ("aws", "plain")]  # fmt: skip
    beyond = sum(distance > 3 for distance in distances)
    if options.json:
        print(json.dumps({
            "calls_per_s": ours_rate, "plain_calls_per_s": plain_rate,
            "ratio": ours_rate / plain_rate, "beyond_three": beyond, "rows": rows,
        }))  # fmt: skip
        sys.exit(1 if beyond else 0)
    print(
        f"{'':>21}calls: ours {'AWS':>10}   apart, in standard errors"
        f"   time, ms: ours {'AWS':>9}   apart{'':>12}calls/s"
    )
    print(
        f"{'policy':>12} {'clients':>7} {'mean':>8} {'sd':>6} {'':>8} {'from AWS':>9} {'plain':>6} "
        f"{'mean':>9} {'sd':>7} {'':>8} {'from AWS':>9} {'plain':>6} {'ours':>10} {'plain':>8}"
    )
    for r in rows:
        print(
            f"{r['policy']:>12} {r['clients']:>7} {r['calls_mean']:>8.1f} ±{r['calls_sd']:>5.1f} "
            f"{r['calls_aws']:>8} {r['calls_from_aws']:>+9.2f} {r['calls_from_plain']:>+6.2f} "
            f"{r['time_mean']:>9.0f} ±{r['time_sd']:>6.0f} {r['time_aws']:>8} "
            f"{r['time_from_aws']:>+9.2f} {r['time_from_plain']:>+6.2f} "
            f"{r['calls_per_s']:>10,.0f} {r['plain_calls_per_s']:>8,.0f}"
        )
    print(f"all: {ours_rate:,.0f} calls/s, plain Python {plain_rate:,.0f}: "
          f"{ours_rate / plain_rate:.0f}×; AWS's simulator {AWS_CALLS_PER_S:,}: "
          f"{ours_rate / AWS_CALLS_PER_S:.0f}×")  # fmt: skip
    print(f"{beyond} of {len(distances)} means are more than 3 standard errors apart "
          f"(by chance {len(distances) * 0.0027:.1f})")  # fmt: skip
    sys.exit(1 if beyond else 0)


if __name__ == "__main__":
    main()
