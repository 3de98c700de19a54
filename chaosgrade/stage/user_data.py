"""What an instance's user data means on the stage: the variables that it exports, what it runs.

The script is not run: on the stage an image is the sample workload. Source: Amazon EC2 User Guide,
"Run commands when you launch an EC2 instance with user data input".
"""

import functools
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field

_EXPORT, _RUN = "export", "exec"


@dataclass(frozen=True, slots=True)
class UserData:
    """What a script says.

    Args:
        environment: {name: value} of its lines `export NAME=VALUE …`, quoted as in a shell; nothing
            is expanded.
        program: the last part of the path in its line `exec PATH`; "" without one.
    """

    environment: Mapping[str, str] = field(default_factory=dict)
    program: str = ""


@functools.lru_cache(maxsize=64)
def read(script: str) -> UserData:
    """A script, read line by line."""
    environment: dict[str, str] = {}
    program = ""
    for line in script.splitlines():
        try:
            command, *words = shlex.split(line, comments=True) or [""]
        except ValueError:
            continue  # a quote that another line closes: neither of the two
        if command == _EXPORT:
            pairs = (word.partition("=") for word in words)
            environment |= {name: value for name, equals, value in pairs if equals}
        elif command == _RUN and words:
            program = words[0].rpartition("/")[2]
    return UserData(environment, program)
