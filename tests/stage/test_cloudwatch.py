"""CloudWatch on the stage: what happens is published, alarms see it, and what they say happens."""

import json
import urllib.error
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError
from chaoslib.exceptions import InterruptExecution

from chaosgrade.aws import Aws
from chaosgrade.errors import Refused
from chaosgrade.policies.safety import AlarmCondition
from chaosgrade.stop_conditions import StopConditions
from chaosgrade.stopping import StopRequest
from tests.stage.conftest import Stage, eventually

pytestmark = pytest.mark.stage


def alarm(stage: Stage, name: str) -> dict[str, Any]:
    answer = stage.client("cloudwatch").describe_alarms(AlarmNames=[name])
    (found,) = answer["MetricAlarms"]
    return dict(found)


def put_alarm(stage: Stage, name: str, metric: str, **changes: Any) -> None:
    """In alarm when there was one of the metric in a minute."""
    given: dict[str, Any] = {
        "AlarmName": name, "Namespace": "Shop", "MetricName": metric, "Statistic": "Sum",
        "Period": 60, "EvaluationPeriods": 1, "Threshold": 1, "TreatMissingData": "ignore",
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
    }  # fmt: skip
    stage.client("cloudwatch").put_metric_alarm(**{**given, **changes})


def report(stage: Stage, metric: str, value: float) -> None:
    stage.client("cloudwatch").put_metric_data(
        Namespace="Shop", MetricData=[{"MetricName": metric, "Value": value}]
    )


def summed(stage: Stage, metric: str, since: datetime, stat: str = "Sum") -> list[float]:
    """Values of a metric of the only load balancer, in each minute with any."""
    cloudwatch = stage.client("cloudwatch")
    metrics = cloudwatch.list_metrics(Namespace="AWS/ApplicationELB", MetricName=metric)["Metrics"]
    whole = [m for m in metrics if [d["Name"] for d in m["Dimensions"]] == ["LoadBalancer"]]
    if not whole:
        return []
    answer = cloudwatch.get_metric_data(
        StartTime=since,
        EndTime=datetime.now(UTC) + timedelta(seconds=1),
        MetricDataQueries=[
            {"Id": "m", "MetricStat": {"Metric": whole[0], "Period": 60, "Stat": stat}}
        ],
    )
    return list(answer["MetricDataResults"][0]["Values"])


def test_the_templates_alarm_has_been_ok_for_long_when_the_stage_is_ready(stage: Stage) -> None:
    """A run may begin under it at once; nobody was notified."""
    assert alarm(stage, "web-unhealthy-hosts")["StateValue"] == "OK"
    history = stage.client("cloudwatch").describe_alarm_history(HistoryItemType="Action")
    assert history["AlarmHistoryItems"] == []


def test_requests_are_counted_by_minutes_of_the_stage(stage: Stage) -> None:
    """As many as there were, with their answers and how long those took."""
    since = datetime.now(UTC)
    for _ in range(20):
        urllib.request.urlopen(stage.document["balancers"]["web"] + "/health").close()
    eventually(lambda: sum(summed(stage, "RequestCount", since)) == 20)
    assert sum(summed(stage, "HTTPCode_Target_2XX_Count", since)) == 20
    assert all(0 < value < 5 for value in summed(stage, "TargetResponseTime", since, "p99"))
    assert summed(stage, "HTTPCode_ELB_5XX_Count", since) == []


def test_statistics_are_asked_for_in_several_ways(stage: Stage) -> None:
    """Of what was put: values with counts, and a summary, which has no percentiles."""
    cloudwatch = stage.client("cloudwatch")
    now = datetime.now(UTC)
    shop = [{"Name": "Tier", "Value": "web"}]
    cloudwatch.put_metric_data(
        Namespace="Shop",
        MetricData=[
            {"MetricName": "Time", "Dimensions": shop, "Unit": "Seconds", "Timestamp": now,
             "Values": [0.1, 0.9], "Counts": [9, 1]},
            {"MetricName": "Size", "Timestamp": now, "StatisticValues":
             {"SampleCount": 2, "Sum": 5, "Minimum": 1, "Maximum": 4}},
        ],
    )  # fmt: skip
    asked: dict[str, Any] = {
        "Namespace": "Shop", "StartTime": now - timedelta(seconds=2), "Period": 60,
        "EndTime": now + timedelta(seconds=2), "ExtendedStatistics": ["p90", "p99"],
        "Statistics": ["SampleCount", "Average", "Maximum"],
    }  # fmt: skip
    (time,) = cloudwatch.get_metric_statistics(MetricName="Time", Dimensions=shop, **asked)[
        "Datapoints"
    ]
    assert (time["SampleCount"], time["Maximum"], time["Unit"]) == (10, 0.9, "Seconds")
    assert time["Average"] == pytest.approx(0.18)
    assert time["ExtendedStatistics"] == {"p90": 0.1, "p99": 0.9}
    (size,) = cloudwatch.get_metric_statistics(MetricName="Size", **asked)["Datapoints"]
    assert (size["Average"], size.get("ExtendedStatistics", {})) == (2.5, {})
    assert cloudwatch.get_metric_statistics(MetricName="Time", **asked)["Datapoints"] == []


@pytest.mark.parametrize(
    ("operation", "arguments", "word"),
    [
        (
            "get_metric_data",
            {"StartTime": 0, "EndTime": 1, "MetricDataQueries": [{"Id": "e", "Expression": "1"}]},
            "GetMetricData metric math",
        ),
        (
            "put_metric_alarm",
            {"AlarmName": "a", "EvaluationPeriods": 1, "Metrics": [{"Id": "e", "Expression": "1"}],
             "ComparisonOperator": "GreaterThanThreshold"},
            "PutMetricAlarm with metric math",
        ),
        ("put_composite_alarm", {"AlarmName": "a", "AlarmRule": "TRUE"}, "PutCompositeAlarm"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused(
    stage: Stage, operation: str, arguments: dict[str, Any], word: str
) -> None:
    """By name, in the protocol of the service."""
    with pytest.raises(ClientError, match=word) as caught:
        getattr(stage.client("cloudwatch"), operation)(**arguments)
    assert caught.value.response["Error"]["Code"] == "NotImplemented"


def test_an_alarm_notifies_its_topic_and_the_topics_queues(stage: Stage) -> None:
    """When a host becomes unhealthy, and when its group has replaced it."""
    sns, sqs = stage.client("sns"), stage.client("sqs")
    queue = sqs.create_queue(QueueName="pager")["QueueUrl"]
    sns.subscribe(
        TopicArn="arn:aws:sns:us-east-1:123456789012:shop-alerts",
        Protocol="sqs",
        Endpoint="arn:aws:sqs:us-east-1:123456789012:pager",
    )

    def notified() -> dict[str, Any]:
        received = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=5).get("Messages", [])
        for message in received:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
            return dict(json.loads(json.loads(message["Body"])["Message"]))
        return {}

    group = stage.client("autoscaling").describe_auto_scaling_groups(AutoScalingGroupNames=["web"])[
        "AutoScalingGroups"
    ][0]
    stage.client("ssm").send_command(
        DocumentName="AWSFIS-Run-Kill-Process",
        InstanceIds=[group["Instances"][0]["InstanceId"]],
        Parameters={"ProcessName": ["web"], "Signal": ["SIGSTOP"]},
    )
    raised = eventually(notified)
    assert (raised["AlarmName"], raised["NewStateValue"]) == ("web-unhealthy-hosts", "ALARM")
    assert raised["Trigger"]["MetricName"] == "UnHealthyHostCount"
    assert raised["OldStateValue"] == "OK"
    assert eventually(notified)["NewStateValue"] == "OK"
    changes = stage.client("cloudwatch").describe_alarm_history(
        AlarmName="web-unhealthy-hosts", HistoryItemType="StateUpdate", ScanBy="TimestampAscending"
    )["AlarmHistoryItems"]
    assert [change["HistorySummary"] for change in changes[-2:]] == [
        "Alarm updated from OK to ALARM", "Alarm updated from ALARM to OK",
    ]  # fmt: skip


def test_an_alarm_scales_a_group(stage: Stage) -> None:
    """By the step that the metric has reached, and not beyond the group's maximum."""
    autoscaling = stage.client("autoscaling")
    policy = autoscaling.put_scaling_policy(
        AutoScalingGroupName="worker",
        PolicyName="more",
        PolicyType="StepScaling",
        AdjustmentType="ChangeInCapacity",
        StepAdjustments=[
            {
                "MetricIntervalLowerBound": 0,
                "MetricIntervalUpperBound": 100,
                "ScalingAdjustment": 1,
            },
            {"MetricIntervalLowerBound": 100, "ScalingAdjustment": 5},
        ],
    )["PolicyARN"]

    def workers() -> int:
        (group,) = autoscaling.describe_auto_scaling_groups(AutoScalingGroupNames=["worker"])[
            "AutoScalingGroups"
        ]
        return sum(i["LifecycleState"] == "InService" for i in group["Instances"])

    put_alarm(stage, "backlog", "Backlog", AlarmActions=[policy])
    assert workers() == 2
    report(stage, "Backlog", 50)
    eventually(lambda: workers() == 3)
    (described,) = autoscaling.describe_policies(PolicyNames=["more"])["ScalingPolicies"]
    assert [one["AlarmName"] for one in described["Alarms"]] == ["backlog"]
    stage.client("cloudwatch").delete_alarms(AlarmNames=["backlog"])
    autoscaling.delete_policy(AutoScalingGroupName="worker", PolicyName="more")


def test_a_policy_that_would_not_be_carried_out_is_refused(stage: Stage) -> None:
    """Target tracking makes alarms of its own, on metrics that the stage does not publish."""
    with pytest.raises(ClientError, match="TargetTrackingScaling") as caught:
        stage.client("autoscaling").put_scaling_policy(
            AutoScalingGroupName="worker",
            PolicyName="steady",
            PolicyType="TargetTrackingScaling",
            TargetTrackingConfiguration={
                "TargetValue": 50,
                "PredefinedMetricSpecification": {
                    "PredefinedMetricType": "ASGAverageCPUUtilization"
                },
            },
        )
    assert caught.value.response["Error"]["Code"] == "NotImplemented"


def test_an_alarm_of_the_stage_is_a_stop_condition(stage: Stage) -> None:
    """It refuses while it has seen nothing, lets a run begin when it is OK, and stops it."""
    aws = Aws(
        region=stage.document["region"],
        endpoint_url=stage.document["endpoint"],
        access_key=("stage", "stage"),
    )
    put_alarm(stage, "checkout", "Failures")
    conditions = StopConditions(
        [AlarmCondition("checkout")], aws, tally=lambda seconds: (0, 0), every_s=0.05
    )
    with pytest.raises(Refused, match="insufficient data"):
        conditions.check()
    report(stage, "Failures", 0)
    eventually(lambda: alarm(stage, "checkout")["StateValue"] == "OK")
    conditions.check()
    stop = StopRequest()
    conditions.watch(stop)
    report(stage, "Failures", 3)
    with pytest.raises(InterruptExecution, match="checkout: is in ALARM"):
        stop.wait(30)
    conditions.close()


def test_an_alarm_keeps_its_state_when_it_is_put_again(stage: Stage) -> None:
    """And a state that somebody sets stays until the next evaluation that finds something."""
    put_alarm(stage, "drill", "Drills")
    stage.client("cloudwatch").set_alarm_state(
        AlarmName="drill", StateValue="ALARM", StateReason="a drill"
    )
    put_alarm(stage, "drill", "Drills", Threshold=5)
    drill = alarm(stage, "drill")
    assert (drill["StateValue"], drill["StateReason"], drill["Threshold"]) == (
        "ALARM",
        "a drill",
        5,
    )
    report(stage, "Drills", 4)
    eventually(lambda: alarm(stage, "drill")["StateValue"] == "OK")


def test_errors_of_the_balancer_and_of_targets_are_told_apart(stage: Stage) -> None:
    """502 is the load balancer's own answer to a target that is not there."""
    since = datetime.now(UTC)
    elbv2 = stage.client("elbv2")
    (group,) = elbv2.describe_target_groups(Names=["web"])["TargetGroups"]
    targets = [
        described["Target"]
        for described in elbv2.describe_target_health(TargetGroupArn=group["TargetGroupArn"])[
            "TargetHealthDescriptions"
        ]
    ]
    stage.client("autoscaling").suspend_processes(AutoScalingGroupName="web")
    stage.client("ssm").send_command(
        DocumentName="AWSFIS-Run-Kill-Process",
        InstanceIds=[target["Id"] for target in targets],
        Parameters={"ProcessName": ["web"], "Signal": ["SIGKILL"]},
    )
    with pytest.raises(urllib.error.HTTPError, match="502"):
        urllib.request.urlopen(stage.document["balancers"]["web"] + "/health")
    eventually(lambda: sum(summed(stage, "HTTPCode_ELB_502_Count", since)) == 1)
    assert sum(summed(stage, "TargetConnectionErrorCount", since)) == 1
    assert sum(summed(stage, "RequestCount", since)) == 1
    assert summed(stage, "HTTPCode_Target_5XX_Count", since) == []
