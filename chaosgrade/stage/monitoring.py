"""Amazon CloudWatch of a stage: what is published, kept, evaluated and done about it."""

import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from chaosgrade.stage.alarm_actions import AlarmActions
from chaosgrade.stage.alarm_history import AlarmHistory
from chaosgrade.stage.alarm_reconciler import AlarmReconciler
from chaosgrade.stage.balancing import HostCount
from chaosgrade.stage.metrics import MetricStore
from chaosgrade.stage.published_metrics import GroupSizes, PublishedMetrics

if TYPE_CHECKING:
    from chaosgrade.stage.moto_alarms import MotoAlarms


class Monitoring:
    """Everything about metrics and alarms.

    Args:
        scale: AWS seconds per real second.
        hosts: what the nodes of load balancers think of targets now.
    """

    def __init__(self, scale: float, hosts: Callable[[], Iterable[HostCount]]) -> None:
        self._store = MetricStore(scale)
        self._published = PublishedMetrics(self._store, hosts, lambda: self._groups())  # noqa: PLW0108 - made below
        self._history = AlarmHistory()
        self._groups: Callable[[], Iterable[GroupSizes]]
        self._kept: MotoAlarms
        self._alarms: AlarmReconciler

    def build(
        self, region: str, now: Callable[[], float], notify: Callable[[str, str, str], None]
    ) -> None:
        """Take moto's place. Called once, after moto has been imported.

        Args:
            now: AWS seconds since the stage began.
            notify: publishes to a topic (ARN) a subject and a message; raises LookupError without
                such one.
        """
        from chaosgrade.stage import (  # late: see moto_import
            moto_alarms,
            moto_group_metrics,
            moto_metrics,
            moto_scaling,
        )

        self._kept = moto_alarms.MotoAlarms(region)
        self._groups = partial(moto_group_metrics.group_sizes, region)
        policies = moto_scaling.ScalingPolicies(region, now)
        self._alarms = AlarmReconciler(
            self._kept,
            self._store,
            self._history,
            AlarmActions(region, notify, policies.by_alarm),
        )
        moto_metrics.install(self._store)
        moto_alarms.install(self._history, self._set_state)
        moto_group_metrics.install()
        moto_scaling.install(policies, self._kept.alarms_of)

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

    def _set_state(self, name: str, state: str, reason: str, data: dict[str, object]) -> None:
        self._alarms.set_state(self._kept.alarm(name), state, reason, data, time.time())
