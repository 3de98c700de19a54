"""What may be touched, how much of it at once, and when a run has to stop: rules, not checks.

The guard (`chaosgrade.changes.guard`) and the stop conditions enforce them.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit, urlunsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import botocore.session
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chaosgrade.errors import UsageError
from chaosgrade.policies.grading import first_problem

SHIPPED = Path(__file__).parent / "safety.yaml"
KINDS = (
    "autoscaling:group",
    "ec2:instance",
    "ec2:subnet",
    "elbv2:load-balancer",
    "elbv2:target",
    "rds:db-cluster",
    "rds:db-instance",
)
"""Resource kinds that limits are given for."""

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_UNITS_S = {"s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Limit:
    """How many of one resource kind may be touched at once.

    Args:
        count: at most so many; None for any number.
        share: at most this share of all that could be touched, above 0 to 1; None for any.
    """

    count: int | None = None
    share: float | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """Hours in which faults are allowed. One that passes midnight belongs to the day it begins on.

    Args:
        days: 0 for Monday to 6 for Sunday.
        start, end: local time; equal means the whole day.
        timezone: whose clock.
    """

    days: frozenset[int]
    start: time
    end: time
    timezone: ZoneInfo

    def open_at(self, unix_s: float) -> bool:
        """Whether a moment, in Unix seconds, lies within."""
        local = datetime.fromtimestamp(unix_s, self.timezone)
        now, today = local.time(), local.weekday()
        if self.start < self.end:
            return today in self.days and self.start <= now < self.end
        yesterday = (local - timedelta(days=1)).weekday()
        return (today in self.days and now >= self.start) or (
            yesterday in self.days and now < self.end
        )

    @property
    def text(self) -> str:
        """As people say it."""
        days = ", ".join(_DAYS[day] for day in sorted(self.days))
        return f"{days} {self.start:%H:%M}–{self.end:%H:%M} {self.timezone.key}"


@dataclass(frozen=True, slots=True)
class AlarmCondition:
    """A CloudWatch alarm must not be in the state ALARM."""

    alarm: str

    @property
    def text(self) -> str:
        """As people say it."""
        return f"CloudWatch alarm {self.alarm}"


@dataclass(frozen=True, slots=True)
class PrometheusCondition:
    """No sample of an instant query may lie beyond a bound.

    Args:
        url: of the server; may carry user and password, which are never shown.
        query: PromQL.
        above, below: stop when a sample is; exactly one is given.
    """

    url: str
    query: str
    above: float | None
    below: float | None

    @property
    def text(self) -> str:
        """As people say it, without the password."""
        bound = f"above {self.above:g}" if self.above is not None else f"below {self.below:g}"
        return f"Prometheus query {self.query} {bound} at {without_password(self.url)}"


@dataclass(frozen=True, slots=True)
class ErrorBudgetCondition:
    """The run's own traffic may fail so much, and no more.

    Args:
        share: of the requests, above 0 to 1.
        over_s: in the last so many seconds.
    """

    share: float
    over_s: float

    @property
    def text(self) -> str:
        """As people say it."""
        return f"error budget of {self.share:.1%} over {self.over_s:g} s"


type StopCondition = AlarmCondition | PrometheusCondition | ErrorBudgetCondition


@dataclass(frozen=True, slots=True)
class Profile:
    """The rules of one kind of environment.

    Args:
        accounts: account id → Regions that are allowed; None allows any (stage, LocalStack).
        opt_in: (tag key, value) that a resource must carry; None: it need not.
        limits: by resource kind. Where accounts are named, a kind without a limit is refused.
        zones_at_once: how many Availability Zones may be touched at once; None: any number.
        untouched_zones: how many must stay untouched.
        min_healthy: share of a group's desired capacity, or of a target group's targets, that
            must stay healthy, 0 to 1.
        window: when faults are allowed; None: always.
        max_lease_s: the longest time that a change may stay, in seconds; None: any.
        lock_table: DynamoDB table that holds one run per target across machines; None: none.
        stop_conditions: what ends a run and undoes it.
    """

    accounts: Mapping[str, tuple[str, ...]] | None
    opt_in: tuple[str, str] | None
    limits: Mapping[str, Limit]
    zones_at_once: int | None
    untouched_zones: int
    min_healthy: float
    window: Window | None
    max_lease_s: float | None
    lock_table: str | None
    stop_conditions: tuple[StopCondition, ...]


def without_password(url: str) -> str:
    """A URL as it may be shown."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def load_safety(path: Path | None = None) -> Mapping[str, Profile]:
    """The rules for "stage", "localstack" and "aws".

    Args:
        path: a file; None reads the one that `$CHAOSGRADE_SAFETY` names, or else the shipped one.
            A profile that it does not hold, and a setting that a profile does not, is the shipped
            one's.

    Raises:
        UsageError: the file cannot be read, or a value in it makes no sense.
    """
    named = os.environ.get("CHAOSGRADE_SAFETY")
    chosen = path or (Path(named) if named else SHIPPED)
    shipped = _document(SHIPPED)
    given = shipped if chosen == SHIPPED else _document(chosen)
    _checked(chosen, given)  # before merging, so that a message is about what was written
    merged = {kind: {**rules, **(given.get(kind) or {})} for kind, rules in shipped.items()} | {
        kind: rules for kind, rules in given.items() if kind not in shipped
    }
    model = _checked(chosen, merged)
    return {kind: getattr(model, kind).profile() for kind in ("stage", "localstack", "aws")}


def _document(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(
            f"{path} cannot be read: {reason}; see --safety and CHAOSGRADE_SAFETY"
        ) from None
    except yaml.YAMLError as error:
        text = " ".join(str(error).split())
        raise UsageError(f"{path} is no YAML: {text}") from None
    if not isinstance(document, dict) or not document:
        raise UsageError(f"{path} holds no profile: give rules under aws, localstack or stage")
    return document


def _checked(path: Path, document: Mapping[str, Any]) -> "_Safety":
    try:
        return _Safety.model_validate(document)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] != "extra_forbidden":
            raise UsageError(f"{path}: {first_problem(error)}") from None
        *where, name = (str(part) for part in first["loc"])
        model: type[BaseModel] = _Safety
        for part in where:
            model = _PARTS.get(part, model)
        raise UsageError(
            f"{path}: {'.'.join([*where, name])}: unknown setting; there are: "
            f"{', '.join(model.model_fields)}"
        ) from None


def _number(given: Any, pattern: str, example: str) -> tuple[float, str]:
    match = re.fullmatch(rf"\s*(-?\d+(?:\.\d+)?)\s*({pattern})\s*", str(given))
    if not match:
        raise ValueError(f"{given!r} is no quantity such as {example}")
    return float(match.group(1)), match.group(2)


def _share(given: Any) -> float:
    number, unit = _number(given, "%?", "34%")
    share = number / 100 if unit else number
    if not 0 <= share <= 1:
        raise ValueError(f"{given!r} is not between 0% and 100%")
    return share


def _some_share(given: Any) -> float:
    if (share := _share(given)) == 0:
        raise ValueError(f"a limit of {given} forbids everything: leave the setting out instead")
    return share


def _seconds(given: Any) -> float:
    number, unit = _number(given, "s|m|min|h", "30m")
    if number <= 0:
        raise ValueError(f"{given!r} leaves no time: give more than 0 s")
    return number * _UNITS_S[unit]


def _count(given: Any) -> int:
    if isinstance(given, bool) or not isinstance(given, int):
        raise ValueError(f"{given!r} is no whole number")
    if given <= 0:
        raise ValueError(f"a limit of {given} forbids everything: leave the setting out instead")
    return given


def _account(given: Any) -> str:
    if not isinstance(given, str):
        raise ValueError(f'account {given!r} must be quoted, as in "012345678901"')
    if not re.fullmatch(r"\d{12}", given):
        raise ValueError(f"account {given!r} is not 12 digits")
    return given


@cache
def _region_patterns() -> tuple[re.Pattern[str], ...]:
    partitions = botocore.session.get_session().get_data("partitions")["partitions"]
    return tuple(re.compile(partition["regionRegex"]) for partition in partitions)


def _region(given: Any) -> str:
    if not isinstance(given, str) or not any(p.fullmatch(given) for p in _region_patterns()):
        raise ValueError(f"{given!r} is no Region such as eu-west-1")
    return given


def _timezone(given: Any) -> ZoneInfo:
    try:
        return ZoneInfo(str(given))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"timezone {given!r} is unknown; give one such as Europe/Berlin") from None


def _hour(given: Any) -> time:
    # YAML 1.1 reads 9:30 without quotes as a number of minutes.
    text = f"{given // 60:02}:{given % 60:02}" if isinstance(given, int) else str(given)
    match = re.fullmatch(r"([01]?\d|2[0-3]):([0-5]\d)", text)
    if not match:
        raise ValueError(f"{given!r} is no time such as 09:00")
    return time(int(match.group(1)), int(match.group(2)))


def _day(given: Any) -> int:
    if given not in _DAYS:
        raise ValueError(f"day {given!r} is unknown; there are: {', '.join(_DAYS)}")
    return _DAYS.index(given)


def _url(given: Any) -> str:
    parts = urlsplit(str(given))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{without_password(str(given))!r} is no http or https URL")
    return str(given)


def _kind(given: Any) -> str:
    if given not in KINDS:
        raise ValueError(f"kind {given!r} is unknown; there are: {', '.join(KINDS)}")
    return str(given)


def _of(convert: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(convert)


class _Strict(BaseModel):
    # Input is left out of messages: it can hold a password.
    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, hide_input_in_errors=True
    )


class _Limit(_Strict):
    count: Annotated[int | None, _of(_count)] = None
    share: Annotated[float | None, _of(_some_share)] = None

    @model_validator(mode="after")
    def _some(self) -> "_Limit":
        if self.count is None and self.share is None:
            raise ValueError("give count, share or both")
        return self


class _Allowed(_Strict):
    account: Annotated[str, _of(_account)]
    regions: Annotated[list[Annotated[str, _of(_region)]], Field(min_length=1)]


class _Tag(_Strict):
    key: Annotated[str, Field(min_length=1, max_length=128)]
    value: Annotated[str, Field(max_length=256)]


class _Window(_Strict):
    days: Annotated[list[Annotated[int, _of(_day)]], Field(min_length=1)] = list(range(7))
    start: Annotated[time, _of(_hour)]
    end: Annotated[time, _of(_hour)]
    timezone: Annotated[ZoneInfo, _of(_timezone)]


class _Stop(_Strict):
    alarm: str | None = None
    prometheus: Annotated[str | None, _of(_url)] = None
    query: str | None = None
    above: float | None = None
    below: float | None = None
    error_budget: Annotated[float | None, _of(_some_share)] = None
    over: Annotated[float | None, _of(_seconds)] = None

    def condition(self) -> StopCondition:
        if self.alarm:
            return AlarmCondition(self.alarm)
        if self.prometheus and self.query:
            return PrometheusCondition(self.prometheus, self.query, self.above, self.below)
        assert self.error_budget is not None  # noqa: S101 - checked below
        return ErrorBudgetCondition(self.error_budget, self.over or 10.0)

    @model_validator(mode="after")
    def _one(self) -> "_Stop":
        if sum(x is not None for x in (self.alarm, self.prometheus, self.error_budget)) != 1:
            raise ValueError("give exactly one of alarm, prometheus and error_budget")
        if self.prometheus:
            if not self.query:
                raise ValueError("prometheus needs a query")
            if (self.above is None) == (self.below is None):
                raise ValueError("prometheus needs exactly one of above and below")
        return self


class _Profile(_Strict):
    allow_any_account: bool = False
    accounts: list[_Allowed] = []
    opt_in_tag: _Tag | None = None
    limits: dict[Annotated[str, _of(_kind)], _Limit] = {}
    zones_at_once: Annotated[int | None, _of(_count)] = None
    untouched_zones: Annotated[int, Field(ge=0)] = 0
    min_healthy: Annotated[float, _of(_share)] = 0.0
    window: _Window | None = None
    max_lease: Annotated[float | None, _of(_seconds)] = None
    lock_table: Annotated[str | None, Field(pattern=r"^[A-Za-z0-9_.-]{3,255}$")] = None
    stop_conditions: list[_Stop] = []

    def profile(self) -> Profile:
        window = self.window
        return Profile(
            accounts=None
            if self.allow_any_account
            else {allowed.account: tuple(allowed.regions) for allowed in self.accounts},
            opt_in=(self.opt_in_tag.key, self.opt_in_tag.value) if self.opt_in_tag else None,
            limits={kind: Limit(limit.count, limit.share) for kind, limit in self.limits.items()},
            zones_at_once=self.zones_at_once,
            untouched_zones=self.untouched_zones,
            min_healthy=self.min_healthy,
            window=Window(frozenset(window.days), window.start, window.end, window.timezone)
            if window is not None
            else None,
            max_lease_s=self.max_lease,
            lock_table=self.lock_table,
            stop_conditions=tuple(stop.condition() for stop in self.stop_conditions),
        )


class _Emulated(_Profile):
    """Emulators exist to be broken."""

    allow_any_account: bool = True


class _Real(_Profile):
    """A real account is allowed by its id, or not at all."""

    allow_any_account: Literal[False] = False


class _Safety(_Strict):
    stage: _Emulated = _Emulated()
    localstack: _Emulated = _Emulated()
    aws: _Real = _Real()


_PARTS: Mapping[str, type[BaseModel]] = {
    "stage": _Emulated,
    "localstack": _Emulated,
    "aws": _Real,
    "accounts": _Allowed,
    "opt_in_tag": _Tag,
    "limits": _Limit,
    "window": _Window,
    "stop_conditions": _Stop,
}
"""Which settings there are below a name, for messages."""
