"""What good retrying looks like, as rules with bounds in `backoff.yaml`, each with its reason."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from chaosgrade.errors import UsageError
from chaosgrade.policies.grading import first_problem
from chaosgrade.retries import RetryBehaviour

PASSED, FAILED, INCONCLUSIVE, UNSEEN = "passed", "failed", "inconclusive", "unseen"

_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Text = Annotated[str, Field(min_length=1)]


class _Rule(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    reason: _Text


class AtMost(_Rule):
    """A figure must not exceed a bound."""

    at_most: _Positive


class AtLeastShare(_Rule):
    """A share must reach a bound."""

    at_least: _Share


class Plain(_Rule):
    """A rule without a bound."""


class BackoffPolicy(BaseModel):
    """The rules; one that is null is not judged."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    jitter: AtLeastShare | None
    longest_gap_s: AtMost | None
    attempts: AtMost | None
    amplification: AtMost | None
    peak_to_mean: AtMost | None
    recovery_s: AtMost | None
    retry_after: Plain | None


@dataclass(frozen=True, slots=True)
class Ruling:
    """What became of one rule.

    Args:
        rule: its name.
        verdict: "passed", "failed", "inconclusive", or "unseen" when the occasion did not arise;
            an unseen rule does not count.
        measured: what was found, as people write it.
        bound: what was wanted.
        because: why the verdict, where that is not plain.
        reason: why the rule.
    """

    rule: str
    verdict: str
    measured: str
    bound: str
    because: str
    reason: str


@dataclass(frozen=True, slots=True)
class BackoffVerdict:
    """All rules: failed if one has, else inconclusive if one is, else passed."""

    verdict: str
    rulings: tuple[Ruling, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON object."""
        fields = ("rule", "verdict", "measured", "bound", "because")
        return {
            "verdict": self.verdict,
            "rules": [{name: getattr(one, name) for name in fields} for one in self.rulings],
        }


@lru_cache(maxsize=4)
def load_backoff_policy(path: Path | None = None) -> BackoffPolicy:
    """The rules that come with chaosgrade, or those of a file.

    Raises:
        UsageError: the file is not there, or a rule in it makes no sense.
    """
    name = str(path) if path else "backoff.yaml"
    try:
        if path is None:
            resource = resources.files("chaosgrade.policies") / name
            text = resource.read_text(encoding="utf-8")
        else:
            text = path.read_text(encoding="utf-8")
        return BackoffPolicy.model_validate(yaml.safe_load(text))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path} is not YAML: it is binary") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{name} is not YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        raise UsageError(f"{name}: {first_problem(error)}") from None


def judge_backoff(behaviour: RetryBehaviour, policy: BackoffPolicy) -> BackoffVerdict:
    """Judge what clients were seen to do.

    Args:
        behaviour: what was observed.
        policy: the rules.
    """
    rulings = []
    for name, judge in _JUDGES.items():
        rule = getattr(policy, name)
        if rule is not None:
            rulings.append(judge(behaviour, rule))
    verdicts = {ruling.verdict for ruling in rulings}
    if FAILED in verdicts:
        verdict = FAILED
    elif INCONCLUSIVE in verdicts or not verdicts & {PASSED}:
        verdict = INCONCLUSIVE
    else:
        verdict = PASSED
    return BackoffVerdict(verdict, tuple(rulings))


def _jitter(seen: RetryBehaviour, rule: AtLeastShare) -> Ruling:
    bound = f"≥ {rule.at_least:.0%} of the gap random"
    if seen.family == "no-retry":
        return Ruling("jitter", PASSED, "no retries", bound, "", rule.reason)
    if seen.jitter_share is None:
        why = "; ".join(seen.reasons) or "the gaps do not show whether they are random"
        return Ruling("jitter", INCONCLUSIVE, "unknown", bound, why, rule.reason)
    verdict = PASSED if seen.jitter_share >= rule.at_least else FAILED
    return Ruling("jitter", verdict, f"{seen.jitter_share:.0%}", bound, "", rule.reason)


def _longest_gap(seen: RetryBehaviour, rule: AtMost) -> Ruling:
    bound = f"≤ {rule.at_most:g} s"
    if seen.family == "no-retry":
        return Ruling("longest_gap_s", PASSED, "no retries", bound, "", rule.reason)
    if seen.longest_gap_s is None:
        why = "neither a cap nor an attempt limit was seen: the gap may grow without end"
        if seen.family == "inconclusive":
            why = "the family is not known: how far the gap grows is neither"
        return Ruling("longest_gap_s", INCONCLUSIVE, "unknown", bound, why, rule.reason)
    verdict = PASSED if seen.longest_gap_s <= rule.at_most else FAILED
    measured = f"{seen.longest_gap_s:.3g} s"
    return Ruling("longest_gap_s", verdict, measured, bound, "", rule.reason)


def _attempts(seen: RetryBehaviour, rule: AtMost) -> Ruling:
    bound = f"≤ {rule.at_most:g}"
    if seen.attempts_most > rule.at_most:
        measured = f"{seen.attempts_most} and more" if seen.attempts is None else f"{seen.attempts}"
        return Ruling("attempts", FAILED, measured, bound, "", rule.reason)
    if seen.attempts_limited and (seen.attempts is not None or seen.deadline_s is not None):
        measured = f"{seen.attempts or seen.attempts_most}"
        if seen.deadline_s is not None:
            measured = f"at most {seen.attempts_most} within {seen.deadline_s:.3g} s"
        return Ruling("attempts", PASSED, measured, bound, "", rule.reason)
    why = "nobody was seen to give up: observe for longer, or let everything fail"
    return Ruling("attempts", INCONCLUSIVE, f"{seen.attempts_most} so far", bound, why, rule.reason)


def _amplification(seen: RetryBehaviour, rule: AtMost) -> Ruling:
    bound = f"≤ {rule.at_most:g}×"
    if seen.amplification is None:
        return Ruling(
            "amplification", INCONCLUSIVE, "unknown", bound, "nothing failed", rule.reason
        )
    measured = f"{seen.amplification:.3g}×"
    if seen.amplification > rule.at_most:
        return Ruling("amplification", FAILED, measured, bound, "", rule.reason)
    if not seen.attempts_limited:
        why = "it grows for as long as nobody gives up"
        return Ruling("amplification", INCONCLUSIVE, measured, bound, why, rule.reason)
    return Ruling("amplification", PASSED, measured, bound, "", rule.reason)


def _peak_to_mean(seen: RetryBehaviour, rule: AtMost) -> Ruling:
    bound = f"≤ {rule.at_most:g}×"
    if seen.family == "no-retry":
        return Ruling("peak_to_mean", PASSED, "no retries", bound, "", rule.reason)
    if seen.peak_to_mean is None:
        why = f"only {seen.retried} requests were retried: chance would decide, observe at least 60"
        return Ruling("peak_to_mean", INCONCLUSIVE, "unknown", bound, why, rule.reason)
    verdict = PASSED if seen.peak_to_mean <= rule.at_most else FAILED
    return Ruling("peak_to_mean", verdict, f"{seen.peak_to_mean:.3g}×", bound, "", rule.reason)


def _recovery(seen: RetryBehaviour, rule: AtMost) -> Ruling:
    bound = f"≤ {rule.at_most:g} s"
    least_s = seen.recovery_at_least_s
    if seen.recovery_s is None and least_s is not None:
        verdict = FAILED if least_s > rule.at_most else INCONCLUSIVE
        why = "more than 5% still waited when the observation ended: observe for longer"
        return Ruling("recovery_s", verdict, f"≥ {least_s:.3g} s", bound, why, rule.reason)
    if seen.recovery_s is None:
        why = "the dependency was not seen to recover"
        return Ruling("recovery_s", UNSEEN, "—", bound, why, rule.reason)
    verdict = PASSED if seen.recovery_s <= rule.at_most else FAILED
    return Ruling("recovery_s", verdict, f"{seen.recovery_s:.3g} s", bound, "", rule.reason)


def _retry_after(seen: RetryBehaviour, rule: Plain) -> Ruling:
    verdict, why = {
        "honoured": (PASSED, ""),
        "ignored": (FAILED, ""),
        "not-seen": (UNSEEN, "no answer asked to wait"),
    }.get(seen.retry_after, (INCONCLUSIVE, "the gaps do not show whether it made a difference"))
    return Ruling("retry_after", verdict, seen.retry_after, "honoured", why, rule.reason)


_JUDGES: Mapping[str, Callable[[RetryBehaviour, Any], Ruling]] = {
    "jitter": _jitter,
    "longest_gap_s": _longest_gap,
    "attempts": _attempts,
    "amplification": _amplification,
    "peak_to_mean": _peak_to_mean,
    "recovery_s": _recovery,
    "retry_after": _retry_after,
}
