"""Applies changes: guard, journal, send, verify, in that order and nowhere else.

Dry run is another executor (`Planner`) with the same `apply`, not a flag.
"""

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Protocol

from chaosgrade.aws import PARALLELISM, Aws, ResourceGone
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Entry, Intent, Journal, JournalError, State
from chaosgrade.changes.model import Change, Effect, Lasting, Live, Reading, Setting, Strike
from chaosgrade.changes.reading import looks, read, wait_until
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.changes.undo import Undone, undo
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, ChaosgradeError, Exit, Refused
from chaosgrade.evidence import EvidenceLog, Json
from chaosgrade.machine import uptime_s
from chaosgrade.stopping import StopRequest

EFFECT_TIMEOUT_S = 180.0
"""How long a change may take to become visible, in AWS seconds."""


@dataclass(frozen=True, slots=True)
class Applied:
    """A change that was made, and whether it is visible."""

    id: int
    change: Change
    effect: Effect


class Executor(Protocol):
    """What actions hand their changes to."""

    @property
    def run(self) -> str:
        """The run that the changes belong to."""
        ...

    @property
    def started_at(self) -> float | None:
        """When the first change was about to be sent, in Unix seconds; None before that."""
        ...

    @property
    def lease_until(self) -> float:
        """Until when a change that is made now may stay, in Unix seconds."""
        ...

    def apply(self, *waves: Sequence[Change]) -> list[Applied]:
        """Make the changes, or whatever this executor does instead."""
        ...


class Engine:
    """Makes the changes of one run, and undoes them.

    Args:
        aws: where.
        guard: what is allowed.
        journal: where intents are committed.
        run: the run's id, already opened in the journal.
        clock: the run's time.
        lock: the right to change things here, confirmed before each transaction; None for none.
        watched: raises before a transaction that nobody would undo if this process died.
        stop: whether somebody, or a stop condition, has asked for an end; None for nobody.
        evidence: where applied, proven and undone changes are recorded; None outside graded runs.
        lease_s: how long the changes may stay, in seconds from the intent.
    """

    def __init__(
        self,
        aws: Aws,
        guard: Guard,
        journal: Journal,
        run: str,
        clock: Clock,
        *,
        lock: TargetLock | None = None,
        watched: Callable[[], None] = lambda: None,
        stop: StopRequest | None = None,
        evidence: EvidenceLog | None = None,
        lease_s: float = 3600.0,
    ) -> None:
        guard.check_lease(lease_s)
        self.run = run
        self._target_lock = lock
        self._watched = watched
        self._stop = stop or StopRequest()
        self._aws = aws
        self._guard = guard
        self._journal = journal
        self._clock = clock
        self._evidence = evidence
        self._lease_s = lease_s
        self._started_at: float | None = None
        self._closed = False
        self._lock = threading.Lock()
        self._entries: list[Entry] = []
        self._sent: set[int] = set()
        self._lasting: list[Lasting] = []

    @property
    def started_at(self) -> float | None:
        return self._started_at

    @property
    def lease_until(self) -> float:
        return self._clock.now() + self._lease_s

    def apply(self, *waves: Sequence[Change]) -> list[Applied]:
        """Make changes as one transaction, and wait until each is visible.

        Changes of one wave are made side by side; each wave needs those before it. A change that is
        not visible within `EFFECT_TIMEOUT_S` is reported as not proven if nothing depends on it.

        Raises:
            Refused: the guard refused, or the lease was over before everything had left.
            JournalError: the intents could not be committed; nothing was sent.
            AwsError: a call was refused.
            EvidenceError: what was done could not be recorded.
            InterruptExecution: a stop was requested; nothing is undone yet, the run is about to.

        When it raises, what it had changed has been undone as far as AWS let it; the rest is
        outstanding, and undone with the run.
        """
        entries, live = self._intend(waves)
        changes = {
            entry.id: change
            for entry, change in zip(entries, (c for wave in waves for c in wave), strict=True)
        }
        applied: list[Applied] = []
        try:
            for number in range(len(waves)):
                wave = [(entry, changes[entry.id]) for entry in entries if entry.wave == number]
                applied += self._make(wave, live, last=number == len(waves) - 1)
                live = {}  # the next wave has to look anew: this one has changed things
        except ChaosgradeError as error:
            unsent = [entry for entry in entries if entry.id not in self._sent]
            with contextlib.suppress(JournalError):  # then the undo finds them as before
                self._journal.mark(unsent, State.UNDONE, "was never sent")
            left = [u for u in self._undo(entries) if u.state == State.UNREVERTED]
            if left:
                message = f"{error}; {len(left)} of {len(entries)} changes are not undone yet"
                raise AwsError(message, code="NotUndone") from error
            raise
        return applied

    def undo(self) -> list[Undone]:
        """Undo what this run has outstanding, and make no change after that."""
        with self._lock:
            self._closed = True
        self._end_lasting()
        return self._undo()

    def _end_lasting(self) -> None:
        for strike in self._lasting:
            if death := strike.end():
                self._tell(
                    "problem",
                    source="changes",
                    detail=f"what did harm has ended before its time: {death}",
                    exit_code=int(Exit.INCONCLUSIVE),
                )

    def _intend(
        self, waves: Sequence[Sequence[Change]]
    ) -> tuple[list[Entry], Mapping[Setting, Reading]]:
        """Pass the guard and commit what is about to be done, as one."""
        changes = [change for wave in waves for change in wave]
        self._watched()
        # Under the lock of all runs: none may be counted out between its check and its intent.
        with self._journal.exclusive():
            if self._target_lock is not None:
                self._target_lock.confirm(self._lease_s)
            self._guard.check(changes)
            live = read(self._aws, _settings(changes))
            intents = [
                Intent(change, _value(live, change), number)
                for number, wave in enumerate(waves)
                for change in wave
            ]
            with self._lock:
                if self._closed:
                    raise ChaosgradeError("the run is being undone: no further change is made")
                entries = self._journal.intend(
                    self.run, intents, lease_s=self._lease_s, now=self._clock.now()
                )
                self._entries += entries
                if self._started_at is None:
                    self._started_at = self._clock.now()
                    self._record("fault.start")
        return entries, live

    def _make(
        self,
        wave: Sequence[tuple[Entry, Change]],
        live: Mapping[Setting, Reading],
        *,
        last: bool,
    ) -> list[Applied]:
        """Make the changes of one wave, and look for their effects."""
        if not live:
            live = read(self._aws, _settings([change for _, change in wave]))
        for entry, change in wave:
            if isinstance(change.subject, Setting):
                _expect(live[change.subject], entry)
        with ThreadPoolExecutor(PARALLELISM) as pool:
            try:
                pending = [
                    pool.submit(self._send, entry, change, live.get(change.subject))  # type: ignore[arg-type]
                    for entry, change in wave
                ]
                for sent in as_completed(pending):
                    sent.result()
            except BaseException:
                # Also an interrupt: what has not left yet must not leave any more.
                pool.shutdown(cancel_futures=True)
                raise
        effects = self._effects([change for _, change in wave])
        for (entry, change), effect in zip(wave, effects, strict=True):
            self._record(
                "change.effect", change=entry.id, proven=effect.proven, detail=effect.detail
            )
            if not effect.proven and not last:
                raise AwsError(f"{change.summary}: {effect.detail}", code="NoEffect")
        return [
            Applied(entry.id, change, effect)
            for (entry, change), effect in zip(wave, effects, strict=True)
        ]

    def _send(self, entry: Entry, change: Change, live: Reading | None) -> None:
        if self._closed:
            return
        self._guard.admit(change)
        # Whoever looked may have looked for long, or slept: by now others may have undone this.
        if self._closed:
            return
        self._stop.check()
        if entry.lease_uptime <= uptime_s():
            raise Refused(f"{entry.summary}: its lease was over before it was made")
        self._sent.add(entry.id)
        now = live if isinstance(live, Live) else Live(None)
        for call in change.calls(now):
            self._aws.send(call)
        if isinstance(change.subject, Lasting):
            with self._lock:
                if self._closed:
                    return
                self._lasting.append(change.subject)
            change.subject.begin(self._aws, self._clock)
            if self._closed:  # the undo came while it began, and could not end it
                change.subject.end()
                return
        self._journal.applied(entry)
        self._record(
            "change.applied",
            change=entry.id,
            type=change.subject.kind,
            resource=change.subject.resource.id,
            zone=change.subject.resource.zone,
            summary=change.summary,
            reversible=change.reversible,
        )

    def _effects(self, changes: Sequence[Change]) -> list[Effect]:
        """Whether each change is visible: a Setting is read back, a Strike looks for itself."""
        timeout_s = EFFECT_TIMEOUT_S / self._aws.environment.time_scale
        wanted = {c.subject: c.wanted for c in changes if isinstance(c.subject, Setting)}

        def as_wanted(setting: Setting, reading: Reading) -> bool:
            if not isinstance(reading, Live):
                return True
            return reading.value == wanted[setting] and reading.settled

        interrupted = False

        def over() -> bool:
            return self._closed or interrupted or self._stop.requested

        strikes = [c.subject for c in changes if isinstance(c.subject, Strike)]
        with ThreadPoolExecutor(PARALLELISM) as pool:
            try:
                struck = [pool.submit(self._look_at, strike, timeout_s, over) for strike in strikes]
                readings = wait_until(
                    self._aws, wanted, as_wanted, timeout_s=timeout_s, give_up=over
                )
                effects = {s: e.result() for s, e in zip(strikes, struck, strict=True)}
            except BaseException:
                interrupted = True  # nobody waits for an answer, and the pool must not either
                raise
        return [
            effects[change.subject]
            if isinstance(change.subject, Strike)
            else _effect(readings[change.subject], change.wanted)
            for change in changes
        ]

    def _look_at(self, strike: Strike, timeout_s: float, over: Callable[[], bool]) -> Effect:
        for _ in looks(timeout_s, over):
            try:
                effect = strike.effect(self._aws)
            except ResourceGone as error:
                return Effect(False, f"gone before the effect was seen: {error}")
            if effect.proven:
                break
        return effect

    def _undo(self, only: Sequence[Entry] | None = None) -> list[Undone]:
        """Undo what is outstanding, as the journal has it, or else as we remember it."""
        ids = None if only is None else {entry.id for entry in only}
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._journal.exclusive())
                known = self._journal.entries(self.run)
            except JournalError:
                known = self._entries
            left = [e for e in known if e.outstanding and (ids is None or e.id in ids)]
            results = undo(left, self._journal, self._aws)
        for undone in results:
            self._tell(
                "change.undone",
                change=undone.entry.id,
                summary=undone.entry.summary,
                outcome=str(undone.state),
                detail=undone.detail,
            )
        return results

    def _tell(self, kind: str, **data: object) -> None:
        """Record what happens on the way back: no undo fails for want of evidence."""
        if self._evidence is not None:
            self._evidence.tell(kind, **data)  # type: ignore[arg-type]  # JSON by construction

    def _record(self, kind: str, **data: object) -> None:
        if self._evidence is not None:
            self._evidence.append(kind, **data)  # type: ignore[arg-type]  # JSON by construction


def _settings(changes: Sequence[Change]) -> list[Setting]:
    return [change.subject for change in changes if isinstance(change.subject, Setting)]


def _value(live: Mapping[Setting, Reading], change: Change) -> Json:
    """The value before a change; None for a Strike. Raises what kept it from being read."""
    if not isinstance(change.subject, Setting):
        return None
    reading = live[change.subject]
    if not isinstance(reading, Live):
        raise reading
    return reading.value


def _expect(reading: Reading, entry: Entry) -> None:
    """Go on only while a setting is what the journal says it was."""
    if not isinstance(reading, Live):
        raise reading
    if reading.value not in (entry.before, entry.wanted):
        raise AwsError(
            f"{entry.summary}: somebody else has changed it to {reading.value!r} just now",
            code="Conflict",
        )


def _effect(reading: Reading, wanted: Json) -> Effect:
    if isinstance(reading, ResourceGone):
        return Effect(False, f"gone before the effect was seen: {reading}")
    if not isinstance(reading, Live):
        raise reading
    return Effect(reading.value == wanted and reading.settled, f"reads back as {reading.value!r}")


class Planner:
    """Collects changes instead of making them. Sends nothing."""

    run = "plan"
    started_at = None
    lease_until = 0.0

    def __init__(self) -> None:
        self.changes: list[Change] = []

    def apply(self, *waves: Sequence[Change]) -> list[Applied]:
        """Remember the changes, as if each had been made."""
        changes = [change for wave in waves for change in wave]
        first = len(self.changes)
        self.changes += changes
        return [
            Applied(first + n, change, Effect(False, "planned only"))
            for n, change in enumerate(changes)
        ]
