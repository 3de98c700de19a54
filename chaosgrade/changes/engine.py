"""Applies changes: guard, journal, send, verify, in that order and nowhere else.

Dry run is another executor (`Planner`) with the same `apply`, not a flag.
"""

import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from chaosgrade.aws import PARALLELISM, Aws, Environment, ResourceGone
from chaosgrade.changes import guard
from chaosgrade.changes.journal import Intent, Journal, State
from chaosgrade.changes.model import Change, Effect, Setting
from chaosgrade.changes.undo import Undone, undo
from chaosgrade.clock import Clock
from chaosgrade.errors import ChaosgradeError
from chaosgrade.evidence import EvidenceLog

EFFECT_TIMEOUT_S = 180.0
"""How long a change may take to become visible, in AWS seconds."""

_EFFECT_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that was made, and whether it is visible."""

    id: int
    change: Change
    effect: Effect


class Executor(Protocol):
    """What actions hand their changes to."""

    @property
    def started_at(self) -> float | None:
        """When the first change was about to be sent, in Unix seconds; None before that."""
        ...

    def apply(self, changes: Sequence[Change]) -> list[Applied]:
        """Make the changes, or whatever this executor does instead."""
        ...


class Engine:
    """Makes the changes of one run, and undoes them.

    Args:
        aws: where.
        environment: what is there.
        journal: where intents are committed.
        run: the run's id, already opened in the journal.
        clock: the run's time.
        evidence: where applied, proven and undone changes are recorded; None outside graded runs.
        lease_s: how long the changes may stay, in seconds from the intent.
    """

    def __init__(
        self,
        aws: Aws,
        environment: Environment,
        journal: Journal,
        run: str,
        clock: Clock,
        *,
        evidence: EvidenceLog | None = None,
        lease_s: float = 3600.0,
    ) -> None:
        self._aws = aws
        self._environment = environment
        self._journal = journal
        self._run = run
        self._clock = clock
        self._evidence = evidence
        self._lease_s = lease_s
        self._started_at: float | None = None
        self._closed = False
        self._lock = threading.Lock()

    @property
    def started_at(self) -> float | None:
        return self._started_at

    def apply(self, changes: Sequence[Change]) -> list[Applied]:
        """Make changes, side by side, and wait until each is visible or `EFFECT_TIMEOUT_S` is over.

        Raises:
            Refused: the guard refused; nothing was sent.
            JournalError: the intents could not be committed; nothing was sent.
            AwsError: a call was refused; calls not yet sent stay unsent, what was sent stays
                journalled and is undone with the rest.
        """
        guard.check(changes, self._environment)
        with ThreadPoolExecutor(PARALLELISM) as pool:
            try:
                intents = list(pool.map(self._intent, changes))
                ids = self._commit(intents)
                pending = [
                    pool.submit(self._send, id_, change)
                    for id_, change in zip(ids, changes, strict=True)
                ]
                for sent in as_completed(pending):
                    sent.result()
                proofs = [
                    pool.submit(self._prove, id_, change)
                    for id_, change in zip(ids, changes, strict=True)
                ]
                return [proof.result() for proof in proofs]
            except BaseException:
                # Also an interrupt: what has not left yet must not leave any more.
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def undo(self) -> list[Undone]:
        """Undo what this run has outstanding, and make no change after that."""
        with self._lock:
            self._closed = True
        results = undo(self._journal.outstanding(self._run), self._journal, self._aws)
        for undone in results:
            self._record(
                "change.undone",
                change=undone.entry.id,
                summary=undone.entry.summary,
                outcome=str(undone.state),
                detail=undone.detail,
            )
        return results

    def _intent(self, change: Change) -> Intent:
        if isinstance(change.subject, Setting):
            return Intent(change, change.subject.read(self._aws))
        return Intent(change)

    def _commit(self, intents: Sequence[Intent]) -> list[int]:
        with self._lock:
            if self._closed:
                raise ChaosgradeError("the run is being undone: no further change is made")
            ids = self._journal.intend(
                self._run, intents, lease_until=self._clock.now() + self._lease_s
            )
            if self._started_at is None:
                self._started_at = self._clock.now()
                self._record("fault.start")
            return ids

    def _send(self, id_: int, change: Change) -> None:
        if self._closed:
            return
        guard.check([change], self._environment)
        for call in change.calls(self._aws):
            self._aws.send(call)
        self._journal.mark(id_, State.APPLIED)
        self._record(
            "change.applied",
            change=id_,
            type=change.subject.kind,
            resource=change.subject.resource.id,
            zone=change.subject.resource.zone,
            summary=change.summary,
            reversible=change.reversible,
        )

    def _prove(self, id_: int, change: Change) -> Applied:
        deadline = time.monotonic() + EFFECT_TIMEOUT_S / self._environment.time_scale
        try:
            effect = self._until_proven(change, deadline)
        except ResourceGone as error:
            effect = Effect(False, f"gone before the effect was seen: {error}")
        self._record("change.effect", change=id_, proven=effect.proven, detail=effect.detail)
        return Applied(id_, change, effect)

    def _until_proven(self, change: Change, deadline: float) -> Effect:
        while True:
            effect = change.effect(self._aws)
            if effect.proven or self._closed or time.monotonic() > deadline:
                return effect
            time.sleep(_EFFECT_POLL_S)

    def _record(self, kind: str, **data: object) -> None:
        if self._evidence is not None:
            self._evidence.append(kind, **data)  # type: ignore[arg-type]  # JSON by construction


class Planner:
    """Collects changes instead of making them. Sends nothing."""

    started_at = None

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def apply(self, changes: Sequence[Change]) -> list[Applied]:
        """Remember the changes, as if each had been made."""
        first = len(self.changes)
        self.changes.extend(changes)
        return [
            Applied(first + n, change, Effect(False, "planned only"))
            for n, change in enumerate(changes)
        ]
