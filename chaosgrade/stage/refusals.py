"""API calls that the stage refuses: the ones that would look as if they had worked.

moto stores almost anything that it is told. A fault or a safeguard that is stored and has no
consequence would make an experiment lie, so a call is either played, or it stores what has no
bearing on traffic, or it fails. docs/stage-operations.md has the whole table.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from chaosgrade.stage import rest_operations

PLAYED = (
    "autoscaling", "cloudformation", "ec2", "elasticache", "elasticloadbalancing", "fis", "rds",
    "ssm",
)  # fmt: skip
STORED = (
    "dynamodb", "events", "iam", "kms", "logs", "monitoring", "s3", "secretsmanager", "sns", "sqs",
    "sts", "tagging",
)  # fmt: skip
"""Services by the name that requests are signed for."""

_ALARMS = "it evaluates no metrics, alarms or schedules; call SetDesiredCapacity"
_STACKS = "its stack is made when it starts; give the template to: chaosgrade stage up --template"
_NETWORK = "of the network it plays network ACLs"
_SPOT = "its Spot Instances come from Auto Scaling groups and RunInstances"
_FIS = "an experiment template is as it was made, in one account"
_DATABASES = "its DB instances keep what they were created with"
_CLUSTERS = "it has DB instances, and no DB clusters or proxies"
_BACKUPS = "its snapshots hold no data"
_CACHES = "its caches are replication groups, as they were created"
_SNAPSHOTS = "its caches keep nothing but what is in memory"
_CACHE_USERS = "its caches ask nobody for a password"
_RULES = "its listeners have a default action only"

OPERATIONS: Mapping[str, Mapping[str, str]] = {
    "autoscaling": {
        "AttachLoadBalancers": "it has no Classic Load Balancers",
        "PutLifecycleHook": "its instances do not wait for lifecycle hooks",
        "PutScalingPolicy": _ALARMS,
        "PutScheduledUpdateGroupAction": _ALARMS,
        "BatchPutScheduledUpdateGroupAction": _ALARMS,
        "PutWarmPool": "it has no warm pools",
    },
    "cloudformation": dict.fromkeys(
        (
            "CreateStack", "UpdateStack", "DeleteStack", "CreateChangeSet", "ExecuteChangeSet",
            "CreateStackSet", "CreateStackInstances",
        ),
        _STACKS,
    ),
    "ec2": {
        **dict.fromkeys(
            (
                "RevokeSecurityGroupIngress", "RevokeSecurityGroupEgress", "DeleteRoute",
                "ReplaceRoute", "DisassociateRouteTable", "ReplaceRouteTableAssociation",
            ),
            _NETWORK,
        ),
        **dict.fromkeys(
            (
                "CreateFleet", "RequestSpotFleet", "RequestSpotInstances",
                "CancelSpotInstanceRequests",
            ),
            _SPOT,
        ),
    },
    "elasticache": {
        **dict.fromkeys(("CreateCacheCluster", "ModifyReplicationGroup"), _CACHES),
        "CreateSnapshot": _SNAPSHOTS,
        "CreateUser": _CACHE_USERS,
    },
    "elasticloadbalancing": dict.fromkeys(
        ("CreateRule", "ModifyRule", "SetRulePriorities"), _RULES
    ),
    "rds": {
        **dict.fromkeys(
            (
                "ModifyDBInstance", "StartDBInstance", "StopDBInstance", "SwitchoverReadReplica",
                "CreateBlueGreenDeployment",
            ),
            _DATABASES,
        ),
        **dict.fromkeys(
            (
                "CreateDBCluster", "FailoverDBCluster", "RebootDBCluster", "CreateGlobalCluster",
                "CreateDBShardGroup", "CreateDBProxy",
            ),
            _CLUSTERS,
        ),
        **dict.fromkeys(
            (
                "RestoreDBInstanceFromDBSnapshot", "RestoreDBInstanceToPointInTime",
                "RestoreDBInstanceFromS3", "RestoreDBClusterFromSnapshot",
                "RestoreDBClusterToPointInTime",
            ),
            _BACKUPS,
        ),
    },
    "fis": dict.fromkeys(
        ("CreateTargetAccountConfiguration", "UpdateExperimentTemplate"), _FIS
    ),
}  # fmt: skip
"""{service: {operation: why}} of what moto would store without consequences."""

_SCOPE = re.compile(r"Credential=[^/,]+/\d{8}/[^/]+/([^/]+)/aws4_request")
_XML_SERVICES = ("s3", "route53")
_CLASSIC_BALANCERS = "2012-06-01"


@dataclass(frozen=True, slots=True)
class ApiCall:
    """Who is called, and for what.

    Args:
        service: the name that the request is signed for; "" when it is not signed.
        operation: "" where it is not known.
        what: the operation, or method and path, for messages.
    """

    service: str
    operation: str
    version: str
    what: str
    is_query: bool

    @classmethod
    def of(cls, environ: Mapping[str, object], sent: bytes) -> "ApiCall":
        """From a WSGI environment and the body that was sent."""
        scope = _SCOPE.search(str(environ.get("HTTP_AUTHORIZATION", "")))
        target = str(environ.get("HTTP_X_AMZ_TARGET", ""))
        path = str(environ["PATH_INFO"])
        form: dict[str, list[str]] = {}
        if not target and str(environ.get("CONTENT_TYPE", "")).startswith(
            "application/x-www-form-urlencoded"
        ):
            form = parse_qs(sent.decode("latin-1"))
        operation = target.rpartition(".")[2] or form.get("Action", [""])[0]
        service = scope.group(1) if scope else ""
        operation = operation or rest_operations.operation(
            service, str(environ["REQUEST_METHOD"]), path
        )
        if not operation and "/operation/" in path:  # the RPC v2 protocol
            operation = path.rpartition("/")[2]
        return cls(
            service=service,
            operation=operation,
            version=form.get("Version", [""])[0],
            what=operation or f"{environ['REQUEST_METHOD']} {path}",
            is_query=bool(form),
        )


def refused(call: ApiCall) -> str | None:
    """Why the stage refuses a call; None when it does not."""
    if call.service and call.service not in PLAYED + STORED:
        return (
            f"the stage does not play {call.service} ({call.what}); "
            f"it plays {', '.join(PLAYED)} and stores {', '.join(STORED)}"
        )
    if call.service == "elasticloadbalancing" and call.version == _CLASSIC_BALANCERS:
        return f"the stage does not play Classic Load Balancers ({call.what})"
    reason = OPERATIONS.get(call.service, {}).get(call.operation)
    return f"the stage does not play {call.operation}: {reason}" if reason else None


def answer(call: ApiCall, code: str, message: str) -> tuple[str, bytes]:
    """Content type and body of an error, as the called service would shape it."""
    if call.is_query or call.service in _XML_SERVICES:
        error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
        if call.service == "s3":
            return "application/xml", error.encode()
        # EC2 wraps errors in <Errors>, the other services do not: each parser finds its own.
        return "text/xml", (
            f"<ErrorResponse><Errors>{error}</Errors>{error}"
            "<RequestId>stage</RequestId></ErrorResponse>"
        ).encode()
    body = json.dumps({"__type": code, "message": message}).encode()
    return "application/x-amz-json-1.1", body
