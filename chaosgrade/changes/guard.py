"""Gates that changes pass before anything is touched. A gate that cannot decide refuses.

The rules come from `policies/safety.yaml`. They are checked against live state for a transaction as
a whole, and again before each of its calls when that state is older than `FRESH_S`.
"""

import math
import threading
import time
from collections.abc import Iterable, Sequence

from chaosgrade.aws import Aws
from chaosgrade.changes import census, registry
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Change, Resource, Setting
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError, Refused
from chaosgrade.policies.safety import Profile

FRESH_S = 5.0
"""How old the live state may be against which a call is checked, in seconds."""

_OURS = ("ec2:network-acl", "fis:experiment-template")
"""Kinds that chaosgrade creates itself: they break nothing until something is given to them."""


class Guard:
    """The rules of one place, and what is touched there already.

    Args:
        profile: the rules.
        aws: where.
        journal: tells what runs have changed already; None counts nothing but the plan.
        run: the run that asks, so that its own strikes count against its limits.
        clock: wall time for the time window.
    """

    def __init__(
        self, profile: Profile, aws: Aws, journal: Journal | None, run: str, clock: Clock
    ) -> None:
        self._profile = profile
        self._aws = aws
        self._journal = journal
        self._run = run
        self._clock = clock
        self._lock = threading.Lock()
        self._surveyed: tuple[tuple[Change, ...], float] = (), -math.inf
        """What was checked, and when the state was read against which it was."""
        self._admitted: set[int] = set()
        """Which of these may have left, by `id`: what was terminated is in no population."""

    def check_lease(self, lease_s: float) -> None:
        """Let changes stay for so long, or raise.

        Raises:
            Refused: they would stay for longer than is allowed.
        """
        if lease_s <= 0:
            raise Refused(f"a lease of {lease_s:g} s leaves no time for a change: make it longer")
        longest = self._profile.max_lease_s
        if longest is not None and lease_s > longest:
            raise Refused(
                f"the changes would stay for up to {lease_s:.0f} s, max_lease is {longest:.0f} s: "
                "shorten the experiment's window, or raise max_lease in safety.yaml"
            )

    def check_place(self) -> None:
        """Let anything be changed here at all, or raise.

        Raises:
            Refused: the account or Region is not allowed, or not at this hour.
        """
        if self._profile.accounts is not None:
            account, region = self._aws.environment.account, self._aws.environment.region
            regions = self._profile.accounts.get(account)
            if regions is None:
                raise Refused(
                    f"account {account} is not allowed: changes to real accounts are denied unless "
                    "safety.yaml names them under aws.accounts; see `chaosgrade plan`"
                )
            if region not in regions:
                raise Refused(
                    f"Region {region} is not allowed in account {account}, only "
                    f"{', '.join(regions) or 'none'}: see aws.accounts in safety.yaml"
                )
        window = self._profile.window
        if window is not None and not window.open_at(self._clock.now()):
            raise Refused(f"outside the time window ({window.text}): see window in safety.yaml")

    def check(self, changes: Sequence[Change]) -> None:
        """Let a transaction pass, or raise. Reads live state; writes nothing.

        Raises:
            Refused: it may not be carried out here.
        """
        if not changes:
            return
        self.check_place()
        with self._lock:
            self._admitted.clear()
            self._survey(tuple(changes))

    def admit(self, change: Change) -> None:
        """Let one call of a transaction that has passed leave now, or raise.

        Looks again in good time, in the thread of one caller, so that the others need not wait.

        Raises:
            Refused: something has changed since.
        """
        self.check_place()
        age_s = self._age_s(change)
        if age_s > FRESH_S:
            with self._lock:
                if self._age_s(change) > FRESH_S:
                    known = any(change is one for one in self._batch)
                    # Not known: another transaction of this run has been checked since.
                    self._survey(self._batch if known else (*self._batch, change))
        elif age_s > FRESH_S / 2 and self._lock.acquire(blocking=False):
            try:
                self._survey(self._batch)
            finally:
                self._lock.release()
        self._admitted.add(id(change))

    def _age_s(self, change: Change) -> float:
        """How old the state is against which a change was checked; infinite when it never was."""
        batch, surveyed = self._surveyed
        if not any(change is one for one in batch):
            return math.inf
        return time.monotonic() - surveyed

    @property
    def _batch(self) -> tuple[Change, ...]:
        return self._surveyed[0]

    def _survey(self, batch: tuple[Change, ...]) -> None:
        began = time.monotonic()
        try:
            self._look(batch)
        except Refused:
            raise
        except ChaosgradeError as error:
            raise Refused(
                f"the blast radius cannot be decided, so it is refused: {error}"
            ) from None
        self._surveyed = batch, began

    def _look(self, batch: Sequence[Change]) -> None:
        new = {r for r in (c.subject.resource for c in batch) if r.kind not in _OURS}
        touched = new | {r for r in self._touched(batch) if r.kind not in _OURS}
        zones = {r.zone for r in touched if r.zone}
        for kind in sorted({resource.kind for resource in touched}):
            of_kind = {r.id for r in touched if r.kind == kind}
            self._check_count(kind, of_kind)
            population = self._population(kind, of_kind)
            if population is None:
                continue
            self._check_opt_in(
                (c.subject.resource for c in batch if id(c) not in self._admitted), kind, population
            )
            self._check_share(kind, of_kind, population)
            self._check_zones(kind, zones, population)
        limit = self._profile.zones_at_once
        if limit is not None and len(zones) > limit:
            raise Refused(
                f"{len(zones)} Availability Zones would be touched at once "
                f"({', '.join(sorted(zones))}), zones_at_once is {limit}"
            )
        if self._profile.min_healthy > 0:
            self._check_capacity(touched)

    def _check_count(self, kind: str, ids: set[str]) -> None:
        limit = self._profile.limits.get(kind)
        if limit is None:
            if self._profile.accounts is not None:
                raise Refused(f"safety.yaml gives no limit for {kind}: name one under limits")
            return
        if limit.count is not None and len(ids) > limit.count:
            raise Refused(
                f"{len(ids)} {kind} would be touched at once, the limit is {limit.count}: "
                f"choose fewer, or raise limits.{kind}.count in safety.yaml"
            )

    def _population(self, kind: str, ids: Iterable[str]) -> census.Population | None:
        """Everything that could be touched; None when no rule asks for it."""
        limit = self._profile.limits.get(kind)
        asked = (
            self._profile.opt_in
            or self._profile.untouched_zones
            or (limit is not None and limit.share is not None)
        )
        if not asked:
            return None
        if kind not in census.SURVEYED:
            raise Refused(f"{kind} cannot be counted, so touching it is refused here")
        return census.population(self._aws, kind, ids, self._profile.opt_in)

    def _check_opt_in(
        self, new: Iterable[Resource], kind: str, population: census.Population
    ) -> None:
        missing = sorted({r.id for r in new if r.kind == kind and r.id not in population})
        if missing and self._profile.opt_in:
            key, value = self._profile.opt_in
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            raise Refused(
                f"{missing[0]}{more} does not carry the opt-in tag {key}={value}: "
                "tag what may be broken"
            )

    def _check_share(self, kind: str, ids: set[str], population: census.Population) -> None:
        limit = self._profile.limits.get(kind)
        if limit is None or limit.share is None:
            return
        whole = len(population.keys() | ids)
        if len(ids) > limit.share * whole:
            raise Refused(
                f"{len(ids)} of {whole} {kind} would be touched at once, the limit is "
                f"{limit.share:.0%}: choose fewer, or raise limits.{kind}.share in safety.yaml"
            )

    def _check_zones(self, kind: str, touched: set[str], population: census.Population) -> None:
        zones = {zone for zone in population.values() if zone}
        untouched = zones - touched
        if touched & zones and len(untouched) < self._profile.untouched_zones:
            raise Refused(
                f"of the Availability Zones with {kind} ({', '.join(sorted(zones))}) "
                f"{len(untouched)} would stay untouched, untouched_zones is "
                f"{self._profile.untouched_zones}"
            )

    def _check_capacity(self, touched: Iterable[Resource]) -> None:
        by_kind: dict[str, frozenset[str]] = {}
        for resource in touched:
            by_kind[resource.kind] = by_kind.get(resource.kind, frozenset()) | {resource.id}
        for capacity, lost in census.capacities(self._aws, by_kind):
            left = len(capacity.healthy - lost)
            if lost and left < self._profile.min_healthy * capacity.whole:
                raise Refused(
                    f"{left} of {capacity.whole} in {capacity.name} would stay healthy, "
                    f"min_healthy is {self._profile.min_healthy:.0%}: choose fewer"
                )

    def _touched(self, batch: Sequence[Change]) -> Iterable[Resource]:
        """What this run has struck, and what any run here has outstanding.

        Raises:
            Refused: a setting is to be changed that another run has changed: whoever undid second
                would bring the other's value back.
        """
        if self._journal is None:
            return
        settings = {c.subject for c in batch if isinstance(c.subject, Setting)}
        runs = self._journal.runs()
        here = [row.place for row in runs if row.id == self._run]
        for row in runs:
            if row.place not in here:
                continue
            for entry in self._journal.entries(row.id):
                if entry.outstanding or (row.id == self._run and not entry.reversible):
                    subject = registry.subject(entry.kind, entry.address)
                    if row.id != self._run and subject in settings:
                        raise Refused(
                            f"run {row.id} has changed {subject.resource.id} and not undone it yet "
                            f"({entry.summary}): see `chaosgrade status`"
                        )
                    yield subject.resource
