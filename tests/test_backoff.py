"""Families of backoff from arrival times alone, or why they cannot be told."""

import json
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from chaosgrade.policies.backoff import judge_backoff, load_backoff_policy
from chaosgrade.probes.arrivals import UNKNOWN, Arrivals, Requests
from chaosgrade.probes.backoff import observe, retry_behaviour
from chaosgrade.probes.backoff_families import FAMILIES
from chaosgrade.probes.retry_herd import peak_to_mean
from chaosgrade.retries import RetryBehaviour
from scripts.backoff_confusion import answers, rates, trials
from tests.synthetic_retries import Client, arrivals, recorded


def seen(client: Client, clients: int = 100, **options: float | int) -> RetryBehaviour:
    return observe(arrivals(client, clients, **options)).behaviour  # type: ignore[arg-type]


@pytest.mark.parametrize("family", FAMILIES)
def test_each_family_is_named_through_20_ms_of_noise(family: str) -> None:
    """Its parameters come out within 15%, and that clients stop after five attempts."""
    behaviour = seen(Client(family))
    assert behaviour.family == family, behaviour
    assert behaviour.attempts == (1 if family == "no-retry" else 5)
    assert behaviour.attempts_limited
    assert behaviour.clients == behaviour.requests == 100
    assert behaviour.reasons
    if family not in ("no-retry", "none"):
        assert behaviour.base_s == pytest.approx(0.5, rel=0.15)
        assert behaviour.cap_s is None
    width = {
        "full-jitter": 0.5, "equal-jitter": 0.25, "decorrelated-jitter": 1.0,
        "additive-jitter": 0.5, "multiplicative-jitter": 0.2,
    }  # fmt: skip
    if family != "no-retry":
        assert behaviour.jitter_s == pytest.approx(width.get(family, 0.0), rel=0.15)


@pytest.mark.parametrize("family", ["full-jitter", "exponential", "decorrelated-jitter"])
def test_a_cap_is_found_after_a_first_retry_at_once(family: str) -> None:
    """Both modifiers together; the number of the retry counts the immediate one."""
    behaviour = seen(Client(family, base_s=0.1, cap_s=1.0, immediate=True, attempts=7))
    assert behaviour.family == family, behaviour
    assert behaviour.first_retry_immediate
    assert behaviour.base_s == pytest.approx(0.1, rel=0.15)
    assert behaviour.cap_s == pytest.approx(1.0, rel=0.15)


def test_a_cap_that_hides_the_growth_leaves_several_curves() -> None:
    """0, 0.4, 0.7, 0.7 …: what doubled, and what grew by a step or as Fibonacci's, look alike."""
    behaviour = seen(Client("exponential", base_s=0.2, cap_s=0.7, immediate=True, attempts=7), 30)
    assert behaviour.family == "inconclusive"
    assert "exponential" in behaviour.odds


def test_noise_without_any_width_is_no_trouble() -> None:
    """Equal gaps to the last digit are a fixed backoff."""
    behaviour = seen(Client("fixed", base_s=0.25), noise_s=0.0)
    assert behaviour.family == "fixed"
    assert behaviour.base_s == pytest.approx(0.25, rel=0.05)


@pytest.mark.parametrize("family", ["full-jitter", "equal-jitter", "additive-jitter"])
def test_one_client_with_jitter_is_not_enough(family: str) -> None:
    """Below seven random gaps full jitter imitates equal jitter too often."""
    behaviour = seen(Client(family), clients=1)
    assert behaviour.family == "inconclusive"
    assert behaviour.reasons


def test_two_retries_do_not_tell_linear_from_exponential() -> None:
    """1, 2 is the beginning of both; the reason names them and the remedy."""
    behaviour = seen(Client("exponential", attempts=3))
    assert behaviour.family == "inconclusive"
    assert "linear" in behaviour.reasons[0]
    assert "retries" in behaviour.reasons[0]
    assert behaviour.jitter_share == 0.0, "that it has no jitter is certain all the same"


def test_curves_that_coincide_are_both_named() -> None:
    """With a cap of three bases, linear and exponential make 1, 2, 3, 3."""
    behaviour = seen(Client("linear", base_s=0.4, cap_s=1.2))
    assert behaviour.family == "inconclusive"
    assert "exponential" in behaviour.reasons[0]


def test_clients_that_differ_are_no_family() -> None:
    """Half of them wait for ever longer, half do not: the mixture is neither."""
    slow, quick = arrivals(Client("exponential"), 50), arrivals(Client("fixed"), 50)
    both = recorded(
        [*slow.client, *(quick.client + 50)], [*slow.time, *quick.time], until=slow.until
    )
    behaviour = observe(both).behaviour
    assert behaviour.family == "inconclusive"
    assert "clients may differ" in " ".join(behaviour.reasons)


def test_a_quadratic_backoff_is_no_family() -> None:
    """What is not on the list is not forced into it."""
    draw = np.random.default_rng(1)
    who, when = [], []
    for client in range(60):
        time = draw.uniform(0, 5)
        for n in range(6):
            who.append(client)
            when.append(time)
            time += 0.3 * (n + 1) ** 2 + draw.uniform(0, 0.01)
    behaviour = observe(recorded(who, when)).behaviour
    assert behaviour.family == "inconclusive", behaviour


def test_spread_between_noise_and_jitter_is_neither() -> None:
    """40 ms on a fixed gap may be a busy machine, or jitter: nothing else tells."""
    behaviour = seen(Client("fixed"), noise_s=0.045)
    assert behaviour.family == "inconclusive"
    assert {"fixed", "additive-jitter"} <= set(behaviour.odds)


def test_late_timers_widen_what_counts_as_noise() -> None:
    """The same spread that is jitter on a punctual machine is none on one that is late."""
    punctual = arrivals(Client("fixed"), 100, noise_s=0.15)
    assert observe(punctual).behaviour.family == "additive-jitter"
    late = replace(punctual, late_s=0.15)
    assert observe(late).behaviour.family != "additive-jitter"


@pytest.mark.parametrize("family", ["fixed", "exponential", "full-jitter"])
def test_a_busy_machine_adds_no_jitter(family: str) -> None:
    """One gap in three is late by 100 ms and more: the others show where the range ends."""
    behaviour = seen(Client(family), busy_s=0.1)
    assert behaviour.family == family, behaviour
    assert behaviour.base_s == pytest.approx(0.5, rel=0.15)


def test_waits_as_long_as_the_jitter_leave_doubts() -> None:
    """What tells families apart drowns in them; the remedy is a machine that is less busy."""
    behaviour = seen(Client("additive-jitter", jitter_s=0.3), clients=30, busy_s=2.0)
    assert behaviour.family in ("additive-jitter", "inconclusive"), behaviour
    late = replace(arrivals(Client("full-jitter"), 30), late_s=9.0)
    behaviour = observe(late).behaviour
    assert behaviour.family == "inconclusive"
    assert "less busy" in " ".join(behaviour.reasons)


def test_clients_whose_machine_stood_still_are_observed_again() -> None:
    """All that was due meanwhile comes at once, and looks like gaps of other lengths."""
    base = arrivals(Client("additive-jitter", jitter_s=1.0), 30)
    middle = float(np.median(base.time))
    time = base.time.copy()
    for client in np.unique(base.client):
        rows = np.flatnonzero(base.client == client)
        missed = rows[(time[rows] >= middle) & (time[rows] < middle + 2.0)][:1]
        if len(missed):
            time[rows[rows >= missed[0]]] += middle + 2.0 - time[missed[0]]
    behaviour = observe(replace(base, time=time, ended=np.full(len(time), np.nan))).behaviour
    assert behaviour.family == "inconclusive", behaviour
    assert "stands still" in behaviour.reasons[0]


def test_parameters_drawn_at_random_are_recognised() -> None:
    """The confusion matrix of `make classifier` in small."""
    told = answers(trials(100, 1, seed=4711), 1, Console(quiet=True))
    right, conclusive = rates(told)
    assert right == 1.0, told
    assert conclusive > 0.8, told


def test_nothing_failed_is_inconclusive() -> None:
    """Whoever had no reason to retry has shown nothing."""
    calm = arrivals(Client("no-retry"), 20)
    behaviour = observe(replace(calm, status=np.full(20, 200))).behaviour
    assert behaviour.family == "inconclusive"
    assert "nothing to retry" in behaviour.reasons[0]
    assert observe(calm.take(np.arange(0))).behaviour.family == "inconclusive"


def test_one_unretried_failure_is_too_few() -> None:
    """Its retry may have been to come."""
    assert seen(Client("no-retry"), clients=1).family == "inconclusive"


def test_failures_that_were_hardly_watched_do_not_show_who_never_retries() -> None:
    """A log that ends at the moment of the outage says nothing of what came after it."""
    calm = arrivals(Client("no-retry"), 20)
    behaviour = observe(replace(calm, until=float(calm.time.max()))).behaviour
    assert behaviour.family == "inconclusive"
    assert "may be to come" in behaviour.reasons[0]
    assert judge_backoff(behaviour, load_backoff_policy()).verdict == "inconclusive"


def with_answers(base: Arrivals, retry_after_s: float, honoured: bool) -> Arrivals:
    """The same clients, asked to wait, and doing so or not."""
    asked = np.full(len(base), retry_after_s)
    if not honoured:
        return replace(base, retry_after=asked)
    time = base.time.copy()
    for client in np.unique(base.client):
        rows = np.flatnonzero(base.client == client)
        time[rows] = time[rows[0]] + np.arange(len(rows)) * (retry_after_s + 0.003)
    return replace(base, time=time, retry_after=asked)


def test_retry_after_is_honoured_or_ignored() -> None:
    """Honoured, it hides the backoff; ignored, the backoff shows all the same."""
    base = arrivals(Client("full-jitter"), 40)
    ignoring = observe(with_answers(base, 20.0, honoured=False)).behaviour
    assert (ignoring.retry_after, ignoring.family) == ("ignored", "full-jitter")
    honouring = observe(with_answers(base, 20.0, honoured=True)).behaviour
    assert (honouring.retry_after, honouring.family) == ("honoured", "inconclusive")
    assert "Retry-After" in honouring.reasons[0]
    assert observe(base).behaviour.retry_after == "not-seen"
    rounded = replace(with_answers(base, 2.0, honoured=True), retry_after=np.full(len(base), 1.5))
    assert observe(rounded).behaviour.retry_after == "honoured", "the header has whole seconds"


def test_a_deadline_shows_where_attempts_differ() -> None:
    """Full jitter makes more or fewer attempts before the same moment."""
    behaviour = seen(Client("full-jitter", attempts=40, cap_s=1.0, deadline_s=4.0))
    assert behaviour.deadline_s == pytest.approx(4.0, rel=0.15)
    assert behaviour.attempts is None
    assert behaviour.attempts_limited


def test_a_quota_shows_in_requests_that_are_no_longer_retried() -> None:
    """35 retries are granted to each client; requests after that are tried once."""
    who, what, when = [], [], []
    for client in range(3):
        granted = 35
        for request in range(30):
            time = request * 10.0
            for attempt in range(3):
                if attempt and not granted:
                    break
                granted -= bool(attempt)
                who.append(client)
                what.append(request)
                when.append(time)
                time += 0.5
    quiet = recorded(who, when, until=1e4)
    behaviour = observe(replace(quiet, request=np.array(what))).behaviour
    assert behaviour.retry_quota == 35


def test_a_family_in_doubt_bounds_no_gap() -> None:
    """A second and a second, by a clock of seconds: what comes next may be anything."""
    behaviour = observe(Arrivals.of(["a"] * 3, [0.0, 1.0, 2.0], [503] * 3)).behaviour
    assert behaviour.family == "inconclusive"
    assert behaviour.longest_gap_s is None


def test_a_record_without_statuses_says_what_was_made_of_it() -> None:
    """Attempts that succeeded cannot be told from retries."""
    base = arrivals(Client("fixed"), 12)
    told = observe(base).behaviour.reasons
    silent = observe(replace(base, status=np.full(len(base), UNKNOWN))).behaviour.reasons
    assert silent[:-1] == told
    assert "tells no status" in silent[-1]


def test_an_observation_that_ends_early_shows_no_limit() -> None:
    """Clients that have just made their fifth attempt may be about to make a sixth."""
    base = arrivals(Client("exponential"), 30, spread_s=0.1)
    behaviour = observe(replace(base, until=float(base.time.max()))).behaviour
    assert behaviour.family == "exponential"
    assert behaviour.attempts_limited is None


def test_recovery_is_measured_from_the_first_success() -> None:
    """Until 95% of those who waited were answered."""
    base = arrivals(Client("fixed", base_s=1.0, attempts=8), 40, spread_s=1.0)
    healed = base.time.min() + 4.0
    kept = np.ones(len(base), dtype=bool)
    status = np.where(base.time >= healed, 200, 503)
    for client in np.unique(base.client):
        good = np.flatnonzero((base.client == client) & (status == 200))
        kept[good[1:]] = False
    behaviour = observe(replace(base, status=status).take(kept)).behaviour
    assert behaviour.recovery_s == pytest.approx(0.95, abs=0.15)
    assert behaviour.attempts is None, "nobody was seen to give up"


def healing(client: Client, healed_s: float, until_s: float) -> Arrivals:
    """Forty clients, which fail before a moment and succeed after it, as seen up to another."""
    base = arrivals(client, 40, spread_s=1.0)
    well = base.time >= base.time.min() + healed_s
    more = np.zeros(len(base), dtype=bool)
    for number in np.unique(base.client):
        more[np.flatnonzero((base.client == number) & well)[1:]] = True
    until = float(base.time.min()) + until_s
    seen = replace(base, status=np.where(well, 200, 503), until=until)
    return seen.take(~more & (base.time <= until))


def test_who_still_waits_in_the_end_has_not_been_served() -> None:
    """Some come back at once; for the others, that they are not back yet is no speed."""
    client = Client("full-jitter", base_s=4.0, attempts=9)
    early = observe(healing(client, 20.0, until_s=22.0)).behaviour
    assert early.recovery_s is None
    assert early.recovery_at_least_s == pytest.approx(2.0, abs=1.0)
    verdict = judge_backoff(early, load_backoff_policy())
    assert [r.verdict for r in verdict.rulings if r.rule == "recovery_s"] == ["inconclusive"]
    late = observe(healing(client, 20.0, until_s=4000.0)).behaviour
    assert late.recovery_s is not None
    assert late.recovery_s > 10


def test_who_never_retries_waits_for_no_recovery() -> None:
    """Their requests are lost and over; the next ones succeed."""
    calm = arrivals(Client("no-retry"), 20)
    end = float(calm.time.max())
    behaviour = observe(
        Arrivals.of([*calm.client, 99], [*calm.time, end + 9], [503] * 20 + [200], until=end + 300)
    ).behaviour
    assert (behaviour.family, behaviour.recovery_at_least_s) == ("no-retry", None)
    assert judge_backoff(behaviour, load_backoff_policy()).verdict == "passed"


def test_successes_do_not_hide_how_often_clients_try_while_all_fails() -> None:
    """Nineteen of twenty succeed at the second attempt: the others show how far all would go."""
    base = arrivals(Client("full-jitter", attempts=8), 400)
    lucky, attempt = base.client % 20 > 0, Requests.of(base).number
    status = np.where(lucky & (attempt == 2), 200, 503)
    mixed = replace(base, status=status).take(~lucky | (attempt <= 2))
    assert np.mean(Requests.of(mixed).sizes) == pytest.approx(2.3)
    assert observe(mixed).behaviour.amplification == pytest.approx(8.0)


@pytest.mark.parametrize("attempts", [3, 8, 10])
def test_a_herd_is_one_however_often_it_comes_back(attempts: int) -> None:
    """And gaps that grow by a factor make none: most of the time passes before the last."""
    for family in ("full-jitter", "equal-jitter", "decorrelated-jitter"):
        client = Client(family, base_s=0.05, cap_s=20.0, attempts=attempts)
        peak = peak_to_mean(Requests.of(arrivals(client, 60)))
        assert peak is not None
        assert peak < 12, family
    for family in ("fixed", "exponential"):
        peak = peak_to_mean(Requests.of(arrivals(Client(family, attempts=attempts), 60)))
        assert peak is not None
        assert peak > 25, family
    assert peak_to_mean(Requests.of(arrivals(Client("fixed", attempts=3), 25))) is None


def test_one_straggler_is_no_herd() -> None:
    """Its last retry comes a minute late: all others are not at once for that."""
    base = arrivals(Client("full-jitter", base_s=0.1), 100)
    time = base.time.copy()
    time[np.flatnonzero(base.client == 0)[-1]] += 60.0
    behaviour = observe(replace(base, time=time)).behaviour
    assert behaviour.peak_to_mean is not None
    assert behaviour.peak_to_mean < 10


def test_times_in_any_order_and_twice_are_the_same_observation() -> None:
    """Lines that are there twice are left out, and that is said."""
    base = arrivals(Client("equal-jitter"), 60)
    order = np.random.default_rng(1).permutation(len(base))
    shuffled = observe(base.take(np.concatenate((order, order[:20])))).behaviour
    assert shuffled.family == "equal-jitter"
    assert any("twice" in line for line in shuffled.left_out)
    every = np.arange(len(base))
    thrice = observe(base.take(np.concatenate((every, every, every)))).behaviour
    assert (thrice.family, thrice.attempts) == ("equal-jitter", 5)


def test_a_clock_that_goes_back_costs_its_requests_only() -> None:
    """Their gaps mean nothing; the others count, and what was left out is said."""
    base = arrivals(Client("full-jitter"), 60)
    time = base.time.copy()
    for client in range(10):
        rows = np.flatnonzero(base.client == client)
        time[rows[2:]] -= 3600.0
    behaviour = observe(replace(base, time=time)).behaviour
    assert behaviour.family == "full-jitter"
    assert behaviour.clients == 50
    assert "clock" in behaviour.left_out[0]


def test_times_in_whole_seconds_are_taken_for_what_they_are() -> None:
    """A clock of seconds still shows 4, 8, 16, 32 s, and never makes it jitter."""
    base = arrivals(Client("exponential", base_s=4.0), 60)
    behaviour = observe(replace(base, time=np.floor(base.time))).behaviour
    assert behaviour.family in ("exponential", "inconclusive")
    assert behaviour.nearest == "exponential"


def test_the_probe_of_chaos_toolkit_tells_json() -> None:
    """From arrivals as JSON, with the fields that the command prints."""
    base = arrivals(Client("full-jitter"), 30)
    rows = [
        {"client": f"c{client}", "time": time, "status": 503}
        for client, time in zip(base.client.tolist(), base.time.tolist(), strict=True)
    ]
    document = json.loads(json.dumps(retry_behaviour(arrivals=rows)))
    assert document["family"] == "full-jitter"
    assert {
        "first_retry_immediate", "base_s", "factor", "cap_s", "jitter_s", "attempts", "clients",
        "reasons",
    } <= set(document)  # fmt: skip


def test_columns_of_a_program_are_an_observation() -> None:
    """Clients by name, times and statuses are enough; what does not fit is refused."""
    base = arrivals(Client("fixed"), 12)
    names = [f"worker-{number}" for number in base.client.tolist()]
    behaviour = observe(Arrivals.of(names, base.time, base.status, until=base.until)).behaviour
    assert (behaviour.family, behaviour.clients, behaviour.attempts) == ("fixed", 12, 5)
    with pytest.raises(ValueError, match="as long as time"):
        Arrivals.of(["a"], [0.0, 1.0])
    with pytest.raises(ValueError, match="finite, got nan"):
        Arrivals.of(["a", "a"], [0.0, float("nan")])
