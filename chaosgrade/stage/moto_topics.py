"""Topics of Amazon SNS as moto keeps them: it delivers to queues, and to HTTP endpoints."""

import sys
import threading
from typing import Any

from moto.backends import get_backend

from chaosgrade.stage.world import ACCOUNT


def publish(region: str, arn: str, subject: str, message: str) -> None:
    """Begin to publish a message; an HTTP endpoint may take its time.

    Raises:
        LookupError: there is no such topic.
    """
    topic: Any = get_backend("sns")[ACCOUNT][region].topics.get(arn)
    if topic is None:
        raise LookupError(f"there is no topic {arn}")

    def deliver() -> None:
        try:
            topic.publish(message, subject=subject)
        except Exception as error:  # as AWS, which goes on; but somebody here may want to know
            said = f"chaosgrade: a notification was not delivered: {error!r}"
            print(said, file=sys.stderr, flush=True)

    threading.Thread(target=deliver, name="notification", daemon=True).start()
