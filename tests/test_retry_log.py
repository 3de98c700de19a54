"""Logs of retries: formats, damage, and what is said of lines that cannot be used."""

import gzip
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import pytest
from moto.server import ThreadedMotoServer

from chaosgrade.aws import Aws, Call
from chaosgrade.errors import UsageError
from chaosgrade.probes import retry_log
from chaosgrade.probes.arrivals import UNANSWERED, UNKNOWN, Arrivals, Requests
from chaosgrade.probes.backoff import observe

ROWS = [(f"c{client}", client + 0.5 * attempt) for client in range(4) for attempt in range(3)]
ALB = (
    "http {ended}Z app/web/50dc6c495c0c9188 {sender} 10.0.0.1:80 0.000 0.{ms:03} 0.000 503 503 34 "
    '366 "GET http://shop.example:80{path} HTTP/1.1" "curl/7.88.1 \\x22q\\x22" - - '
    "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/73e2d6bc24d8a067 "
    '"Root=1-58337262-36d228ad5d99923122bbe354" "-" "-" 0 {time}Z "forward" "-" "-" '
    '"10.0.0.1:80" "503" "-" "-" TID_1234'
)


def no_aws() -> NoReturn:
    raise AssertionError("AWS was asked")


def read(*names: object, format: str | None = None) -> Arrivals:
    return retry_log.read([str(name) for name in names], format=format, aws=no_aws)


def json_lines(rows: Sequence[tuple[str, float]] = ROWS) -> str:
    return "".join(json.dumps({"client": c, "time": t, "status": 503}) + "\n" for c, t in rows)


def csv_lines(rows: Sequence[tuple[str, float]] = ROWS) -> str:
    return "client,time,status\n" + "".join(f"{c},{t},503\n" for c, t in rows)


def alb_lines() -> str:
    lines = []
    for client in range(4):
        for attempt in range(3):
            seconds = client + 0.5 * attempt
            lines.append(
                ALB.format(
                    time=f"2026-11-26T10:00:{seconds:09.6f}",
                    ended=f"2026-11-26T10:00:{seconds + 0.05:09.6f}",
                    ms=50,
                    sender=f"192.0.2.{client}:{40000 + attempt}",
                    path=f"/orders/{client}?x=1",
                )
            )
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize("text", [json_lines(), csv_lines(), alb_lines()])
@pytest.mark.parametrize("zipped", [False, True])
def test_each_format_is_found_out(tmp_path: Path, text: str, zipped: bool) -> None:
    """Also when it is gzipped, whatever the file is called."""
    file = tmp_path / "attempts"
    file.write_bytes(gzip.compress(text.encode()) if zipped else text.encode())
    found = read(file)
    assert len(found) == len(ROWS)
    requests = Requests.of(found)
    assert requests.sizes.tolist() == [3, 3, 3, 3]
    assert set(found.status) == {503}


def test_a_balancer_s_gap_begins_when_the_answer_was_sent(tmp_path: Path) -> None:
    """Its log tells both times: the wait of the client is between them."""
    file = tmp_path / "alb.log"
    file.write_text(alb_lines())
    requests = Requests.of(read(file))
    assert requests.gap[requests.number > 1] == pytest.approx(0.45)


def test_several_logs_are_one_observation(tmp_path: Path) -> None:
    """In any order: attempts of a client may be in different files and formats."""
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text(json_lines(ROWS[::2]))
    two.write_text(csv_lines(ROWS[1::2]))
    assert Requests.of(read(two, one)).sizes.tolist() == [3, 3, 3, 3]


def test_times_may_be_iso_8601_and_statuses_words(tmp_path: Path) -> None:
    """What other tools write is understood."""
    file = tmp_path / "log"
    file.write_text(
        '{"client": 7, "time": "2026-11-26T10:00:00Z", "status": "reset"}\n'
        '{"client": 7, "time": "2026-11-26T10:00:02.5+00:00", "status": "200", "retry_after": 1}\n'
    )
    found = read(file)
    assert found.time[1] - found.time[0] == pytest.approx(2.5)
    assert found.status.tolist() == [0, 200]


def test_a_table_s_statuses_are_numbers_with_a_point(tmp_path: Path) -> None:
    """A column with gaps is one of floats in many tools; a success must not become a failure."""
    file = tmp_path / "log.csv"
    file.write_text("client,time,status\na,0,503.0\na,1,200.0\nb,0,\nb,1,200 OK\nc,0,reset\n")
    assert read(file).status.tolist() == [503, 200, UNKNOWN, 200, UNANSWERED]


def test_retry_after_may_be_the_header_as_it_was_sent(tmp_path: Path) -> None:
    """Seconds or a date, which counts from the answer; what no client understands asks nothing."""
    file = tmp_path / "log"
    asked = ["Thu, 26 Nov 2026 10:00:30 GMT", "7", 8.5, "soon", -1, "2026-11-26T10:00:30Z", None]
    rows = [
        {"client": n, "time": "2026-11-26T10:00:00Z", "ended": "2026-11-26T10:00:10Z",
         "status": 503, "retry_after": value}
        for n, value in enumerate(asked)
    ]  # fmt: skip
    file.write_text("\n".join(map(json.dumps, rows)))
    nothing = float("nan")
    found = read(file)
    assert found.retry_after.tolist() == pytest.approx(
        [20.0, 7.0, 8.5, nothing, nothing, nothing, nothing], nan_ok=True
    )
    assert found.left_out == ()


def test_requests_of_a_client_are_told_apart_by_their_field(tmp_path: Path) -> None:
    """And otherwise end with a success."""
    file = tmp_path / "log"
    rows = [("a", 0.0, 503), ("a", 1.0, 200), ("a", 2.0, 503), ("b", 0.0, 503), ("b", 9.0, 503)]
    lines = [json.dumps({"client": c, "time": t, "status": s}) for c, t, s in rows]
    file.write_text("\n".join(lines))
    assert Requests.of(read(file)).sizes.tolist() == [2, 1, 2]
    assert Requests.of(read(file), idle_s=5.0).sizes.tolist() == [2, 1, 1, 1]
    file.write_text("client,request,time\na,1,0\na,2,0.1\na,1,1\na,2,1.1\n")
    assert Requests.of(read(file)).sizes.tolist() == [2, 2]


def test_lines_that_cannot_be_used_are_counted(tmp_path: Path) -> None:
    """Nothing is lost silently; the rest is used."""
    file = tmp_path / "log"
    bad = ['{"time": 1, "status": 503}', "not json", '{"client": "a", "time": "noon"}', "[1]"]
    bad += [f'{{"client": "a", "time": 1{"0" * 400}}}', '{"client": ' + "[" * 100_000]
    file.write_text(json_lines() + "\n".join(bad) + "\n" + json_lines([("z", 1.0)]))
    found = read(file)
    assert len(found) == len(ROWS) + 1
    said = " ".join(found.left_out)
    assert "1 line left out: no client" in said
    assert "2 lines left out: not JSON" in said
    assert "1 line left out: not a JSON object" in said
    assert "2 lines left out: no client or time that makes sense" in said
    assert observe(found).behaviour.left_out == found.left_out


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", "is empty"),
        (b"\n\n", "is empty"),
        (b"\x7fELF\x00\x01", "binary"),
        (b'{"client": "a"\xff\xfe, "time": 1}\n', "binary"),
        (b"Nov 26 10:00:00 host app: failed\n", "'Nov 26 10:00:00 host app: failed'"),
        (b"client,status\na,503\n", "no format that is known"),
        (b'{"time": 1}\n{"time": 2}\n', "no line that can be used"),
        # No time of day in it: the processes of a test run must name this test alike.
        (gzip.compress(b'{"client": "a", "time": 1}\n' * 5000, mtime=0)[:60], "cut short"),
        (b"\x1f\x8bnonsense that is no gzip", "damaged"),
    ],
)
def test_what_is_no_log_is_one_line(tmp_path: Path, content: bytes, named: str) -> None:
    """It names the file and what is wrong with it."""
    file = tmp_path / "broken.log"
    file.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read(file)
    assert "broken.log" in str(caught.value)
    assert named in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_absent_file_and_an_unknown_format_are_named(tmp_path: Path) -> None:
    """With what there is instead."""
    with pytest.raises(UsageError, match=r"nowhere\.log cannot be read"):
        read(tmp_path / "nowhere.log")
    with pytest.raises(UsageError, match="'xml'"):
        read(tmp_path / "nowhere.log", format="xml")
    with pytest.raises(UsageError, match="cannot be read"):
        read(tmp_path)
    with pytest.raises(UsageError, match="standard input can be read once"):
        read("-", "-")
    with pytest.raises(UsageError, match="no bucket"):
        retry_log.read(["s3://"], aws=no_aws)


def test_standard_input_is_a_log() -> None:
    """Named "-"."""
    stream: Any = io.BytesIO(json_lines().encode())
    found = retry_log.read(["-"], aws=no_aws, stdin=stream)
    assert len(found) == len(ROWS)


def test_a_bucket_s_objects_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """All below a prefix, gzipped as a balancer writes them; not other keys, nor its test file."""
    server = ThreadedMotoServer(port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        aws = Aws(
            region="us-east-1",
            endpoint_url=f"http://{host}:{port}",
            access_key=("test", "test"),
        )
        aws.send(Call("s3", "CreateBucket", {"Bucket": "logs"}))
        test_file = b"Enable AccessLogs for ELB: web at 2026-11-26T10:00:00Z"
        for key, body in (
            ("web/AWSLogs/1/ELBAccessLogTestFile", test_file),
            ("web/a.log.gz", gzip.compress(alb_lines().encode())),
            ("other", b"x"),
        ):
            aws.client("s3").put_object(Bucket="logs", Key=key, Body=body)
        found = retry_log.read(["s3://logs/web/"], aws=lambda: aws)
        assert len(found) == len(ROWS)
        with pytest.raises(UsageError, match="holds no objects"):
            retry_log.read(["s3://logs/nothing"], aws=lambda: aws)
    finally:
        server.stop()


def test_csv_is_read_whether_it_is_plain_or_not(tmp_path: Path) -> None:
    """Quotes, Windows line ends, blank lines and a last line without an end make no difference."""
    file = tmp_path / "log.csv"
    plain = csv_lines()
    for text in (
        plain,
        plain.rstrip("\n"),
        plain.replace("\n", "\r\n"),
        plain.replace("c0,", '"c0",'),
        plain.replace("c1,", "\nc1,"),
    ):
        file.write_bytes(text.encode())
        found = read(file)
        assert Requests.of(found).sizes.tolist() == [3, 3, 3, 3]
        assert found.left_out == ()
    file.write_text(plain + "c9,1\nc9,noon,503\n,5,503\n")
    assert len(read(file)) == len(ROWS)
    assert len(read(file).left_out) == 3
