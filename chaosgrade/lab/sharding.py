"""Simulates what failures do to customers under several ways of sharding, beside what is exact."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chaosgrade.errors import UsageError
from chaosgrade.lab.shardings import Chances, Fleet, LabSharding, parse_sharding
from chaosgrade.overlaps import membership, pair_overlaps
from chaosgrade.policies.shard_mathematics import request_failure
from chaosgrade.policies.shuffle_sharding import derived_seed

_REQUESTS = 5_000  # of each trial and event
_PAIRED = 300  # customers of each trial among whom pairs are counted

type Event = tuple[Literal["failures", "poison", "zone"], int]
"""So many workers fail at random; so many customers are poisonous; a zone is lost (0)."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """What to simulate.

    Args:
        fleet: workers, customers, zones.
        failures: workers that fail at random.
        poison: customers each of whom takes all of its workers down.
        tries: how often a request is tried, within its shard.
        trials: assignments and failures that are drawn.
        seed: of everything that is drawn.
        sweep: whether to simulate fewer and more failures and poisonous customers too.

    Raises:
        UsageError: naming the option that makes no sense.
    """

    fleet: Fleet
    failures: int
    poison: int
    tries: int
    trials: int
    seed: int
    sweep: bool = False

    def __post_init__(self) -> None:
        fleet = self.fleet
        for option, value, least, most in (
            ("workers", fleet.workers, 1, 10_000),
            ("shard", fleet.shard, 1, fleet.workers),
            ("customers", fleet.customers, 2, 1_000_000),
            ("failures", self.failures, 0, fleet.workers),
            ("poison", self.poison, 0, fleet.customers - 1),
            ("tries", self.tries, 1, fleet.shard),
            ("zones", fleet.zones, 1, fleet.workers),
            ("trials", self.trials, 2, 1_000_000),
            ("seed", self.seed, 0, 2**63 - 1),
        ):
            if not least <= value <= most:
                raise UsageError(f"--{option} must be from {least} to {most}, got {value}")

    @property
    def events(self) -> tuple[Event, ...]:
        """What is to happen in every trial, each by itself."""
        events: list[Event] = [("failures", self.failures), ("poison", self.poison)]
        if self.fleet.zones > 1:
            events.append(("zone", 0))
        if self.sweep:
            groups = self.fleet.workers // self.fleet.shard
            most = min(self.fleet.customers - 1, 2 * groups)
            events += [("poison", count) for count in _spread(1, most)]
            events += [("failures", count) for count in _spread(1, max(1, self.fleet.workers // 2))]
        return tuple(dict.fromkeys(events))


@dataclass(frozen=True, slots=True)
class Figure:
    """One figure, exact and simulated.

    Args:
        exact: None where mathematics gives none.
        mean, se: of the trials, and the standard error of that mean.
        worst: the largest of a trial.
    """

    exact: float | None
    mean: float
    se: float
    worst: float

    def to_json(self) -> dict[str, float | None]:
        """As a JSON object."""
        return {"exact": self.exact, "mean": self.mean, "se": self.se, "worst": self.worst}


@dataclass(frozen=True, slots=True)
class Reach:
    """How far an event reaches: shares of customers, or of their requests.

    Args:
        fully_out: customers all of whose workers are lost.
        distinct: requests that fail when each try goes to another worker.
        repeated: requests that fail when any may be tried again.
    """

    fully_out: Figure
    distinct: Figure
    repeated: Figure

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "customers_fully_out": self.fully_out.to_json(),
            "requests_failing_distinct_tries": self.distinct.to_json(),
            "requests_failing_repeated_tries": self.repeated.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Result:
    """What one way of sharding came to.

    Args:
        sharding: the way.
        overlap: the share of pairs of customers that share j workers, for j from 0 to the shard.
        reach: of each event.
    """

    sharding: LabSharding
    overlap: tuple[Figure, ...]
    reach: Mapping[Event, Reach]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        return {
            "sharding": self.sharding.name,
            "shard": self.sharding.size,
            "overlap": [
                {"workers": j, **figure.to_json()}
                for j, figure in enumerate(self.overlap)
                if figure.exact or figure.mean  # else neither seen nor possible
            ],
            "reach": [
                {"event": kind, "count": count, **reach.to_json()}
                for (kind, count), reach in self.reach.items()
            ],
        }


def simulate(
    experiment: Experiment,
    shardings: Sequence[str],
    progress: Callable[[int], None] = lambda trials: None,
) -> list[Result]:
    """Simulate several ways of sharding.

    Args:
        experiment: what to simulate.
        shardings: the ways, see `parse_sharding`.
        progress: called after each trial of each way, with how many are done.

    Raises:
        UsageError: one of the ways makes no sense for this fleet.
    """
    ways = [parse_sharding(text, experiment.fleet) for text in shardings]
    results = []
    for number, way in enumerate(ways):
        overlaps: list[NDArray[np.float64]] = []
        reaches: defaultdict[Event, list[tuple[float, float, float]]] = defaultdict(list)
        for trial in range(experiment.trials):
            drawn = _Trial(experiment, way, trial)
            overlaps.append(drawn.overlap())
            for event in experiment.events:
                reaches[event].append(drawn.reach(event))
            progress(number * experiment.trials + trial + 1)
        results.append(_result(experiment, way, overlaps, reaches))
    return results


class _Trial:
    """One assignment, and the order in which workers and customers fail."""

    def __init__(self, experiment: Experiment, way: LabSharding, trial: int) -> None:
        fleet = experiment.fleet
        # One seed a trial: every way meets the same failures.
        seed = derived_seed(trial.to_bytes(8, "little"), experiment.seed)
        self._random = np.random.default_rng(seed)
        self._failing = self._random.permutation(fleet.workers)
        self._poisonous = self._random.permutation(fleet.customers)
        self._zone = fleet.in_zone(int(self._random.integers(fleet.zones)))
        # Of its own: what is drawn from the same seed would meet its own permutation again.
        self._shards = way.draw(derived_seed(b"assignment", seed))
        self._size = way.size
        self._fleet = fleet
        self._tries = experiment.tries

    def overlap(self) -> NDArray[np.float64]:
        """The share of pairs that share j workers."""
        if self._shards is None:
            return np.array([float(j == self._size) for j in range(self._size + 1)])
        some = self._shards[self._poisonous[:_PAIRED]]
        counts = pair_overlaps(membership(some, self._fleet.workers)).counts
        return np.asarray(counts / counts.sum(), dtype=np.float64)

    def reach(self, event: Event) -> tuple[float, float, float]:
        """Shares: customers fully out, requests failing with distinct tries, and with repeated."""
        kind, count = event
        customers = self._poisonous
        lost: Sequence[int] | NDArray[np.int64]
        if kind == "zone":
            lost = self._zone
        elif kind == "failures":
            lost = self._failing[:count]
        else:
            customers = self._poisonous[count:]
            poisoned = self._poisonous[:count]
            everything = self._failing if count else self._failing[:0]
            lost = everything if self._shards is None else np.unique(self._shards[poisoned])
        is_lost = np.zeros(self._fleet.workers, dtype=bool)
        is_lost[lost] = True
        if self._shards is None:
            out = float(is_lost.all())
        else:
            out = float(is_lost[self._shards[customers]].all(axis=1).mean())
        asking = self._random.choice(customers, _REQUESTS)
        distinct = self._distinct()
        repeated = self._random.integers(self._size, size=(_REQUESTS, self._tries))
        return (
            out,
            self._failing_of(is_lost, asking, distinct),
            self._failing_of(is_lost, asking, repeated),
        )

    def _failing_of(
        self, is_lost: NDArray[np.bool_], asking: NDArray[np.int64], places: NDArray[np.int64]
    ) -> float:
        """The share of requests all of whose tries, at places of the shard, meet a lost worker."""
        if self._shards is not None:
            places = self._shards[asking[:, None], places]
        return float(is_lost[places].all(axis=1).mean())

    def _distinct(self) -> NDArray[np.int64]:
        """For each request as many different places of a shard as tries, in random order."""
        places = np.empty((_REQUESTS, self._tries), dtype=np.int64)
        for i in range(self._tries):
            drawn = self._random.integers(self._size - i, size=_REQUESTS)
            for earlier in np.sort(places[:, :i], axis=1).T:  # step over those already taken
                drawn += drawn >= earlier
            places[:, i] = drawn
        return places


def _result(
    experiment: Experiment,
    way: LabSharding,
    overlaps: Sequence[NDArray[np.float64]],
    reaches: Mapping[Event, Sequence[tuple[float, float, float]]],
) -> Result:
    exact = way.overlap()
    return Result(
        way,
        tuple(
            _figure(float(chance), shares)
            for chance, shares in zip(exact, np.array(overlaps).T, strict=True)
        ),
        {
            event: _reach(_lost(way, event), experiment.tries, trials)
            for event, trials in reaches.items()
        },
    )


def _lost(way: LabSharding, event: Event) -> Chances | None:
    """How many of a customer's workers an event takes."""
    kind, count = event
    if kind == "zone":
        return way.zone_lost()
    return way.failed(count) if kind == "failures" else way.poisoned(count)


def _reach(lost: Chances | None, tries: int, trials: Sequence[tuple[float, float, float]]) -> Reach:
    exact: tuple[float | None, float | None, float | None] = (None, None, None)
    if lost is not None:
        exact = (
            float(lost[-1]),
            float(request_failure(lost, tries)),
            float(request_failure(lost, tries, distinct=False)),
        )
    columns = np.array(trials).T
    return Reach(*(_figure(one, column) for one, column in zip(exact, columns, strict=True)))


def _figure(exact: float | None, trials: NDArray[np.float64]) -> Figure:
    # What never varies has no error, whatever rounding leaves of it.
    error = trials.std(ddof=1) / np.sqrt(len(trials)) if np.ptp(trials) > 1e-12 else 0.0
    return Figure(exact, float(trials.mean()), float(error), float(trials.max()))


def _spread(first: int, last: int, most: int = 8) -> list[int]:
    """At most so many whole numbers from first to last, ever further apart."""
    return sorted({round(value) for value in np.geomspace(first, last, most)})
