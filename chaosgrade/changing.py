"""Opens a place for changes, and closes it: what stands around an engine, for any kind of run."""

from pathlib import Path

from chaosgrade.aws import Aws
from chaosgrade.changes import recovery
from chaosgrade.changes.engine import Engine
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.target_lock import TargetLock
from chaosgrade.clock import Clock
from chaosgrade.evidence import EvidenceLog
from chaosgrade.policies.safety import Profile
from chaosgrade.stopping import StopRequest
from chaosgrade.watchdog import Watchdog


class Changing:
    """The right of one run to change things in one place, from the journal to the watchdog.

    Args:
        run: the run's id.
        experiment: what it belongs to, for people.
        aws: the place.
        profile: its rules.
        clock: the run's time.
        lease_s: how long each change may stay, in seconds.
        evidence: where changes are recorded; None outside graded runs.
        stop: whether somebody has asked for an end; None outside graded runs.

    Raises:
        Refused: the rules do not allow it, or another run works there.
        NotUndone: an earlier run has left something changed.
        JournalError: the journal cannot be used.
    """

    def __init__(
        self,
        run: str,
        experiment: str,
        aws: Aws,
        profile: Profile,
        clock: Clock,
        *,
        lease_s: float,
        evidence: EvidenceLog | None = None,
        stop: StopRequest | None = None,
    ) -> None:
        self._journal = Journal()
        self._watchdog: Watchdog | None = None
        environment = aws.environment
        guard = Guard(profile, aws, self._journal, run, clock)
        guard.check_place()
        self._lock = TargetLock(
            self._journal.path.parent / "locks",
            environment,
            aws.endpoint_url,
            aws=aws,
            table=profile.lock_table,
            clock=clock,
        )
        self.engine = Engine(
            aws,
            guard,
            self._journal,
            run,
            clock,
            lock=self._lock,
            watched=self._is_watched,
            stop=stop,
            evidence=evidence,
            lease_s=lease_s,
        )
        self._lock.acquire(run, lease_s)
        try:
            recovery.refuse_while_outstanding(self._journal, environment, aws.endpoint_url)
            self._journal.open_run(
                run,
                experiment=experiment,
                environment=environment,
                endpoint=aws.endpoint_url,
                profile=aws.profile,
                role=aws.role_arn,
                role_session=aws.role_session_name,
                started=clock.now(),
            )
            self._watchdog = Watchdog(run, self.journal_path)
        except BaseException:
            self._lock.release()
            raise

    @property
    def journal_path(self) -> Path:
        """Where its intents are."""
        return self._journal.path

    def close(self, *, clean: bool) -> None:
        """Give the place back.

        Args:
            clean: whether nothing is outstanding. If something is, the watchdog stays, and on a
                lock across machines its lease has to run out first.
        """
        self._journal.close()
        if clean:
            if self._watchdog is not None:
                self._watchdog.end()
            self._lock.release()

    def _is_watched(self) -> None:
        assert self._watchdog is not None  # noqa: S101 - started before anything is changed
        self._watchdog.confirm()
