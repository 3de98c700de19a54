"""Amazon Resource Names."""

import botocore.exceptions
import botocore.session

from chaosgrade.errors import UsageError


def partition(region: str) -> str:
    """The partition of a Region, such as "aws" or "aws-cn".

    Raises:
        UsageError: it is in no partition that botocore knows.
    """
    try:
        return str(botocore.session.get_session().get_partition_for_region(region))
    except botocore.exceptions.UnknownRegionError:
        raise UsageError(f"Region {region} is in no partition that botocore knows") from None
