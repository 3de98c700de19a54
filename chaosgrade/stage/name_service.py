"""The stage's names: who has some publishes them here, and the DNS server answers for all."""

from collections.abc import Mapping
from typing import Any

from chaosgrade.stage.children import Start


class NameService:
    """Owns the process of the DNS server.

    Args:
        start: starts a process of the stage, see `children.Start`.
        host: address that it listens on, for customers.
        within: the same for instances.
        scale: AWS seconds per real second.
    """

    def __init__(self, start: Start, host: str, within: str, scale: float) -> None:
        self._scale = scale
        self._published: dict[str, Mapping[str, Mapping[str, Any]]] = {}
        self.server = ""
        """ "address:port" for customers; empty until it listens."""
        self.server_within = ""
        """The same for instances."""
        self._within = within
        self._child = start("chaosgrade.stage.dns", self._on_event)
        self._child.send({"op": "listen", "host": host, "within": within})

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._child.alive

    def publish(self, owner: str, records: Mapping[str, Mapping[str, Any]]) -> None:
        """Have these names of an owner answered, in place of those that it published last.

        Args:
            owner: whoever they are from.
            records: {name: {"addresses", "ttl_s" in AWS seconds}}, and "addresses_outside" where
                customers find it at others than instances do.
        """
        if self._published.get(owner, {}) == records:
            return
        self._published[owner] = dict(records)
        self._child.send(
            {
                "op": "records",
                "records": {
                    name: {**record, "ttl_s": record["ttl_s"] / self._scale}
                    for records in self._published.values()
                    for name, record in records.items()
                },
            }
        )

    def close(self) -> None:
        """Tell the process to leave."""
        self._child.close()

    def stop(self) -> None:
        """Tell it to leave and wait for that."""
        self._child.stop()

    def _on_event(self, event: Mapping[str, Any]) -> None:
        if event["event"] == "listening":
            self.server_within = f"{self._within}:{event['port_within']}"
            self.server = f"{event['host']}:{event['port']}"
