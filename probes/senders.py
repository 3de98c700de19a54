"""Who sent an attempt, where nothing but addresses tells."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

type _Span = tuple[float, float, int]
"""Of a connection: its first attempt and its last, in seconds, and how many there are."""


@dataclass(frozen=True, slots=True)
class Sender:
    """Where an attempt came from, and what for.

    Args:
        address, port: of the connection's other end.
        target: what was asked for: method and URL.
    """

    address: str
    port: int
    target: str


def clients_of(
    senders: Sequence[Sender], times: NDArray[np.float64]
) -> tuple[list[str], list[str]]:
    """The client and the request of each attempt.

    Attempts from one address for one target are a client's, whichever connections it uses: after
    a reset a retry comes from another port. Where several connections are in use alternately,
    several clients ask for the same: then each connection is one. Unless it returns to a target
    after it was used for another: then it is lent from a pool, and says nothing of who sends. Or
    most attempts come by connections of their own: then a port that comes twice was free again.

    Args:
        senders: of the attempts.
        times: when they arrived, in seconds.
    """
    ports: defaultdict[tuple[str, str], dict[int, _Span]] = defaultdict(dict)
    uses: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for sender, time in sorted(zip(senders, times.tolist(), strict=True), key=lambda pair: pair[1]):
        use = uses[sender.address, sender.port]
        if use[-1:] != [sender.target]:
            use.append(sender.target)
        seen = ports[sender.address, sender.target]
        first, _, attempts = seen.get(sender.port, (time, time, 0))
        seen[sender.port] = (first, time, attempts + 1)
    lent = {connection for connection, use in uses.items() if len(use) > len(set(use))}
    shared = {
        (address, target)
        for (address, target), seen in ports.items()
        if _alternate(list(seen.values()))
        and _are_kept(seen.values())
        and not any((address, port) in lent for port in seen)
    }
    clients, requests = [], []
    for sender in senders:
        alone = (sender.address, sender.target) not in shared
        clients.append(sender.address if alone else f"{sender.address}:{sender.port}")
        requests.append(sender.target)
    return clients, requests


def _are_kept(spans: Iterable[_Span]) -> bool:
    """Whether most attempts come by connections that are used more than once."""
    counts = [attempts for _, _, attempts in spans]
    return 2 * sum(attempts for attempts in counts if attempts > 1) > sum(counts)


def _alternate(spans: list[_Span]) -> bool:
    """Whether any two of these spans of time overlap."""
    spans.sort()
    latest = -np.inf
    for first, last, _ in spans:
        if first < latest:
            return True
        latest = max(latest, last)
    return False
