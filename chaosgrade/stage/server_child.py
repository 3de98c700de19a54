"""The process that keeps servers of one kind; there is none as long as there is no need of one."""

from collections.abc import Mapping

from chaosgrade.stage.children import Child, OnEvent, Start


class ServerChild:
    """A child of the stage, started when it is first needed.

    Args:
        start: starts a process of the stage.
        module: what to run, see `isolated_servers`.
        on_event: called with each event, on a thread of its own.
    """

    def __init__(self, start: Start, module: str, on_event: OnEvent) -> None:
        self._start = start
        self._module = module
        self._on_event = on_event
        self._child: Child | None = None
        self._network: Mapping[str, object] | None = None

    @property
    def alive(self) -> bool:
        """Whether the process runs, if there is need of one."""
        return self._child is None or self._child.alive

    def start(self) -> None:
        """Start the process, unless it has been. On the thread that the stage ends with: it dies
        with that thread."""
        if self._child is None:
            self._child = self._start(self._module, self._on_event)
            if self._network is not None:
                self._child.send(self._network)

    def send(self, order: Mapping[str, object]) -> None:
        """Give an order; starts the process if need be."""
        self.start()
        assert self._child is not None  # noqa: S101 - started above
        self._child.send(order)

    def connect(self, links: Mapping[str, object]) -> None:
        """Have the state of the network hold for the servers.

        Args:
            links: an order, see `links.Links.of`.
        """
        self._network = links
        if self._child is not None:
            self._child.send(links)

    def close(self) -> None:
        """Tell the process to leave."""
        if self._child is not None:
            self._child.close()

    def stop(self) -> None:
        """Tell it to leave and wait for that."""
        if self._child is not None:
            self._child.stop()
