"""The client's half of shuffle sharding: another endpoint of the shard on each try, none outside.

```python
client = ShardClient(sharding, EndpointHealth(), Random())
tried: list[str] = []
while (endpoint := client.next_endpoint(customer, tried)) is not None:
    tried.append(endpoint)
    answer = await ask(endpoint)
    client.record(endpoint, ok=answer.status < 500)
    if answer.status < 500:
        break
```

Distinct tries are what the arithmetic of shuffle sharding rests on. Say five of 100 workers have
failed: of a million requests that are tried three times within a shard of five, 62 fail when each
try goes to another worker, and 3,000 when any may be repeated. A try outside the shard would carry
a poisonous request from worker to worker, which is what the shard is there to prevent.

Sources: Colm MacCárthaigh, "Workload isolation using shuffle-sharding", Amazon Builders' Library.
`chaosgrade.policies.shard_mathematics.request_failure` for the figures.
"""

import time
from collections.abc import Callable, Collection
from random import Random

from chaosgrade.errors import UsageError
from chaosgrade.policies.shuffle_sharding import Sharding


class EndpointHealth:
    """Remembers which endpoints have failed lately; one memory may serve many customers.

    Args:
        forget_s: seconds after which a failure is forgotten.
        clock: seconds that only move forward.

    Raises:
        UsageError: `forget_s` is not above 0.
    """

    def __init__(
        self, forget_s: float = 30.0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if not forget_s > 0:
            raise UsageError(f"forget_s must be above 0, got {forget_s}")
        self._forget_s = forget_s
        self._clock = clock
        self._failed_at: dict[str, float] = {}

    def record(self, endpoint: str, *, ok: bool) -> None:
        """Remember what a try came to; a success clears the endpoint."""
        if ok:
            self._failed_at.pop(endpoint, None)
        else:
            self._failed_at[endpoint] = self._clock()

    def failed_at(self, endpoint: str) -> float | None:
        """When it failed last; None when it has not, has succeeded since, or that is forgotten."""
        failed_at = self._failed_at.get(endpoint)
        if failed_at is not None and self._clock() - failed_at >= self._forget_s:
            self._failed_at.pop(endpoint, None)
            return None
        return failed_at


class ShardClient:
    """Chooses the endpoint of each try.

    Args:
        sharding: whose shard is what.
        health: what is known of endpoints.
        random: chooses among equals, so that a customer's load is spread over the shard.
    """

    def __init__(self, sharding: Sharding, health: EndpointHealth, random: Random) -> None:
        self._sharding = sharding
        self._health = health
        self._random = random

    def next_endpoint(self, customer: str, tried: Collection[str] = ()) -> str | None:
        """The endpoint for the next try; None when each of the shard has been tried.

        Any that has not failed lately; else the one whose failure is the longest ago.

        Args:
            customer: whose request it is.
            tried: the endpoints that this request has met already.
        """
        untried = [name for name in self._sharding.shard_of(customer) if name not in tried]
        failed_at = {name: self._health.failed_at(name) for name in untried}
        healthy = [name for name, at in failed_at.items() if at is None]
        if healthy:
            return self._random.choice(healthy)
        return min(untried, key=lambda name: failed_at[name] or 0.0, default=None)

    def record(self, endpoint: str, *, ok: bool) -> None:
        """Remember what a try came to."""
        self._health.record(endpoint, ok=ok)
