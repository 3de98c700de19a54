"""The Chaos Toolkit control that makes an experiment a graded run.

```yaml
controls:
  - name: chaosgrade
    provider: {type: python, module: chaosgrade.control}
```

Chaos Toolkit swallows every exception of a control but `InterruptExecution`, so that is what a run
that must not go on raises. At the end the journal holds the grade under `chaosgrade`.
"""

import contextlib
import json
import logging
import os
import signal
from collections.abc import Iterator
from typing import Any

from chaoslib.exceptions import InterruptExecution
from chaoslib.types import (
    Activity,
    Configuration,
    Experiment,
    Hypothesis,
    Journal,
    Run,
    Secrets,
)

from chaosgrade import evidence, lifeline
from chaosgrade.concealment import ConcealingFormatter, conceal_all, learn, learn_named
from chaosgrade.errors import ChaosgradeError
from chaosgrade.graded_run import GradedRun
from chaosgrade.policies.grading import load_grading
from chaosgrade.report import write_reports
from chaosgrade.score import grade, to_json
from chaosgrade.stopping import StopRequest
from chaosgrade.verdict import judge

__all__ = [
    "after_activity_control",
    "after_experiment_control",
    "after_hypothesis_control",
    "after_method_control",
    "before_activity_control",
    "before_experiment_control",
    "before_method_control",
    "cleanup_control",
]

logger = logging.getLogger("chaostoolkit")

_run: GradedRun | None = None
_phase = "before"
_signals = contextlib.ExitStack()


def before_experiment_control(
    context: Experiment, configuration: Configuration = None, secrets: Secrets = None
) -> None:
    """Open the run. Nothing is observed or changed yet."""
    global _run, _phase  # noqa: PLW0603 - Chaos Toolkit runs one experiment per process
    _phase, _run = "before", None
    learn(secrets)
    learn_named(configuration or {})
    for handler in logger.handlers:
        handler.setFormatter(ConcealingFormatter(handler.formatter))
    stop = StopRequest()
    with stop.deferred():
        _signals.enter_context(stop.on_signals())
        if parent := os.environ.get("CHAOSGRADE_PARENT"):
            # If whoever started us dies, end as if told to: undo, then exit.
            lifeline.die_with_parent(signal.SIGTERM, parent=int(parent))
        with _interrupting():
            _run = GradedRun(context, configuration or {}, stop)


def before_activity_control(context: Activity, **_: Any) -> None:
    """Begin no activity after a stop was requested."""
    if _run is not None:
        _run.stop.check()


def after_activity_control(
    context: Activity, state: Run | None = None, experiment: Experiment | None = None, **_: Any
) -> None:
    """Record what the method could not do, whoever's activity it was: half a fault is none."""
    if _run is None or experiment is None or state is None:
        return
    if state.get("status") == "failed" and context in experiment["method"]:
        last = "".join(state.get("exception") or ("no reason given",)).strip().splitlines()[-1]
        _run.activity_failed(str(context["name"]), last)


def after_hypothesis_control(
    context: Hypothesis, state: dict[str, Any] | None = None, **_: Any
) -> None:
    """Record the steady state that was found."""
    if _run is not None:
        _run.hypothesis(_phase, state)


def before_method_control(context: Experiment, **_: Any) -> None:
    """Observe the baseline, then let the method begin."""
    global _phase  # noqa: PLW0603 - as above
    _phase = "during"
    if _run is not None:
        with _interrupting():
            _run.observe()


def after_method_control(context: Experiment, **_: Any) -> None:
    """Undo nothing yet: the after-hypothesis is to see the system as the fault left it."""
    global _phase  # noqa: PLW0603 - as above
    _phase = "after"


def after_experiment_control(context: Experiment, state: Journal, **_: Any) -> None:
    """Undo, close the evidence, and put the grade into the journal."""
    run = _run
    if run is not None:
        run.stop.begin_undo()
    state.update(conceal_all(dict(state)))  # Chaos Toolkit writes it to a file
    if run is None:
        return
    run.finish(_status(state))
    trial = judge(evidence.read(run.evidence.path))
    score = grade([trial], load_grading())
    state["chaosgrade"] = {"run": run.id, "folder": str(run.place.folder), **to_json(score)}
    if not run.place.managed:
        journal = run.place.folder / "journal.json"
        journal.write_text(json.dumps(state, default=str, indent=2), encoding="utf-8")
        write_reports(run.place.folder, score, [trial])
    logger.info("chaosgrade: evidence and reports are in %s", run.place.folder)


def cleanup_control() -> None:
    """The last chance: a run that is still open here is undone."""
    global _run  # noqa: PLW0603 - as above
    if _run is not None:
        _run.stop.begin_undo()
        _run.finish("aborted")
        _run = None
    _signals.close()


def _status(journal: Journal) -> str:
    # A hypothesis that is not met is a finding, not a failure of the run.
    over = str(journal.get("status")) in ("completed", "failed")
    return "completed" if over else "aborted"


@contextlib.contextmanager
def _interrupting() -> Iterator[None]:
    """Turn errors into the one exception that stops Chaos Toolkit.

    Also such as nobody expected: it would go on, and break things unobserved and unconditionally.
    """
    try:
        yield
    except InterruptExecution:
        raise
    except ChaosgradeError as error:
        raise InterruptExecution(str(error)) from error
    except Exception as error:
        raise InterruptExecution(f"internal error, {type(error).__name__}: {error}") from error
