"""Secrets reach no output: canaries are hidden wherever a real run could pick one up."""

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs

import pytest

from chaosgrade import concealment
from chaosgrade.concealment import CONCEALED, ConcealingStream, conceal, conceal_all
from chaosgrade.errors import Exit
from tests.safety.emulator import Emulator, emulator
from tests.safety.inventory import REGION, ZONE

# Every command has a limit of its own: a busy machine takes long for many, and none has hung.
pytestmark = pytest.mark.timeout(600)

CANARIES = {
    "AWS_SECRET_ACCESS_KEY": "canary/secret+key0123456789ABCDEFGHIJKLM",
    "AWS_SESSION_TOKEN": "canary-session-token//0123456789==",
    "DATABASE_PASSWORD": 'canary "quoted\\" p\u00e4ssword',
    "PLAIN_NAME": "canary-of-an-env-secret",
}
INLINE = "canary-written-into-the-experiment"
IN_URL = "canary-of-a-url"

EXPERIMENT = f"""
title: canaries
description: every way a secret can get in
controls:
  - name: chaosgrade
    provider: {{type: python, module: chaosgrade.control}}
configuration:
  database_password: {{type: env, key: DATABASE_PASSWORD}}
secrets:
  database: {{password: {{type: env, key: PLAIN_NAME}}}}
  service: {{key: {INLINE}}}
extensions:
  - name: chaosgrade
    pattern: multi-az
    pillar: multi-data-center
    window: 1s
    observers:
      - {{probe: traffic, url: "http://user:{IN_URL}@127.0.0.1:9/", rate: 5}}
    objectives:
      - {{metric: availability, at_least: 1%, because: nothing answers}}
steady-state-hypothesis:
  title: the service is asked with its password, which it quotes
  probes:
    - type: probe
      name: ask
      tolerance: 200
      provider: {{type: http, url: "http://user:{IN_URL}@127.0.0.1:PORT/"}}
method:
  - type: probe
    name: a process that echoes what it was given
    provider:
      type: process
      path: sh
      arguments: ["-c", "echo $PLAIN_NAME; echo $DATABASE_PASSWORD $AWS_SECRET_ACCESS_KEY >&2"]
      secrets: [database, service]
  - type: action
    name: black-hole
    provider:
      type: python
      module: chaosgrade.actions.zones
      func: black_hole_zone
      arguments: {{zone: {ZONE}}}
"""


class Telltale(Emulator):
    """Refuses some calls with an error that quotes everything the caller has.

    It says that it is a stage, whose baseline takes seconds and not a minute.
    """

    refused: tuple[str, ...] = ()
    quoted: tuple[str, ...] = ()

    def __call__(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        if environ["PATH_INFO"] == "/_chaosgrade/stage":
            told = {"env": {"AWS_ENDPOINT_URL": self.url}, "time_scale": 100.0, "dns": ""}
            told |= {"fabric": "none", "template": "telltale", "parameters": {}}
            content = json.dumps(told).encode()
            start("200 OK", [("Content-Length", str(len(content)))])
            return [content]
        if environ["PATH_INFO"] == "/" and self.refused:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            body = environ["wsgi.input"].read(length)
            if parse_qs(body.decode()).get("Action", ["?"])[0] in self.refused:
                said = " ".join(self.quoted)
                said += f" http://user:{IN_URL}@example.org/?X-Amz-Security-Token={IN_URL}"
                content = (
                    "<Response><Errors><Error><Code>InvalidParameterValue</Code><Message>"
                    + said.replace("&", "&amp;").replace("<", "&lt;")
                    + "</Message></Error></Errors><RequestID>r</RequestID></Response>"
                ).encode()
                start("400 Bad Request", [("Content-Length", str(len(content)))])
                return [content]
            environ["wsgi.input"] = io.BytesIO(body)
        return super().__call__(environ, start)


class Quoting(BaseHTTPRequestHandler):
    """Answers with what it was asked, as a debug page does."""

    def do_GET(self) -> None:
        content = " ".join([*CANARIES.values(), str(self.headers)]).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        return


@pytest.fixture(scope="module")
def quoting() -> Iterator[int]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Quoting)
    Thread(target=server.serve_forever, daemon=True).start()
    yield server.server_address[1]
    server.shutdown()
    server.server_close()


def found(text: str) -> list[str]:
    """Canaries, and recognizable parts of them, in a text."""
    return sorted(set(re.findall(r"canary[\w/+=\"\\ -]{0,30}", text)))


def leaks(folder: Path) -> dict[str, list[str]]:
    """Canaries in any file below a folder, also as JSON or XML would write them."""
    hits = {}
    for path in folder.rglob("*"):
        if path.is_file():
            text = path.read_bytes().decode("utf-8", errors="replace")
            if names := found(text):
                hits[str(path.relative_to(folder))] = names
    return hits


@dataclass(frozen=True)
class Place:
    """Where canaries are hidden: an account, an experiment, a working folder, a journal."""

    world: Telltale
    folder: Path

    @property
    def experiment(self) -> str:
        return str(self.folder / "canaries.yaml")

    def chaosgrade(self, *arguments: str) -> tuple[int, str]:
        """A command's exit code, and what it has told: no canary."""
        return self.command([str(Path(sys.executable).with_name("chaosgrade")), *arguments])

    def command(self, words: Sequence[str]) -> tuple[int, str]:
        """The same of any command."""
        done = subprocess.run(
            words,
            env={
                **os.environ,
                **self.world.environ,
                **CANARIES,
                "AWS_DEFAULT_REGION": REGION,
                "CHAOSGRADE_STATE_DIR": str(self.folder / "state"),
            },
            cwd=self.folder / "work",
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        told = done.stdout + done.stderr
        assert not found(told), (words, found(told))
        return done.returncode, told


@pytest.fixture
def place(tmp_path: Path, quoting: int) -> Iterator[Place]:
    (tmp_path / "work").mkdir()
    (tmp_path / "canaries.yaml").write_text(EXPERIMENT.replace("PORT", str(quoting)))
    with emulator(Telltale) as world:
        assert isinstance(world, Telltale)
        world.rebuild()
        yield Place(world, tmp_path)
    assert leaks(tmp_path / "work") == {}
    assert leaks(tmp_path / "state") == {}


def test_what_only_looks_tells_no_secret(place: Place) -> None:
    """Each command that shows an experiment."""
    for arguments in (["plan"], ["plan", "--json"], ["runbook"], ["iam-policy"]):
        chosen = [place.experiment, "--stage", place.world.url]
        code, told = place.chaosgrade(arguments[0], *chosen, *arguments[1:])
        assert code == Exit.HOLDS, told


def test_a_refused_fault_tells_no_secret(place: Place) -> None:
    """The refusal quotes everything; plain Chaos Toolkit has its own log and journal, as verbose as
    it can be."""
    place.world.refused = ("ReplaceNetworkAclAssociation",)
    place.world.quoted = (*CANARIES.values(), INLINE)
    _, told = place.command(
        [
            *(sys.executable, "-m", "chaostoolkit", "--verbose", "--no-version-check"),
            *("run", place.experiment),
        ]
    )
    assert "InvalidParameterValue" in told
    _conceals(place, "chaostoolkit.log", "evidence.jsonl", "journal.json")


@pytest.mark.nightly
def test_a_refused_undo_tells_no_secret(place: Place) -> None:
    """A person reads about it in several places, until it is recovered."""
    # Whoever undoes, be it the watchdog, has never had the experiment's own secrets to send.
    place.world.refused = ("DeleteNetworkAcl",)
    place.world.quoted = tuple(v for k, v in CANARIES.items() if k != "PLAIN_NAME")
    code, told = place.chaosgrade("run", place.experiment, "--stage", place.world.url)
    assert code == Exit.NOT_UNDONE, told
    for arguments in (["status"], ["status", "--json"], ["recover"], ["recover", "--json"]):
        code, told = place.chaosgrade(*arguments)
        assert code == Exit.NOT_UNDONE, (arguments, told)
        assert "InvalidParameterValue" in told or arguments[0] == "status"
    place.world.refused = ()
    code, told = place.chaosgrade("recover")
    assert code == Exit.HOLDS, told
    (run,) = (place.folder / "work/runs").iterdir()
    code, told = place.chaosgrade("explain", str(run))
    assert code == Exit.HOLDS, told
    _conceals(place, "evidence.jsonl", "journal.json")


def _conceals(place: Place, *names: str) -> None:
    """Each of these files had something to conceal."""
    for name in names:
        assert any(CONCEALED in path.read_text() for path in place.folder.rglob(name)), name


def test_what_sts_hands_out_is_concealed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials that no environment variable holds are known once they sign a call."""
    from chaosgrade.aws import Aws, Call

    credentials = tmp_path / "credentials"
    secret = "canary+of+a+profile+0123456789"
    credentials.write_text(f"[chaos]\naws_access_key_id = AKIA\naws_secret_access_key = {secret}\n")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(credentials))
    monkeypatch.setattr(concealment, "_learnt", set())
    assert conceal(secret) == secret
    with emulator() as world:
        aws = Aws(region=REGION, profile="chaos", endpoint_url=world.url)
        aws.send(Call("ec2", "DescribeVpcs", {}))
        assert conceal(f"<{secret}>") == f"<{CONCEALED}>"
        role = "arn:aws:iam::123456789012:role/chaos"
        aws = Aws(region=REGION, profile="chaos", endpoint_url=world.url, role_arn=role)
        aws.send(Call("ec2", "DescribeVpcs", {}))
    handed_out = concealment._learnt - {secret}
    assert len(handed_out) == 2  # the role's secret key and its session token
    assert all(conceal(one) == CONCEALED for one in handed_out)


def test_what_is_concealed_and_what_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(concealment, "_learnt", set())
    monkeypatch.setenv("MY_PASSWORD", 'pass"wo\\rd-1')
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    assert conceal('a pass"wo\\rd-1 b') == f"a {CONCEALED} b"
    assert conceal(r'{"a": "pass\"wo\\rd-1"}') == f'{{"a": "{CONCEALED}"}}'
    assert conceal("a test") == "a test"  # the key of every emulator
    concealment.learn({"a": ["longer-secret", {"b": "longer-secret-2"}], "c": 7})
    assert conceal("longer-secret-2, longer-secret") == f"{CONCEALED}, {CONCEALED}"
    assert conceal("https://u:p@host/x?y=1") == f"https://{CONCEALED}@host/x?y=1"
    assert conceal("https://host:80/a@b") == "https://host:80/a@b"
    assert conceal("see ?X-Amz-Signature=abc&b=1") == f"see ?X-Amz-Signature={CONCEALED}&b=1"
    assert conceal_all({"longer-secret": [1, None, ("longer-secret",)]}) == {
        CONCEALED: [1, None, (CONCEALED,)]
    }


def test_a_concealing_stream_is_otherwise_the_stream(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("API_KEY", "0123456789")
    stream = ConcealingStream(sys.stdout)
    print("key 0123456789", file=stream, flush=True)
    stream.writelines(["a 0123456789\n", "b\n"])
    assert stream.encoding == sys.stdout.encoding
    assert capsys.readouterr().out == f"key {CONCEALED}\na {CONCEALED}\nb\n"
