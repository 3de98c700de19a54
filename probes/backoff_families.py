"""Families of backoff: each a law of the gap before retry n, with priors on what it leaves open.

With n the number of the retry from 1, b the base, m the factor, c the cap and U uniform:

    none                   0
    fixed                  b
    linear                 b·n, or b + d·(n-1)
    fibonacci              b·F(n)
    exponential            min(c, b·m^(n-1))
    full-jitter            U(0, min(c, b·m^(n-1)))
    equal-jitter           h + U(0, h), h = min(c, b·m^(n-1)) / 2
    decorrelated-jitter    min(c, U(b, 3·previous)), the first U(b, 3b)
    additive-jitter        one of the curves above + U(0, j), or another bounded delay
    multiplicative-jitter  min(c, b·m^(n-1)) · U(1-r, 1+r)

Sources: Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog (2015); gRPC,
"Connection Backoff Protocol". A first retry may come at once, whatever the family; n counts it.

Noise and jitter on top are the same but for their width. Timers are late by up to some 25 ms on a
machine that has time, and by up to 70 ms (95th percentile) on one that has not: what spreads less
is no jitter, what spreads more is; in between both have a chance, and gaps of other lengths decide.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from chaosgrade.probes.backoff_curves import (
    DOUBLING,
    EXPONENTIAL,
    FIBONACCI,
    FIXED,
    LINEAR,
    NONE,
    STEPPED,
    Curve,
)
from chaosgrade.probes.backoff_law import Floats, Law

FAMILIES = (
    "no-retry",
    "none",
    "fixed",
    "linear",
    "fibonacci",
    "exponential",
    "full-jitter",
    "equal-jitter",
    "decorrelated-jitter",
    "additive-jitter",
    "multiplicative-jitter",
)

JITTERED = frozenset(family for family in FAMILIES if family.endswith("-jitter"))

TIMERS_S = 0.025
"""By how much timers are late on a machine that has time."""

IMPOSSIBLE = -1e9
"""Logarithm of the prior of what cannot be; finite, so that a search finds its way back."""

_LATE_S, _SLOW_S = 0.003, 0.003
_SLOW_IN_95 = 9.0  # one gap in twenty waits longer for a processor than this × s
_JITTER_S = 0.06
_NARROW = 1e-3
_SOFT = 0.03
_ROOT_TWELVE = math.sqrt(12.0)  # the width of a box is so many deviations
_WIDEST = 0.8  # give or take more is full jitter but for the shortest gaps, which noise hides
_SPREAD = 1.2
_CAPPED = 0.97  # a cap so near to what was seen cuts nothing that would be missed
_CLOCK_S, _PUNCTUAL_S = 0.0004, 0.01


@dataclass(frozen=True, slots=True)
class Gaps:
    """Gaps of many requests.

    Args:
        number: which retry each gap precedes, from 1.
        seconds: its length.
        previous: the gap before it of the same request, in seconds; NaN where there is none.
        grain_s: how coarse the clock is that they were taken with.
        late_s: how late timers were where they were taken (95th percentile); 0 for not known.

    Attributes:
        numbers: the numbers of retries that there are, rising.
        index: of each gap's number among them.
    """

    number: NDArray[np.int64]
    seconds: Floats
    previous: Floats
    grain_s: float = 0.0
    late_s: float = 0.0
    numbers: Floats = field(init=False)
    index: NDArray[np.intp] = field(init=False)

    def __post_init__(self) -> None:
        numbers, index = np.unique(self.number, return_inverse=True)
        object.__setattr__(self, "numbers", numbers.astype(np.float64))
        object.__setattr__(self, "index", index)

    def __len__(self) -> int:
        return len(self.seconds)

    def where(self, kept: NDArray[np.bool_]) -> "Gaps":
        """Some of them."""
        return Gaps(
            self.number[kept], self.seconds[kept], self.previous[kept], self.grain_s, self.late_s
        )

    @property
    def vague_s(self) -> float:
        """How vague gaps are: late timers make them so as a coarse clock does."""
        return max(self.grain_s, self.late_s - _PUNCTUAL_S)


@dataclass(frozen=True, slots=True)
class Levels:
    """Where the gaps lie, for each number of a retry, in seconds."""

    number: Floats
    low: Floats
    middle: Floats
    upper: Floats
    high: Floats

    @classmethod
    def of(cls, gaps: Gaps, first: int) -> "Levels":
        """Of the gaps from retry number `first` on."""
        numbers = [n for n in gaps.numbers[:16] if n >= first]
        groups = [np.sort(gaps.seconds[gaps.number == n]) for n in numbers]
        return cls(
            np.array(numbers, dtype=np.float64),
            np.maximum([group[len(group) // 50] for group in groups], 0.001),
            np.maximum([np.median(group) for group in groups], 0.001),
            np.maximum([group[len(group) * 3 // 4] for group in groups], 0.001),
            # The upper end of n uniform draws lies on average at n/(n+1) of the range.
            np.maximum(
                [group[-1 - len(group) // 50] * (1 + 1 / len(group)) for group in groups], 0.001
            ),
        )


@dataclass(frozen=True, slots=True)
class Parameter:
    """One number that a candidate leaves open.

    Args:
        name: of the number.
        scale: "log" or "logit": the coordinate in which it is sought.
        start: its value where the search begins.
        prior: logarithm of the prior density in that coordinate.
    """

    name: str
    scale: str
    start: float
    prior: Callable[[float], float]

    @property
    def coordinate(self) -> float:
        """Where the search begins, in its coordinate."""
        if self.scale == "log":
            return math.log(self.start)
        return math.log(self.start / (1.0 - self.start))

    @property
    def step(self) -> float:
        """How far the search looks around at first, in its coordinate."""
        return {"log": 0.15, "logit": 0.3}[self.scale]

    def value(self, coordinate: float) -> float:
        """The number at a coordinate."""
        if self.scale == "log":
            return math.exp(min(coordinate, 50.0))
        return 0.5 * (1.0 + math.tanh(0.5 * coordinate))


@dataclass(frozen=True, slots=True)
class Candidate:
    """One way in which clients may back off, parameters open.

    Args:
        family: as it is reported.
        curve: how the gap grows.
        form: what is random: "exact", "full", "equal", "around", "on-top" or "decorrelated".
        cap: where the cap cuts, "before" or "after" the jitter; "" when it was not reached.
        shape: of jitter on top: "box", "bell" or "tail".
        immediate: whether the first retry comes at once.
        shift: how many retries later than n the curve begins.
    """

    family: str
    curve: Curve
    form: str
    cap: str = ""
    shape: str = "box"
    immediate: bool = False
    shift: int = 0

    def parameters(
        self, gaps: Gaps, levels: Levels, *, longest: bool = True
    ) -> tuple[Parameter, ...]:
        """What is open, with a start from the gaps themselves.

        Args:
            gaps: what it is to explain.
            levels: of the gaps from the first retry that waits.
            longest: whether the longest gaps tell the upper end of a range; otherwise the median
                does, as is better where some clients had to wait for a processor.
        """
        middle = levels.middle
        full, equal = (levels.high, levels.high) if longest else (2 * middle, middle * 4 / 3)
        level = {"full": full, "equal": equal, "around": middle}.get(self.form, levels.low)
        values = self.curve.start(self._count(levels.number), level, bool(self.cap))
        if self.form == "decorrelated":
            values["base_s"] = float(levels.low.min())
        vague_s = gaps.vague_s
        priors = dict(_PRIORS)
        if self.form == "full" and self.curve is FIXED:
            priors["base_s"] = _jitter_prior(vague_s)  # what is narrower is noise
        found = [Parameter(name, "log", values[name], priors[name]) for name in self.curve.open]
        spreads_s = levels.high - levels.low if longest else 2 * (middle - levels.low)
        spreads_s = np.maximum(spreads_s, 0.002)
        widest = longest and self.form != "exact"
        spread_s = float(np.max(spreads_s) if widest else np.median(spreads_s))
        if self.cap:
            highest = float(levels.high.max())
            # What is cut after the jitter gathers at the cap: most of the longest gaps lie there.
            last = level[-1] if self.cap == "before" else levels.upper[-1]
            found.append(Parameter("cap_s", "log", float(last), _log_uniform(0.01, 1.1 * highest)))
        if self.form == "around":
            # Few gaps lie near each other by chance before some retries, but hardly before all.
            shares = spreads_s / (spreads_s + 2 * levels.low)
            share = float(np.max(shares) if longest else np.median(shares))
            found.append(
                Parameter("share", "logit", min(max(share, 0.04), _WIDEST - 0.02), _share_prior)
            )
        if self.form == "on-top":
            found.append(Parameter("jitter_s", "log", max(spread_s, 0.05), _jitter_prior(vague_s)))
        if self.form == "exact":
            width_s = min(max(spread_s, 3 * _CLOCK_S), 0.05 + vague_s)
            found.append(Parameter("width_s", "log", width_s, _noise_prior(vague_s)))
        elif self.form != "on-top":  # what is on top takes up what all are late by
            found.append(Parameter("late_s", "log", _LATE_S, _level(_LATE_S)))
        slow_s = _SLOW_S + vague_s / _SLOW_IN_95
        waits_s = slow_s if longest else max(slow_s, float(np.median(levels.high - middle)) / 10)
        found.append(Parameter("slow_s", "log", waits_s, _level(slow_s)))
        return tuple(found)

    def law(self, values: Mapping[str, float], gaps: Gaps) -> Law:
        """The law of each gap for these values of the parameters."""
        width_s = values["width_s"] if self.form == "exact" else 0.0
        late_s = values.get("late_s", 0.0)
        noise_s = _CLOCK_S + gaps.grain_s / 3 + self._blur_s(late_s, width_s, values)
        top = self.nominal(gaps.numbers, values)
        if self.cap == "before":
            top = np.minimum(top, values["cap_s"])
        low, high = self._edges(top, values)
        noise = np.full(len(top), noise_s)
        if self.shape == "bell":
            noise = np.hypot(noise, values["jitter_s"] / _ROOT_TWELVE)
        if self.immediate and gaps.numbers[0] == 1:
            low[0], high[0], noise[0] = 0.0, width_s, noise_s
        low, high = low[gaps.index], high[gaps.index]
        if self.form == "decorrelated":
            slept = gaps.previous - late_s
            began = gaps.number <= 1 + self.immediate  # before it the base counts as the previous
            high = np.where(began, high, 3.0 * np.fmax(slept, values["base_s"]))
        spread = noise[gaps.index] if self.shape == "bell" else noise_s
        high = np.maximum(high, low + _NARROW * spread)
        ceiling = values["cap_s"] if self.cap == "after" else None
        # Of an exponential delay, 95% are shorter than three times its mean.
        tail = values["jitter_s"] / 3 if self.shape == "tail" else 0.0
        return Law(low, high, ceiling, late_s, spread, values["slow_s"], tail)

    def _blur_s(self, late_s: float, width_s: float, values: Mapping[str, float]) -> float:
        """How blurred the edges of the range are by what little all gaps are late by."""
        if self.form == "exact":
            return _SOFT * width_s  # the range itself is what they are late by
        if self.form == "on-top":
            return min(_SOFT * values["jitter_s"], 2 * _LATE_S)
        return 0.6 * late_s  # as it is for even and for exponential delays of this mean, or nearly

    def possible(self, values: Mapping[str, float], gaps: Gaps) -> bool:
        """Whether a cap, if there is one, cuts something and leaves enough to know the curve by."""
        if not self.cap:
            return True
        cap_s = values["cap_s"]
        if self.form == "decorrelated":
            return 1.3 * values["base_s"] < cap_s
        numbers = gaps.numbers[1:] if self.immediate and gaps.numbers[0] == 1 else gaps.numbers
        nominal = self.nominal(numbers, values)
        free = min(len(self.curve.open), len(nominal)) - 1  # the last number that must be below
        jitter_s = values.get("jitter_s", 0.0)
        reach_s = nominal[-1] * (1.0 + values.get("share", 0.0)) + jitter_s
        top_s = reach_s if self.cap == "after" else nominal[-1]
        return bool(1.02 * nominal[free] + jitter_s / 2 < cap_s < _CAPPED * top_s)

    def nominal(self, numbers: Floats, values: Mapping[str, float]) -> Floats:
        """The curve before cap and jitter at these numbers of retries, in seconds."""
        return self.curve.at(self._count(numbers), values)

    def _count(self, numbers: Floats) -> Floats:
        return np.maximum(numbers - self.shift, 1.0) if self.shift else numbers

    def _edges(self, top: Floats, values: Mapping[str, float]) -> tuple[Floats, Floats]:
        """The range before each retry, arrays of their own."""
        shares = {"full": (0.0, 1.0), "equal": (0.5, 1.0), "decorrelated": (1.0, 3.0)}
        if self.form == "around":
            shares["around"] = (1.0 - values["share"], 1.0 + values["share"])
        if self.form in shares:
            low, high = shares[self.form]
            return low * top, high * top
        width_s = values["width_s"] if self.form == "exact" else values["jitter_s"]
        edges_s = {"box": (0.0, width_s), "bell": (width_s / 2, width_s / 2), "tail": (0.0, 0.0)}
        begin_s, end_s = edges_s[self.shape]
        return top + begin_s, top + end_s


def candidates(gaps: Gaps) -> Iterator[Candidate]:
    """Everything that these gaps might be, jitter on top in the shape of a box."""
    numbers = int(gaps.number.max())
    yield Candidate("none", NONE, "exact")
    for immediate in (False, True) if _begins_at_once(gaps) else (False,):
        seen = numbers - immediate
        shifts = (0, 1) if immediate else (0,)
        for curve in (FIXED, LINEAR, STEPPED, FIBONACCI, DOUBLING, EXPONENTIAL):
            for shift in shifts if curve in (LINEAR, FIBONACCI) else (0,):
                for cap in ("",) if curve is FIXED or seen < 3 else ("", "before"):
                    yield Candidate(
                        curve.family, curve, "exact", cap, immediate=immediate, shift=shift
                    )
        for curve in (FIXED, LINEAR, DOUBLING, EXPONENTIAL):
            for cap in _caps(curve, seen):
                yield Candidate("additive-jitter", curve, "on-top", cap, immediate=immediate)
                if curve is LINEAR:
                    continue
                yield Candidate("full-jitter", curve, "full", cap, immediate=immediate)
                if curve is FIXED:
                    continue
                yield Candidate("equal-jitter", curve, "equal", cap, immediate=immediate)
                yield Candidate("multiplicative-jitter", curve, "around", cap, immediate=immediate)
        for cap in ("", "after"):
            yield Candidate("decorrelated-jitter", FIXED, "decorrelated", cap, immediate=immediate)


def shapes(candidate: Candidate) -> tuple[str, ...]:
    """Other shapes that the candidate's jitter on top may have."""
    if candidate.form == "on-top" and candidate.cap != "after":
        # With a tail the gap before an immediate first retry would have it too.
        return ("bell",) if candidate.immediate else ("bell", "tail")
    return ()


def _caps(curve: Curve, seen: int) -> tuple[str, ...]:
    if curve is FIXED or curve is LINEAR or seen < 2:
        return ("",)
    return ("", "before", "after") if seen > 2 else ("", "after")


def _begins_at_once(gaps: Gaps) -> bool:
    """Whether the first retry may come at once and the second not."""
    first, second = (gaps.seconds[gaps.number == n] for n in (1, 2))
    if not len(first) or not len(second):
        return False
    return bool(np.median(first) < 0.1 + gaps.vague_s and np.median(first) < np.median(second) / 3)


def _log_uniform(low: float, high: float) -> Callable[[float], float]:
    start, end = math.log(low), math.log(max(high, 2 * low))
    density = -math.log(end - start)
    return lambda x: density if start <= x <= end else IMPOSSIBLE * (1 + abs(x))


def _level(median_s: float) -> Callable[[float], float]:
    """Log-normal over three decades, and never below what a clock can tell."""
    mean, floor = math.log(median_s), math.log(_CLOCK_S)
    density = -math.log(_SPREAD * math.sqrt(2 * math.pi))

    def prior(x: float) -> float:
        if x < floor:
            return IMPOSSIBLE * (1 + abs(x))
        return density - 0.5 * ((x - mean) / _SPREAD) ** 2

    return prior


def _noise_prior(vague_s: float) -> Callable[[float], float]:
    """Any width up to what timers do; beyond it less and less."""
    start, end = math.log(2 * _CLOCK_S), math.log(TIMERS_S + 1.5 * vague_s)
    density = -math.log(end - start)

    def prior(x: float) -> float:
        if x < start:
            return IMPOSSIBLE * (1 + abs(x))
        return density - 0.5 * (max(x - end, 0.0) / 0.35) ** 2

    return prior


def _jitter_prior(vague_s: float) -> Callable[[float], float]:
    """Any width from what contention does; below it less and less."""
    start, end = math.log(_JITTER_S + 4 * vague_s), math.log(1e3)
    density = -math.log(end - start)

    def prior(x: float) -> float:
        if x > end or x < math.log(TIMERS_S):
            return IMPOSSIBLE * (1 + abs(x))
        return density - 0.5 * (max(start - x, 0.0) / 0.3) ** 2

    return prior


def _share_prior(x: float) -> float:
    """The wider the rarer (gRPC takes 0.2), less what has another name: equal and full jitter."""
    share = 0.5 * (1.0 + math.tanh(0.5 * x))
    if share < 0.03 or share > _WIDEST or abs(share - 1 / 3) < 0.03:
        return IMPOSSIBLE * (1 + abs(x))
    return math.log(2.0 * (1.0 - share) * share * (1.0 - share))


_PRIORS: Mapping[str, Callable[[float], float]] = {
    "base_s": _log_uniform(0.02, 1e3),
    "factor": _log_uniform(1.3, 12.0),
    "step_s": _log_uniform(0.008, 1e3),
}
