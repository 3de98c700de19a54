"""Receipts: the web tier puts orders on a queue in batches, workers write the receipts.

The queue keeps what no worker has finished: a worker that dies, or finds no database, leaves its
message to another once the visibility timeout is over. Writing a receipt twice changes nothing.
Source: Amazon SQS Developer Guide, "Amazon SQS visibility timeout" and "at-least-once delivery".
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any

from chaosgrade.stage.workload.aws_client import AwsClient, AwsUnavailable
from chaosgrade.stage.workload.database import BrokenOff, Database, Unavailable

TABLE = """
    SELECT pg_advisory_xact_lock(8080);
    CREATE TABLE IF NOT EXISTS receipts (
        number bigint PRIMARY KEY, written timestamptz NOT NULL DEFAULT now()
    )
"""
_WRITE = "INSERT INTO receipts (number) SELECT unnest($1::bigint[]) ON CONFLICT DO NOTHING"
_LONG_POLL_S = 10
_EVERY_S = 1.0
_PER_MESSAGE, _PER_BATCH = 500, 10
_MOST_WAITING = 20_000
_PAUSE_S = 1.0


class Queue:
    """The receipts' queue; connects when it is first used.

    Args:
        name: of the queue in Amazon SQS.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._url = ""
        self._client = AwsClient("sqs", read_timeout_s=_LONG_POLL_S + 5, attempts=2)

    async def call(self, operation: str, **arguments: Any) -> Mapping[str, Any]:
        """One call of its API.

        Raises:
            AwsUnavailable: as the name says.
        """

        def work(sqs: Any) -> Mapping[str, Any]:
            if not self._url:
                self._url = sqs.get_queue_url(QueueName=self._name)["QueueUrl"]
            answer: Mapping[str, Any] = getattr(sqs, operation)(QueueUrl=self._url, **arguments)
            return answer

        return await self._client.run(work)


class Outbox:
    """Orders that wait for their turn to be put on the queue.

    Args:
        queue: where they go.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._waiting: list[int] = []

    def add(self, number: int) -> None:
        """An order has been committed; of too many that wait the oldest get no receipt."""
        self._waiting.append(number)
        del self._waiting[:-_MOST_WAITING]

    async def send_forever(self) -> None:
        """Put on the queue what waits, all of a second as few messages."""
        while True:
            await asyncio.sleep(_EVERY_S)
            batch = self._waiting[: _PER_MESSAGE * _PER_BATCH]
            if not batch:
                continue
            del self._waiting[: len(batch)]
            entries = [
                {"Id": str(start), "MessageBody": json.dumps(batch[start : start + _PER_MESSAGE])}
                for start in range(0, len(batch), _PER_MESSAGE)
            ]
            failed = {entry["Id"] for entry in entries}
            try:
                answer = await self._queue.call("send_message_batch", Entries=entries)
                failed = {entry["Id"] for entry in answer.get("Failed", ())}
            except AwsUnavailable:
                await asyncio.sleep(_PAUSE_S)
            for entry in entries:
                if entry["Id"] in failed:
                    self._waiting += json.loads(entry["MessageBody"])


async def write_receipts(queue: Queue, database: Database) -> None:
    """Take orders from the queue and write their receipts, for ever."""
    while True:
        try:
            answer = await queue.call(
                "receive_message", MaxNumberOfMessages=_PER_BATCH, WaitTimeSeconds=_LONG_POLL_S
            )
            messages = answer.get("Messages", [])
            if not messages:
                continue
            numbers = [number for message in messages for number in json.loads(message["Body"])]
            await database.ask(_WRITE, numbers)
            entries = [
                {"Id": str(place), "ReceiptHandle": message["ReceiptHandle"]}
                for place, message in enumerate(messages)
            ]
            await queue.call("delete_message_batch", Entries=entries)
        except (AwsUnavailable, Unavailable, BrokenOff):
            await asyncio.sleep(_PAUSE_S)  # what was received comes again
