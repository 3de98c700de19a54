"""Topics of Amazon SNS as moto keeps them: it delivers to queues, and to HTTP endpoints."""

from collections.abc import Callable
from functools import partial
from typing import Any

from moto.backends import get_backend

from chaosgrade.stage.world import ACCOUNT


class MotoTopics:
    """The topics of the played AWS, in one account and Region."""

    def __init__(self, region: str) -> None:
        self._sns: Any = get_backend("sns")[ACCOUNT][region]

    def publishing(self, arn: str, subject: str, message: str) -> Callable[[], None]:
        """What publishes a message; it may take long.

        Raises:
            LookupError: there is no such topic.
        """
        topic = self._sns.topics.get(arn)
        if topic is None:
            raise LookupError(f"there is no topic {arn}")
        return partial(topic.publish, message, subject=subject)
