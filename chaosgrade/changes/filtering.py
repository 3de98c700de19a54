"""What EC2 describes of many resources at once."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import batched
from typing import Any

from chaosgrade.aws import Aws, Call

_VALUES = 200
"""Of one filter. Source: Amazon EC2 API Reference, "Filter"."""


def filtered(
    aws: Aws,
    operation: str,
    key: str,
    name: str,
    values: Iterable[str],
    also: Iterable[Mapping[str, Any]] = (),
) -> Iterator[Any]:
    """Everything that a filter lets through, however many values it has.

    Args:
        aws: where.
        operation: a describe operation, such as "DescribeInstances".
        key: of its answer, such as "Reservations".
        name: of the filter, such as "subnet-id".
        values: of the filter, each asked for once; nothing is asked for none.
        also: other filters, as EC2 has them.
    """
    for some in batched(dict.fromkeys(values), _VALUES):
        filters = [{"Name": name, "Values": list(some)}, *also]
        yield from aws.pages(Call("ec2", operation, {"Filters": filters, "MaxResults": 1000}), key)
