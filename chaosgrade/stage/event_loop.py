"""The event loop of the stage's processes: uvloop where it is installed, else asyncio's own."""

import asyncio
from collections.abc import Callable, Coroutine

_new_loop: Callable[[], asyncio.AbstractEventLoop]
try:
    from uvloop import new_event_loop as _new_loop
except ImportError:
    from asyncio import new_event_loop as _new_loop


def run(main: Coroutine[object, object, None]) -> None:
    """Run a coroutine to its end on the fastest loop there is."""
    with asyncio.Runner(loop_factory=_new_loop) as runner:
        runner.run(main)
