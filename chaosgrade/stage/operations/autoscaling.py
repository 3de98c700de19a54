"""Amazon EC2 Auto Scaling on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, emulated, real

_SCHEDULES = "it has no schedules; call SetDesiredCapacity"
_HOOKS = "its instances do not wait for lifecycle hooks"
_CLASSIC = "it has no Classic Load Balancers"

AUTO_SCALING = Service(
    "autoscaling",
    "Auto Scaling",
    "autoscaling",
    played={
        **each(
            emulated(
                "Instances are launched into the emptiest zone of the group, and taken from the "
                "fullest, the oldest first. A capacity beyond minimum or maximum is a "
                "`ValidationError`. Without a grace period in the call there is none; only the "
                "console proposes 300 s. `HealthCheckType` is `EC2`, `ELB` or both; with another "
                "it is `NotImplemented`."
            ),
            "CreateAutoScalingGroup UpdateAutoScalingGroup SetDesiredCapacity",
        ),
        "DeleteAutoScalingGroup": real("Terminates its instances."),
        **each(
            emulated(
                "`Launch`, `Terminate`, `HealthCheck`, `ReplaceUnhealthy`, `AZRebalance`, "
                "`AddToLoadBalancer` and `AlarmNotification` are honoured; the others have "
                "nothing to suspend here."
            ),
            "SuspendProcesses ResumeProcesses",
        ),
        "SetInstanceHealth": emulated("Respects the grace period, unless told not to."),
        "SetInstanceProtection": emulated("A protected instance is not taken to shrink its group."),
        "TerminateInstanceInAutoScalingGroup": real(
            "Drains, then terminates; with decrement nothing is launched."
        ),
        **each(
            real("Registers and deregisters with the group's target groups."),
            "AttachInstances DetachInstances EnterStandby ExitStandby "
            "AttachLoadBalancerTargetGroups DetachLoadBalancerTargetGroups",
        ),
        "PutScalingPolicy": emulated(
            "Of type `SimpleScaling` or `StepScaling`, with `MetricAggregationType` `Average`; "
            "another is `NotImplemented`. It is executed by alarms and by `ExecutePolicy`."
        ),
        "ExecutePolicy": emulated(
            "Changes the desired capacity as the policy says, within minimum and maximum. A "
            "simple policy cools down, counted from the change (AWS: from the end of the scaling "
            "activity); instances that warm up do not count for a step policy."
        ),
        **each(emulated("As they are put."), "DescribePolicies DeletePolicy"),
        **each(
            emulated("What the group publishes to CloudWatch; without it nothing, as on AWS."),
            "EnableMetricsCollection DisableMetricsCollection",
        ),
        "DescribeScalingActivities": emulated(
            "What the controller did and why, failed launches included. A failed launch is tried "
            "again after 60 s (assumption)."
        ),
        **each(
            real("Lifecycle and health as the controller sees them."),
            "DescribeAutoScalingGroups DescribeAutoScalingInstances",
        ),
    },
    refused={
        **because(_SCHEDULES, "PutScheduledUpdateGroupAction BatchPutScheduledUpdateGroupAction"),
        "PutLifecycleHook": _HOOKS,
        "PutWarmPool": "it has no warm pools",
        **because(_CLASSIC, "AttachLoadBalancers DetachLoadBalancers"),
        "PutNotificationConfiguration": "its groups notify nobody; call DescribeScalingActivities",
        "StartInstanceRefresh": "it has no instance refresh; terminate instances one by one",
    },
    stored="""
        BatchDeleteScheduledAction CreateLaunchConfiguration CreateOrUpdateTags
        DeleteLaunchConfiguration DeleteLifecycleHook DeleteScheduledAction DeleteTags
        DeleteWarmPool DescribeLaunchConfigurations DescribeLifecycleHooks
        DescribeLoadBalancerTargetGroups DescribeLoadBalancers DescribeScheduledActions
        DescribeTags DescribeWarmPool
    """,
)
