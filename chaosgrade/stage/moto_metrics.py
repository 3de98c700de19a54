"""Metrics of Amazon CloudWatch, in methods of moto that the stage replaces.

moto keeps datapoints in a list. Here they go into the stage's `MetricStore`, which the services of
the stage fill as well.
"""

import time
from collections.abc import Mapping
from typing import Any

from moto.cloudwatch.exceptions import (
    InvalidParameterCombination,
    InvalidParameterValue,
    ValidationError,
)
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult, EmptyResult

from chaosgrade.stage.cloudwatch_values import metric, moment, page, unix
from chaosgrade.stage.metrics import (
    KEPT_S,
    MINUTE_S,
    SIMPLE,
    MetricStore,
    Statistics,
    percentile_of,
)
from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.operations import NotPlayed

_AHEAD_S = 7200
"""How far ahead of the clock a timestamp may be, in AWS seconds."""
_PAGE = 500


def install(store: MetricStore) -> None:
    """Replace them, in this process, for good."""
    _puts(store)
    _queries(store)


def _puts(store: MetricStore) -> None:
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
            age_s = store.second(now) - store.second(unix(datum.get("Timestamp") or now))
            if not -_AHEAD_S <= age_s <= KEPT_S:
                raise InvalidParameterValue(
                    f"The parameter MetricData.member.{number}.Timestamp must specify a time "
                    "within the past day of the stage, and no more than two hours in the future."
                )
        for datum in data:
            store.put(
                metric(namespace, datum["MetricName"], datum),
                _samples(datum),
                unix(datum.get("Timestamp") or now),
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
        asked = metric(params["Namespace"], params["MetricName"], params)
        datapoints = [
            {
                "Timestamp": moment(unix_s),
                "Unit": unit,
                **{statistic: known.value(statistic) for statistic in simple},
                "ExtendedStatistics": {
                    statistic: value
                    for statistic in extended
                    if (value := known.value(statistic)) is not None
                },
            }
            for unit in store.units(asked)
            if params.get("Unit") in (None, unit)
            for unix_s, known in store.query(asked, period, start, end, unit)
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
            asked = metric(
                stat["Metric"]["Namespace"], stat["Metric"]["MetricName"], stat["Metric"]
            )
            found = [
                (moment(unix_s), value)
                for unix_s, known in store.query(asked, period, start, end, stat.get("Unit"))
                if (value := known.value(stat["Stat"])) is not None
            ]
            if params.get("ScanBy") != "TimestampAscending":
                found.reverse()
            if query.get("ReturnData", True):
                results.append(
                    {
                        "Id": query["Id"],
                        "Label": query.get("Label") or asked.name,
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
            known
            for known in store.metrics()
            if params.get("Namespace") in (None, known.namespace)
            and params.get("MetricName") in (None, known.name)
            and all(
                any(name == n and value in (None, v) for n, v in known.dimensions)
                for name, value in wanted
            )
            and store.last_at(known) >= recent
        ]
        told, more = page(found, params.get("NextToken"), _PAGE)
        metrics = [
            {
                "Namespace": known.namespace,
                "MetricName": known.name,
                "Dimensions": [{"Name": n, "Value": v} for n, v in known.dimensions],
            }
            for known in told
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
    start, end = unix(params["StartTime"]), unix(params["EndTime"])
    if start >= end:
        raise ValidationError("The parameter StartTime must be less than the parameter EndTime.")
    if period not in (1, 5, 10, 20, 30) and (period < MINUTE_S or period % MINUTE_S):
        raise ValidationError(
            "The parameter Period must be 1, 5, 10, 20, 30 or a multiple of 60 seconds."
        )
    return start, end, period
