"""When an assignment isolates customers well enough: rules for what the sharding probes observe.

Each claim holds, fails, or is undecided where too little was seen; no data never passes.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from chaosgrade.errors import UsageError


@dataclass(frozen=True, slots=True)
class Finding:
    """What came of one claim.

    Args:
        claim: what must hold.
        holds: whether it does; None when what was observed cannot tell.
        detail: the figures, in a sentence.
    """

    claim: str
    holds: bool | None
    detail: str


@dataclass(frozen=True, slots=True)
class IsolationPolicy:
    """What is demanded.

    Args:
        significance: what is worse than shuffle sharding lets expect counts when the chance of that
            is below this: so often a sound assignment fails a claim.
        excess_sd: the same for overlaps, in standard deviations.
        max_to_mean: the busiest worker's customers, relative to the mean.
        most_shared: the most workers that two customers may share; None: fewer than all.

    Raises:
        UsageError: naming the value that makes no sense.
    """

    significance: float = 0.001
    excess_sd: float = 4.0
    max_to_mean: float = 2.0
    most_shared: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.significance < 1:
            raise UsageError(f"significance must be above 0 and below 1, got {self.significance}")
        if not self.max_to_mean >= 1:
            raise UsageError(f"max_to_mean must be at least 1, got {self.max_to_mean}")

    def judge_assignment(self, observed: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Judge what `chaosgrade.probes.shuffle_sharding.assignment` returned."""
        overlap, fairness = observed["overlap"], observed["fairness"]
        shared, allowed = overlap["most_shared"], self.most_shared
        if allowed is None:
            allowed = observed["shard"] - 1
        excess, by_chance = overlap["excess_sd"], fairness["p_value"]
        return (
            Finding(
                f"no two customers share more than {allowed} workers",
                None if shared is None else shared <= allowed,
                "there is no pair"
                if shared is None
                else f"{' and '.join(overlap['worst_pair'])} share {shared} of {observed['shard']}",
            ),
            Finding(
                "customers overlap no more than by chance",
                None if excess is None else excess <= self.excess_sd,
                "too few pairs to tell"
                if excess is None
                else f"{excess:+.1f} standard deviations beside random shards",
            ),
            Finding(
                f"no worker has more than {self.max_to_mean:g} times the mean of customers",
                fairness["max_to_mean"] <= self.max_to_mean,
                f"{fairness['busiest']} serves {fairness['most']}, the mean is "
                f"{fairness['mean']:.1f}",
            ),
            Finding(
                "customers are spread no less evenly than by chance",
                None if by_chance is None else by_chance >= self.significance,
                "too few customers to tell, or everybody has all workers"
                if by_chance is None
                else f"the chance of this or worse is {by_chance:.2g}",
            ),
        )

    def judge_blast_radius(self, observed: Mapping[str, Any]) -> tuple[Finding, ...]:
        """Judge what a probe of `chaosgrade.probes.blast_radius` returned.

        More than is expected fails. A pass needs that so many customers were watched that no
        isolation, or that of fixed groups, would have been noticed.
        """
        alternatives = {"suffering": 1.0, "fully_out": observed["shard"] / observed["workers"]}
        findings = []
        for key, words in (("suffering", "suffer"), ("fully_out", "are fully out")):
            seen = observed[key]
            holds: bool | None = seen["p_value"] >= self.significance
            if holds and seen["high"] >= alternatives[key]:
                holds = None
            findings.append(
                Finding(
                    f"no more customers {words} with a poisoned one than the sharding lets expect",
                    holds,
                    f"{seen['customers']} of {observed['customers']} do "
                    f"({seen['low']:.1%}–{seen['high']:.1%}); {seen['expected']:.2%} are expected",
                )
            )
        if observed["beyond"] is not None:
            findings.append(
                Finding(
                    "nobody suffers who does not share workers with the poisoned",
                    not observed["beyond"],
                    f"{len(observed['beyond'])} do",
                )
            )
        return tuple(findings)
