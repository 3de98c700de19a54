"""The instance metadata service: what an instance can ask about itself, with IMDSv2 tokens.

It knows the caller by its address: an instance's process connects from its own. There is no IMDSv1.
Source: Amazon EC2 User Guide, "Access instance metadata for an EC2 instance" and "Instance metadata
categories".
"""

import json
import secrets
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from chaosgrade.stage.world import ACCOUNT, Host

ENDPOINT_VARIABLE = "AWS_EC2_METADATA_SERVICE_ENDPOINT"
"""Where SDKs look for the service's address."""

_TTL_HEADER = "X-aws-ec2-metadata-token-ttl-seconds"
_TOKEN_HEADER = "X-aws-ec2-metadata-token"  # noqa: S105 - a header's name
_LONGEST_TTL_S = 21_600


@dataclass(frozen=True, slots=True)
class Instance:
    """What an instance is told; times are Unix seconds.

    Args:
        host: the instance.
        lifecycle_target: the state that Auto Scaling moves it to, such as "InService"; None for
            one of no group.
        recommended_at: when EC2 recommended to rebalance it; None before.
        ends_at: when EC2 takes it back; None before the interruption notice.
    """

    host: Host
    lifecycle_target: str | None = None
    recommended_at: float | None = None
    ends_at: float | None = None


def documents(instance: Instance, region: str) -> dict[str, str]:
    """{path below /latest/: what is there} of an instance."""
    host = instance.host
    found = {
        "meta-data/ami-id": host.image,
        "meta-data/instance-id": host.id,
        "meta-data/instance-life-cycle": "spot" if host.spot else "on-demand",
        "meta-data/instance-type": host.instance_type,
        "meta-data/local-ipv4": host.address,
        "meta-data/placement/availability-zone": host.zone,
        "meta-data/placement/region": region,
        "dynamic/instance-identity/document": json.dumps(
            {
                "accountId": ACCOUNT,
                "architecture": "x86_64",
                "availabilityZone": host.zone,
                "imageId": host.image,
                "instanceId": host.id,
                "instanceType": host.instance_type,
                "privateIp": host.address,
                "region": region,
                "version": "2017-09-30",
            },
            indent=2,
        ),
    }
    if instance.lifecycle_target is not None:
        found["meta-data/autoscaling/target-lifecycle-state"] = instance.lifecycle_target
    if instance.recommended_at is not None:
        notice = json.dumps({"noticeTime": _when(instance.recommended_at)})
        found["meta-data/events/recommendations/rebalance"] = notice
    if instance.ends_at is not None:
        end = _when(instance.ends_at)
        action = json.dumps({"action": "terminate", "time": end})
        found["meta-data/spot/instance-action"] = action
        found["meta-data/spot/termination-time"] = end
    return found


def _when(unix_s: float) -> str:
    return f"{datetime.fromtimestamp(unix_s, UTC):%Y-%m-%dT%H:%M:%SZ}"


class InstanceMetadata:
    """The service, on a free port of a loopback address.

    Args:
        address: where.
        region: where the instances are.
    """

    def __init__(self, address: str, region: str) -> None:
        self.region = region
        self._instances: Mapping[str, Instance] = {}
        self._tokens: dict[str, tuple[str, float]] = {}
        self._lock = threading.Lock()
        service = self

        class Handler(_Handler):
            metadata = service

        self._server = ThreadingHTTPServer((address, 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://{address}:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, name="metadata", daemon=True).start()

    def tell(self, instances: Mapping[str, Instance]) -> None:
        """From now on tell this.

        Args:
            instances: running ones, by their addresses.
        """
        self._instances = instances

    def known(self, address: str) -> Instance | None:
        """The instance at an address."""
        return self._instances.get(address)

    def token(self, address: str, ttl_s: int) -> str:
        """A new token for an address, good for some real seconds."""
        token = secrets.token_urlsafe(40)
        now = time.monotonic()
        with self._lock:
            self._tokens = {t: known for t, known in self._tokens.items() if known[1] > now}
            self._tokens[token] = address, now + ttl_s
        return token

    def accepts(self, token: str, address: str) -> bool:
        """Whether a token is good at an address."""
        with self._lock:
            owner, until = self._tokens.get(token, ("", 0.0))
        return owner == address and time.monotonic() < until


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version = "EC2ws"
    sys_version = ""
    metadata: InstanceMetadata

    def log_message(self, format: str, *args: object) -> None:
        return

    def do_PUT(self) -> None:
        """Ask for a token."""
        address = self.client_address[0]
        text = self.headers.get(_TTL_HEADER, "")
        if self.path != "/latest/api/token":
            self._answer(405)
        elif self.metadata.known(address) is None or "X-Forwarded-For" in self.headers:
            self._answer(403)
        elif not text.isdecimal() or not 1 <= int(text) <= _LONGEST_TTL_S:
            self._answer(400)
        else:
            token = self.metadata.token(address, int(text))
            self._answer(200, token, {_TTL_HEADER: text})

    def do_GET(self) -> None:
        """Ask for what is at a path; one that ends in a slash lists what is below it."""
        address = self.client_address[0]
        instance = self.metadata.known(address)
        token = self.headers.get(_TOKEN_HEADER, "")
        if instance is None or not self.metadata.accepts(token, address):
            self._answer(401)
            return
        path = self.path.removeprefix("/latest/")
        found = documents(instance, self.metadata.region)
        below = {p.removeprefix(path) for p in found if path.endswith("/") and p.startswith(path)}
        if path.rstrip("/") in found:
            self._answer(200, found[path.rstrip("/")])
        elif below:
            # A folder is told with its slash.
            listed = {"".join(name.partition("/")[:2]) for name in below}
            self._answer(200, "\n".join(sorted(listed)))
        else:
            self._answer(404)

    def _answer(
        self, status: int, text: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if self.command == "PUT" and int(self.headers.get("Content-Length") or 0):
            self.close_connection = True  # what follows is a body, and nobody reads it
        self.end_headers()
        with suppress(BrokenPipeError):  # who asked has given up
            self.wfile.write(body)
