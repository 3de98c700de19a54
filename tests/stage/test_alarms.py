"""Alarms: the tables of the Amazon CloudWatch User Guide, and what follows from a change."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from chaosgrade.stage.alarm_actions import Alarm, AlarmActions
from chaosgrade.stage.alarm_definition import Invalid, condition_of
from chaosgrade.stage.alarm_history import ACTION, STATE, AlarmHistory, Wanted
from chaosgrade.stage.alarm_reconciler import AlarmReconciler
from chaosgrade.stage.alarms import (
    ALARM,
    BREACHING,
    IGNORE,
    INSUFFICIENT_DATA,
    MISSING,
    NOT_BREACHING,
    OK,
    Condition,
    Point,
    judge,
)
from chaosgrade.stage.metrics import Metric, MetricStore, Statistics
from chaosgrade.stage.operations import NotPlayed

ERRORS = Metric.of("Shop", "Errors", {})
STAYS = None
TOPIC = "arn:aws:sns:us-east-1:123456789012:alerts"
POLICY = (
    "arn:aws:autoscaling:us-east-1:123456789012:scalingPolicy:c322761b-3172-4d56-9a21-0ed9d6161d67:"
    "autoScalingGroupName/web:policyName/more"
)


def condition(periods: int = 3, to_alarm: int = 3, **changes: Any) -> Condition:
    """Something is in alarm from 1 up."""
    return replace(
        Condition(ERRORS, "Sum", 60, periods, to_alarm, "GreaterThanOrEqualToThreshold", 1.0),
        **changes,
    )


def points(text: str) -> list[Point]:
    """ "0 X -": not breaching, breaching, missing; the oldest first."""
    values = {"0": 0.0, "X": 1.0, "-": None}
    return [Point(60.0 * n, values[mark]) for n, mark in enumerate(text.split())]


# The tables of the User Guide, "Configuring how CloudWatch alarms treat missing data".
_TABLES = [
    (3, "0 - X - X", (OK, OK, OK, OK)),
    (3, "- - - - 0", (OK, OK, OK, OK)),
    (3, "- - - - -", (INSUFFICIENT_DATA, STAYS, ALARM, OK)),
    (3, "0 X X - X", (ALARM, ALARM, ALARM, ALARM)),
    (3, "- - X - -", (ALARM, STAYS, ALARM, OK)),
    (2, "0 - X - X", (ALARM, ALARM, ALARM, ALARM)),
    (2, "0 0 X 0 X", (ALARM, ALARM, ALARM, ALARM)),
    (2, "0 - X - -", (OK, OK, ALARM, OK)),
    (2, "- - - - 0", (OK, OK, ALARM, OK)),
    (2, "- - - X -", (ALARM, STAYS, ALARM, OK)),
]


@pytest.mark.parametrize(("to_alarm", "seen", "states"), _TABLES)
def test_missing_data_is_treated_as_the_user_guide_says(
    to_alarm: int, seen: str, states: tuple[str | None, ...]
) -> None:
    """Row by row, for "missing", "ignore", "breaching" and "notBreaching"."""
    treatments = (MISSING, IGNORE, BREACHING, NOT_BREACHING)
    verdicts = [judge(condition(3, to_alarm, missing=how), points(seen)) for how in treatments]
    assert tuple(verdict and verdict.state for verdict in verdicts) == states


@pytest.mark.parametrize("seen", ["- - - - X", "- - - X -"])
def test_an_alarm_is_not_premature(seen: str) -> None:
    """The User Guide's "Avoiding premature transitions": the next datapoint may be a good one."""
    assert judge(condition(), points(seen)) is None


@pytest.mark.parametrize(
    ("comparison", "states"),
    [
        ("GreaterThanOrEqualToThreshold", [OK, ALARM, ALARM]),
        ("GreaterThanThreshold", [OK, OK, ALARM]),
        ("LessThanThreshold", [ALARM, OK, OK]),
        ("LessThanOrEqualToThreshold", [ALARM, ALARM, OK]),
    ],
)
def test_a_comparison_is_with_the_threshold(comparison: str, states: list[str]) -> None:
    """Below, on and above it."""
    watching = condition(1, 1, comparison=comparison)
    verdicts = [judge(watching, [Point(0, value)]) for value in (0.0, 1.0, 2.0)]
    assert [verdict.state for verdict in verdicts if verdict] == states


def test_a_reason_names_the_datapoints_that_speak_for_it() -> None:
    """In the words of DescribeAlarms."""
    verdict = judge(condition(3, 2), points("0 X X"))
    assert verdict
    assert verdict.reason == (
        "Threshold Crossed: 2 out of the last 3 datapoints [1.0 (01/01/70 00:02:00), "
        "1.0 (01/01/70 00:01:00)] were greater than or equal to the threshold (1.0) "
        "(minimum 2 datapoints for OK -> ALARM transition)."
    )
    verdict = judge(condition(1, 1, missing=BREACHING), points("- - -"))
    assert verdict
    assert verdict.reason == (
        "Threshold Crossed: no datapoints were received for 1 period and 1 missing datapoint was "
        "treated as [Breaching]."
    )


# Definitions


_GOOD: Mapping[str, Any] = {
    "AlarmName": "errors", "Namespace": "Shop", "MetricName": "Errors", "Statistic": "Sum",
    "Period": 60, "EvaluationPeriods": 3, "Threshold": 1, "AlarmActions": [TOPIC, POLICY],
    "ComparisonOperator": "GreaterThanThreshold",
}  # fmt: skip


def test_numbers_of_a_template_may_be_text() -> None:
    """CloudFormation hands its parameters over so."""
    text = {name: str(_GOOD[name]) for name in ("Period", "EvaluationPeriods", "Threshold")}
    assert condition_of({**_GOOD, **text}) == condition_of(_GOOD)


@pytest.mark.parametrize(
    "change",
    [
        {"Statistic": None},
        {"Statistic": "Median"},
        {"ExtendedStatistic": "p99"},
        {"Period": 45},
        {"Period": 86_400, "EvaluationPeriods": 2},
        {"DatapointsToAlarm": 4},
        {"TreatMissingData": "forgiven"},
        {"Threshold": None},
    ],
)
def test_what_aws_refuses_is_invalid(change: Mapping[str, Any]) -> None:
    """As a ValidationError."""
    with pytest.raises(Invalid):
        condition_of({**_GOOD, **change})


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"Metrics": [{"Id": "e"}]}, "metric math"),
        ({"Statistic": None, "ExtendedStatistic": "tm99"}, "tm99"),
        ({"ComparisonOperator": "GreaterThanUpperThreshold"}, "GreaterThanUpperThreshold"),
        ({"Namespace": "AWS/EC2", "MetricName": "CPUUtilization"}, "does not publish"),
        ({"Namespace": "AWS/ApplicationELB", "MetricName": "ConsumedLCUs"}, "does not publish"),
        ({"AlarmActions": ["arn:aws:automate:us-east-1:ec2:stop"]}, "ec2:stop"),
        ({"EvaluationWindow": {"WallClockWindow": {}}}, "wall clock"),
        ({"EvaluationCriteria": {"PromQLCriteria": {}}}, "EvaluationCriteria"),
    ],
)
def test_what_would_not_be_evaluated_is_not_played(change: Mapping[str, Any], word: str) -> None:
    """Rather than a safeguard that never speaks."""
    with pytest.raises(NotPlayed, match=word):
        condition_of({**_GOOD, **change})


# Evaluation and what follows


class _Book:
    """Keeps one alarm."""

    def __init__(self, alarm: Alarm) -> None:
        self.alarm = alarm

    def alarms(self) -> Iterator[Alarm]:
        yield self.alarm

    def set_state(self, name: str, state: str, reason: str, data: Mapping[str, object]) -> None:
        self.alarm = replace(self.alarm, state=state)


class _Stage:
    """An alarm with everything around it; a minute is three seconds long."""

    def __init__(self, watched: Condition, *, topics: tuple[str, ...] = (TOPIC,)) -> None:
        self.store, self.history = MetricStore(20), AlarmHistory()
        self.book = _Book(
            Alarm(
                "errors", "arn", None, watched, INSUFFICIENT_DATA,
                {"OK": (), "ALARM": (TOPIC, POLICY), "INSUFFICIENT_DATA": ()}, True, 0.0,
            )
        )  # fmt: skip
        self.sent: list[dict[str, Any]] = []
        self.scaled: list[float] = []
        self._topics = topics
        actions = AlarmActions("us-east-1", self._notify, lambda arn, far: self.scaled.append(far))
        self.reconciler = AlarmReconciler(self.book, self.store, self.history, actions)

    def _notify(self, topic: str, subject: str, message: str) -> None:
        if topic not in self._topics:
            raise LookupError(f"there is no topic {topic}")
        self.sent.append(json.loads(message))

    def sees(self, value: float, minute: int) -> None:
        self.store.put(ERRORS, Statistics.of({value: 1}), 3.0 * minute)

    def at(self, minute: int) -> str:
        """The state once a minute has ended and what belonged to it has arrived."""
        self.reconciler.tick(3.0 * minute + 0.3)
        return self.book.alarm.state

    def noted(self, kind: str) -> list[str]:
        return [i["HistorySummary"] for i in self.history.items(Wanted(kind=kind))][::-1]


def test_an_alarm_is_evaluated_when_a_minute_has_ended() -> None:
    """Once, over what has come by then; its actions follow a change, and are noted."""
    stage = _Stage(condition(1, 1))
    stage.sees(0, 100)
    assert stage.at(101) == OK
    stage.sees(5, 101)
    assert stage.at(101) == OK
    assert stage.at(102) == ALARM
    assert [m["NewStateValue"] for m in stage.sent] == [ALARM]
    assert stage.sent[0]["OldStateValue"] == OK
    assert stage.sent[0]["Trigger"]["MetricName"] == "Errors"
    assert stage.noted(STATE) == [
        "Alarm updated from INSUFFICIENT_DATA to OK",
        "Alarm updated from OK to ALARM",
    ]


def test_a_scaling_policy_goes_on_while_the_alarm_does() -> None:
    """Once a minute, with how far the metric is beyond the threshold; a notification is one."""
    stage = _Stage(condition(1, 1))
    for minute, value in enumerate((3, 7, 0), 100):
        stage.sees(value, minute)
        stage.at(minute + 1)
    assert (stage.scaled, len(stage.sent)) == ([2.0, 6.0], 1)


def test_an_alarm_without_actions_changes_its_state_only() -> None:
    """DisableAlarmActions."""
    stage = _Stage(condition(1, 1))
    stage.book.alarm = replace(stage.book.alarm, acts=False)
    stage.sees(5, 100)
    assert stage.at(101) == ALARM
    assert (stage.sent, stage.scaled, stage.noted(ACTION)) == ([], [], [])


def test_an_action_that_fails_is_noted() -> None:
    """The alarm changes all the same, and the other action happens."""
    stage = _Stage(condition(1, 1), topics=())
    stage.sees(5, 100)
    assert stage.at(101) == ALARM
    assert stage.noted(ACTION) == [
        f"Failed to execute action {TOPIC}", f"Successfully executed action {POLICY}",
    ]  # fmt: skip
    assert "there is no topic" in stage.history.items(Wanted(kind=ACTION))[1]["HistoryData"]


def test_a_state_that_was_set_lasts_until_the_next_evaluation() -> None:
    """SetAlarmState; the actions follow it."""
    stage = _Stage(condition(1, 1))
    stage.reconciler.set_state(stage.book.alarm, ALARM, "a drill", {}, 302.0)
    assert (stage.book.alarm.state, len(stage.sent)) == (ALARM, 1)
    stage.sees(0, 100)
    assert stage.at(101) == OK


def test_a_settled_alarm_has_been_in_its_state_for_long() -> None:
    """Nobody is notified of it."""
    stage = _Stage(condition(1, 1))
    stage.sees(5, 100)
    stage.reconciler.settle(304.0)
    assert (stage.book.alarm.state, stage.sent) == (ALARM, [])


def test_a_period_shorter_than_a_minute_is_evaluated_more_often() -> None:
    """Every ten AWS seconds, half a second here."""
    stage = _Stage(condition(1, 1, period_s=10))
    stage.store.put(ERRORS, Statistics.of({5.0: 1}), 300.5, resolution_s=1)
    stage.reconciler.tick(301.3)
    assert stage.book.alarm.state == ALARM


def test_a_percentile_of_few_samples_may_change_nothing() -> None:
    """EvaluateLowSampleCountPercentile; the User Guide asks for 10 / (1 - percentile) samples."""
    stage = _Stage(condition(1, 1, statistic="p90", few_samples_ignored=True))
    stage.store.put(ERRORS, Statistics.of({5.0: 99}), 300.0)
    assert stage.at(101) == INSUFFICIENT_DATA
    stage.store.put(ERRORS, Statistics.of({5.0: 100}), 303.0)
    assert stage.at(102) == ALARM


def test_history_is_told_in_part() -> None:
    """By alarm, kind and time, the latest first."""
    history = AlarmHistory()
    for second, (alarm, kind) in enumerate([("a", STATE), ("a", ACTION), ("b", STATE)]):
        history.note(alarm, datetime.fromtimestamp(second, UTC), kind, str(second), {})

    def told(wanted: Wanted) -> list[str]:
        return [item["HistorySummary"] for item in history.items(wanted)]

    assert told(Wanted()) == ["2", "1", "0"]
    assert told(Wanted(alarm="a")) == ["1", "0"]
    assert told(Wanted(kind=STATE)) == ["2", "0"]
    first = datetime.fromtimestamp(1, UTC)
    assert (told(Wanted(since=first)), told(Wanted(until=first))) == (["2", "1"], ["1", "0"])
