"""Names of operations in services that tell them by method and path only."""

import re
from functools import cache

import botocore.session

SERVICES = ("fis",)
"""Services of this kind that the stage plays, by the name that requests are signed for."""


def operation(service: str, method: str, path: str) -> str:
    """The operation's name, such as "StartExperiment"; "" when the service has none there."""
    if service not in SERVICES:
        return ""
    for name, known_method, pattern in _operations(service):
        if known_method == method and pattern.fullmatch(path):
            return name
    return ""


@cache
def _operations(service: str) -> list[tuple[str, str, re.Pattern[str]]]:
    """(name, method, pattern of the path), those with the longest fixed part first."""
    model = botocore.session.get_session().get_service_model(service)
    found = []
    for name in model.operation_names:
        http = model.operation_model(name).http
        uri = str(http["requestUri"])
        parts = re.split(r"\{\w+\}", uri)
        pattern = re.compile("[^/]+".join(re.escape(part) for part in parts))
        # A tagged resource's ARN has slashes in it.
        if "{resourceArn}" in uri:
            pattern = re.compile(".+".join(re.escape(part) for part in parts))
        found.append((name, str(http["method"]), pattern))
    return sorted(found, key=lambda one: -len(one[2].pattern))
