"""`chaosgrade observe`: what clients do, from a server that fails on purpose or from logs."""

import asyncio
import json
import math
import re
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperCommand

from chaosgrade.errors import Exit, UsageError

app = typer.Typer(help="Judge what others do: how clients retry.", rich_markup_mode=None)

_ANYWHERE = "127.0.0.1:0"
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|min|h)?")
_UNITS_S = {"ms": 0.001, "s": 1.0, None: 1.0, "m": 60.0, "min": 60.0, "h": 3600.0}
_LONGEST_S = 24 * 3600.0


@app.callback()
def _observe() -> None:
    """Keeps `retries` a name of its own, also while it is the only command."""


class _OptionalAddress(TyperCommand):
    """Takes `--serve` without an address too."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        given = list(args)
        for place, word in enumerate(args):
            if word == "--serve" and (place + 1 == len(args) or args[place + 1].startswith("-")):
                given[place] = f"--serve={_ANYWHERE}"
        return list(super().parse_args(ctx, given))


@dataclass(frozen=True, slots=True)
class _Serving:
    """How to serve.

    Args:
        address: "HOST:PORT", "HOST" or ":PORT".
        fault, retry_after, recover_after, outage: of `retry_server.Fault`.
        for_s: for how long, in seconds.
    """

    address: str
    fault: str
    retry_after: float | None
    recover_after: int | None
    outage: str | None
    for_s: float


@app.command(cls=_OptionalAddress)
def retries(
    serve: Annotated[
        str | None,
        typer.Option(
            "--serve",
            metavar="[HOST:PORT]",
            help="Serve HTTP and fail; point clients at it. On a free port of 127.0.0.1 "
            "when no address is given.",
        ),
    ] = None,
    log: Annotated[
        list[str] | None,
        typer.Option(
            "--log",
            metavar="FILE",
            help="A log: JSON lines, CSV or ALB, also gzipped; - for standard input, or "
            "s3://bucket/prefix. Repeatable.",
        ),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Of the log: json, csv or alb.")
    ] = None,
    idle: Annotated[
        str | None,
        typer.Option("--idle", metavar="TIME", help="A pause that begins a client's next request."),
    ] = None,
    fault: Annotated[
        str,
        typer.Option("--fault", help="What the server does: a status, throttling, reset or hang."),
    ] = "503",
    retry_after: Annotated[
        float | None,
        typer.Option("--retry-after", metavar="SECONDS", help="What it asks clients to wait."),
    ] = None,
    recover_after: Annotated[
        int | None,
        typer.Option("--recover-after", metavar="N", help="A request succeeds after N failures."),
    ] = None,
    outage: Annotated[
        str | None,
        typer.Option("--outage", metavar="TIME", help="Everything succeeds after this time."),
    ] = None,
    for_: Annotated[
        str, typer.Option("--for", metavar="TIME", help="How long to serve; Ctrl-C ends it too.")
    ] = "60s",
    policy: Annotated[
        Path | None, typer.Option("--policy", metavar="FILE", help="Other rules to judge by.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", metavar="FILE", help="A picture, .svg or .png.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document on standard output.")
    ] = False,
) -> None:
    """Name the backoff of clients and judge it: 0 sound, 1 a weakness, 3 cannot tell."""
    from chaosgrade.policies.backoff import judge_backoff, load_backoff_policy
    from chaosgrade.probes.backoff import observe
    from chaosgrade.report import retries as report
    from chaosgrade.report import retries_picture, terminal

    if bool(log) == (serve is not None):
        raise UsageError("give either --serve or --log: a server to retry against, or what it saw")
    rules = load_backoff_policy(policy)
    if plot is not None:
        retries_picture.checked(plot)
    idle_s = None if idle is None else _time_s("--idle", idle)
    console = Console(stderr=True, highlight=False)
    if serve is not None:
        serving = _Serving(serve, fault, retry_after, recover_after, outage, _time_s("--for", for_))
        arrivals = _served(serving, console)
    else:
        arrivals = _read(log or [], format, console)
    with console.status("finding out what explains the gaps"):
        found = observe(arrivals, idle_s)
    verdict = judge_backoff(found.behaviour, rules)
    if plot is not None:
        retries_picture.draw(found.behaviour, found.trace, plot)
    if as_json:
        print(json.dumps({**found.behaviour.to_json(), **verdict.to_json()}, indent=2))
    else:
        terminal.console().print(report.render(found.behaviour, verdict))
    codes = {"passed": Exit.HOLDS, "failed": Exit.WEAKNESS}
    raise typer.Exit(codes.get(verdict.verdict, Exit.INCONCLUSIVE))


def _read(logs: Sequence[str], format: str | None, console: Console) -> Any:
    from chaosgrade import session
    from chaosgrade.probes import retry_log

    with console.status(f"reading {', '.join(logs)}"):
        return retry_log.read(logs, format=format, aws=lambda: session.aws_of(None))


def _served(serving: _Serving, console: Console) -> Any:
    from chaosgrade.probes.retry_server import Fault

    fault = Fault(
        serving.fault,
        serving.retry_after,
        serving.recover_after,
        None if serving.outage is None else _time_s("--outage", serving.outage),
    )
    host, port = _address(serving.address)
    return asyncio.run(_serve(fault, host, port, serving.for_s, console))


async def _serve(fault: Any, host: str, port: int, for_s: float, console: Console) -> Any:
    from chaosgrade.probes.retry_server import RetryServer

    server = RetryServer(fault)
    url = await server.start(host, port)
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stopped.set)
    console.print(f"failing with {fault.kind} at {url} for {for_s:g} s; Ctrl-C ends it")
    ends = loop.time() + for_s
    try:
        with console.status("") as status:
            while not stopped.is_set() and (left := ends - loop.time()) > 0:
                status.update(f"{server.attempts} attempts, {left:.0f} s left")
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), min(0.5, left))
    finally:
        arrivals = await server.stop()
    return arrivals


def _address(given: str) -> tuple[str, int]:
    host, colon, port = given.rpartition(":")
    if not colon:
        host, port = given, "0"
    if not port.isdecimal() or int(port) > 65535:
        raise UsageError(f"--serve must be HOST:PORT with a port up to 65535, got {given!r}")
    return host.strip("[]") or "127.0.0.1", int(port)


def _time_s(option: str, given: str) -> float:
    match = _DURATION.fullmatch(given.strip())
    seconds = float(match.group(1)) * _UNITS_S[match.group(2)] if match else math.nan
    if not 0 < seconds <= _LONGEST_S:
        raise UsageError(f"{option} must be a time such as 30s, up to 24h, got {given!r}")
    return seconds
