"""What the nodes of a load balancer say together about a target."""

from chaosgrade.stage.balancing import Balancing

ARN, TARGET, PORT = "arn:tg", "i-1", 8080
HERE, THERE = "10.16.8.10", "10.16.16.10"


def balancing() -> Balancing:
    """One target behind nodes in two zones."""
    made = Balancing(20.0, lambda order: None, lambda target: None)
    nodes = [{"host": HERE, "zone": "a"}, {"host": THERE, "zone": "b"}]
    balancer = {"name": "web", "arn": "arn:lb", "target_group": ARN, "nodes": nodes}
    group = {"arn": ARN, "targets": [{"id": TARGET, "port": PORT}]}
    made.reconcile([balancer], [group], lambda target: {"host": "10.16.8.11", "zone": "a"}, 0.0)
    return made


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
