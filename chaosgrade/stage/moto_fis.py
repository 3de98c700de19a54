"""Fault Injection Service, in methods of moto that the stage replaces.

moto keeps experiment templates and lets experiments complete without effect. Here they run.
"""

import functools
import time
from collections.abc import Mapping
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.fis.models import Experiment, FISBackend, ResolvedTarget

from chaosgrade.stage.fault_injection import ACTIVE, FaultInjection, Run, check
from chaosgrade.stage.moto_patching import replace
from chaosgrade.stage.world import Hooks


def install(hooks: Hooks, faults: FaultInjection) -> None:
    """Replace them, in this process, for good."""
    _templates()
    _experiments(hooks, faults)
    _answers(faults)


class _Invalid(JsonRESTError):
    code = 400

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


def _templates() -> None:
    create = FISBackend.create_experiment_template

    @functools.wraps(create)
    def create_experiment_template(backend: Any, **kwargs: Any) -> Any:
        try:
            check(
                {
                    "roleArn": kwargs["role_arn"],
                    "stopConditions": kwargs["stop_conditions"],
                    "targets": kwargs["targets"],
                    "actions": kwargs["actions"],
                }
            )
        except ValueError as error:
            raise _Invalid(str(error)) from None
        return create(backend, **kwargs)

    replace(FISBackend, "create_experiment_template", create_experiment_template)


def _experiments(hooks: Hooks, faults: FaultInjection) -> None:
    start = FISBackend.start_experiment

    @functools.wraps(start)
    def start_experiment(backend: Any, **kwargs: Any) -> Any:
        options: Mapping[str, Any] = kwargs.get("experiment_options") or {}
        if options.get("actionsMode", "run-all") != "run-all":
            raise _Invalid(f"the stage does not play actionsMode {options['actionsMode']}")
        known = set(backend.experiments)
        start(backend, **kwargs)
        experiment = next((e for i, e in backend.experiments.items() if i not in known), None)
        if experiment is None:  # the same client token once more
            id_ = backend._client_token_to_experiment_id[kwargs["client_token"]]
            return backend.get_experiment(id_)
        faults.start(
            Run(
                experiment.id,
                experiment.targets,
                experiment.actions,
                experiment.experiment_options["emptyTargetResolutionMode"] == "skip",
                hooks.now(),
            )
        )
        return backend.get_experiment(experiment.id)

    stop = FISBackend.stop_experiment

    @functools.wraps(stop)
    def stop_experiment(backend: Any, id: str) -> Any:
        if id in faults.runs:
            faults.stop(id, hooks.now())
        return stop(backend, id)  # also says when there is no such experiment

    replace(FISBackend, "start_experiment", start_experiment)
    replace(FISBackend, "stop_experiment", stop_experiment)


def _answers(faults: FaultInjection) -> None:
    def sync(experiment: Any) -> str:
        run = faults.runs.get(experiment.id)
        if run is None:
            return "pending"
        now = time.time()
        if run.status not in ACTIVE and experiment.end_time is None:
            experiment.end_time = now
        for name, status in run.action_status.items():
            action = experiment.actions[name]
            if status != "pending":
                action.setdefault("startTime", now)
            if status not in ("pending", "running"):
                action.setdefault("endTime", now)
            action["state"] = {"status": status, "reason": f"Action is {status}."}
        return run.status

    def with_reason(tell: Any) -> Any:
        @functools.wraps(tell)
        def told(experiment: Any, tags: Any = None) -> dict[str, Any]:
            answer: dict[str, Any] = tell(experiment, tags)
            if run := faults.runs.get(experiment.id):
                answer["state"]["reason"] = run.reason
            return answer

        return told

    def resolved_targets(experiment: Any) -> list[ResolvedTarget]:
        run = faults.runs[experiment.id]
        return [
            ResolvedTarget(resource.type, name, resource.arn)
            for name, resources in run.resolved.items()
            for resource in resources
        ]

    replace(Experiment, "_sync_state", sync)
    replace(Experiment, "to_dict", with_reason(Experiment.to_dict))
    replace(Experiment, "to_summary_dict", with_reason(Experiment.to_summary_dict))
    replace(Experiment, "resolved_targets", resolved_targets)
