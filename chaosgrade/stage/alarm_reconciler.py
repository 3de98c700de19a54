"""Evaluates alarms when they are due, and does what follows when one changes its state.

Source: Amazon CloudWatch User Guide, "Alarm evaluation": once a minute, over periods that end then
(a sliding window); alarms with a period shorter than a minute every ten seconds.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Protocol

from chaosgrade.stage.alarm_actions import Alarm, AlarmActions, Change, goes_on, timestamp
from chaosgrade.stage.alarm_history import ACTION, STATE, AlarmHistory
from chaosgrade.stage.alarms import Point, Verdict, judge, points
from chaosgrade.stage.metrics import MINUTE_S, MetricStore, percentile_of
from chaosgrade.stage.timing import METRICS_LATE_S

_SHORTEST_S = 10


class Alarms(Protocol):
    """Where alarms are kept."""

    def alarms(self) -> Iterable[Alarm]:
        """Those that there are, as they stand."""
        ...

    def set_state(self, name: str, state: str, reason: str, data: dict[str, object]) -> None:
        """Have DescribeAlarms tell this."""
        ...


class AlarmReconciler:
    """All alarms of a stage.

    Args:
        alarms: where they are kept.
        store: the metrics.
        history: where changes and actions are noted.
        actions: what carries actions out.
    """

    def __init__(
        self, alarms: Alarms, store: MetricStore, history: AlarmHistory, actions: AlarmActions
    ) -> None:
        self._alarms = alarms
        self._store = store
        self._history = history
        self._actions = actions
        self._evaluated = 0

    def tick(self, unix_s: float) -> None:
        """Evaluate what is due."""
        second = self._store.second(unix_s - METRICS_LATE_S)
        now = math.floor(second / _SHORTEST_S) * _SHORTEST_S
        if now <= self._evaluated:
            return
        minute = now // MINUTE_S * MINUTE_S
        a_minute_ended = minute > self._evaluated
        self._evaluated = now
        for alarm in list(self._alarms.alarms()):
            if alarm.condition.period_s < MINUTE_S:
                self._evaluate(alarm, now, unix_s)
            elif a_minute_ended:
                self._evaluate(alarm, minute, unix_s)

    def settle(self, unix_s: float) -> None:
        """Have each alarm in the state that it would have been in for long; nothing is done."""
        end = math.floor(self._store.second(unix_s) / MINUTE_S) * MINUTE_S
        for alarm in list(self._alarms.alarms()):
            self._evaluate(replace(alarm, acts=False), end, unix_s)

    def set_state(
        self, alarm: Alarm, state: str, reason: str, data: dict[str, object], unix_s: float
    ) -> None:
        """Change a state at somebody's word, until the next evaluation, and do what follows."""
        self._change(Change(alarm, state, reason, None, unix_s), data)

    def _evaluate(self, alarm: Alarm, end: int, unix_s: float) -> None:
        seen = points(self._store, alarm.condition, end)
        verdict = judge(alarm.condition, seen)
        latest = next((p.value for p in reversed(seen) if p.value is not None), None)
        if verdict is not None and verdict.state != alarm.state:
            change = Change(alarm, verdict.state, verdict.reason, latest, unix_s)
            self._change(change, _data(alarm, verdict, unix_s))
        elif alarm.acts:
            stays = Change(alarm, alarm.state, "", latest, unix_s)
            for action in alarm.actions[alarm.state]:
                if goes_on(action):
                    self._act(action, stays)

    def _change(self, change: Change, data: dict[str, object]) -> None:
        alarm = change.alarm
        self._alarms.set_state(alarm.name, change.state, change.reason, data)
        if change.state == alarm.state:
            return
        self._history.note(
            alarm.name,
            datetime.fromtimestamp(change.at, UTC),
            STATE,
            f"Alarm updated from {alarm.state} to {change.state}",
            {
                "oldState": {"stateValue": alarm.state},
                "newState": {
                    "stateValue": change.state,
                    "stateReason": change.reason,
                    "stateReasonData": data,
                },
            },
        )
        if alarm.acts:
            for action in alarm.actions[change.state]:
                self._act(action, change)

    def _act(self, action: str, change: Change) -> None:
        failure = self._actions.carry_out(action, change)
        outcome = "Successfully executed" if failure is None else "Failed to execute"
        self._history.note(
            change.alarm.name,
            datetime.fromtimestamp(change.at, UTC),
            ACTION,
            f"{outcome} action {action}",
            {
                "actionState": "Succeeded" if failure is None else "Failed",
                "notificationResource": action,
                **({} if failure is None else {"error": failure}),
            },
        )


def _data(alarm: Alarm, verdict: Verdict, unix_s: float) -> dict[str, object]:
    """StateReasonData."""
    condition = alarm.condition
    chronological: list[Point] = list(reversed(verdict.points))
    kind = "statistic" if percentile_of(condition.statistic) is None else "extendedStatistic"
    return {
        "version": "1.0",
        "queryDate": timestamp(unix_s),
        "startDate": timestamp(chronological[0].unix_s) if chronological else None,
        kind: condition.statistic,
        "period": condition.period_s,
        "recentDatapoints": [point.value for point in chronological],
        "threshold": condition.threshold,
    }
