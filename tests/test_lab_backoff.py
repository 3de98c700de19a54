"""The backoff laboratory: AWS's table, a message-by-message rendering beside it, the herd."""

import heapq
import json
import statistics
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chaosgrade.cli.lab_backoff import Question, show
from chaosgrade.errors import UsageError
from chaosgrade.lab.agenda import Agenda
from chaosgrade.lab.contention import contend
from chaosgrade.lab.gaps import Gaps
from chaosgrade.lab.herd import HerdOutcome, Outage, recover
from chaosgrade.policies.backoff_families import (
    AdditiveJitter,
    Backoff,
    DecorrelatedJitter,
    EqualJitter,
    Exponential,
    Fibonacci,
    Fixed,
    FullJitter,
    Linear,
    MultiplicativeJitter,
    NoBackoff,
)
from chaosgrade.policies.retry_notation import parse

AWS = json.loads((Path(__file__).parent.parent / "benchmarks/aws_backoff.json").read_text())
SEED = 5
FAMILIES: list[Backoff] = [
    NoBackoff(), Fixed(0.2), Linear(0.1, 30.0), Fibonacci(0.1, 1e6), Exponential(0.1, 7.0),
    FullJitter(0.1, 7.0), EqualJitter(0.1, 7.0), DecorrelatedJitter(0.1, 7.0),
    AdditiveJitter(0.1, 7.0, jitter_s=0.3), MultiplicativeJitter(0.1, 7.0),
]  # fmt: skip


def lab(capsys: pytest.CaptureFixture[str], question: Question) -> dict[str, Any]:
    show(question, as_json=True)
    document = json.loads(capsys.readouterr().out)
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize("clients", AWS["clients"])
def test_aws_table_is_reproduced(capsys: pytest.CaptureFixture[str], clients: int) -> None:
    """Calls and time of the five policies, each within three standard errors of the difference.

    The table's calls have no decimals: AWS's simulator cuts them off.
    """
    trials = 200
    question = Question(clients=str(clients), trials=trials, seed=SEED)
    rows = lab(capsys, question)["results"]
    assert [row["policy"] for row in rows] == list(AWS["calls"])
    column = AWS["clients"].index(clients)
    for row in rows:
        for name in ("calls", "time"):
            error = row[f"{name}_sd"] * (1 / trials + 1 / AWS["trials"]) ** 0.5
            aws = AWS[name][row["policy"]][column]
            nearest = min(max(row[f"{name}_mean"], aws), aws + 1)
            assert abs(row[f"{name}_mean"] - nearest) <= 3 * error, (row, name, aws)


def message_by_message(text: str, clients: int, random: Random) -> tuple[int, float, int]:
    """Calls, seconds and clients without success of one trial, as a heap of messages."""
    policy = parse(text).retry
    version = calls = gave_up = 0
    now = 0.0
    failures = [0] * clients
    gaps = [0.0] * clients

    def delay() -> float:
        return random.normalvariate(0.010, 0.002)

    messages = [(delay(), client, "read", 0) for client in range(clients)]
    heapq.heapify(messages)
    while messages:
        now, client, kind, carried = heapq.heappop(messages)
        if kind == "read":
            heapq.heappush(messages, (now + delay(), client, "version", version))
        elif kind == "version":
            heapq.heappush(messages, (now + delay(), client, "write", carried))
        elif kind == "write":
            calls += 1
            won = carried == version
            version += won
            heapq.heappush(messages, (now + delay(), client, "won" if won else "lost", 0))
        elif kind == "lost":
            failures[client] += 1
            span = policy.backoff.span(failures[client])
            gaps[client] = span.draw_s(gaps[client], random.random())
            begin = now + gaps[client]
            attempts, deadline = policy.attempts, policy.deadline_s
            if failures[client] == attempts or (deadline is not None and begin > deadline):
                gave_up += 1
            else:
                heapq.heappush(messages, (begin + delay(), client, "read", 0))
    return calls, now, gave_up


@pytest.mark.parametrize(
    "text",
    [
        "no-retry", "none:attempts=4", "none:deadline=0.3", "fixed:base=0.02", "linear:base=0.005",
        "full:base=0.01,cap=2,attempts=3", "equal:base=0.01,deadline=0.4",
        "decorrelated:base=0.005,cap=0.1", "additive:base=0.01,jitter=0.05,attempts=6",
        "multiplicative:base=0.01,factor=1.6,deadline=1", "fibonacci:base=0.005,cap=0.2",
    ],
)  # fmt: skip
def test_a_step_per_success_comes_to_the_same_as_a_message_at_a_time(text: str) -> None:
    """Calls, time and clients without success of any policy, with and without limits."""
    clients, plain_trials = 12, 300
    random = Random(f"{SEED} {text}")
    plain = [message_by_message(text, clients, random) for _ in range(plain_trials)]
    ours = contend(parse(text).retry, clients, 3000, SEED)
    for number, values in enumerate((ours.calls, ours.time_s, ours.gave_up)):
        theirs = [float(trial[number]) for trial in plain]
        error = (np.var(values) / values.size + statistics.variance(theirs) / plain_trials) ** 0.5
        assert abs(values.mean() - statistics.fmean(theirs)) <= 3.5 * error + 1e-12, number


def test_without_retry_each_client_calls_once() -> None:
    """And those that did not come first end without success."""
    outcome = contend(parse("no-retry").retry, 30, 50, SEED)
    assert (outcome.calls == 30).all()
    assert (outcome.gave_up >= 20).all()


def test_one_client_needs_four_messages() -> None:
    """It writes once; the time is that of a read and a write, there and back."""
    outcome = contend(parse("full").retry, 1, 4000, SEED)
    assert (outcome.calls == 1).all()
    assert outcome.time_s.mean() == pytest.approx(0.040, abs=0.0003)
    assert outcome.time_s.std() == pytest.approx(0.004, rel=0.06)


def test_a_seed_repeats_the_trials_and_another_does_not() -> None:
    """To the last bit, also over several blocks."""
    policy = parse("decorrelated:base=0.005,cap=2").retry
    first, again, other = (contend(policy, 200, 200, seed) for seed in (1, 1, 2))
    assert (first.calls == again.calls).all()
    assert (first.time_s == again.time_s).all()
    assert not (first.time_s == other.time_s).all()
    assert len(set(first.time_s.tolist())) == 200


def test_progress_rises_to_the_whole() -> None:
    """Over blocks and steps."""
    heard: list[float] = []
    contend(parse("none").retry, 150, 500, SEED, heard.append)
    assert heard == sorted(heard)
    assert heard[-1] == 1.0
    assert len(heard) > 4


class Draws(np.random.Generator):
    """The same draw, always."""

    def __init__(self, uniform: float) -> None:
        super().__init__(np.random.PCG64(0))
        self._uniform = uniform

    def random(self, size: Any = None, *_: Any, **__: Any) -> Any:
        return np.full(size, self._uniform)


@pytest.mark.parametrize("backoff", FAMILIES, ids=lambda backoff: backoff.family)
@given(
    retries=st.lists(st.integers(1, 300), max_size=20),
    previous=st.floats(0.1, 7.0),
    uniform=st.floats(0, 0.999),
)
def test_gaps_of_many_retries_are_the_gaps_of_each(
    backoff: Backoff, retries: list[int], previous: float, uniform: float
) -> None:
    """What the laboratory draws in arrays is what a caller draws one by one."""
    gaps = Gaps(backoff)
    before = np.full(len(retries), previous) if gaps.remembers else None
    drawn = gaps.draw_s(np.array(retries, np.intp), before, Draws(uniform))
    one_by_one = [backoff.span(retry).draw_s(previous, uniform) for retry in retries]
    assert drawn.tolist() == pytest.approx(one_by_one)


@given(
    st.lists(st.tuples(st.lists(st.floats(0, 3), max_size=4), st.floats(0.001, 0.5)), max_size=15)
)
def test_an_agenda_gives_each_thing_once_when_it_is_due(
    steps: list[tuple[list[float], float]],
) -> None:
    """Whatever is put in between, for today, for another day or for the past."""
    agenda = Agenda()
    waiting: dict[int, float] = {}
    now, number = 0.0, 0
    for delays, step in steps:
        put = {number + place: now - 0.3 + delay for place, delay in enumerate(delays)}
        number += len(delays)
        waiting |= put
        agenda.put(np.array(list(put), np.intp), np.array(list(put.values())))
        now += step
        numbers, due = agenda.take_until(now)
        taken = dict(zip(numbers.tolist(), due.tolist(), strict=True))
        assert len(taken) == numbers.size
        assert taken == {one: at for one, at in waiting.items() if at < now}
        waiting = {one: at for one, at in waiting.items() if at >= now}


BRIEF = Outage(clients=200, capacity=100.0, down_s=3.0, after_s=6.0)
LONG = replace(BRIEF, down_s=5.0, after_s=25.0)


def herd(text: str, outage: Outage = BRIEF, trials: int = 3) -> HerdOutcome:
    usual = {"": {"base": 0.1, "cap": 5.0}}
    return recover(parse(text, usual), outage, trials, SEED)


def test_without_retry_the_dependency_is_well_at_once() -> None:
    """What the outage struck is lost, a call for a request, and nobody comes back."""
    outcome = herd("no-retry")
    assert (np.abs(outcome.calls - outcome.requests) <= 5).all()  # at the edges of the time
    assert (outcome.saved <= 5).all()
    assert (outcome.struck > 300).all()
    assert (outcome.recovery_s == 0).all()
    assert (outcome.drained_s < 0.1).all()


def test_jitter_takes_the_peaks_off_the_herd() -> None:
    """Without it, those who failed together come back together, and wait for the next wave."""
    waves, spread = herd("exponential", LONG), herd("full", LONG)
    assert (waves.peak_per_s / waves.mean_per_s > 8).all()
    assert (spread.peak_per_s / spread.mean_per_s < 3.5).all()
    for outcome in (waves, spread):
        assert (outcome.saved == outcome.struck).all()
    assert spread.recovery_s.mean() < waves.recovery_s.mean()


def test_retries_without_backoff_keep_a_dependency_down() -> None:
    """Refusing them takes all it can do: it does not recover, although the outage is long over."""
    outcome = herd("none:attempts=200", LONG, trials=1)
    assert np.isnan(outcome.recovery_s).all()
    assert (outcome.successes < 0.3 * outcome.requests).all()
    assert (outcome.calls > 50 * outcome.requests).all()


def test_no_policy_calls_more_often_than_its_attempts() -> None:
    """And its requests end: the dependency is well at once when they end before it is back."""
    outcome = herd("full:attempts=3")
    assert (outcome.calls <= 3 * outcome.requests).all()
    assert (outcome.calls > 1.5 * outcome.requests).all()
    assert (outcome.recovery_s == 0).all()


def test_a_deadline_ends_requests() -> None:
    """Those that began with the outage are given up; those from its last seconds are saved."""
    outcome = herd("full:deadline=2")
    saved = outcome.saved / outcome.struck
    assert ((saved > 0.05) & (saved < 0.6)).all()
    assert (outcome.drained_s < 3).all()


def test_a_quota_limits_what_each_client_adds() -> None:
    """28 tokens are two retries for each client, beyond what successes give back."""
    free, bounded = herd("fixed:base=0.2"), herd("fixed:base=0.2,quota=28")
    allowed = 2 * BRIEF.clients + bounded.successes // 14
    assert (bounded.calls - bounded.requests <= allowed).all()
    assert (bounded.calls - bounded.requests > BRIEF.clients).all()
    assert (free.calls - free.requests > 10 * BRIEF.clients).all()


def test_nobody_is_served_beyond_the_capacity() -> None:
    """Asked for more than it can do, the dependency does what it can, and not more."""
    outage = Outage(clients=50, capacity=100.0, load=1.5, down_s=1.0, after_s=20.0)
    outcome = herd("no-retry", outage)
    assert (outcome.successes <= 100 * 20 + 1).all()
    assert (outcome.successes >= 100 * 20 * 0.85).all()
    assert np.isnan(outcome.recovery_s).all()


def test_trouble_before_the_outage_is_not_the_outages() -> None:
    """Where the queue is short, some are refused at any time: recovery is never in the past."""
    outage = Outage(clients=1, capacity=40.0, queue_s=0.05, down_s=0.5, after_s=1.0)
    outcome = herd("no-retry", outage, trials=60)
    assert (outcome.recovery_s[~np.isnan(outcome.recovery_s)] >= 0).all()
    assert (outcome.recovery_s == 0).any()
    assert (outcome.recovery_s > 0).any()


def test_every_policy_meets_the_same_requests() -> None:
    """A seed draws what customers want, whatever their policy; and it repeats a run to the bit."""
    one, other, again = herd("exponential"), herd("full"), herd("full")
    assert (one.requests == other.requests).all()
    assert (one.struck == other.struck).all()
    assert (other.calls == again.calls).all()
    assert (other.arrivals_per_s == again.arrivals_per_s).all()


def call_by_call(text: str, outage: Outage, random: Random) -> tuple[float, float, float]:
    """Calls, saved requests and seconds until drained of one herd, as a heap of calls.

    Refusals cost nothing here, and time has no ticks.
    """
    policy = parse(text, {"": {"base": 0.1, "cap": 5.0}}).retry
    end = outage.down_s + outage.after_s

    def delay() -> float:
        return random.normalvariate(0.010, 0.002)

    began = [0.0] * outage.clients
    at = -1.0
    while (at := at + random.expovariate(outage.capacity * outage.load)) < end:
        began.append(at)
    arrivals = [(start + delay(), number, 1, 0.0) for number, start in enumerate(began)]
    heapq.heapify(arrivals)
    free = -1.0  # when the server has done all that it has accepted
    calls = saved = 0
    drained = outage.down_s
    while arrivals:
        now, number, tries, gap = heapq.heappop(arrivals)
        if now >= end:
            break
        calls += now >= 0
        down = 0 <= now < outage.down_s
        struck = 0 <= began[number] < outage.down_s
        failed: float | None = now
        if not down and free - now <= outage.queue_s:
            free = max(free, now) + 1 / outage.capacity
            failed = None if free - now <= outage.timeout_s else now + outage.timeout_s
            if failed is None and now < 0 < free:
                failed = 0.0
        if down:
            free = outage.down_s
        if failed is None:
            saved += struck
            settled: float | None = free + delay()
        else:
            heard = failed + delay()
            gap = policy.backoff.span(tries).draw_s(gap, random.random())
            settled = heard if tries == policy.attempts else None
            if settled is None:
                heapq.heappush(arrivals, (heard + gap + delay(), number, tries + 1, gap))
        if settled is not None and struck:
            drained = max(drained, settled)
    return calls, saved, drained - outage.down_s


@pytest.mark.parametrize(
    ("text", "queue_s"),
    [("full", 0.5), ("exponential:cap=2,attempts=7", 0.5), ("full:attempts=9", 2.0)],
)
def test_ticks_come_to_the_same_as_a_call_at_a_time(text: str, queue_s: float) -> None:
    """Calls, saved requests and drain of many trials, where refusals cost nothing.

    With two seconds in the queue, half of what is served is served to nobody: clients leave after
    one.
    """
    outage = Outage(
        clients=60, capacity=40.0, down_s=4.0, after_s=26.0, queue_s=queue_s, refusal_cost=0.0
    )
    random = Random(f"{SEED} {text}")
    plain = [call_by_call(text, outage, random) for _ in range(40)]
    ours = herd(text, outage, trials=40)
    measured = (ours.calls, ours.saved, ours.drained_s)
    for number, values in enumerate(measured):
        theirs = [trial[number] for trial in plain]
        mean = statistics.fmean(theirs)
        error = ((np.var(values) + statistics.variance(theirs)) / 40) ** 0.5
        # A tick of 10 ms on a round trip of 20 is a bias of a hundredth or two.
        assert abs(values.mean() - mean) <= 3.5 * error + 0.02 * mean, (number, values.mean(), mean)


@pytest.mark.parametrize(
    ("outage", "says"),
    [
        ({"capacity": 0}, "capacity must be above 0, got 0"),
        ({"load": -1}, "load must be above 0, got -1"),
        ({"down_s": float("nan")}, "down_s must be a number, got nan"),
        ({"after_s": 0.5}, "after_s must be at least 1, got 0.5"),
        ({"refusal_cost": -0.1}, "refusal_cost must be at least 0"),
        ({"clients": 0}, "clients must be at least 1, got 0"),
    ],
)
def test_an_outage_that_makes_no_sense_is_refused(outage: dict[str, Any], says: str) -> None:
    """One line that names the number and shows it."""
    with pytest.raises(UsageError, match=says):
        Outage(**outage)


def test_the_document_says_what_was_simulated(capsys: pytest.CaptureFixture[str]) -> None:
    """A row per policy and size, what each name stands for, the units, and the seed."""
    question = Question(policies=["full:attempts=3", "none"], clients="5,7", trials=4, seed=9)
    document = lab(capsys, question)
    assert [(row["policy"], row["clients"]) for row in document["results"]] == [
        ("full:attempts=3", 5), ("full:attempts=3", 7), ("none", 5), ("none", 7),
    ]  # fmt: skip
    assert set(document["results"][0]) == {
        "policy", "clients", "calls_mean", "calls_sd", "time_mean", "time_sd", "gave_up_mean",
        "gave_up_sd",
    }  # fmt: skip
    assert document["policies"]["full:attempts=3"] == {
        "family": "full-jitter", "base_s": 0.01, "cap_s": 2.0, "factor": 2.0, "attempts": 3,
        "deadline_s": None, "quota": None,
    }  # fmt: skip
    assert (document["time_unit"], document["trials"], document["seed"]) == ("ms", 4, 9)
    assert lab(capsys, question) == document


def test_one_trial_has_no_standard_deviation(capsys: pytest.CaptureFixture[str]) -> None:
    """It is null, and not zero."""
    (row,) = lab(capsys, Question(policies=["full"], clients="3", trials=1))["results"]
    assert row["calls_sd"] is None
    assert row["time_sd"] is None
    assert row["time_mean"] > 40


def test_a_herd_is_compared_with_no_retry(capsys: pytest.CaptureFixture[str]) -> None:
    """Which is simulated unasked; what never came is null and counted."""
    outage = {"capacity": 50.0, "down_s": 2.0, "after_s": 12.0}
    document = lab(
        capsys,
        Question("herd", ["full", "none:attempts=200"], "100", 2, SEED, outage),
    )
    rows = {row["policy"]: row for row in document["results"]}
    assert list(rows) == ["no-retry", "full", "none:attempts=200"]
    assert rows["no-retry"]["recovery_delay_s"] == 0
    assert rows["full"]["recovery_delay_s"] == rows["full"]["recovery_s_mean"] > 1
    assert rows["full"]["saved_share_mean"] == 1.0
    assert rows["full"]["amplification_mean"] > rows["no-retry"]["amplification_mean"] > 1
    worst = rows["none:attempts=200"]
    assert (worst["recovery_s_mean"], worst["recovery_delay_s"]) == (None, None)
    assert worst["not_recovered"] == 2
    assert document["model"]["capacity"] == 50.0


def test_a_picture_of_contention_names_each_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same trials make the same file."""
    drawn = []
    for name in ("one.svg", "again.svg"):
        file = tmp_path / name
        lab(capsys, Question("contention", ["full", "none:attempts=2"], "20", 2, 1, plot=file))
        drawn.append(file.read_bytes())
    assert drawn[0] == drawn[1]
    assert b"<!-- full -->" in drawn[0]
    assert b"<!-- none:attempts=2 -->" in drawn[0]


def test_a_picture_of_a_herd_names_each_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As SVG or as PNG."""
    outage = {"down_s": 1.0, "after_s": 2.0}
    drawn = []
    for name in ("one.svg", "one.png"):
        file = tmp_path / name
        lab(capsys, Question("herd", ["full:attempts=2"], "20", 1, 1, outage, file))
        drawn.append(file.read_bytes())
    assert b"<!-- no-retry -->" in drawn[0]
    assert b"<!-- full:attempts=2 -->" in drawn[0]
    assert drawn[1].startswith(b"\x89PNG")


@pytest.fixture
def lab_backoff(
    command: Callable[[str], tuple[int, str, str]],
) -> Callable[[str], tuple[int, str, str]]:
    """Exit code, output and errors of `chaosgrade lab backoff`."""
    return lambda arguments: command(f"lab backoff {arguments}")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--policy ful", "did you mean full"),
        ("--policy full:base=2,cap=1", "cap_s must be at least base_s (2), got 1"),
        ("--policy full --policy full", "policy 'full' is given twice"),
        ("--policy full:quota=9", "a quota goes with --scenario herd"),
        ("--scenario moon", "--scenario must be contention or herd, got 'moon'"),
        ("--clients 0", "--clients must be 1 to 10000, got 0"),
        ("--clients 10,,20", "--clients must be numbers such as 10,20,50, got '10,,20'"),
        ("--clients ten", "got 'ten'"),
        ("--clients 99999999", "--clients must be 1 to 10000, got 99999999"),
        ("--trials 0", "--trials must be at least 1, got 0"),
        ("--trials many", "--trials"),
        ("--seed -1", "--seed must be at least 0, got -1"),
        ("--capacity 9", "--capacity goes with --scenario herd"),
        ("--scenario herd --down 0", "down_s must be above 0, got 0"),
        ("--scenario herd --capacity 1e9", "requests are too many at a time"),
        ("--scenario herd --clients 5,6 --plot a.svg", "one number of clients at a time"),
        ("--plot picture.pdf", "--plot must end in .svg or .png, got 'picture.pdf'"),
        ("--plot nowhere/a.svg", "there is no folder"),
    ],
)
def test_a_mistake_is_one_line(
    lab_backoff: Callable[[str], tuple[int, str, str]], arguments: str, says: str
) -> None:
    """Exit code 2, and nothing on standard output."""
    code, output, errors = lab_backoff(arguments)
    assert code == 2
    assert output == ""
    assert says in errors
    assert len(errors.strip().splitlines()) == 1


def test_the_table_has_a_row_for_each_policy_and_size(
    lab_backoff: Callable[[str], tuple[int, str, str]],
) -> None:
    """For people: means and their spread, and how to repeat them."""
    code, output, errors = lab_backoff(
        "--clients 5,10 --trials 3 --seed 4 --policy full:attempts=2"
    )
    assert (code, errors) == (0, "")
    rows = [line for line in output.splitlines() if line.startswith("full:attempts=2")]
    assert len(rows) == 2
    assert all("±" in row for row in rows)
    assert "gave up" in output
    assert "--seed 4" in output


def test_the_herds_table_names_what_did_not_recover(
    lab_backoff: Callable[[str], tuple[int, str, str]],
) -> None:
    """A policy that keeps the dependency down is told by a word, not by a number."""
    code, output, _ = lab_backoff(
        "--scenario herd --clients 100 --capacity 50 --down 2 --after 12 --trials 1 "
        "--policy none:attempts=200"
    )
    assert code == 0
    (row,) = [line for line in output.splitlines() if line.startswith("none:attempts=200")]
    assert " not " in row
