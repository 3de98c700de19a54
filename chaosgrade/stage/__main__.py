"""Runs a stage in the foreground: `python -m chaosgrade.stage`."""

import argparse
import json
import os
import resource
import signal
import sys
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, wait
from types import FrameType
from typing import Any, NoReturn

from chaosgrade import lifeline
from chaosgrade.errors import ChaosgradeError, UsageError
from chaosgrade.stage import fabric, template
from chaosgrade.stage.control_plane import ControlPlane
from chaosgrade.stage.fabric import AUTO, NAMES
from chaosgrade.stage.moto_import import import_moto
from chaosgrade.stage.timing import READY_TIMEOUT_S, TICK_S
from chaosgrade.stage.world import ACCOUNT

REGION = "us-east-1"
_SLOWEST, _FASTEST = 1.0, 100.0
_FILES = 65536
"""That each process of the stage may have open, if the machine lets it: a balancer holds two
connections for every request that hangs, and must not be what gives out."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(message)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = _Parser(prog="chaosgrade stage up", description=__doc__)
    parser.add_argument("--template", default="three-tier")
    parser.add_argument("--parameter", action="append", default=[])
    parser.add_argument("--time-scale", type=float, default=20.0)
    parser.add_argument("--fabric", default=AUTO)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    if not _SLOWEST <= options.time_scale <= _FASTEST:
        raise UsageError(
            f"--time-scale must be from {_SLOWEST:g} to {_FASTEST:g}, got {options.time_scale:g}"
        )
    if not 0 <= options.port <= 65535:
        raise UsageError(f"--port must be from 0 to 65535, got {options.port}")
    if options.fabric not in NAMES:
        raise UsageError(f"--fabric must be one of {', '.join(NAMES)}, got {options.fabric!r}")
    return options


class Told:
    """Whether somebody asked the stage to end.

    An exception out of a signal handler is raised within whatever the main thread is at; an import
    or a finaliser that catches everything swallows it. So a signal is remembered, and the main
    thread leaves the stage's work to another one, to be free to look.
    """

    def __init__(self) -> None:
        self.to_end = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._remember)

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.to_end = True


def _allow_connections() -> None:
    """Raise the limit of open files, which children inherit, above what is usual at first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def run(argv: list[str], told: Told) -> None:
    """Run until told to stop.

    Raises:
        ChaosgradeError: an argument is wrong, or the stage does not come up.
    """
    options = _arguments(argv)
    chosen = template.load(options.template, options.parameter, REGION)
    _allow_connections()
    # Here, not in the other thread: to the kernel, this one is what its children die with.
    plane = ControlPlane(chosen, REGION, options.time_scale, fabric.choose(options.fabric))
    try:
        playing = ThreadPoolExecutor(1, "stage").submit(_play, plane, chosen, options)
        while not told.to_end and not playing.done():
            wait([playing], TICK_S)
        if not told.to_end:
            playing.result()
    finally:
        plane.stop()


def _play(plane: ControlPlane, chosen: template.Template, options: argparse.Namespace) -> NoReturn:
    document = _come_up(plane, chosen, options)
    _say(document, as_json=options.json)
    while True:
        time.sleep(TICK_S)
        plane.tick()
        plane.check_children()


def _come_up(
    plane: ControlPlane, chosen: template.Template, options: argparse.Namespace
) -> dict[str, Any]:
    import_moto(REGION)
    from chaosgrade.stage.endpoint import Endpoint

    plane.build()
    document: dict[str, Any] = {}
    assert plane.data is not None  # noqa: S101 - built above
    endpoint = Endpoint(
        options.port,
        plane.listen_within,
        plane.lock,
        plane.follow,
        lambda: document,
        plane.pools,
        plane.data,
        plane.unable,
    )
    variables = {
        "AWS_ENDPOINT_URL": endpoint.url,
        "AWS_ACCESS_KEY_ID": "stage",
        "AWS_SECRET_ACCESS_KEY": "stage",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_REGION": REGION,
    }
    plane.variables = {**variables, "AWS_ENDPOINT_URL": endpoint.url_within}
    document.update(
        endpoint=endpoint.url,
        env=variables,
        balancers=plane.balancer_urls,
        dns="",  # known once it listens
        databases={each.identifier: each.endpoint for each in plane.databases.all()},
        caches={group.id: group.primary_endpoint for group in plane.caches.all()},
        metadata=plane.metadata_url,
        fabric=plane.fabric.name,
        time_scale=options.time_scale,
        template=chosen.name,
        parameters=dict(chosen.parameters),
        stage_id=uuid.uuid4().hex[:12],
        region=REGION,
        account=ACCOUNT,
        zones=list(plane.world.zones),
    )
    deadline = time.monotonic() + READY_TIMEOUT_S
    plane.tick()
    while not plane.ready():
        if time.monotonic() > deadline:
            raise UsageError(
                f"template {chosen.name}: not every target became healthy within "
                f"{READY_TIMEOUT_S:g} s; check its health check and BootSeconds"
            )
        time.sleep(TICK_S / 5)
        plane.tick()
    document["dns"] = plane.names.server
    return document


def _say(document: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(document), flush=True)
        return
    print(
        f"The stage is up at {document['endpoint']}: template {document['template']}, "
        f"time ×{document['time_scale']:g}, fabric {document['fabric']}.\n"
        "Ctrl-C stops it and everything on it.\n"
    )
    for name, value in document["env"].items():
        print(f"export {name}={value}")
    print()
    for name, url in document["balancers"].items():
        print(f"balancer {name}: {url}")
    for name, endpoint in document["databases"].items():
        print(f"database {name}: {endpoint} by the name server at {document['dns']}")
    for name, endpoint in document["caches"].items():
        print(f"cache {name}: {endpoint} by the name server at {document['dns']}")
    sys.stdout.flush()


def main() -> None:
    """The command: exits with 0 when told to stop, 2 when something was wrong."""
    if parent := os.environ.get("CHAOSGRADE_PARENT"):
        lifeline.die_with_parent(parent=int(parent))
    told = Told()
    code = 0
    try:
        run(sys.argv[1:], told)
    except BrokenPipeError:  # nobody reads what it says
        pass
    except ChaosgradeError as error:
        print(f"chaosgrade: {error}", file=sys.stderr)
        code = error.exit_code
    sys.stderr.flush()
    os._exit(code)  # request threads of a busy client must not delay the end


if __name__ == "__main__":
    main()
