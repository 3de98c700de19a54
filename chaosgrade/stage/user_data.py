"""What an instance's user data means on the stage: the variables that it exports.

The script is not run: on the stage an image is the sample workload. Source: Amazon EC2 User Guide,
"Run commands when you launch an EC2 instance with user data input".
"""

import functools
import shlex
from collections.abc import Mapping

_EXPORT = "export"


@functools.lru_cache(maxsize=64)
def exports(script: str) -> Mapping[str, str]:
    """{name: value} of its lines `export NAME=VALUE …`, quoted as in a shell, nothing expanded."""
    found: dict[str, str] = {}
    for line in script.splitlines():
        try:
            command, *words = shlex.split(line, comments=True) or [""]
        except ValueError:
            continue  # a quote that the next line closes: no line of the kind that is read here
        if command == _EXPORT:
            pairs = (word.partition("=") for word in words)
            found |= {name: value for name, equals, value in pairs if equals}
    return found
