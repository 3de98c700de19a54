"""Cuts HTTP/1 messages out of a stream of bytes, and takes off what is meant for one hop only.

Source: RFC 9112 "HTTP/1.1", sections 6 (message body) and 9 (connection management).
"""

import re
from typing import Protocol

MAX_HEAD = 65536
_MAX_CHUNK_LINE = 4096
_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|expect)[ \t]*:[ \t]*([^\r\n]*)"
)
_ONE_HOP = re.compile(
    rb"\r\n(?:connection|proxy-connection|keep-alive|upgrade|expect)[ \t]*:[^\r\n]*", re.IGNORECASE
)
_NO_BODY = frozenset((204, 304))


class Malformed(Exception):
    """A message that is not HTTP/1, or larger than this proxy takes."""


class _Body(Protocol):
    whole: bool

    def take(self, data: bytes) -> int:
        """How many of these bytes belong to the body."""
        ...


class _Counted:
    """A body of known length."""

    def __init__(self, length: int) -> None:
        self._left = length
        self.whole = length == 0

    def take(self, data: bytes) -> int:
        taken = min(self._left, len(data))
        self._left -= taken
        self.whole = self._left == 0
        return taken


class _UntilClose:
    """A body that ends with its connection."""

    whole = False

    def take(self, data: bytes) -> int:
        return len(data)


class _Chunks:
    """A body in chunks, which pass as they are; only their end has to be found."""

    def __init__(self) -> None:
        self.whole = False
        self._line = b""
        self._left = 0
        self._trailer = False

    def take(self, data: bytes) -> int:
        at = 0
        while at < len(data) and not self.whole:
            if self._left:
                step = min(self._left, len(data) - at)
                self._left -= step
                at += step
                continue
            end = data.find(b"\n", at)
            self._line += data[at:] if end < 0 else data[at:end]
            if len(self._line) > _MAX_CHUNK_LINE:
                raise Malformed("a chunk's size line of more than 4 KiB")
            if end < 0:
                return len(data)
            at = end + 1
            line, self._line = self._line.strip(), b""
            if self._trailer:
                self.whole = not line
                continue
            size = _number(line.split(b";")[0].strip(), base=16)
            self._trailer = size == 0
            self._left = size + 2 if size else 0  # with the line end that follows
        return at


class Message:
    """One message of a stream.

    Args:
        is_response: how its first line reads.
        without_body: an answer to HEAD.
        extra: header lines to add, each with its line end.
    """

    __slots__ = (
        "_body", "_extra", "_head", "_is_response", "_without_body",
        "begun", "expects", "first_line", "keep_alive", "status", "whole",
    )  # fmt: skip

    def __init__(
        self, *, is_response: bool, without_body: bool = False, extra: bytes = b""
    ) -> None:
        self._is_response = is_response
        self._without_body = without_body
        self._extra = extra
        self._head = b""
        self._body: _Body | None = None
        self.first_line = b""
        self.status = 0
        """Of an answer, once its head is there."""
        self.begun = False
        """A byte of it has been seen."""
        self.whole = False
        self.keep_alive = True
        """The sender keeps the connection open after this message."""
        self.expects = False
        """The sender waits for "100 Continue" before it sends the body."""

    @property
    def ends_with_connection(self) -> bool:
        """Whether only the end of the connection tells that it is whole."""
        return isinstance(self._body, _UntilClose)

    def feed(self, data: bytes) -> tuple[bytes, bytes]:
        """Take in bytes.

        Returns:
            those to pass on, and those that belong to the next message.

        Raises:
            Malformed: this is not HTTP/1.
        """
        self.begun = True
        head = b""
        while self._body is None:
            data = self._head + data if self._head else data
            end = data.find(b"\r\n\r\n")
            if end > MAX_HEAD or (end < 0 and len(data) > MAX_HEAD):
                raise Malformed("a head of more than 64 KiB")
            if end < 0:
                self._head = data
                return b"", b""
            self._head = b""
            head = self._read_head(data[:end])
            data = data[end + 4 :]
        taken = self._body.take(data) if data else 0
        self.whole = self._body.whole
        if taken == len(data):
            return head + data, b""
        return head + data[:taken], data[taken:]

    def _read_head(self, head: bytes) -> bytes:
        """Understand a head; returns it as it goes on."""
        first, _, _ = head.partition(b"\r\n")
        words = first.split(b" ", 2)
        if len(words) < 2:
            raise Malformed(f"no HTTP: {first[:60]!r}")
        status = 0
        if self._is_response:
            version = words[0]
            status = _number(words[1])
            if 100 <= status < 200:
                return b""  # "100 Continue" and its like are for this hop: the answer follows
        else:
            version = words[-1]
        if not version.startswith(b"HTTP/1."):
            raise Malformed(f"no HTTP/1: {first[:60]!r}")
        self.first_line, self.status = first, status
        length: int | None = None
        chunked = False
        self.keep_alive = version != b"HTTP/1.0"
        for name, value in _FRAMING.findall(head.lower()):
            if name == b"content-length":
                number = _number(value.strip())
                if length not in (None, number):
                    raise Malformed("two lengths")
                length = number
            elif name == b"transfer-encoding":
                chunked = value.strip().endswith(b"chunked")
            elif name == b"connection":
                self.keep_alive = self.keep_alive and b"close" not in value
            else:
                self.expects = value.strip() == b"100-continue"
        if chunked and length is not None:
            raise Malformed("a length and chunks")
        self._body = self._framing(status, length, chunked=chunked)
        return _ONE_HOP.sub(b"", head) + b"\r\n" + self._extra + b"\r\n"

    def _framing(self, status: int, length: int | None, *, chunked: bool) -> _Body:
        if self._without_body or status in _NO_BODY:
            return _Counted(0)
        if chunked:
            return _Chunks()
        if length is None and self._is_response:
            self.keep_alive = False
            return _UntilClose()
        return _Counted(length or 0)


def _number(digits: bytes, *, base: int = 10) -> int:
    # int() would also take signs, blanks and underscores.
    if not digits.isalnum():
        raise Malformed(f"no number: {digits[:20]!r}")
    try:
        return int(digits, base)
    except ValueError:
        raise Malformed(f"no number: {digits[:20]!r}") from None
