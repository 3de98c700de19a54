"""Which calls of the AWS API are made, by whomever in this process, and what IAM calls them."""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import botocore.exceptions
import botocore.session

type ApiCalls = set[tuple[str, str]]
"""(service, operation) as boto3 and the API name them: ("elbv2", "DescribeTargetHealth")."""

# botocore tells of every request here, at DEBUG, with the operation's model and its parameters.
_LOGGER = logging.getLogger("botocore.endpoint")

# IAM's prefix where it is not the name that requests are signed for. Source: Service Authorization
# Reference, "Service prefix" of each service.
_PREFIXES = {"iotdata": "iot", "monitoring": "cloudwatch", "tagging": "tag"}

# IAM's action where it is not the operation's name. Source: the same, and Amazon S3 User Guide,
# "Required permissions for Amazon S3 API operations".
_ACTIONS = {
    ("lambda", "Invoke"): "InvokeFunction",
    ("s3", "HeadBucket"): "ListBucket",
    ("s3", "HeadObject"): "GetObject",
    ("s3", "ListBuckets"): "ListAllMyBuckets",
    ("s3", "ListObjects"): "ListBucket",
    ("s3", "ListObjectsV2"): "ListBucket",
}


class _Recorder(logging.Handler):
    """Keeps the operation of each request that is logged, and nothing of its parameters."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.calls: ApiCalls = set()

    def emit(self, record: logging.LogRecord) -> None:
        # `handle` holds the handler's lock. Only requests carry an operation's model.
        operation = record.args[0] if isinstance(record.args, tuple) and record.args else None
        service = getattr(operation, "service_model", None)
        if service is not None:
            self.calls.add((str(service.service_name), str(getattr(operation, "name", ""))))


class _Tap:
    """The logger, opened for recorders and for nobody else while there is one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorders: list[_Recorder] = []
        self._former: tuple[int, bool, bool, list[logging.Handler], list[object]] | None = None

    def add(self, recorder: _Recorder) -> None:
        with self._lock:
            if not self._recorders:
                self._former = (
                    _LOGGER.level,
                    _LOGGER.propagate,
                    _LOGGER.disabled,
                    list(_LOGGER.handlers),
                    list(_LOGGER.filters),
                )
                # At DEBUG the parameters are in the records: no other log is to get them.
                _LOGGER.propagate, _LOGGER.disabled = False, False
                _LOGGER.handlers[:], _LOGGER.filters[:] = [], []
            self._recorders.append(recorder)
            _LOGGER.addHandler(recorder)
            _LOGGER.setLevel(logging.DEBUG)

    def remove(self, recorder: _Recorder) -> None:
        with self._lock:
            self._recorders.remove(recorder)
            _LOGGER.removeHandler(recorder)
            if not self._recorders and self._former is not None:
                level, propagate, disabled, handlers, filters = self._former
                _LOGGER.setLevel(level)
                _LOGGER.propagate, _LOGGER.disabled = propagate, disabled
                _LOGGER.handlers[:], _LOGGER.filters[:] = handlers, filters  # type: ignore[assignment]  # as they were


_tap = _Tap()


@contextmanager
def recorded() -> Iterator[ApiCalls]:
    """Yields the set of AWS calls that botocore makes in the block, from any thread, ours or not.

    It grows as calls are made. Blocks may overlap. Parameters are neither kept nor logged anywhere.

    Raises:
        RuntimeError: logging is switched off in this process, so that no call would be seen.
    """
    recorder = _Recorder()
    _tap.add(recorder)
    try:
        if not _LOGGER.isEnabledFor(logging.DEBUG):
            raise RuntimeError("logging.disable() keeps AWS calls from being seen")
        yield recorder.calls
    finally:
        _tap.remove(recorder)


def iam_action(service: str, operation: str) -> str:
    """What IAM calls an operation, such as "elasticloadbalancing:DescribeTargetHealth".

    Args:
        service: as boto3 names it, or the name that requests are signed for.
        operation: as the API names it.
    """
    name = _signing_name(service)
    prefix = _PREFIXES.get(name, name)
    return f"{prefix}:{_ACTIONS.get((prefix, operation), operation)}"


@lru_cache(maxsize=64)
def _signing_name(service: str) -> str:
    try:
        model = botocore.session.get_session().get_service_model(service)
    except botocore.exceptions.UnknownServiceError:
        return service  # a signing name already, such as "elasticloadbalancing"
    return str(model.signing_name)
