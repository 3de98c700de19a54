"""What the nodes of a load balancer say together about a target."""

import threading
from collections.abc import Mapping
from typing import Any

from chaosgrade.stage.balancing import Balancing

ARN, TARGET, PORT = "arn:tg", "i-1", 8080
HERE, THERE = "10.16.8.10", "10.16.16.10"
NODES = [{"host": HERE, "zone": "a"}, {"host": THERE, "zone": "b"}]
BALANCER = {"name": "web", "arn": "arn:lb", "target_group": ARN, "nodes": NODES}


def balancing() -> Balancing:
    """One target behind nodes in two zones."""
    made = Balancing(20.0, lambda order: None, lambda target: None)
    register(made, TARGET)
    return made


def register(made: Balancing, *targets: str, balancer: Mapping[str, Any] | None = None) -> None:
    """Have these be the targets, and no others."""
    group = {"arn": ARN, "targets": [{"id": target, "port": PORT} for target in targets]}
    made.reconcile(
        [balancer or BALANCER], [group], lambda target: {"host": "10.16.8.11", "zone": "a"}, 0.0
    )


def find(made: Balancing, node: str, state: str) -> None:
    made.on_event(
        {
            "event": "health", "target_group": ARN, "node": node, "id": TARGET, "port": PORT,
            "state": state, "reason": None, "description": None,
        }
    )  # fmt: skip


def state(made: Balancing) -> str:
    return made.target_health(ARN, TARGET, PORT, 0.0).state


def test_a_node_that_comes_back_condemns_nobody() -> None:
    """While it was cut off it could reach nothing, and has looked no more since it can."""
    made = balancing()
    find(made, HERE, "healthy")
    find(made, THERE, "healthy")
    made.unheard([THERE])
    find(made, THERE, "unhealthy")
    assert state(made) == "healthy"
    made.unheard([])
    assert state(made) == "healthy"
    assert not made.refuses(ARN, TARGET)


def test_a_target_that_no_node_reaches_is_unhealthy() -> None:
    """A node that is cut off and reaches it does not count."""
    made = balancing()
    find(made, HERE, "healthy")
    find(made, THERE, "unhealthy")
    assert state(made) == "healthy"
    made.unheard([HERE])
    assert state(made) == "unhealthy"
    assert made.refuses(ARN, TARGET)


def test_a_target_that_nobody_has_looked_at_yet_is_initial() -> None:
    """Until the first node has found something."""
    assert state(balancing()) == "initial"


def test_what_was_found_of_a_target_is_forgotten_when_it_is_deregistered() -> None:
    """Nobody checks it any more: an Auto Scaling group must not replace it for an old finding."""
    made = balancing()
    find(made, HERE, "unhealthy")
    find(made, THERE, "unhealthy")
    assert made.refuses(ARN, TARGET)
    register(made)
    assert not made.refuses(ARN, TARGET)


def drained(made: Balancing, target: str) -> None:
    for node in (HERE, THERE):
        made.on_event(
            {"event": "drained", "target_group": ARN, "node": node, "id": target, "port": PORT}
        )


class _Interrupted(dict[str, Any]):
    """A balancer of the wanted state, during whose reading a target finishes to drain."""

    def __init__(self, made: Balancing) -> None:
        super().__init__(BALANCER)
        self.told = threading.Thread(target=drained, args=(made, TARGET))

    def __getitem__(self, key: str) -> Any:
        if key == "nodes" and self.told.ident is None:
            self.told.start()
        return super().__getitem__(key)


def test_a_target_that_finishes_to_drain_while_another_is_registered_is_drained() -> None:
    """Otherwise its Auto Scaling group would wait for it for ever."""
    made = balancing()
    register(made)
    assert made.drains(TARGET)
    interrupted = _Interrupted(made)
    register(made, "i-2", balancer=interrupted)
    interrupted.told.join()
    assert not made.drains(TARGET)
