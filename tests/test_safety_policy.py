"""safety.yaml: deny by default, and every mistake is one line that says what to do."""

from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from chaosgrade.errors import UsageError
from chaosgrade.policies.safety import (
    AlarmCondition,
    ErrorBudgetCondition,
    Limit,
    PrometheusCondition,
    Window,
    load_safety,
)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "safety.yaml"
    path.write_text(text)
    return path


def test_real_accounts_are_denied_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """The shipped rules name no account; the stage and LocalStack are free."""
    monkeypatch.delenv("CHAOSGRADE_SAFETY", raising=False)
    rules = load_safety()
    assert rules["aws"].accounts == {}
    assert rules["aws"].opt_in == ("chaosgrade", "allowed")
    assert rules["aws"].untouched_zones == 1
    assert rules["stage"].accounts is rules["localstack"].accounts is None
    assert rules["stage"].opt_in is None


def test_what_a_file_leaves_out_is_as_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the environment variable names a file."""
    path = written(
        tmp_path,
        """
aws:
  accounts: [{account: "012345678901", regions: [eu-west-1, us-gov-west-1]}]
  limits: {ec2:instance: {count: 2, share: 25%}}
  max_lease: 30m
  window: {days: [mon, fri], start: "22:00", end: "02:00", timezone: Europe/Berlin}
  stop_conditions:
    - alarm: checkout
    - {prometheus: "https://ops:s3cret@prom:9090", query: up, below: 1}
    - {error_budget: 20%, over: 30s}
""",
    )
    monkeypatch.setenv("CHAOSGRADE_SAFETY", str(path))
    aws = load_safety()["aws"]
    assert aws.accounts == {"012345678901": ("eu-west-1", "us-gov-west-1")}
    assert aws.limits == {"ec2:instance": Limit(2, 0.25)}
    assert (aws.max_lease_s, aws.zones_at_once, aws.min_healthy) == (1800.0, 1, 0.5)
    assert aws.stop_conditions == (
        AlarmCondition("checkout"),
        PrometheusCondition("https://ops:s3cret@prom:9090", "up", None, 1.0),
        ErrorBudgetCondition(0.2, 30.0),
    )
    assert "s3cret" not in " ".join(condition.text for condition in aws.stop_conditions)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "holds no profile"),
        ("[1]", "holds no profile"),
        ("aws: {", "is no YAML"),
        ("azure: {}", "azure: unknown setting; there are: stage, localstack, aws"),
        ("aws: {limit: {}}", "aws.limit: unknown setting; there are: "),
        ("aws: {limits: {ec2:instance: {cuont: 1}}}", "cuont: unknown setting; there are: count"),
        ("aws: {limits: {ec2:vpc: {count: 1}}}", "'ec2:vpc' is unknown; there are: auto"),
        ("aws: {limits: {ec2:instance: {count: 0}}}", "a limit of 0 forbids everything"),
        ("aws: {limits: {ec2:instance: {count: -3}}}", "a limit of -3 forbids everything"),
        ("aws: {limits: {ec2:instance: {share: 0%}}}", "a limit of 0% forbids everything"),
        ("aws: {limits: {ec2:instance: {share: 101%}}}", "'101%' is not between 0% and 100%"),
        ("aws: {limits: {ec2:instance: {}}}", "give count, share or both"),
        ("aws: {max_lease: 0s}", "'0s' leaves no time"),
        ("aws: {max_lease: soon}", "'soon' is no quantity such as 30m"),
        ("aws: {accounts: [{account: 123456789012, regions: [us-east-1]}]}", "must be quoted"),
        ("aws: {accounts: [{account: '12', regions: [us-east-1]}]}", "'12' is not 12 digits"),
        ("aws: {accounts: [{account: '123456789012', regions: [useast1]}]}", "'useast1' is no Reg"),
        ("aws: {accounts: [{account: '123456789012', regions: []}]}", "regions"),
        ("aws: {allow_any_account: true}", "allow_any_account"),
        ("aws: {window: {start: '9', end: '10:00', timezone: UTC}}", "'9' is no time"),
        ("aws: {window: {start: '9:00', end: '10:00', timezone: Mars/X}}", "'Mars/X' is unknown"),
        (
            "aws: {window: {start: '9:00', end: '10:00', timezone: UTC, days: [monday]}}",
            "day 'monday' is unknown",
        ),
        ("aws: {stop_conditions: [{}]}", "exactly one of alarm, prometheus and error_budget"),
        ("aws: {stop_conditions: [{prometheus: 'ftp://x', query: up}]}", "no http or https URL"),
        ("aws: {stop_conditions: [{prometheus: 'http://x', query: up}]}", "exactly one of above"),
        ("aws: {min_healthy: 150%}", "'150%' is not between"),
        ("aws: {zones_at_once: 0}", "a limit of 0 forbids everything"),
    ],
)
def test_a_mistake_is_one_line_with_the_value_and_the_remedy(
    tmp_path: Path, text: str, says: str
) -> None:
    """It names the file, too."""
    path = written(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        load_safety(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """With how it came to be looked for."""
    with pytest.raises(UsageError, match=r"gone\.yaml cannot be read: No such file.*--safety"):
        load_safety(tmp_path / "gone.yaml")


@pytest.mark.parametrize(
    ("moment", "is_open"),
    [
        ("2026-11-23 21:59", False),  # a Monday
        ("2026-11-23 22:00", True),
        ("2026-11-24 01:59", True),  # still Monday's window
        ("2026-11-24 02:00", False),
        ("2026-11-24 23:00", False),
        ("2026-11-23 01:00", False),  # Sunday's would be
    ],
)
def test_a_window_past_midnight_belongs_to_the_day_it_begins_on(moment: str, is_open: bool) -> None:
    """In local time."""
    zone = ZoneInfo("Europe/Berlin")
    window = Window(
        frozenset({0}),
        datetime.strptime("22:00", "%H:%M").time(),  # noqa: DTZ007 - a time of day
        datetime.strptime("02:00", "%H:%M").time(),  # noqa: DTZ007 - a time of day
        zone,
    )
    at = datetime.fromisoformat(moment).replace(tzinfo=zone).timestamp()
    assert window.open_at(at) is is_open
