"""Elastic Load Balancing (version 2) on the stage."""

from chaosgrade.stage.operations.service import Service, because, each, real

_RULES = "its listeners have a default action only"

ELBV2 = Service(
    "elbv2",
    "Elastic Load Balancing (version 2)",
    "elasticloadbalancing",
    played={
        **each(
            real(
                "A listener with a `forward` action is a proxy at the address that `DNSName` "
                "gives: HTTP for application load balancers, TCP for network load balancers, with "
                "a node in each subnet. Of several target groups in one action the first is used; "
                "listeners with other default actions do not listen."
            ),
            "CreateLoadBalancer DeleteLoadBalancer SetSubnets CreateListener ModifyListener "
            "DeleteListener",
        ),
        "ModifyLoadBalancerAttributes": real(
            "`load_balancing.cross_zone.enabled`, `idle_timeout.timeout_seconds` (real seconds) "
            "and `access_logs.s3.*` are in force at once: each "
            "node of an application load balancer writes its log into the bucket every five "
            "minutes of AWS time; a bucket that does not exist is refused, its policy is not "
            "looked at. `client_keep_alive.seconds` and `dns_record.client_routing_policy` have "
            "their defaults; another value is `NotImplemented`. Other attributes are stored."
        ),
        **each(
            real(
                "Interval, timeout, thresholds, matcher, path and port of health checks, "
                "`deregistration_delay.timeout_seconds`, "
                "`deregistration_delay.connection_termination.enabled`, "
                "`slow_start.duration_seconds` and `load_balancing.cross_zone.enabled` are in "
                "force at once. Other attributes that decide where requests go, such as "
                "`stickiness.enabled`, have their defaults; another value is `NotImplemented`."
            ),
            "CreateTargetGroup ModifyTargetGroup ModifyTargetGroupAttributes DeleteTargetGroup",
        ),
        **each(
            real(
                "A new target is `initial` until its first check passes; a deregistered one is "
                "`draining` for its delay. An instance is registered with one port per group."
            ),
            "RegisterTargets DeregisterTargets",
        ),
        "DescribeTargetHealth": real(
            "What the balancer's own checks found, with AWS's states, reasons and descriptions."
        ),
    },
    refused={
        **because(_RULES, "CreateRule ModifyRule SetRulePriorities"),
    },
    stored="""
        AddListenerCertificates AddTags DeleteRule DescribeAccountLimits
        DescribeCapacityReservation DescribeListenerAttributes DescribeListenerCertificates
        DescribeListeners DescribeLoadBalancerAttributes DescribeLoadBalancers DescribeRules
        DescribeSSLPolicies DescribeTags DescribeTargetGroupAttributes DescribeTargetGroups
        ModifyListenerAttributes RemoveListenerCertificates RemoveTags SetIpAddressType
        SetSecurityGroups
    """,
)
