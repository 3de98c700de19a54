"""Actions on EC2 instances."""

from typing import Any

from chaoslib.types import Configuration, Secrets

from chaosgrade.actions.selection import Selection, outcome
from chaosgrade.changes.instance import TerminateInstance
from chaosgrade.changes.model import Change
from chaosgrade.session import activity

__all__ = ["terminate_instances"]


def terminate_instances(
    group: str | None = None,
    tags: dict[str, str] | None = None,
    zone: str | None = None,
    count: int | None = None,
    share_percent: float | None = None,
    configuration: Configuration = None,
    secrets: Secrets = None,
) -> list[dict[str, Any]]:
    """Terminate running instances of an Auto Scaling group or with given tags. Irreversible.

    Arguments:
        group: name of an Auto Scaling group.
        tags: tags that an instance must all carry; `group` or `tags` is needed.
        zone: only instances in this Availability Zone.
        count: how many; 1 when neither `count` nor `share_percent` is given.
        share_percent: how many of those that match, above 0 to 100, rounded up.

    Which of several instances are hit is drawn with the run's seed.

    Returns: one object per instance: change, instance, zone, summary, proven, detail.

    Example:
        ```yaml
        type: action
        name: terminate-an-instance
        provider:
          type: python
          module: chaosgrade.actions.instances
          func: terminate_instances
          arguments: {group: web, count: 1}
        ```

    Source: Amazon EC2 API Reference, TerminateInstances.
    """
    with activity(configuration) as session:
        selection = Selection(group, tags, zone, count, share_percent)
        chosen = selection.draw(session.aws, session.random)
        changes = [Change(TerminateInstance(i.id, i.zone)) for i in chosen]
        return outcome(chosen, session.executor.apply(changes))
