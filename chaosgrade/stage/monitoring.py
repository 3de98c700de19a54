"""Amazon CloudWatch of a stage: what is published, kept, evaluated and done about it."""

import sys
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from chaosgrade.stage.alarm_actions import AlarmActions
from chaosgrade.stage.alarm_history import AlarmHistory
from chaosgrade.stage.alarm_reconciler import AlarmReconciler
from chaosgrade.stage.balancing import HostCount
from chaosgrade.stage.metrics import MetricStore
from chaosgrade.stage.published_metrics import PublishedMetrics

if TYPE_CHECKING:
    from chaosgrade.stage.moto_cloudwatch import MotoCloudWatch


class Monitoring:
    """Everything about metrics and alarms.

    Args:
        scale: AWS seconds per real second.
        hosts: what the nodes of load balancers think of targets now.
    """

    def __init__(self, scale: float, hosts: Callable[[], Iterable[HostCount]]) -> None:
        self._store = MetricStore(scale)
        self._published = PublishedMetrics(self._store, hosts, lambda: self._cloudwatch.groups())  # noqa: PLW0108 - made below
        self._history = AlarmHistory()
        # Delivery may take long, and may call the stage: it must not hold the stage's lock.
        self._deliveries = ThreadPoolExecutor(1, "notifications")
        self._cloudwatch: MotoCloudWatch
        self._alarms: AlarmReconciler

    def build(self, region: str, now: Callable[[], float]) -> None:
        """Take moto's place. Called once, after moto has been imported.

        Args:
            now: AWS seconds since the stage began.
        """
        from chaosgrade.stage import moto_cloudwatch, moto_scaling  # late: see moto_import
        from chaosgrade.stage.moto_topics import MotoTopics

        self._cloudwatch = moto_cloudwatch.MotoCloudWatch(region)
        policies = moto_scaling.ScalingPolicies(region, now)
        topics = MotoTopics(region)
        self._alarms = AlarmReconciler(
            self._cloudwatch,
            self._store,
            self._history,
            AlarmActions(
                region,
                lambda arn, subject, message: self._deliver(
                    topics.publishing(arn, subject, message)
                ),
                policies.by_alarm,
            ),
        )
        moto_cloudwatch.install(self._store, self._history, self._set_state)
        moto_scaling.install(policies, self._cloudwatch.alarms_of)

    def on_event(self, event: Mapping[str, Any]) -> None:
        """Take in what the balancer says; runs on another thread."""
        self._published.on_event(event)

    def tick(self) -> None:
        """Publish and evaluate what is due."""
        now = time.time()
        self._published.tick(now)
        self._alarms.tick(now)

    def settle(self) -> None:
        """Have everything been as it is now for long."""
        now = time.time()
        self._published.settle(now)
        self._alarms.settle(now)

    def _set_state(self, name: str, state: str, reason: str) -> None:
        self._alarms.set_state(self._cloudwatch.alarm(name), state, reason, time.time())

    def _deliver(self, publish: Callable[[], None]) -> None:
        def deliver() -> None:
            try:
                publish()
            except Exception as error:  # as AWS, which goes on; but somebody here may want to know
                print(
                    f"chaosgrade: a notification was not delivered: {error!r}",
                    file=sys.stderr,
                    flush=True,
                )

        self._deliveries.submit(deliver)
