"""AWS as a table of answers: for what is asked, and what is made of the answer."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from chaosgrade.aws import Call, Environment
from tests.fake_aws import STAGE


@dataclass
class CannedAws:
    """Answers by operation: a value, an error to raise, or a function of the parameters."""

    answers: Mapping[str, Any] = field(default_factory=dict)
    environment: Environment = STAGE
    sent: list[Call] = field(default_factory=list)

    def send(self, call: Call) -> dict[str, Any]:
        self.sent.append(call)
        answer = self.answers[call.operation]
        if callable(answer):
            answer = answer(call.parameters)
        if isinstance(answer, Exception):
            raise answer
        found: dict[str, Any] = answer
        return found

    def pages(self, call: Call, key: str) -> Iterator[Any]:
        yield from self.send(call)[key]


def tags(**named: str) -> list[dict[str, str]]:
    """Tags as EC2 describes them; "_" in a key stands for ":"."""
    return [{"Key": key.replace("_", ":"), "Value": value} for key, value in named.items()]


def instance(id_: str, zone: str = "us-east-1a", state: str = "running", **named: str) -> Any:
    """An instance as EC2 describes it."""
    return {
        "InstanceId": id_,
        "State": {"Name": state},
        "Placement": {"AvailabilityZone": zone},
        "Tags": tags(**named),
    }


def reservations(*instances: Any) -> dict[str, Any]:
    """The answer of DescribeInstances: each in a reservation of its own."""
    return {"Reservations": [{"Instances": [one]} for one in instances]}
