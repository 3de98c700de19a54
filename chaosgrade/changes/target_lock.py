"""One run per target at a time: a file lock on one machine, a DynamoDB item across machines.

The file lock is freed by the kernel when its holder dies. The item has a lease and a fencing token
that grows with every holder: a holder that slept past its lease finds its token gone before it
changes anything. Source: Amazon DynamoDB Developer Guide, "Condition expressions".
"""

import fcntl
import json
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from chaosgrade.aws import Aws, Call, Environment
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError, ChaosgradeError, Refused

CLOCK_MARGIN_S = 60.0
"""How far the clocks of two machines may be apart."""


class TargetLock:
    """The right to change one account and Region.

    Args:
        folder: where lock files are; created.
        environment, endpoint: the target.
        aws: reaches the table.
        table: a DynamoDB table whose key is the string `target`; None locks this machine only.
        clock: wall time for leases.
    """

    reads = ("dynamodb:GetItem",)
    writes = ("dynamodb:UpdateItem",)

    def __init__(
        self,
        folder: Path,
        environment: Environment,
        endpoint: str | None,
        *,
        aws: Aws,
        table: str | None,
        clock: Clock,
    ) -> None:
        self._target = f"{endpoint or 'aws'}/{environment.account}/{environment.region}"
        self._path = folder / (re.sub(r"[^A-Za-z0-9]+", "-", self._target) + ".lock")
        self._aws = aws
        self._table = table
        self._clock = clock
        self._file: TextIO | None = None
        self._run = ""
        self.token: int | None = None

    def acquire(self, run: str, lease_s: float) -> None:
        """Take the target.

        Args:
            run: who.
            lease_s: after so many seconds without `confirm` another machine may take it.

        Raises:
            Refused: somebody has it, or it cannot be decided who.
        """
        self._run = run
        self._lock_file(run)
        if self._table is None:
            return
        try:
            self._take_item(lease_s)
        except BaseException:
            self._unlock_file()
            raise

    def confirm(self, lease_s: float) -> None:
        """Make sure that the target is still ours, and keep it for longer.

        Raises:
            Refused: it is not, or it cannot be decided.
        """
        if self._table is None:
            return
        self._update(
            "SET expires = :until",
            "fencing = :token AND holder = :run",
            {
                ":until": {"N": self._until(lease_s)},
                ":token": {"N": str(self.token)},
                ":run": {"S": self._run},
            },
            f"run {self._run} has lost its lock on {self._target}: it slept past its lease",
        )

    def release(self) -> None:
        """Give the target back. What is not ours any more stays."""
        if self._table is not None and self.token is not None:
            with suppress(ChaosgradeError):
                self._update(
                    "SET expires = :zero",
                    "fencing = :token AND holder = :run",
                    {
                        ":zero": {"N": "0"},
                        ":token": {"N": str(self.token)},
                        ":run": {"S": self._run},
                    },
                )
        self.token = None
        self._unlock_file()

    def _lock_file(self, run: str) -> None:
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            file = os.fdopen(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600), "r+")
        except OSError as error:
            raise Refused(
                f"the lock {self._path} cannot be used: {error.strerror}; set "
                "CHAOSGRADE_STATE_DIR to a folder that can be written"
            ) from None
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = _read(file)
            file.close()
            raise Refused(
                f"run {holder.get('run', '(unknown)')} (process {holder.get('pid', '?')}, since "
                f"{holder.get('since', '?')}) is at work on {self._target}: one run at a time; "
                "wait for it, or stop it with `chaosgrade halt`"
            ) from None
        since = datetime.fromtimestamp(self._clock.now(), UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        file.truncate()
        file.write(json.dumps({"run": run, "pid": os.getpid(), "since": since}))
        file.flush()
        self._file = file

    def _unlock_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def _take_item(self, lease_s: float) -> None:
        answer = self._update(
            "SET holder = :run, expires = :until ADD fencing :one",
            "attribute_not_exists(holder) OR expires < :now",
            {
                ":run": {"S": self._run},
                ":until": {"N": self._until(lease_s)},
                ":now": {"N": f"{self._clock.now():.0f}"},
                ":one": {"N": "1"},
            },
        )
        self.token = int(answer["Attributes"]["fencing"]["N"])

    def _until(self, lease_s: float) -> str:
        return f"{self._clock.now() + lease_s + CLOCK_MARGIN_S:.0f}"

    def _update(
        self, expression: str, condition: str, values: dict[str, Any], lost: str = ""
    ) -> dict[str, Any]:
        try:
            return self._aws.send(
                Call(
                    "dynamodb",
                    "UpdateItem",
                    {
                        "TableName": self._table,
                        "Key": {"target": {"S": self._target}},
                        "UpdateExpression": expression,
                        "ConditionExpression": condition,
                        "ExpressionAttributeValues": values,
                        "ReturnValues": "ALL_NEW",
                    },
                )
            )
        except AwsError as error:
            if error.code != "ConditionalCheckFailedException":
                raise Refused(
                    f"whether another run is at work cannot be decided, so this one is refused: "
                    f"lock_table {self._table}: {error}"
                ) from None
            raise Refused(lost or self._held()) from None

    def _held(self) -> str:
        """Who has the item, as a sentence."""
        try:
            key = {"TableName": self._table, "Key": {"target": {"S": self._target}}}
            item = self._aws.send(Call("dynamodb", "GetItem", {**key, "ConsistentRead": True}))[
                "Item"
            ]
            until = datetime.fromtimestamp(float(item["expires"]["N"]), UTC)
            holder, when = item["holder"]["S"], f"{until:%Y-%m-%d %H:%M:%S} UTC"
        except (ChaosgradeError, KeyError, ValueError):
            holder, when = "(unknown)", "its lease is over"
        return (
            f"run {holder} is at work on {self._target} from another machine: one run at a time; "
            f"wait until {when}"
        )


def _read(file: TextIO) -> dict[str, Any]:
    try:
        document = json.load(file)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
