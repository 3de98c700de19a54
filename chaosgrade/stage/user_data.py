"""What an instance's user data means on the stage: the variables that it exports, what it runs.

The script is not run: on the stage an image is the sample workload. Source: Amazon EC2 User Guide,
"Run commands when you launch an EC2 instance with user data input".
"""

import functools
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

_EXPORT, _RUN, _SUPERVISOR = "export", "exec", "systemd-run"


@dataclass(frozen=True, slots=True)
class UserData:
    """What a script says.

    Args:
        environment: {name: value} of its lines `export NAME=VALUE …`, quoted as in a shell; nothing
            is expanded.
        program: the last part of the path in its line `exec PATH`; "" without one.
        restart_s: after so many AWS seconds what has ended is started again, as with `exec
            systemd-run -p Restart=always -p RestartSec=SECONDS PATH`; None for never.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""
    restart_s: float | None = None


@functools.lru_cache(maxsize=64)
def read(script: str) -> UserData:
    """A script, read line by line."""
    environment: dict[str, str] = {}
    program, restart_s = "", None
    for line in script.splitlines():
        try:
            command, *words = shlex.split(line, comments=True) or [""]
        except ValueError:
            continue  # a quote that another line closes: neither of the two
        if command == _EXPORT:
            pairs = (word.partition("=") for word in words)
            environment |= {name: value for name, equals, value in pairs if equals}
        elif command == _RUN and words:
            if _last(words[0]) == _SUPERVISOR:
                restart_s, words = _supervised(words[1:])
            program = _last(words[0]) if words else ""
    return UserData(environment, program, restart_s)


def _last(path: str) -> str:
    return path.rpartition("/")[2]


def _supervised(words: Sequence[str]) -> tuple[float | None, list[str]]:
    """After what time systemd starts it again, None for never; and what it starts.

    Source: systemd-run(1); systemd.service(5), `Restart=` and `RestartSec=`, by default 100 ms.
    """
    properties: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-"):
        option = left.pop(0)
        if option == "-p" and left:
            option = left.pop(0)
        name, _, value = option.removeprefix("--property=").partition("=")
        properties[name] = value
    if properties.get("Restart") != "always":
        return None, left
    try:
        return float(properties.get("RestartSec", "0.1").removesuffix("s")), left
    except ValueError:
        return None, left
