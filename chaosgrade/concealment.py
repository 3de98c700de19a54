"""Keeps secrets out of whatever is written: evidence, journal, log, report, terminal.

A secret is known by its value, so it is found wherever a message quotes it: the values of
environment variables with a telling name, what an experiment's `secrets:` block resolves to, and
the credentials that the AWS SDK has loaded. Passwords in URLs and the tokens of presigned ones are
known by their place. A value of fewer than `SHORTEST` characters is not concealed: as a word of any
text ("test", the key of every emulator) it would make that text unreadable and still be guessed.
"""

import json
import logging
import os
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, TextIO

SHORTEST = 8
CONCEALED = "[concealed]"

_TELLING = re.compile(
    r"SECRET|TOKEN|PASSWORD|PASSWD|PASSPHRASE|CREDENTIAL|PRIVATE_?KEY|API_?KEY|ACCESS_?KEY(?!_ID)",
    re.IGNORECASE,
)
_IN_URL = re.compile(
    r"(?<=://)[^/\s@'\"]*:[^/\s@'\"]*(?=@)"
    r"|(?<=X-Amz-Security-Token=)[^&\s'\"]+|(?<=X-Amz-Signature=)[^&\s'\"]+",
    re.IGNORECASE,
)

_learnt: set[str] = set()


def learn(secrets: Any) -> None:
    """Conceal every string in `secrets` from now on: one, or any nesting of mappings and lists."""
    _learnt.update(_strings(secrets))


def learn_named(values: Mapping[str, Any]) -> None:
    """Conceal the values that go by a telling name, such as "db_password"."""
    learn([value for name, value in values.items() if _TELLING.search(name)])


def conceal(text: str) -> str:
    """`text` with `CONCEALED` in place of each secret, also as JSON would write it."""
    known = frozenset(_learnt | {v for k, v in os.environ.items() if _TELLING.search(k)})
    pattern = _pattern(known)
    return _IN_URL.sub(CONCEALED, pattern.sub(CONCEALED, text) if pattern else text)


def conceal_all[T](value: T) -> T:
    """A copy of JSON-like data with every string in it concealed, keys too."""
    match value:
        case str():
            return conceal(value)  # type: ignore[return-value]
        case Mapping():
            return {conceal_all(k): conceal_all(v) for k, v in value.items()}  # type: ignore[return-value]
        case list() | tuple():
            return type(value)(map(conceal_all, value))
        case _:
            return value


class ConcealingStream:
    """A text stream that conceals what is written to it, each write for itself.

    Args:
        stream: where it goes.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(conceal(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class ConcealingFormatter(logging.Formatter):
    """Conceals what another formatter makes of a log record.

    Args:
        formatter: the other; None means logging's own.
    """

    def __init__(self, formatter: logging.Formatter | None) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()

    def format(self, record: logging.LogRecord) -> str:
        return conceal(self._formatter.format(record))


@lru_cache(maxsize=8)
def _pattern(secrets: frozenset[str]) -> re.Pattern[str] | None:
    long = [secret for secret in secrets if len(secret) >= SHORTEST]
    # As it is, as one line of an error, and as Python and JSON quote it.
    forms = {form for secret in long for form in (secret, " ".join(secret.split()))}
    forms |= {repr(form)[1:-1] for form in forms}
    forms |= {json.dumps(form)[1:-1] for form in forms}
    # The longest first: one secret may begin another.
    ordered = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered))) if ordered else None


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for inner in value.values():
            yield from _strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _strings(inner)
