"""Rules for retrying: what passes, what fails, and what nobody can tell."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chaosgrade.errors import UsageError
from chaosgrade.policies.backoff import BackoffPolicy, judge_backoff, load_backoff_policy
from chaosgrade.retries import RetryBehaviour

SOUND = RetryBehaviour(
    "full-jitter",
    first_retry_immediate=False,
    base_s=0.1,
    factor=2.0,
    jitter_s=0.1,
    attempts=4,
    clients=100,
    jitter_share=1.0,
    attempts_limited=True,
    attempts_most=4,
    requests=100,
    failed=100,
    retried=100,
    amplification=4.0,
    longest_gap_s=0.4,
    peak_to_mean=5.0,
)


def verdicts(behaviour: RetryBehaviour) -> dict[str, str]:
    found = judge_backoff(behaviour, load_backoff_policy())
    return {"": found.verdict, **{one.rule: one.verdict for one in found.rulings}}


def test_a_sound_client_passes_and_what_was_not_seen_does_not_count() -> None:
    """No recovery and no Retry-After came up: both are said to be unseen."""
    found = verdicts(SOUND)
    assert found[""] == "passed"
    assert (found["recovery_s"], found["retry_after"]) == ("unseen", "unseen")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"jitter_share": 0.0}, "jitter"),
        ({"longest_gap_s": 600.0}, "longest_gap_s"),
        ({"attempts": 50, "attempts_most": 50}, "attempts"),
        ({"attempts": None, "attempts_limited": None, "attempts_most": 99}, "attempts"),
        ({"amplification": 9.0}, "amplification"),
        ({"peak_to_mean": 25.0}, "peak_to_mean"),
        ({"recovery_s": 300.0}, "recovery_s"),
        ({"recovery_at_least_s": 300.0}, "recovery_s"),
        ({"retry_after": "ignored"}, "retry_after"),
    ],
)
def test_each_weakness_fails_its_rule(changes: dict[str, Any], rule: str) -> None:
    """And one failed rule fails the whole."""
    found = verdicts(replace(SOUND, **changes))
    assert (found[rule], found[""]) == ("failed", "failed")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"jitter_share": None}, "jitter"),
        ({"longest_gap_s": None}, "longest_gap_s"),
        ({"attempts_limited": None}, "attempts"),
        ({"attempts_limited": None}, "amplification"),
        ({"amplification": None}, "amplification"),
        ({"peak_to_mean": None}, "peak_to_mean"),
        ({"recovery_at_least_s": 10.0}, "recovery_s"),
        ({"retry_after": "unclear"}, "retry_after"),
    ],
)
def test_no_data_never_passes(changes: dict[str, Any], rule: str) -> None:
    """What cannot be told makes the whole inconclusive, with the reason."""
    behaviour = replace(SOUND, **changes)
    found = verdicts(behaviour)
    assert (found[rule], found[""]) == ("inconclusive", "inconclusive")
    rulings = judge_backoff(behaviour, load_backoff_policy()).rulings
    assert all(one.because for one in rulings if one.verdict == "inconclusive")


def test_nothing_seen_at_all_is_inconclusive() -> None:
    """An empty observation passes nothing."""
    assert verdicts(RetryBehaviour("inconclusive"))[""] == "inconclusive"
    everything = {name: None for name in BackoffPolicy.model_fields}
    assert judge_backoff(SOUND, BackoffPolicy(**everything)).verdict == "inconclusive"


def test_every_rule_has_its_reason() -> None:
    """Bounds are judgements: they must be open to dispute."""
    policy = load_backoff_policy()
    for name in BackoffPolicy.model_fields:
        assert len(getattr(policy, name).reason) > 40, name


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("jitter: {at_least: 2, reason: x}", "jitter.at_least"),
        ("".join(f"{rule}: null\n" for rule in BackoffPolicy.model_fields) + "speed: 1", "speed"),
        ("jitter: [", "not YAML"),
        ("jitter: null", "longest_gap_s"),
    ],
)
def test_a_mistake_in_a_policy_is_one_line(tmp_path: Path, text: str, named: str) -> None:
    """It names file and field."""
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(UsageError) as caught:
        load_backoff_policy(file)
    assert "mine.yaml" in str(caught.value)
    assert named in str(caught.value)
    with pytest.raises(UsageError, match=r"nowhere\.yaml cannot be read"):
        load_backoff_policy(tmp_path / "nowhere.yaml")
