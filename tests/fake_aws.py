"""A small AWS for tests of the engine: named dials with values, and what was sent to them."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from chaosgrade.aws import ROLE_SESSION, Call, Environment, ResourceGone
from chaosgrade.changes.guard import Guard
from chaosgrade.changes.journal import Journal
from chaosgrade.changes.model import Effect, Live, Resource
from chaosgrade.changes.reading import one_by_one
from chaosgrade.clock import Clock
from chaosgrade.errors import AwsError
from chaosgrade.policies.safety import Profile, load_safety

STAGE = Environment("stage", "123456789012", "us-east-1", time_scale=100.0, fabric="loopback")


@dataclass
class FakeAws:
    """Dials by name. `before_send` may raise in place of an answer, or change the world."""

    dials: dict[str, Any] = field(default_factory=dict)
    environment: Environment = STAGE
    before_send: Callable[[Call], None] = lambda call: None
    before_read: Callable[[str], None] = lambda name: None
    sent: list[Call] = field(default_factory=list)
    endpoint_url: str = "http://127.0.0.1:1"
    profile: str | None = None
    role_arn: str | None = None
    role_session_name: str = ROLE_SESSION
    reads: list[str] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def send(self, call: Call) -> dict[str, Any]:
        self.before_send(call)
        with self._lock:
            self.sent.append(call)
            name = call.parameters["Dial"]
            if name not in self.dials:
                raise ResourceGone(f"no dial {name}", code="DialNotFound")
            self.dials[name] = call.parameters["Value"]
        return {}

    def read(self, name: str) -> Any:
        self.before_read(name)
        with self._lock:
            self.reads.append(name)
            if name not in self.dials:
                raise ResourceGone(f"no dial {name}", code="DialNotFound")
            return self.dials[name]


@dataclass(frozen=True, slots=True)
class Dial:
    """A setting of the fake."""

    name: str
    kind: ClassVar[str] = "fake:dial"
    reads: ClassVar[tuple[str, ...]] = ("fake:ReadDial",)
    writes: ClassVar[tuple[str, ...]] = ("fake:TurnDial",)

    @property
    def resource(self) -> Resource:
        return Resource("fake:dial", self.name, "us-east-1a")

    @classmethod
    def read_all(cls, aws: Any, settings: Any) -> Any:
        return one_by_one(aws, settings, lambda aws, dial: Live(aws.read(dial.name)))

    def calls(self, value: Any, live: Live) -> tuple[Call, ...]:
        return (Call("fake", "TurnDial", {"Dial": self.name, "Value": value}),)

    def summary(self, value: Any) -> str:
        return f"turn {self.name} to {value}"


@dataclass(frozen=True, slots=True)
class Smash:
    """A strike of the fake: the dial shows "smashed" for good."""

    name: str
    kind: ClassVar[str] = "fake:smash"
    reads: ClassVar[tuple[str, ...]] = ("fake:ReadDial",)
    writes: ClassVar[tuple[str, ...]] = ("fake:TurnDial",)

    @property
    def resource(self) -> Resource:
        return Resource("fake:dial", self.name, None)

    def calls(self) -> tuple[Call, ...]:
        return (Call("fake", "TurnDial", {"Dial": self.name, "Value": "smashed"}),)

    def effect(self, aws: Any) -> Effect:
        value = aws.read(self.name)
        return Effect(value == "smashed", f"{self.name} is {value}")

    def summary(self) -> str:
        return f"smash {self.name}"


def refuse(code: str) -> Callable[[object], None]:
    """A `before_send` or `before_read` that refuses everything with this code."""

    def raising(what: object) -> None:
        raise AwsError(f"{what} was refused with {code}", code=code)

    return raising


def registered(kinds: Mapping[str, Any]) -> dict[str, Any]:
    """The registry's settings with the fake's added."""
    return {**kinds, Dial.kind: Dial}


def guard(aws: FakeAws, journal: Journal | None = None, run: str = "r1", **rules: Any) -> Guard:
    """The guard of the fake's environment, with some rules set otherwise."""
    profile: Profile = replace(load_safety()[aws.environment.kind], **rules)
    return Guard(profile, aws, journal, run, Clock())  # type: ignore[arg-type]
