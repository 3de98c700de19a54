"""Whose credentials sign a call, how they are renewed, and what a person reads when they are not.

On the wire: a small AWS on loopback records the access key id that each request is signed with.
"""

import os
import re
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from chaosgrade.aws import PARALLELISM, Aws, Call, Environment, ResourceGone
from chaosgrade.errors import AwsError, UsageError
from chaosgrade.session import aws_of, connect

STOP = Call("ec2", "StopInstances", {"InstanceIds": ["i-1"]})
LIST = Call("ec2", "DescribeInstances", {"MaxResults": 5})
GAME = "arn:aws:iam::111111111111:role/game"
PROD = "arn:aws:iam::222222222222:role/prod"


@dataclass
class Request:
    """One request as it came in; `key` is the access key id that it was signed with."""

    key: str
    action: str
    parameters: dict[str, str]
    user_agent: str


@dataclass
class SmallAws:
    """Answers STS and a little EC2. `refused` maps access key ids to the code they get."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    role_lifetime: timedelta = timedelta(hours=1)
    role_error: str | None = None
    together: threading.Barrier | None = None
    """Refusals of EC2 wait for each other here."""
    refuse_page: str | None = None
    """The first request for the page of this token is refused."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def made(self, action: str) -> list[str]:
        """The access key ids that signed requests for this action, in order."""
        return [r.key for r in self.requests if r.action == action]

    def answer(self, request: Request) -> tuple[int, str]:
        with self._lock:
            self.requests.append(request)
            count = len(self.made(request.action))
        if request.action == "AssumeRole":
            return self._assumed(request.parameters["RoleArn"], count)
        code = self.refused.get(request.key)
        if request.action == "GetCallerIdentity":
            if code:
                return _sts_error(code)
            account = self.accounts.get(request.key, "111111111111")
            return 200, _sts("GetCallerIdentity", f"<Account>{account}</Account>")
        if code:
            if self.together:
                self.together.wait(timeout=30)
            return _ec2_error(code)
        token = request.parameters.get("NextToken", "1")
        if token == self.refuse_page:
            self.refuse_page = None
            return _ec2_error("RequestExpired")
        following = {"1": "2", "2": "3"}.get(token)
        more = f"<nextToken>{following}</nextToken>" if following else ""
        return 200, (
            f'<{request.action}Response xmlns="http://ec2.amazonaws.com/doc/2016-11-15/">'
            f"<reservationSet><item><reservationId>r-{token}</reservationId></item>"
            f"</reservationSet>{more}</{request.action}Response>"
        )

    def _assumed(self, role: str, count: int) -> tuple[int, str]:
        if self.role_error:
            return _sts_error(self.role_error)
        expires = (datetime.now(UTC) + self.role_lifetime).strftime("%Y-%m-%dT%H:%M:%SZ")
        name = role.rpartition("/")[2].upper()
        return 200, _sts(
            "AssumeRole",
            f"<Credentials><AccessKeyId>TEMP{name}{count}</AccessKeyId><SecretAccessKey>s"
            f"</SecretAccessKey><SessionToken>t</SessionToken><Expiration>{expires}</Expiration>"
            f"</Credentials>",
        )


def _sts(action: str, result: str) -> str:
    return (
        f'<{action}Response xmlns="https://sts.amazonaws.com/doc/2011-06-15/">'
        f"<{action}Result>{result}</{action}Result></{action}Response>"
    )


def _sts_error(code: str) -> tuple[int, str]:
    return 403, (
        '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error>'
        f"<Type>Sender</Type><Code>{code}</Code><Message>no</Message></Error></ErrorResponse>"
    )


def _ec2_error(code: str) -> tuple[int, str]:
    return 400, (
        f"<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error></Errors>"
        "<RequestID>1</RequestID></Response>"
    )


@pytest.fixture
def small() -> Iterator[SmallAws]:
    small = SmallAws()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            values = {name: value[0] for name, value in parse_qs(body).items()}
            signed = re.search(r"Credential=([^/]+)/", self.headers["Authorization"] or "")
            key = signed.group(1) if signed else "(unsigned)"
            agent = self.headers["User-Agent"]
            self._send(*small.answer(Request(key, values["Action"], values, agent)))

        def do_GET(self) -> None:
            self._send(404, "neither a stage nor LocalStack")

        def _send(self, status: int, text: str) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        request_queue_size = 64
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    small.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield small
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shared credentials file, of two profiles; nothing else says who we are."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    write(path, alpha="KEYALPHA", beta="KEYBETA")
    return path


def write(path: Path, **keys: str) -> None:
    """The credentials file as a user's tool writes it: an access key id for each profile."""
    path.write_text(
        "".join(
            f"[{profile}]\naws_access_key_id = {key}\naws_secret_access_key = s\n"
            for profile, key in keys.items()
        )
    )


def reach(small: SmallAws, profile: str | None = "alpha", **arguments: Any) -> Aws:
    return Aws(region="us-east-1", profile=profile, endpoint_url=small.url, **arguments)


def test_two_profiles_sign_with_their_own_keys(small: SmallAws) -> None:
    """Breaking the account of whoever connected first is the worst mix-up there is."""
    alpha, beta = reach(small, "alpha"), reach(small, "beta")
    for aws in (alpha, beta, alpha):
        aws.send(STOP)
    assert small.made("StopInstances") == ["KEYALPHA", "KEYBETA", "KEYALPHA"]


def test_a_profile_that_is_named_beats_keys_in_the_environment(
    small: SmallAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leftover variable in a shell does not decide whom a recovery reaches."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYSHELL")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    reach(small, None).send(STOP)
    reach(small, "beta").send(STOP)
    assert small.made("StopInstances") == ["KEYSHELL", "KEYBETA"]


def test_two_roles_sign_with_their_own_temporary_keys(small: SmallAws) -> None:
    """Each role is assumed once, with the keys of its profile, under our name."""
    game, prod = reach(small, role_arn=GAME), reach(small, "beta", role_arn=PROD)
    assert small.requests == []  # whoever only connects calls nobody
    for aws in (game, prod, game):
        aws.send(STOP)
    assert small.made("StopInstances") == ["TEMPGAME1", "TEMPPROD2", "TEMPGAME1"]
    assumed = [r for r in small.requests if r.action == "AssumeRole"]
    assert [(r.key, r.parameters["RoleArn"], r.parameters["RoleSessionName"]) for r in assumed] == [
        ("KEYALPHA", GAME, "ChaosGrade"),
        ("KEYBETA", PROD, "ChaosGrade"),
    ]


def test_a_role_about_to_expire_is_assumed_anew(small: SmallAws) -> None:
    """The fault may outlast the hour of its credentials; its undo does not notice."""
    small.role_lifetime = timedelta(minutes=5)
    aws = reach(small, role_arn=GAME)
    aws.send(STOP)
    small.role_lifetime = timedelta(hours=1)
    aws.send(STOP)
    aws.send(STOP)
    assert small.made("StopInstances")[1:] == ["TEMPGAME2", "TEMPGAME2"]
    assert len(small.made("AssumeRole")) == 2


def test_a_role_that_comes_expired_is_one_clear_line(small: SmallAws) -> None:
    """A wrong clock makes botocore raise a RuntimeError, which nobody should see as such."""
    small.role_lifetime = timedelta(minutes=-1)
    with pytest.raises(AwsError, match=r"still expired.*; renew the credentials, then"):
        reach(small, role_arn=GAME).send(STOP)
    assert small.made("StopInstances") == []


def test_a_role_that_is_missing_is_not_a_missing_target(small: SmallAws) -> None:
    """Otherwise an undo would take its target for gone, and leave the fault in place."""
    small.role_error = "NoSuchEntity"
    with pytest.raises(AwsError, match=r"NoSuchEntity \(AssumeRole\)") as caught:
        reach(small, role_arn=GAME).send(STOP)
    assert not isinstance(caught.value, ResourceGone)


def test_a_role_that_expired_keys_may_not_assume_asks_for_new_ones(small: SmallAws) -> None:
    """The line tells the person that it is the profile's keys, and what to do about them."""
    small.role_error = "ExpiredToken"
    with pytest.raises(AwsError, match=r"ExpiredToken \(AssumeRole\).*; renew the credentials"):
        reach(small, role_arn=GAME).send(STOP)
    assert small.made("AssumeRole") == ["KEYALPHA"] * 2
    assert small.made("StopInstances") == []


@pytest.mark.parametrize(
    "code",
    [
        "AuthFailure",
        "ExpiredToken",
        "ExpiredTokenException",
        "InvalidClientTokenId",
        "RequestExpired",
        "UnrecognizedClientException",
    ],
)
def test_credentials_written_meanwhile_are_used(small: SmallAws, files: Path, code: str) -> None:
    """Somebody has logged in again, and the undo goes on where it was refused."""
    aws = reach(small)
    aws.send(STOP)
    small.refused["KEYALPHA"] = code
    write(files, alpha="KEYRENEWED")
    aws.send(STOP)
    assert small.made("StopInstances") == ["KEYALPHA", "KEYALPHA", "KEYRENEWED"]


def test_credentials_that_stay_refused_end_in_a_remedy(small: SmallAws) -> None:
    """One more try, no third, and the line says what to do."""
    small.refused["KEYALPHA"] = "ExpiredToken"
    with pytest.raises(AwsError, match=r"ExpiredToken: no; renew the credentials, then run") as got:
        reach(small).send(STOP)
    assert got.value.code == "ExpiredToken"
    assert small.made("StopInstances") == ["KEYALPHA"] * 2


def test_any_other_refusal_is_final(small: SmallAws, files: Path) -> None:
    """Missing permission is no reason to look for somebody else's credentials."""
    aws = reach(small)
    aws.send(STOP)
    small.refused["KEYALPHA"] = "UnauthorizedOperation"
    write(files, alpha="KEYRENEWED")
    with pytest.raises(AwsError, match=r"UnauthorizedOperation: no$"):
        aws.send(STOP)
    assert small.made("StopInstances") == ["KEYALPHA", "KEYALPHA"]


def test_no_credentials_yet_then_some(small: SmallAws, files: Path) -> None:
    """A login that comes late is found by the same object."""
    files.write_text("")
    aws = reach(small, None)
    with pytest.raises(AwsError, match=r"renew the credentials, then"):
        aws.send(STOP)
    assert small.requests == []
    write(files, default="KEYLATE")
    aws.send(STOP)
    assert small.made("StopInstances") == ["KEYLATE"]


def test_a_page_that_is_refused_is_asked_for_again(small: SmallAws) -> None:
    """No item is lost and none comes twice."""
    small.refuse_page = "2"
    items = reach(small).pages(LIST, "Reservations")
    assert [item["ReservationId"] for item in items] == ["r-1", "r-2", "r-3"]
    tokens = Counter(r.parameters.get("NextToken") for r in small.requests)
    assert tokens == {None: 1, "2": 2, "3": 1}


def test_threads_refused_together_renew_once(small: SmallAws) -> None:
    """An undo of many targets asks STS for one set of credentials, not for sixteen."""
    aws = reach(small, role_arn=GAME)
    small.refused["TEMPGAME1"] = "ExpiredToken"
    small.together = threading.Barrier(PARALLELISM)
    with ThreadPoolExecutor(PARALLELISM) as pool:
        list(pool.map(lambda _: aws.send(STOP), range(PARALLELISM)))
    assert Counter(small.made("StopInstances")) == {
        "TEMPGAME1": PARALLELISM,
        "TEMPGAME2": PARALLELISM,
    }
    assert len(small.made("AssumeRole")) == 2


def test_renewed_credentials_of_another_account_are_not_used(small: SmallAws, files: Path) -> None:
    """What is to be undone does not exist there, and would be taken for gone."""
    aws = reach(small)
    assert aws.environment.account == "111111111111"
    small.refused["KEYALPHA"] = "ExpiredToken"
    small.accounts["KEYOTHER"] = "222222222222"
    write(files, alpha="KEYOTHER")
    for _ in range(2):
        with pytest.raises(AwsError, match="belong to account 222222222222, not to 111111111111"):
            aws.send(STOP)
    assert "KEYOTHER" not in small.made("StopInstances")
    write(files, alpha="KEYRENEWED")
    aws.send(STOP)
    assert small.made("StopInstances") == ["KEYALPHA", "KEYRENEWED"]


def test_calls_say_who_makes_them(small: SmallAws) -> None:
    """CloudTrail tells our calls, by version, from those of an incident."""
    reach(small).send(STOP)
    assert f"chaosgrade/{version('chaosgrade')}" in small.requests[0].user_agent


def test_the_profile_of_the_environment_is_told(
    small: SmallAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A recovery from another shell needs the profile that decided, and only that."""
    assert reach(small, None).profile is None
    monkeypatch.setenv("AWS_PROFILE", "beta")
    aws = reach(small, None, role_arn=GAME)
    assert (aws.profile, aws.role_arn) == ("beta", GAME)
    assert reach(small, "alpha").profile == "alpha"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "KEYSHELL")
    assert reach(small, None).profile is None


def test_configurations_name_profile_and_role(
    small: SmallAws, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keys are chaostoolkit-aws's, and each identity has one connection."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", small.url)
    plain = {"aws_region": "eu-west-1", "aws_profile_name": "beta", "aws_assume_role_arn": ""}
    game = {**plain, "aws_assume_role_arn": GAME, "aws_assume_role_session_name": "Friday"}
    prod = {**plain, "aws_assume_role_arn": PROD}
    for configuration in (plain, game, prod):
        aws = aws_of(configuration)
        assert aws is aws_of(configuration)
        assert (aws.region, aws.profile) == ("eu-west-1", "beta")
        aws.send(STOP)
    assert small.made("StopInstances") == ["KEYBETA", "TEMPGAME1", "TEMPPROD2"]
    assumed = [r for r in small.requests if r.action == "AssumeRole"]
    assert [r.parameters["RoleSessionName"] for r in assumed] == ["Friday", "ChaosGrade"]


def test_threads_that_connect_at_once_share_a_connection(small: SmallAws) -> None:
    """Two connections for one place would be two runs that undo each other's changes."""
    start = threading.Barrier(PARALLELISM)

    def connecting(_: int) -> Aws:
        start.wait(timeout=30)
        return connect("us-east-1", "alpha", small.url)

    with ThreadPoolExecutor(PARALLELISM) as pool:
        assert len(set(pool.map(connecting, range(PARALLELISM)))) == 1


@pytest.mark.parametrize(
    ("arguments", "value"),
    [
        ({"profile": "gamma"}, "gamma"),
        ({"region": "us east 1"}, "us east 1"),
        ({"endpoint_url": "localhost:4566"}, "localhost:4566"),
        ({"endpoint_url": "ftp://localhost"}, "ftp://localhost"),
        ({"endpoint_url": "http://localhost:port"}, "localhost:port"),
        ({"endpoint_url": "http://"}, "http://"),
        ({"role_arn": "game"}, "'game'"),
    ],
)
def test_a_malformed_place_is_named(arguments: dict[str, Any], value: str) -> None:
    """The value that somebody wrote, in one line, before any call."""
    with pytest.raises(UsageError, match=re.escape(value)) as caught:
        Aws(**{"region": "us-east-1", **arguments})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("endpoint", ["http://[::1]:4566", "https://aws.example.test", None])
def test_a_good_place_is_accepted(endpoint: str | None) -> None:
    """IPv6, TLS, and AWS itself."""
    assert Aws(region="us-east-1", endpoint_url=endpoint).endpoint_url == endpoint


def test_a_broken_configuration_file_is_named(files: Path, tmp_path: Path) -> None:
    """A file that cannot be read is a person's to mend."""
    (tmp_path / "config").write_text("[profile alpha\nregion us-east-1")
    with pytest.raises(UsageError, match="config"):
        Aws(region="us-east-1")


def test_a_service_that_is_unknown_is_named(small: SmallAws) -> None:
    """A typing error in a service is not AWS's fault."""
    aws = reach(small)
    for asking in (lambda: aws.client("ec3"), lambda: aws.send(Call("ec3", "Stop"))):
        with pytest.raises(UsageError, match="'ec3'"):
            asking()
    with pytest.raises(UsageError, match="'ec3'"):
        next(aws.pages(Call("ec3", "List"), "Items"))
    assert small.requests == []


def test_two_stages_of_one_template_are_one_place() -> None:
    """However often one is started, a report names it once."""
    here = Environment(
        "stage", "1", "us-east-1", 20.0, "loopback", "127.0.0.1:53", "web", {"a": "b"}
    )
    there = replace(here, name_server="127.0.0.1:54")
    assert here.to_json() == there.to_json()
    assert replace(here, parameters={}).to_json() != here.to_json()
