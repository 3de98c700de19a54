"""Loaded by every Python that the kill tests start: dies where it is told to, in mid-call."""

import os

if plan := os.environ.get("KILL_PLAN"):
    from tests.safety import killing

    killing.install(plan)
