"""Amazon CloudWatch on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, emulated, real

_HISTORY = "the state of alarms does not depend on other alarms"

CLOUDWATCH = Service(
    "cloudwatch",
    "CloudWatch",
    "monitoring",
    played={
        "PutMetricData": emulated(
            "Kept for a day of the stage, to the minute or, with `StorageResolution` 1, to the "
            "second; alarms see it. Namespaces that begin with `AWS/` are AWS's own "
            "(`InvalidParameterValue`)."
        ),
        **each(
            real(
                "What the load balancers' nodes counted and the groups were, and what was put. "
                "Statistics are `SampleCount`, `Sum`, `Average`, `Minimum`, `Maximum` and "
                "percentiles (`p99.9`); others, metric math and Metrics Insights are "
                "`NotImplemented`."
            ),
            "GetMetricStatistics GetMetricData",
        ),
        "ListMetrics": real("Those that have datapoints."),
        "PutMetricAlarm": emulated(
            "Evaluated once a minute, with a period shorter than that every 10 s, over periods "
            "that end then. `TreatMissingData`, M out of N datapoints and "
            "`EvaluateLowSampleCountPercentile` count as the User Guide says. An alarm on a "
            "metric of AWS's that the stage does not publish, on metric math or an anomaly "
            "detection band, or with an action other than those below, is `NotImplemented`."
        ),
        **each(
            emulated("As evaluated, with AWS's words for the reason."),
            "DescribeAlarms DescribeAlarmsForMetric",
        ),
        "DescribeAlarmHistory": emulated(
            "The latest thousand changes of configuration and state, and actions."
        ),
        "SetAlarmState": emulated("Until the next evaluation; the actions follow."),
        **each(
            emulated("With them off, states change and nothing follows."),
            "EnableAlarmActions DisableAlarmActions",
        ),
        "DeleteAlarms": emulated("Its history stays."),
    },
    refused={
        "PutCompositeAlarm": _HISTORY,
        **because(
            "it looks for no anomalies",
            "PutAnomalyDetector DescribeAnomalyDetectors DeleteAnomalyDetector",
        ),
    },
    stored="""
        DeleteDashboards DeleteInsightRules DescribeInsightRules DisableInsightRules
        EnableInsightRules GetDashboard ListDashboards ListTagsForResource PutDashboard
        PutInsightRule TagResource UntagResource
    """,
)
