"""The event loop of the stage's processes: uvloop where it is installed, else asyncio's own."""

import asyncio
from collections.abc import Coroutine
from typing import Any

try:
    from uvloop import Loop as _Loop
except ImportError:
    from asyncio import SelectorEventLoop as _Loop  # type: ignore[assignment]  # as good, slower


class _FromAddress(_Loop):
    """Connects from an address, as whoever has only that one."""

    source = ""

    async def create_connection(self, *args: Any, **options: Any) -> Any:
        if options.get("sock") is None:
            options.setdefault("local_addr", (self.source, 0))
        return await super().create_connection(*args, **options)


def run(main: Coroutine[object, object, None], source: str = "") -> None:
    """Run a coroutine to its end on the fastest loop there is.

    Args:
        source: the address that connections are made from; "" leaves it to the kernel.
    """

    def new_loop() -> asyncio.AbstractEventLoop:
        if not source:
            return _Loop()
        loop = _FromAddress()
        loop.source = source
        return loop

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main)
