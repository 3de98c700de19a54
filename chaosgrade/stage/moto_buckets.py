"""Buckets of Amazon S3 as moto keeps them, for services of AWS that write into them."""

from typing import Any

from moto.backends import get_backend
from moto.utilities.utils import get_partition

from chaosgrade.stage.world import ACCOUNT


def exists(region: str, bucket: str) -> bool:
    """Whether there is a bucket of that name."""
    return bucket in _backend(region).buckets


def put(region: str, bucket: str, key: str, content: bytes) -> None:
    """Put an object.

    Raises:
        LookupError: there is no such bucket.
    """
    if not exists(region, bucket):
        raise LookupError(f"there is no bucket {bucket}")
    _backend(region).put_object(bucket, key, content)


def _backend(region: str) -> Any:
    return get_backend("s3")[ACCOUNT][get_partition(region)]
