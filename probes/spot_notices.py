"""Interruption notices of Spot Instances: which of them EC2 is about to take back."""

from chaoslib.types import Configuration, Secrets

from chaosgrade.aws import Aws, Call
from chaosgrade.probes.poll import Poll
from chaosgrade.session import Session, activity

__all__ = ["spot_notices"]

READS: tuple[str, ...] = ("ec2:DescribeSpotInstanceRequests",)
"""IAM actions that this probe and its observer need."""

_MARKED = ("marked-for-termination", "marked-for-stop", "marked-for-hibernation")


def spot_notices(configuration: Configuration = None, secrets: Secrets = None) -> list[str]:
    """Ids of the Spot Instances that have got their interruption notice and have not ended.

    Example:
        ```yaml
        type: probe
        name: no-instance-is-about-to-leave
        tolerance: []
        provider:
          type: python
          module: chaosgrade.probes.spot_notices
          func: spot_notices
        ```

    Source: Amazon EC2 User Guide, "Get the status of a Spot Instance request".
    """
    with activity(configuration) as session:
        return _read(session.aws)


def observe(session: Session) -> Poll:
    """An observer that records `spot_notices` whenever they change."""
    return Poll(session, "spot_notices", lambda: {"marked": _read(session.aws)})


def _read(aws: Aws) -> list[str]:
    # Requests stay listed long after their instances have gone: AWS leaves those out itself.
    filters = [{"Name": "status-code", "Values": list(_MARKED)}]
    call = Call("ec2", "DescribeSpotInstanceRequests", {"Filters": filters})
    return sorted(r["InstanceId"] for r in aws.pages(call, "SpotInstanceRequests"))
