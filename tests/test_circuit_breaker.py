"""The circuit breaker: closed, open, half-open, from several threads and tasks."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Event

import pytest

from chaosgrade.errors import UsageError
from chaosgrade.policies.circuit_breaker import CircuitBreaker, CircuitOpen, State


class Clock:
    """Moves when told."""

    now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


def fail() -> None:
    raise ConnectionError


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> CircuitBreaker:
    return CircuitBreaker(failures=3, open_s=10.0, failed_on=(ConnectionError,), now=clock)


def hurt(breaker: CircuitBreaker, times: int) -> None:
    for _ in range(times):
        with pytest.raises(ConnectionError):
            breaker.call(fail)


def test_failures_in_a_row_open_it(breaker: CircuitBreaker) -> None:
    """Then no call is made, and the refusal says for how long."""
    hurt(breaker, 2)
    assert breaker.state is State.CLOSED
    hurt(breaker, 1)
    assert breaker.state is State.OPEN
    with pytest.raises(CircuitOpen, match="another 10 s") as refused:
        breaker.call(lambda: pytest.fail("the call was made"))
    assert refused.value.retry_after_s == 10.0


def test_a_success_between_failures_keeps_it_closed(breaker: CircuitBreaker) -> None:
    """Only failures in a row count."""
    for _ in range(5):
        hurt(breaker, 2)
        assert breaker.call(lambda: "ok") == "ok"
    assert breaker.state is State.CLOSED


def test_an_exception_that_is_an_answer_is_no_failure(breaker: CircuitBreaker) -> None:
    """A dependency that says "no such key" is well; its answer passes through."""
    hurt(breaker, 2)
    with pytest.raises(KeyError):
        breaker.call(lambda: {}["no such key"])
    hurt(breaker, 2)
    assert breaker.state is State.CLOSED


def test_a_probe_that_succeeds_closes_it(breaker: CircuitBreaker, clock: Clock) -> None:
    """And failures are counted from zero again."""
    hurt(breaker, 3)
    clock.now_s += 10
    assert breaker.state is State.HALF_OPEN
    assert breaker.call(lambda: "ok") == "ok"
    assert breaker.state is State.CLOSED
    hurt(breaker, 2)
    assert breaker.state is State.CLOSED


def test_a_probe_that_fails_opens_it_anew(breaker: CircuitBreaker, clock: Clock) -> None:
    """One failure is enough then, and the time begins again."""
    hurt(breaker, 3)
    clock.now_s += 11
    hurt(breaker, 1)
    assert breaker.state is State.OPEN
    clock.now_s += 9.5
    with pytest.raises(CircuitOpen) as refused:
        breaker.call(fail)
    assert refused.value.retry_after_s == pytest.approx(0.5)


def test_one_probe_is_let_through_at_a_time(breaker: CircuitBreaker, clock: Clock) -> None:
    """While it is under way all others are refused: a herd of probes would be no rest."""
    hurt(breaker, 3)
    clock.now_s += 10
    under_way, answer = Event(), Event()

    def probe() -> str:
        under_way.set()
        assert answer.wait(30)
        return "ok"

    with ThreadPoolExecutor(1) as pool:
        probing = pool.submit(breaker.call, probe)
        assert under_way.wait(30)
        for _ in range(3):
            with pytest.raises(CircuitOpen) as refused:
                breaker.call(lambda: "ok")
            assert refused.value.retry_after_s == 0.0
        answer.set()
        assert probing.result() == "ok"
    assert breaker.call(lambda: "ok") == "ok"


@pytest.mark.parametrize("late_one_fails", [False, True])
def test_a_call_from_before_tells_nothing_of_now(
    breaker: CircuitBreaker, clock: Clock, late_one_fails: bool
) -> None:
    """A call that began while it was closed does not close it, nor open it, when it ends later."""

    def slow() -> None:
        hurt(breaker, 3)  # meanwhile, others have opened it
        if late_one_fails:
            raise ConnectionError

    if late_one_fails:
        with pytest.raises(ConnectionError):
            breaker.call(slow)
    else:
        breaker.call(slow)
    assert breaker.state is State.OPEN
    clock.now_s += 10
    breaker.call(lambda: None)
    assert breaker.state is State.CLOSED


async def test_tasks_share_it(breaker: CircuitBreaker, clock: Clock) -> None:
    """The same states with coroutines."""

    async def bad() -> None:
        raise ConnectionError

    async def good() -> str:
        return "ok"

    for _ in range(3):
        with pytest.raises(ConnectionError):
            await breaker.call_async(bad)
    with pytest.raises(CircuitOpen):
        await breaker.call_async(good)
    clock.now_s += 10
    assert await breaker.call_async(good) == "ok"
    assert breaker.state is State.CLOSED


async def test_a_probe_that_is_cancelled_leaves_the_next_one_to_find_out(
    breaker: CircuitBreaker, clock: Clock
) -> None:
    """Nothing was learnt from it: it neither closes the circuit nor blocks it for ever."""
    hurt(breaker, 3)
    clock.now_s += 10
    under_way = asyncio.Event()

    async def hangs() -> None:
        under_way.set()
        await asyncio.Event().wait()

    probe = asyncio.ensure_future(breaker.call_async(hangs))
    await under_way.wait()
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert breaker.state is State.HALF_OPEN
    assert breaker.call(lambda: "ok") == "ok"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: CircuitBreaker(0), "failures must be at least 1, got 0"),
        (lambda: CircuitBreaker(open_s=0), "open_s must be above 0, got 0"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Callable[[], object], says: str) -> None:
    """One line that names the number and shows it."""
    with pytest.raises(UsageError, match=says):
        make()
