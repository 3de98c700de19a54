"""One health check of one target: a fresh connection, one question, one result."""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from chaosgrade.stage import health_checks
from chaosgrade.stage.health_checks import Result


@dataclass(frozen=True, slots=True)
class Check:
    """How targets are checked; seconds are measured ones, divided by the time scale already.

    Args:
        protocol: "HTTP", or "TCP" where a connection is all that is asked for.
        port: None for the port that receives traffic.
        healthy, unhealthy: thresholds, in consecutive checks.
        matcher: HTTP codes that pass, such as "200" or "200-299".
    """

    protocol: str
    port: int | None
    path: str
    interval_s: float
    timeout_s: float
    healthy: int
    unhealthy: int
    matcher: str

    @classmethod
    def of(cls, fields: Mapping[str, Any], scale: float) -> Self:
        """From an order's fields, in AWS seconds."""
        return cls(
            protocol=fields["protocol"],
            port=fields["port"],
            path=fields["path"] or "/",
            interval_s=fields["interval_s"] / scale,
            timeout_s=fields["timeout_s"] / scale,
            healthy=fields["healthy"],
            unhealthy=fields["unhealthy"],
            matcher=fields["matcher"] or "200",
        )


async def look(check: Check, host: str, port: int, source: str) -> Result:
    """Check the target at `host`, whose traffic goes to `port`, from the address `source`."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(check.timeout_s):
            reader, writer = await asyncio.open_connection(
                host, check.port or port, local_addr=(source, 0)
            )
            if check.protocol == "TCP":
                return Result()
            writer.write(
                f"GET {check.path} HTTP/1.1\r\nHost: {host}:{check.port or port}\r\n"
                "User-Agent: ELB-HealthChecker/2.0\r\nConnection: close\r\n\r\n".encode()
            )
            line = await reader.readline()
        version, status = line.split(b" ", 2)[:2]
        if not version.startswith(b"HTTP/1."):
            return Result(health_checks.FAILED, "Health checks failed")
        code = int(status)
    except TimeoutError:
        return Result(health_checks.TIMEOUT, "Request timed out")
    except (OSError, ValueError):
        return Result(health_checks.FAILED, "Health checks failed")
    finally:
        if writer is not None:
            with suppress(OSError):
                writer.transport.abort()
    if health_checks.matches(code, check.matcher):
        return Result()
    return Result(health_checks.MISMATCH, f"Health checks failed with these codes: [{code}]")
