"""Access logs of application load balancers: an entry for each request, a file for each node.

Files are published every five minutes of AWS time; what is a point in time in them is the clock on
the wall. Source: Elastic Load Balancing, User Guide for Application Load Balancers, "Access logs
for your Application Load Balancer" (entries, file names) and "Request tracing" (trace ids).
"""

import gzip
import re
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime

PUBLISHED_EVERY_S = 300
"""AWS seconds between two files of a node."""

NO_ANSWER = -1.0
"""In place of a time that nobody has seen."""

LEFT = 460
"""The status of a request whose client has left before the answer."""

_TRACE = re.compile(rb"\r\nx-amzn-trace-id[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_SELF = re.compile(rb"Self=[^;]*;?")
_AGENT = re.compile(rb"\r\nuser-agent[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)
_HOST = re.compile(rb"\r\nhost[ \t]*:[ \t]*([^\r\n]*)", re.IGNORECASE)


@dataclass(slots=True)
class Exchange:
    """A request and what has become of it.

    Args:
        request: as it went on, head and body.
        trace: the field X-Amzn-Trace-Id.
        client: "address:port".
        created_at: when its first byte came, in Unix seconds.
        target: "address:port"; "" while there is none.
        waited_s: from the request until it was sent to the target.
        answered_s: from then until the answer began.
        status, target_status: what the client and what the balancer was told; 0 for nothing.
        sent: bytes of the answer.
    """

    request: bytes
    trace: str
    client: str
    created_at: float
    target: str = ""
    waited_s: float = NO_ANSWER
    answered_s: float = NO_ANSWER
    status: int = 0
    target_status: int = 0
    sent: int = 0


def traced(request: bytes, now: float) -> tuple[bytes, str]:
    """A request with the trace id that a load balancer gives it, and that id.

    Who sends a root keeps it; the balancer adds itself.

    Args:
        request: the head at least.
        now: Unix seconds.
    """
    end = request.find(b"\r\n\r\n") + 2
    own = b"%x-%b" % (int(now), secrets.token_hex(12).encode())
    given = _TRACE.search(request, 0, end)
    if given is None:
        trace = b"Root=1-" + own
        line_end = request.find(b"\r\n")
        head, rest = request[:line_end], request[line_end:]
    else:
        others = _SELF.sub(b"", given[1]).strip()
        trace = b"Self=1-%b;%b" % (own, others) if others else b"Root=1-" + own
        head, rest = request[: given.start()], request[given.end() :]
    return head + b"\r\nX-Amzn-Trace-Id: " + trace + rest, trace.decode("latin-1")


def entry(exchange: Exchange, balancer: str, target_group: str, now: float) -> str:
    """The line of a request that is over.

    Args:
        balancer: as its ARN ends: "app/NAME/ID".
        target_group: its ARN.
        now: when the answer was sent, in Unix seconds.
    """
    head = exchange.request[: exchange.request.find(b"\r\n\r\n") + 2]
    method, _, rest = head.partition(b"\r\n")[0].partition(b" ")
    path, _, version = rest.partition(b" ")
    url = b"http://" + _field(_HOST, head) + path
    target, target_status = exchange.target or "-", exchange.target_status or "-"
    began = exchange.created_at + max(exchange.waited_s, 0.0) + max(exchange.answered_s, 0.0)
    passed_s = NO_ANSWER if exchange.answered_s == NO_ANSWER else max(now - began, 0.0)
    times = " ".join(_time(t) for t in (exchange.waited_s, exchange.answered_s, passed_s))
    return (
        f"http {_moment(now)} {balancer} {exchange.client} {target} {times} "
        f"{exchange.status or '-'} {target_status} {len(exchange.request)} {exchange.sent} "
        f'"{_text(b" ".join((method, url, version)))}" "{_text(_field(_AGENT, head))}" - - '
        f'{target_group if exchange.target else "-"} "{exchange.trace}" "-" "-" 0 '
        f'{_moment(exchange.created_at)} "forward" "-" "-" "{target}" "{target_status}" '
        f'"-" "-" TID_{secrets.token_hex(16)}'
    )


def file_name(balancer_arn: str, prefix: str, node: str, now: float) -> str:
    """The key of a file: where it is looked for by account, Region and day.

    Args:
        prefix: that customers chose; "" for none.
        node: the node's address.
        now: the end of what is in it, in Unix seconds.
    """
    _, _, _, region, account, resource = balancer_arn.split(":", 5)
    name = resource.removeprefix("loadbalancer/").replace("/", ".")
    end = datetime.fromtimestamp(now, UTC)
    folder = f"AWSLogs/{account}/elasticloadbalancing/{region}/{end:%Y/%m/%d}"
    file = f"{account}_elasticloadbalancing_{region}_{name}_{end:%Y%m%dT%H%MZ}_{node}"
    return f"{prefix + '/' if prefix else ''}{folder}/{file}_{secrets.token_hex(4)}.log.gz"


class AccessLog:
    """What one node has logged and not published.

    Args:
        balancer_arn: whose node it is.
        node: its address.
    """

    def __init__(self, balancer_arn: str, node: str) -> None:
        self._arn = balancer_arn
        self._node = node
        self._balancer = balancer_arn.partition(":loadbalancer/")[2]
        self._lines: list[str] = []
        self.bucket = ""
        """Where files go; "" logs nothing."""
        self.prefix = ""

    def add(self, exchange: Exchange, target_group: str, now: float) -> None:
        """A request is over."""
        if self.bucket:
            self._lines.append(entry(exchange, self._balancer, target_group, now))

    def take(self, now: float) -> tuple[str, bytes] | None:
        """(key, content) of the file that is due; None when there is nothing to tell."""
        if not self._lines:
            return None
        text = "\n".join(self._lines) + "\n"
        self._lines.clear()
        return file_name(self._arn, self.prefix, self._node, now), gzip.compress(text.encode(), 1)


def _field(name: re.Pattern[bytes], head: bytes) -> bytes:
    found = name.search(head)
    return found[1] if found else b"-"


def _text(value: bytes) -> str:
    """As in quotes: what is not printable ASCII, and quotes, are escaped."""
    text = value.decode("latin-1").replace("\\", "\\\\").replace('"', '\\"')
    return "".join(c if " " <= c <= "~" else f"\\x{ord(c):02x}" for c in text)


def _time(seconds: float) -> str:
    return "-1" if seconds == NO_ANSWER else f"{seconds:.3f}"


def _moment(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
