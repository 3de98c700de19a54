"""Amazon CloudWatch, in methods of moto that the stage replaces.

moto keeps datapoints in a list and alarms as they were put, every one of them "OK" for ever. Here
datapoints go into the stage's `MetricStore`, which the services of the stage fill as well, and
alarms are evaluated.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from moto.autoscaling.exceptions import ValidationError as GroupValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.cloudwatch.exceptions import (
    InvalidParameterCombination,
    InvalidParameterValue,
    ValidationError,
)
from moto.cloudwatch.models import Alarm as MotoAlarm
from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.common_models import CloudFormationModel
from moto.core.responses import ActionResult, EmptyResult

from chaosgrade.stage.alarm_actions import Alarm
from chaosgrade.stage.alarm_definition import Invalid, condition_of
from chaosgrade.stage.alarm_history import CONFIGURATION, AlarmHistory, Wanted
from chaosgrade.stage.alarms import INSUFFICIENT_DATA
from chaosgrade.stage.metrics import (
    KEPT_S,
    MINUTE_S,
    SIMPLE,
    Metric,
    MetricStore,
    Statistics,
    percentile_of,
)
from chaosgrade.stage.moto_patching import add, complete, replace
from chaosgrade.stage.operations import NotPlayed
from chaosgrade.stage.published_metrics import GROUP_METRICS, GroupSizes
from chaosgrade.stage.world import ACCOUNT

_AHEAD_S = 7200
"""How far ahead of the clock a timestamp may be, in AWS seconds."""
_PAGE = 500


class MotoCloudWatch:
    """The alarms and the measured groups of the played AWS, in one account and Region."""

    def __init__(self, region: str) -> None:
        self._backend: Any = get_backend("cloudwatch")[ACCOUNT][region]
        self._autoscaling: Any = get_backend("autoscaling")[ACCOUNT][region]

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

    def groups(self) -> Iterator[GroupSizes]:
        """Auto Scaling groups, with the metrics that are enabled."""
        for group in self._autoscaling.autoscaling_groups.values():
            yield GroupSizes(
                name=group.name,
                enabled=frozenset(group.metrics),
                minimum=int(group.min_size),
                maximum=int(group.max_size),
                desired=int(group.desired_capacity or 0),
                lifecycles=tuple(state.lifecycle_state for state in group.instance_states),
            )


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
        configured_at=_unix(alarm.configuration_updated_timestamp),
    )


def install(
    store: MetricStore, history: AlarmHistory, set_state: Callable[[str, str, str], None]
) -> None:
    """Replace moto's methods, in this process, for good.

    Args:
        store: where datapoints are.
        history: where it is noted how alarms are configured.
        set_state: called with (alarm, state, reason) by SetAlarmState.
    """
    _datapoints(store)
    _queries(store)
    _put_alarms(history)
    _describe_alarms(history)
    replace(
        MotoAlarm,
        "update_state",
        lambda alarm, reason, reason_data, state_value: set_state(alarm.name, state_value, reason),
    )
    _group_metrics()


# -- datapoints


def _datapoints(store: MetricStore) -> None:
    def put_metric_data(response: Any) -> Any:
        params = response._get_params()
        namespace, data = params["Namespace"], params.get("MetricData") or []
        if params.get("EntityMetricData"):
            raise NotPlayed("with EntityMetricData")
        if namespace.startswith("AWS/"):
            raise InvalidParameterValue(
                f"The value {namespace} for parameter Namespace is invalid: AWS's own services "
                "publish there."
            )
        now = time.time()
        for number, datum in enumerate(data, 1):
            response.cloudwatch_backend._validate_parameters_put_metric_data(datum, number)
            age_s = store.second(now) - store.second(_unix(datum.get("Timestamp") or now))
            if not -_AHEAD_S <= age_s <= KEPT_S:
                raise InvalidParameterValue(
                    f"The parameter MetricData.member.{number}.Timestamp must specify a time "
                    "within the past day of the stage, and no more than two hours in the future."
                )
        for datum in data:
            store.put(
                _metric(namespace, datum["MetricName"], datum),
                _samples(datum),
                _unix(datum.get("Timestamp") or now),
                unit=datum.get("Unit") or "None",
                resolution_s=1 if datum.get("StorageResolution") == 1 else MINUTE_S,
            )
        return EmptyResult()

    replace(CloudWatchResponse, "put_metric_data", put_metric_data)


def _samples(datum: Mapping[str, Any]) -> Statistics:
    if summary := datum.get("StatisticValues"):
        return Statistics(
            float(summary["SampleCount"]),
            float(summary["Sum"]),
            float(summary["Minimum"]),
            float(summary["Maximum"]),
        )
    if "Value" in datum:
        return Statistics.of({float(datum["Value"]): 1.0})
    values = datum.get("Values")
    if not values:
        raise InvalidParameterCombination(
            f"MetricData of {datum['MetricName']} needs Value, Values or StatisticValues."
        )
    counted: dict[float, float] = {}
    for value, count in zip(values, datum.get("Counts") or [1.0] * len(values), strict=True):
        counted[float(value)] = counted.get(float(value), 0.0) + float(count)
    return Statistics.of(counted)


def _queries(store: MetricStore) -> None:
    def get_metric_statistics(response: Any) -> Any:
        params = response._get_params()
        simple, extended = params.get("Statistics") or [], params.get("ExtendedStatistics") or []
        if not simple and not extended:
            raise InvalidParameterCombination(
                "At least one of Statistics and ExtendedStatistics must be specified."
            )
        for statistic in (*simple, *extended):
            _check_statistic(statistic)
        start, end, period = _range(params, int(params["Period"]))
        metric = _metric(params["Namespace"], params["MetricName"], params)
        datapoints = [
            {
                "Timestamp": _time(unix_s),
                "Unit": unit,
                **{statistic: known.value(statistic) for statistic in simple},
                "ExtendedStatistics": {
                    statistic: value
                    for statistic in extended
                    if (value := known.value(statistic)) is not None
                },
            }
            for unit in store.units(metric)
            if params.get("Unit") in (None, unit)
            for unix_s, known in store.query(metric, period, start, end, unit)
        ]
        return ActionResult({"Label": params["MetricName"], "Datapoints": datapoints})

    def get_metric_data(response: Any) -> Any:
        params = response._get_params()
        results = []
        for query in params.get("MetricDataQueries") or []:
            if query.get("Expression"):
                raise NotPlayed("metric math and Metrics Insights: ask for metrics")
            if not query.get("MetricStat"):
                raise ValidationError(f"MetricStat of {query.get('Id')} is required.")
            stat = query["MetricStat"]
            _check_statistic(stat["Stat"])
            start, end, period = _range(params, int(stat["Period"]))
            metric = _metric(
                stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Metric"]
            )
            found = [
                (_time(unix_s), value)
                for unix_s, known in store.query(metric, period, start, end, stat.get("Unit"))
                if (value := known.value(stat["Stat"])) is not None
            ]
            if params.get("ScanBy") != "TimestampAscending":
                found.reverse()
            if query.get("ReturnData", True):
                results.append(
                    {
                        "Id": query["Id"],
                        "Label": query.get("Label") or metric.name,
                        "Timestamps": [at for at, _ in found],
                        "Values": [value for _, value in found],
                        "StatusCode": "Complete",
                    }
                )
        return ActionResult({"MetricDataResults": results})

    def list_metrics(response: Any) -> Any:
        params = response._get_params()
        wanted = [(d["Name"], d.get("Value")) for d in params.get("Dimensions") or []]
        recent = time.time() - store.unix(3 * 3600) if params.get("RecentlyActive") else 0.0
        found = [
            metric
            for metric in store.metrics()
            if params.get("Namespace") in (None, metric.namespace)
            and params.get("MetricName") in (None, metric.name)
            and all(
                any(name == n and value in (None, v) for n, v in metric.dimensions)
                for name, value in wanted
            )
            and store.last_at(metric) >= recent
        ]
        begin = int(params.get("NextToken") or 0)
        more = str(begin + _PAGE) if len(found) > begin + _PAGE else None
        metrics = [
            {
                "Namespace": metric.namespace,
                "MetricName": metric.name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in metric.dimensions],
            }
            for metric in found[begin : begin + _PAGE]
        ]
        return ActionResult({"Metrics": metrics, "NextToken": more})

    replace(CloudWatchResponse, "get_metric_statistics", get_metric_statistics)
    replace(CloudWatchResponse, "get_metric_data", get_metric_data)
    replace(CloudWatchResponse, "list_metrics", list_metrics)


def _check_statistic(statistic: str) -> None:
    if statistic not in SIMPLE and percentile_of(statistic) is None:
        raise NotPlayed(f"with statistic {statistic}: there are {', '.join(SIMPLE)} and pNN.NN")


def _range(params: Mapping[str, Any], period: int) -> tuple[float, float, int]:
    """Unix seconds of beginning and end, AWS seconds of the period."""
    start, end = _unix(params["StartTime"]), _unix(params["EndTime"])
    if start >= end:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    if period not in (1, 5, 10, 20, 30) and (period < MINUTE_S or period % MINUTE_S):
        raise ValidationError(
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds."
        )
    return start, end, period


# -- alarms


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
        metric = _metric(params["Namespace"], params["MetricName"], params)
        statistic = params.get("Statistic") or params.get("ExtendedStatistic")
        found = [
            alarm
            for alarm in response.cloudwatch_backend.alarms.values()
            if alarm.stage_condition.metric == metric
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
                _time(_unix(since)) if since else None,
                _time(_unix(until)) if until else None,
            )
        )
        if "MetricAlarm" not in (params.get("AlarmTypes") or ["MetricAlarm"]):
            items = []
        if params.get("ScanBy") == "TimestampAscending":
            items.reverse()
        begin, size = int(params.get("NextToken") or 0), int(params.get("MaxRecords") or 100)
        more = str(begin + size) if len(items) > begin + size else None
        return ActionResult({"AlarmHistoryItems": items[begin : begin + size], "NextToken": more})

    replace(CloudWatchResponse, "describe_alarms", describe_alarms)
    replace(CloudWatchResponse, "describe_alarms_for_metric", describe_alarms_for_metric)
    add(CloudWatchResponse, "describe_alarm_history", describe_alarm_history)


# -- Auto Scaling: which metrics of a group are published


def _group_metrics() -> None:
    def enable(backend: Any, group_name: str, metrics: list[str] | None) -> None:
        group = _group(backend, group_name)
        group.metrics = [m for m in GROUP_METRICS if m in {*group.metrics, *_named(metrics)}]

    def disable_metrics_collection(response: Any) -> Any:
        group = _group(response.autoscaling_backend, response._get_param("AutoScalingGroupName"))
        off = _named(response._get_param("Metrics"))
        group.metrics = [metric for metric in group.metrics if metric not in off]
        return EmptyResult()

    def finish(group: Any, properties: dict[str, Any]) -> None:
        for collection in properties.get("MetricsCollection") or ():
            wanted = {*group.metrics, *_named(collection.get("Metrics"))}
            group.metrics = [metric for metric in GROUP_METRICS if metric in wanted]

    replace(AutoScalingBackend, "enable_metrics_collection", enable)
    add(AutoScalingResponse, "disable_metrics_collection", disable_metrics_collection)
    complete(FakeAutoScalingGroup, finish)


def _named(metrics: list[str] | None) -> tuple[str, ...]:
    """Which metrics a call names; all when it names none."""
    unknown = sorted(set(metrics or ()) - set(GROUP_METRICS))
    if unknown:
        raise GroupValidationError(
            f"the stage does not publish {', '.join(unknown)}; "
            f"it publishes {', '.join(GROUP_METRICS)}"
        )
    return tuple(metrics or GROUP_METRICS)


def _group(backend: Any, name: str) -> Any:
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise GroupValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}'")
    return group


# -- values


def _metric(namespace: str, name: str, fields: Mapping[str, Any]) -> Metric:
    dimensions = {d["Name"]: d["Value"] for d in fields.get("Dimensions") or ()}
    return Metric.of(namespace, name, dimensions)


def _unix(at: datetime | float) -> float:
    if not isinstance(at, datetime):
        return float(at)
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


def _time(unix_s: float) -> datetime:
    """To the millisecond, in which it travels."""
    return datetime.fromtimestamp(round(unix_s, 3), UTC)
