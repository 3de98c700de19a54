"""Metrics of Auto Scaling groups, in methods of moto that the stage replaces.

moto keeps which ones are enabled, and publishes none.
"""

from collections.abc import Iterator
from typing import Any

from moto.autoscaling.exceptions import ValidationError
from moto.autoscaling.models import AutoScalingBackend, FakeAutoScalingGroup
from moto.autoscaling.responses import AutoScalingResponse
from moto.backends import get_backend
from moto.core.responses import EmptyResult

from chaosgrade.stage.moto_patching import add, complete, replace
from chaosgrade.stage.published_metrics import GROUP_METRICS, GroupSizes
from chaosgrade.stage.world import ACCOUNT


def group_sizes(region: str) -> Iterator[GroupSizes]:
    """The Auto Scaling groups of the played AWS, with the metrics that are enabled."""
    backend: Any = get_backend("autoscaling")[ACCOUNT][region]
    for group in backend.autoscaling_groups.values():
        yield GroupSizes(
            name=group.name,
            enabled=frozenset(group.metrics),
            minimum=int(group.min_size),
            maximum=int(group.max_size),
            desired=int(group.desired_capacity or 0),
            lifecycles=tuple(state.lifecycle_state for state in group.instance_states),
        )


def install() -> None:
    """Replace them, in this process, for good."""

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
        raise ValidationError(
            f"the stage does not publish {', '.join(unknown)}; "
            f"it publishes {', '.join(GROUP_METRICS)}"
        )
    return tuple(metrics or GROUP_METRICS)


def _group(backend: Any, name: str) -> Any:
    group = backend.autoscaling_groups.get(name)
    if group is None:
        raise ValidationError(f"AutoScalingGroup name not found - AutoScalingGroup '{name}'")
    return group
