"""Alarms of Amazon CloudWatch, in methods of moto that the stage replaces.

moto keeps alarms as they were put, every one of them "OK" for ever. Here they are evaluated.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from moto.backends import get_backend
from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import Alarm as MotoAlarm
from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult, EmptyResult

from chaosgrade.stage.alarm_actions import Alarm
from chaosgrade.stage.alarm_definition import Invalid, condition_of
from chaosgrade.stage.alarm_history import CONFIGURATION, AlarmHistory, Wanted
from chaosgrade.stage.alarms import INSUFFICIENT_DATA
from chaosgrade.stage.cloudwatch_values import metric, moment, page, unix
from chaosgrade.stage.moto_patching import add, replace
from chaosgrade.stage.operations import NotPlayed
from chaosgrade.stage.world import ACCOUNT


class MotoAlarms:
    """The alarms of the played AWS, in one account and Region."""

    def __init__(self, region: str) -> None:
        self._backend: Any = get_backend("cloudwatch")[ACCOUNT][region]

    def alarms(self) -> Iterator[Alarm]:
        """Those that there are, as they stand."""
        for alarm in self._backend.alarms.values():
            yield value_of(alarm)

    def alarm(self, name: str) -> Alarm:
        """One that exists."""
        return value_of(self._backend.alarms[name])

    def alarms_of(self, action: str) -> list[dict[str, str]]:
        """{"AlarmName", "AlarmARN"} of those that do what this ARN names."""
        return [
            {"AlarmName": alarm.name, "AlarmARN": alarm.arn}
            for alarm in self.alarms()
            if any(action in actions for actions in alarm.actions.values())
        ]

    def set_state(self, name: str, state: str, reason: str, data: Mapping[str, object]) -> None:
        """Have DescribeAlarms tell this."""
        alarm = self._backend.alarms[name]
        now = datetime.now(UTC)
        if state != alarm.state_value:
            alarm.state_transitioned_timestamp = now
        alarm.state_value, alarm.state_reason = state, reason
        alarm.state_reason_data = json.dumps(data) if data else None
        alarm.state_updated_timestamp = now


def value_of(alarm: Any) -> Alarm:
    """One of moto's alarms."""
    return Alarm(
        name=alarm.name,
        arn=alarm.alarm_arn,
        description=alarm.description,
        condition=alarm.stage_condition,
        state=alarm.state_value,
        actions={
            "OK": tuple(alarm.ok_actions),
            "ALARM": tuple(alarm.alarm_actions),
            "INSUFFICIENT_DATA": tuple(alarm.insufficient_data_actions),
        },
        acts=alarm.actions_enabled,
        configured_at=unix(alarm.configuration_updated_timestamp),
    )


def install(
    history: AlarmHistory, set_state: Callable[[str, str, str, dict[str, object]], None]
) -> None:
    """Replace them, in this process, for good.

    Args:
        history: where it is noted how alarms are configured.
        set_state: called with (alarm, state, reason, its data) by SetAlarmState.
    """
    _put_alarms(history)
    _describe_alarms(history)

    def update_state(alarm: Any, reason: str, reason_data: str | None, state_value: str) -> None:
        set_state(alarm.name, state_value, reason, json.loads(reason_data or "{}"))

    replace(MotoAlarm, "update_state", update_state)


def put_alarm(backend: Any, properties: Mapping[str, Any], history: AlarmHistory) -> Any:
    """Create an alarm, or give it another configuration and leave its state.

    Args:
        properties: as PutMetricAlarm takes them.

    Raises:
        ValidationError, NotPlayed: what AWS would refuse, what the stage does not evaluate.
    """
    try:
        condition = condition_of(properties)
    except Invalid as error:
        raise ValidationError(str(error)) from None
    former = backend.alarms.get(properties["AlarmName"])
    enabled = properties.get("ActionsEnabled", True)
    alarm = backend.put_metric_alarm(
        name=properties["AlarmName"],
        namespace=condition.metric.namespace,
        metric_name=condition.metric.name,
        comparison_operator=condition.comparison,
        evaluation_periods=condition.periods,
        period=condition.period_s,
        threshold=condition.threshold,
        statistic=properties.get("Statistic"),
        description=properties.get("AlarmDescription"),
        dimensions=[dict(d) for d in properties.get("Dimensions") or []],
        alarm_actions=list(properties.get("AlarmActions") or []),
        datapoints_to_alarm=condition.to_alarm if properties.get("DatapointsToAlarm") else None,
        extended_statistic=properties.get("ExtendedStatistic"),
        ok_actions=list(properties.get("OKActions") or []),
        insufficient_data_actions=list(properties.get("InsufficientDataActions") or []),
        unit=properties.get("Unit"),
        actions_enabled=str(enabled).lower() == "true",
        treat_missing_data=properties.get("TreatMissingData"),
        evaluate_low_sample_count_percentile=properties.get("EvaluateLowSampleCountPercentile"),
        tags=properties.get("Tags") if former is None else None,
    )
    alarm.stage_condition = condition
    now = datetime.now(UTC)
    alarm.state_value, alarm.state_reason_data = INSUFFICIENT_DATA, None
    alarm.state_transitioned_timestamp = now
    for kept in (
        "state_value", "state_reason", "state_reason_data", "state_updated_timestamp",
        "state_transitioned_timestamp",
    ) if former else ():  # fmt: skip
        setattr(alarm, kept, getattr(former, kept))
    verb, kind = ("updated", "Update") if former else ("created", "Create")
    history.note(alarm.name, now, CONFIGURATION, f'Alarm "{alarm.name}" {verb}', {"type": kind})
    return alarm


def _put_alarms(history: AlarmHistory) -> None:
    def put_metric_alarm(response: Any) -> Any:
        put_alarm(response.cloudwatch_backend, response._get_params(), history)
        return EmptyResult()

    replace(CloudWatchResponse, "put_metric_alarm", put_metric_alarm)
    delete = CloudWatchBackend.delete_alarms

    @wraps(delete)
    def delete_alarms(backend: Any, alarm_names: list[str]) -> None:
        for name in set(alarm_names) & backend.alarms.keys():
            summary = f'Alarm "{name}" deleted'
            history.note(name, datetime.now(UTC), CONFIGURATION, summary, {"type": "Delete"})
        delete(backend, alarm_names)

    replace(CloudWatchBackend, "delete_alarms", delete_alarms)
    AlarmOfTemplate.history = history


class AlarmOfTemplate(CloudFormationModel):
    """`AWS::CloudWatch::Alarm`: moto's CloudFormation finds it because it is defined."""

    history: AlarmHistory

    def __init__(self, name: str, arn: str) -> None:
        self.physical_resource_id = name
        self._arn = arn

    @staticmethod
    def cloudformation_name_type() -> str:
        return "AlarmName"

    @staticmethod
    def cloudformation_type() -> str:
        return "AWS::CloudWatch::Alarm"

    @classmethod
    def has_cfn_attr(cls, attr: str) -> bool:
        return attr == "Arn"

    def get_cfn_attribute(self, attribute_name: str) -> str:
        """For Fn::GetAtt: it has an Arn only."""
        return self._arn

    @classmethod
    def create_from_cloudformation_json(
        cls,
        resource_name: str,
        cloudformation_json: Any,
        account_id: str,
        region_name: str,
        **_: Any,
    ) -> Any:
        backend = get_backend("cloudwatch")[account_id][region_name]
        properties = {**cloudformation_json["Properties"], "AlarmName": resource_name}
        alarm = put_alarm(backend, properties, cls.history)
        return cls(alarm.name, alarm.alarm_arn)

    def is_created(self) -> bool:
        return True


def _describe_alarms(history: AlarmHistory) -> None:
    def describe_alarms(response: Any) -> Any:
        params = response._get_params()
        if params.get("ChildrenOfAlarmName") or params.get("ParentsOfAlarmName"):
            raise NotPlayed("of composite alarms: there are none")
        names, prefix = params.get("AlarmNames"), params.get("AlarmNamePrefix") or ""
        state, action = params.get("StateValue"), params.get("ActionPrefix") or ""
        found = [
            alarm
            for alarm in response.cloudwatch_backend.alarms.values()
            if (not names or alarm.name in names)
            and alarm.name.startswith(prefix)
            and state in (None, alarm.state_value)
            and (not action or any(a.startswith(action) for a in alarm.alarm_actions))
            and "MetricAlarm" in (params.get("AlarmTypes") or ["MetricAlarm"])
        ]
        return ActionResult({"MetricAlarms": found, "CompositeAlarms": []})

    def describe_alarms_for_metric(response: Any) -> Any:
        params = response._get_params()
        wanted = metric(params["Namespace"], params["MetricName"], params)
        statistic = params.get("Statistic") or params.get("ExtendedStatistic")
        found = [
            alarm
            for alarm in response.cloudwatch_backend.alarms.values()
            if alarm.stage_condition.metric == wanted
            and statistic in (None, alarm.stage_condition.statistic)
            and params.get("Period") in (None, alarm.stage_condition.period_s)
            and params.get("Unit") in (None, alarm.unit)
        ]
        return ActionResult({"MetricAlarms": found})

    def describe_alarm_history(response: Any) -> Any:
        params = response._get_params()
        since, until = params.get("StartDate"), params.get("EndDate")
        items = history.items(
            Wanted(
                params.get("AlarmName"),
                params.get("HistoryItemType"),
                moment(unix(since)) if since else None,
                moment(unix(until)) if until else None,
            )
        )
        if "MetricAlarm" not in (params.get("AlarmTypes") or ["MetricAlarm"]):
            items = []
        if params.get("ScanBy") == "TimestampAscending":
            items.reverse()
        told, more = page(items, params.get("NextToken"), int(params.get("MaxRecords") or 100))
        return ActionResult({"AlarmHistoryItems": told, "NextToken": more})

    replace(CloudWatchResponse, "describe_alarms", describe_alarms)
    replace(CloudWatchResponse, "describe_alarms_for_metric", describe_alarms_for_metric)
    add(CloudWatchResponse, "describe_alarm_history", describe_alarm_history)
