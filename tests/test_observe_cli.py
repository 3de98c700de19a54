"""`chaosgrade observe retries` as a person meets it."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import requests

from chaosgrade.report import retries_picture
from chaosgrade.retries import RetryBehaviour, RetryTrace
from tests.synthetic_retries import Client, arrivals
from tests.test_cli import CHAOSGRADE, chaosgrade, last_line


def log_of(folder: Path, client: Client, clients: int = 40) -> Path:
    """A log of so many of these clients; one that succeeds in the end shows how long it goes on."""
    seen = arrivals(client, clients)
    lines = [
        json.dumps({"client": f"c{number}", "time": time, "status": 503})
        for number, time in zip(seen.client.tolist(), seen.time.tolist(), strict=True)
    ]
    lines.append(json.dumps({"client": "later", "time": seen.until, "status": 200}))
    file = folder / "attempts.jsonl"
    file.write_text("\n".join(lines) + "\n")
    return file


type Run = Callable[[str], tuple[int, str, str]]


@pytest.fixture
def observe(command: Run) -> Run:
    """Runs `chaosgrade observe retries` in this process: exit code, output, errors."""
    return lambda arguments: command(f"observe retries {arguments}")


def test_a_sound_client_is_0_with_one_document_and_a_picture(tmp_path: Path, observe: Run) -> None:
    """The document has the names that scripts rely on."""
    log = log_of(tmp_path, Client("full-jitter", base_s=0.1))
    code, output, errors = observe(f"--log {log} --json --plot plot.svg")
    assert code == 0, errors + output
    document = json.loads(output)
    assert document["family"] == "full-jitter"
    assert document["verdict"] == "passed"
    assert {
        "first_retry_immediate", "base_s", "factor", "cap_s", "jitter_s", "attempts", "clients",
        "reasons", "rules",
    } <= set(document)  # fmt: skip
    assert "full-jitter" in (tmp_path / "plot.svg").read_text()


def test_a_weak_client_is_1_and_says_which_rules(tmp_path: Path, observe: Run) -> None:
    """In a table on standard output."""
    log = log_of(tmp_path, Client("exponential"))
    code, output, errors = observe(f"--log {log}")
    assert code == 1, errors
    assert "exponential" in output
    assert "jitter" in output
    assert "failed" in output


def test_one_request_is_3_with_the_reason(tmp_path: Path, observe: Run) -> None:
    """Nobody can tell from it."""
    (tmp_path / "log.csv").write_text("client,time,status\na,1,503\n")
    code, output, _ = observe("--log log.csv --json")
    assert code == 3
    document = json.loads(output)
    assert (document["family"], document["verdict"]) == ("inconclusive", "inconclusive")
    assert document["reasons"]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("", "--serve or --log"),
        ("--serve --log x", "--serve or --log"),
        ("--log nowhere.log", "nowhere.log"),
        ("--log x --format xml", "'xml'"),
        ("--log x --plot x.pdf", "'x.pdf'"),
        ("--log x --plot no/where.svg", "no/where.svg"),
        ("--log x --policy nowhere.yaml", "nowhere.yaml"),
        ("--log x --idle soon", "'soon'"),
        ("--log s3://", "s3://bucket/prefix"),
        ("--log s3://bucket/logs", "AWS Region"),
        ("--log empty", "empty is empty"),
        ("--log binary", "binary is binary"),
        ("--log syslog", "'Nov 26 10:00:00 host app: failed'"),
        ("--log nameless", "nameless has no line that can be used (2: no client)"),
        ("--serve --for 0s", "'0s'"),
        ("--serve --fault teapot", "'teapot'"),
        ("--serve --fault 200", "'200'"),
        ("--serve --retry-after -1", "got -1"),
        ("--serve --retry-after 1 --fault reset", "--fault reset gives none"),
        ("--serve --recover-after -1", "got -1"),
        ("--serve --outage never", "'never'"),
        ("--serve 127.0.0.1:http", "'127.0.0.1:http'"),
        ("--serve 192.0.2.1:0 --for 1s", "192.0.2.1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    tmp_path: Path, observe: Run, arguments: str, named: str
) -> None:
    """It names the value."""
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\x7fELF\x02\x01\x01\x00" * 9)
    (tmp_path / "syslog").write_text("Nov 26 10:00:00 host app: failed\n")
    (tmp_path / "nameless").write_text('{"time": 1}\n{"time": 2}\n')
    code, output, errors = observe(arguments)
    assert code == 2, errors
    assert "Traceback" not in errors
    last = " ".join(errors[errors.rindex("chaosgrade: ") :].split())
    assert named in last
    assert output == ""


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ([("a", 1.234567)] * 4, "the very same time"),
        ([("a", 1.0)] * 4, "the very same time"),
        ([("a", 100.0), ("a", 101.0), ("a", 50.0)], "the clock went back"),
    ],
)
def test_times_that_make_no_sense_are_inconclusive(
    tmp_path: Path, observe: Run, rows: list[tuple[str, float]], reason: str
) -> None:
    """The reason says what is the matter with them."""
    lines = [json.dumps({"client": c, "time": t, "status": 503}) for c, t in rows]
    (tmp_path / "log").write_text("\n".join(lines))
    code, output, errors = observe("--log log --json")
    assert code == 3, errors
    document = json.loads(output)
    assert document["family"] == "inconclusive"
    assert reason in document["reasons"][0]


def test_the_server_is_stopped_by_ctrl_c_and_tells_what_it_saw(tmp_path: Path) -> None:
    """Its address is on standard error; of failures just now, retries may be to come."""
    process = subprocess.Popen(
        [CHAOSGRADE, "observe", "retries", "--serve", "--for", "5m", "--json"],
        cwd=tmp_path, env={**os.environ, "COLUMNS": "200"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stderr is not None
        url = next(word for word in process.stderr.readline().split() if word.startswith("http"))
        for number in range(4):
            assert requests.get(f"{url}/{number}", timeout=5).status_code == 503
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in errors
    assert process.returncode == 3
    document = json.loads(output)
    assert (document["failed"], document["family"]) == (4, "inconclusive")


def test_the_server_ends_by_itself(tmp_path: Path) -> None:
    """With nothing seen, nothing is concluded; a taken port is named."""
    done = chaosgrade(tmp_path, "observe", "retries", "--serve", "--for", "200ms")
    assert done.returncode == 3
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = chaosgrade(tmp_path, "observe", "retries", "--serve", f"127.0.0.1:{port}")
    assert done.returncode == 2
    assert str(port) in last_line(done)


@pytest.mark.parametrize("suffix", [".svg", ".png"])
def test_a_picture_is_drawn_of_whatever_was_seen(tmp_path: Path, suffix: str) -> None:
    """Of nothing, of gaps without a family, and of gaps with one."""
    behaviour = RetryBehaviour("inconclusive", reasons=("no attempt was seen",), clients=3)
    some = {1: (0.1, 0.2), 2: (0.3,)}
    for trace in (
        RetryTrace({}, {}, (), ()),
        RetryTrace(some, {}, (0.1, 0.2, 0.5), (1, 1, 2)),
        RetryTrace(some, {1: (0.0, 0.2), 2: (0.4, 0.4)}, (0.1, 0.2, 0.5), (1, 1, 2)),
    ):
        file = tmp_path / f"plot{suffix}"
        retries_picture.draw(behaviour, trace, file)
        assert file.stat().st_size > 1500
        file.unlink()


def test_help_of_the_group_imports_no_science() -> None:
    """`chaosgrade observe --help` stays quick."""
    code = "import sys; from chaosgrade.cli import main\ntry: main()\nexcept SystemExit: pass\n"
    code += "print([m for m in ('scipy', 'numpy', 'matplotlib', 'aiohttp') if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code, "observe", "retries", "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip().endswith("[]")
    assert "--serve" in done.stdout
