"""How fast customers get their shards, and how many shards with a bounded overlap are found.

The peer is route53-infima, AWS's library for Java. Its speed was measured on a machine like this
with a single thread, in another run: "of infima" is the ratio to that. Its two algorithms are
rendered here in plain Python as well and run beside ours, as "the same in Python":

- stateless: MD5 of seed and name seeds a generator that shuffles all workers; the first k are it.
- stateful: combinations of shuffled workers are tried in order until one has no m+1 workers that
  an earlier shard has.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random
from typing import Any

from chaosgrade.policies.bounded_overlap import BoundedOverlap, NoShardLeft
from chaosgrade.policies.shard_mathematics import most_shards
from chaosgrade.policies.shuffle_sharding import ShuffleSharding

STATELESS = {(8, 2): 2_190_000, (100, 5): 686_000, (2048, 4): 44_000}
"""Workers and shard: infima's shards per second."""

STATEFUL = {(8, 2, 1): (28, None), (20, 4, 2): (217, None), (100, 5, 1): (389, 40.0)}
"""Workers, shard and overlap: infima's shards, and in how many seconds it found them."""


def names(count: int) -> list[str]:
    """Workers."""
    return [f"worker-{number:04}" for number in range(count)]


def best_rate(assign: Callable[[Sequence[str]], object], customers: Sequence[str]) -> float:
    """Customers per second of the fastest of five runs."""
    elapsed = []
    for _ in range(5):
        began = time.perf_counter()
        assign(customers)
        elapsed.append(time.perf_counter() - began)
    return len(customers) / min(elapsed)


def peer_stateless(workers: Sequence[str], shard: int, customer: str) -> list[str]:
    """Infima's SimpleSignatureShuffleSharder, with Python's generator."""
    digest = hashlib.md5(b"0" + customer.encode()).digest()
    everybody = list(workers)
    Random(int.from_bytes(digest[:8], "little")).shuffle(everybody)
    return everybody[:shard]


def peer_stateful(workers: Sequence[str], shard: int, overlap: int, limit_s: float) -> int:
    """Infima's StatefulSearchingShuffleSharder: how many shards it finds before it stops."""
    used: set[tuple[str, ...]] = set()
    random = Random(0)
    found = 0
    deadline = time.perf_counter() + limit_s
    while True:
        shuffled = list(workers)
        random.shuffle(shuffled)
        for number, shard_of in enumerate(combinations(shuffled, shard)):
            fragments = [tuple(sorted(f)) for f in combinations(shard_of, overlap + 1)]
            if used.isdisjoint(fragments):
                used.update(fragments)
                found += 1
                break
            if number % 1000 == 0 and time.perf_counter() > deadline:
                return found
        else:
            return found


def stateless(customers: int) -> list[dict[str, Any]]:
    """Rates of ours, alone and in batches, and of the peer's algorithm."""
    some = [f"customer-{number}" for number in range(customers)]
    rows = []
    for (workers, shard), infima in STATELESS.items():
        sharding = ShuffleSharding(names(workers), shard)

        def one_by_one(some: Sequence[str], shard_of: Any = sharding.shard_of) -> None:
            for customer in some:
                shard_of(customer)

        def peer(some: Sequence[str], workers: Any = sharding.workers, shard: int = shard) -> None:
            for customer in some:
                peer_stateless(workers, shard, customer)

        rows.append(
            {
                "workers": workers,
                "shard": shard,
                "batch": best_rate(sharding.positions_of, some),
                "single": best_rate(one_by_one, some[: customers // 4]),
                "peer": best_rate(peer, some[: max(200, 400_000 // workers)]),
                "infima": infima,
            }
        )
    return rows


def stateful(limit_s: float) -> list[dict[str, Any]]:
    """How many shards are found, in how long."""
    rows = []
    for (workers, shard, overlap), (infima, infima_s) in STATEFUL.items():
        began = time.perf_counter()
        ours = BoundedOverlap(names(workers), shard, overlap)
        try:
            while True:
                ours.assign(f"customer-{len(ours)}")
        except NoShardLeft:
            pass
        elapsed = time.perf_counter() - began
        began = time.perf_counter()
        peer = peer_stateful(names(workers), shard, overlap, limit_s)
        rows.append(
            {
                "workers": workers, "shard": shard, "overlap": overlap,
                "bound": most_shards(workers, shard, overlap), "found": len(ours), "s": elapsed,
                "peer": peer, "peer_s": time.perf_counter() - began,
                "infima": infima, "infima_s": infima_s,
            }
        )  # fmt: skip
    return rows


def many(count: int) -> float:
    """Shards per second of 100 workers, shards of 5, an overlap of 2."""
    ours = BoundedOverlap(names(100), 5, 2)
    began = time.perf_counter()
    for number in range(count):
        ours.assign(f"customer-{number}")
    return count / (time.perf_counter() - began)


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--customers", type=int, default=400_000)
    arguments.add_argument("--peer-seconds", type=float, default=20.0)
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    rates, found, rate = stateless(options.customers), stateful(options.peer_seconds), many(2_000)
    if options.json:
        print(json.dumps({"stateless": rates, "stateful": found, "stateful_100_5_2": rate}))
        return
    print(
        "shards per second       in batches   one by one   the same   infima    batches: of Python,"
    )
    print("                                                  in Python  (Java)        of infima")
    for row in rates:
        print(
            f"{row['workers']:>5} workers, {row['shard']} each  {row['batch']:>13,.0f}"
            f"{row['single']:>13,.0f}{row['peer']:>11,.0f}{row['infima']:>11,}"
            f"   {row['batch'] / row['peer']:>7.0f}×{row['batch'] / row['infima']:>8.1f}×"
            f"   (one by one {row['single'] / row['infima']:.1f}× of infima)"
        )
    print("\nbounded overlap                  found   most there   the same in Python   infima")
    print("                                         can be")
    for row in found:
        infima_s = f" in {row['infima_s']:.0f} s" if row["infima_s"] else ""
        print(
            f"{row['workers']:>5} workers, {row['shard']} each, at most {row['overlap']}"
            f"{row['found']:>5} in {row['s']:.2f} s{row['bound']:>7}"
            f"{row['peer']:>9} in {row['peer_s']:.1f} s{row['infima']:>12}{infima_s}"
        )
    print(f"  100 workers, 5 each, at most 2: {rate:,.0f} shards/s (infima 3,600)")


if __name__ == "__main__":
    main()
