"""Kills a process at one moment of one of its calls to AWS. Installed by `site/sitecustomize.py`.

A plan is "WHO:NUMBER:MOMENT:VICTIMS": in the process WHO ("runner" or "watchdog"), at its mutating
call NUMBER (from 0), at MOMENT ("before" the send, "sent" before the reply is read, "replied"
before anything is made of it), SIGKILL the VICTIMS ("runner", "watchdog" or "both").
"""

import os
import signal
import threading
from pathlib import Path
from typing import Any

import botocore.handlers
from botocore.httpsession import URLLib3Session

MOMENTS = ("before", "sent", "replied")
_READS = ("Describe", "Get", "List")

_count = 0
_lock = threading.Lock()


def install(plan: str) -> None:
    """Hook into botocore of this process, if the plan is for it."""
    who, number, moment, victims = plan.split(":")
    command = Path("/proc/self/cmdline").read_bytes()
    if who != ("watchdog" if b"chaosgrade.watchdog" in command else "runner"):
        return

    def before_send(event_name: str, request: Any, **_: Any) -> Any:
        global _count
        if event_name.split(".")[2].startswith(_READS):
            return None
        with _lock:
            mine, _count = _count, _count + 1
            if mine != int(number):
                return None
            if moment == "before":
                _kill(victims)
                return None
            answer = URLLib3Session().send(request)
            _kill(victims)  # what botocore never saw is a reply that was never read
            return answer

    def after_call(event_name: str, **_: Any) -> None:
        global _count
        if event_name.split(".")[2].startswith(_READS):
            return
        with _lock:
            mine, _count = _count, _count + 1
            if mine == int(number):
                _kill(victims)

    if moment == "replied":
        botocore.handlers.BUILTIN_HANDLERS.append(("after-call", after_call))
    else:
        botocore.handlers.BUILTIN_HANDLERS.append(("before-send", before_send))


def _kill(victims: str) -> None:
    """SIGKILL, as an out-of-memory killer would."""
    if victims in ("watchdog", "both"):
        for watchdog in _watchdogs():
            os.kill(watchdog, signal.SIGKILL)
    if victims in ("runner", "both"):
        os.kill(os.getpid(), signal.SIGKILL)


def _watchdogs() -> list[int]:
    """Process ids of the watchdogs that this process has started, or its own."""
    if b"chaosgrade.watchdog" in Path("/proc/self/cmdline").read_bytes():
        return [os.getpid()]
    found = []
    for task in Path("/proc/self/task").iterdir():
        for child in (task / "children").read_text().split():
            if b"chaosgrade.watchdog" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(int(child))
    return found
