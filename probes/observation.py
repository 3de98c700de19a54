"""The wait of an experiment: watch until the observed window is over."""

from chaoslib.types import Configuration, Secrets

from chaosgrade.session import activity

__all__ = ["observe_window"]

READS: tuple[str, ...] = ()
"""IAM actions that this probe needs: waiting asks nothing of AWS."""


def observe_window(configuration: Configuration = None, secrets: Secrets = None) -> float:
    """Wait until the run's window after the fault is over; returns the seconds waited.

    The window is the experiment's own (`window` in its `chaosgrade` extension), in AWS time; on
    the stage it passes `time_scale` times as fast. It is counted from the fault, so that actions
    which wait for their effect do not lengthen it.

    Example:
        ```yaml
        type: probe
        name: watch-what-customers-feel
        provider:
          type: python
          module: chaosgrade.probes.observation
          func: observe_window
        ```
    """
    with activity(configuration) as session:
        window_s = session.window_s / session.aws.environment.time_scale
        now = session.clock.now()
        remaining = (session.executor.started_at or now) + window_s - now
        session.stop.wait(remaining)
        if session.evidence is not None:
            session.evidence.append("observation.end")
        return max(0.0, remaining)
