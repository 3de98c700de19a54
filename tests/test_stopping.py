"""A request to stop outlives whoever swallows its exception."""

import os
import signal
import threading
from contextlib import suppress

import pytest
from chaoslib.exceptions import InterruptExecution

from chaosgrade.stopping import StopRequest
from chaosgrade.trial import Halt


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_swallowed_signal_is_remembered(number: int) -> None:
    """The next step raises again."""
    stop = StopRequest()
    with stop.on_signals():
        with suppress(BaseException):
            os.kill(os.getpid(), number)
        assert stop.requested
        with pytest.raises(InterruptExecution, match=signal.Signals(number).name):
            stop.check()
        with pytest.raises(InterruptExecution):
            stop.wait(60)


def test_the_former_handler_is_called_and_comes_back() -> None:
    """Whoever handled the signal before still does."""
    seen: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with StopRequest().on_signals():
            os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert seen == [signal.SIGTERM, signal.SIGTERM]


def test_what_is_ignored_stays_ignored() -> None:
    """nohup means it, to the command as to Chaos Toolkit below it."""
    former = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        stop = StopRequest()
        with stop.on_signals(), Halt().on_signals() as halt:
            os.kill(os.getpid(), signal.SIGHUP)
            stop.check()
        assert not halt.requested
    finally:
        signal.signal(signal.SIGHUP, former)


def test_without_a_request_everything_goes_on() -> None:
    """Waits end by themselves."""
    stop = StopRequest()
    stop.check()
    stop.wait(0.001)
    assert not stop.requested


def test_a_second_signal_does_not_cut_short_what_the_first_has_led_to() -> None:
    """It comes while whoever was interrupted is on its way to the undo."""
    seen: list[int] = []
    former = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:
        with StopRequest().on_signals():
            for _ in range(3):
                os.kill(os.getpid(), signal.SIGTERM)
    finally:
        signal.signal(signal.SIGTERM, former)
    assert seen == [signal.SIGTERM]


def test_what_opens_is_opened_before_a_stop_takes_effect() -> None:
    """Half a run could not be closed."""
    stop = StopRequest()
    with stop.on_signals():
        opening = stop.deferred()
        opening.__enter__()
        os.kill(os.getpid(), signal.SIGTERM)
        with pytest.raises(InterruptExecution, match="SIGTERM"):
            opening.__exit__(None, None, None)


def test_a_wait_ends_when_another_thread_requests_a_stop() -> None:
    """A stop condition, which no signal tells of."""
    stop = StopRequest()
    asking = threading.Timer(0.05, stop.request, ("too much",))
    asking.start()
    with pytest.raises(InterruptExecution, match="too much"):
        stop.wait(60)
    asking.join()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2])
def test_what_undoes_is_not_interrupted(number: int) -> None:
    """However often it is told to stop; that it was told is known all the same.

    Chaos Toolkit's own ways to end a run are the last two.
    """
    seen: list[int] = []
    former = signal.signal(number, lambda number, frame: seen.append(number))
    try:
        stop = StopRequest()
        with stop.on_signals():
            stop.begin_undo()
            os.kill(os.getpid(), number)
    finally:
        signal.signal(number, former)
    assert (seen, stop.requested) == ([], True)
