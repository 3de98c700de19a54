"""Reads settings of any kinds at once, and waits until they are what they should be."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

from chaosgrade.aws import PARALLELISM, Aws, ResourceGone
from chaosgrade.changes.model import Live, Reading, Setting
from chaosgrade.errors import AwsError, ChaosgradeError

_FIRST_POLL_S, _LAST_POLL_S = 0.1, 2.0


def read(aws: Aws, settings: Iterable[Setting]) -> dict[Setting, Reading]:
    """What each setting is now. An error is a value here: it concerns the settings that it hit."""
    by_kind: dict[type[Setting], list[Setting]] = {}
    for setting in dict.fromkeys(settings):
        by_kind.setdefault(type(setting), []).append(setting)
    return {
        setting: reading
        for kind, group in by_kind.items()
        for setting, reading in _read_kind(aws, kind, group).items()
    }


def _read_kind(
    aws: Aws, kind: type[Setting], settings: Sequence[Setting]
) -> Mapping[Setting, Reading]:
    try:
        found = kind.read_all(aws, settings)
    except ResourceGone as error:
        # The call as a whole found something missing: that says nothing about any one setting.
        return dict.fromkeys(settings, AwsError(str(error), code=error.code))
    except ChaosgradeError as error:
        return dict.fromkeys(settings, error)
    except Exception as error:  # an answer of a shape that nobody expected is not a value
        name = type(error).__name__
        unreadable = AwsError(f"{kind.kind} could not be read: {name}: {error}", code=name)
        return dict.fromkeys(settings, unreadable)
    return {
        setting: found.get(setting)
        or ResourceGone(f"{setting.resource.id} does not exist any more", code="NotFound")
        for setting in settings
    }


def one_by_one[S: Setting](
    aws: Aws, settings: Sequence[S], one: Callable[[Aws, S], Live]
) -> dict[S, Reading]:
    """`read_all` for an API that tells of one resource at a time: side by side."""

    def reading(setting: S) -> Reading:
        try:
            return one(aws, setting)
        except ChaosgradeError as error:
            return error

    with ThreadPoolExecutor(PARALLELISM) as pool:
        return dict(zip(settings, pool.map(reading, settings), strict=True))


def wait_until(
    aws: Aws,
    settings: Iterable[Setting],
    done: Callable[[Setting, Reading], bool],
    *,
    timeout_s: float,
    give_up: Callable[[], bool] = lambda: False,
) -> dict[Setting, Reading]:
    """Read until `done` with every setting, or the time is over; the last readings.

    Args:
        aws: where.
        settings: which.
        done: whether a reading needs no further look.
        timeout_s: measured seconds.
        give_up: asked between two looks.
    """
    waiting, last = list(dict.fromkeys(settings)), dict[Setting, Reading]()
    for _ in looks(timeout_s, give_up):
        last.update(read(aws, waiting))
        waiting = [setting for setting in waiting if not done(setting, last[setting])]
        if not waiting:
            break
    return last


def looks(timeout_s: float, give_up: Callable[[], bool] = lambda: False) -> Iterator[None]:
    """Yield for each look: at once, then at growing intervals, a last time when the time is over.

    Args:
        timeout_s: measured seconds.
        give_up: asked between two looks.
    """
    deadline = time.monotonic() + timeout_s
    pause = _FIRST_POLL_S
    while True:
        yield
        left = deadline - time.monotonic()
        if left <= 0 or give_up():
            return
        time.sleep(min(pause, left))
        pause = min(_LAST_POLL_S, pause * 1.5)
