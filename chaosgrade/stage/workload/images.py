"""The images of products, in a bucket of Amazon S3 that keeps their versions.

Source: Amazon S3 User Guide, "Retaining multiple versions of objects with S3 Versioning".
"""

from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from chaosgrade.stage.workload.aws_client import AwsClient


class UnknownImage(Exception):
    """The product has none."""


@dataclass(frozen=True, slots=True)
class Stored:
    """What S3 says of an image.

    Args:
        etag: as HTTP has it, quotes included.
        version: "null" in a bucket that keeps no versions.
    """

    etag: str
    version: str


@dataclass(frozen=True, slots=True)
class Image:
    """An image."""

    body: bytes
    kind: str
    stored: Stored


class Images:
    """Reads and writes images.

    Args:
        bucket: its name.
    """

    def __init__(self, bucket: str, client: AwsClient) -> None:
        self._bucket = bucket
        self._client = client

    async def read(self, product: str) -> Image:
        """The last version.

        Raises:
            UnknownImage, AwsUnavailable: as the names say.
        """

        def work(s3: Any) -> Image:
            answer = s3.get_object(Bucket=self._bucket, Key=product)
            return Image(answer["Body"].read(), str(answer["ContentType"]), _stored(answer))

        try:
            return await self._client.run(work, "NoSuchKey")
        except ClientError as error:
            raise UnknownImage(f"product {product} has no image") from error

    async def write(self, product: str, body: bytes, kind: str) -> Stored:
        """Store another version.

        Args:
            kind: its content type.

        Raises:
            AwsUnavailable: whether it is there is not known.
        """
        answer = await self._client.run(
            lambda s3: s3.put_object(Bucket=self._bucket, Key=product, Body=body, ContentType=kind)
        )
        return _stored(answer)


def _stored(answer: dict[str, Any]) -> Stored:
    return Stored(str(answer["ETag"]), str(answer.get("VersionId", "null")))
