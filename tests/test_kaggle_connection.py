"""Signing in to Kaggle, and calls that fail: the real `kaggle` package over HTTP, against a stub of Kaggle's API."""

import errno
import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from calls import MESSAGE, RETRIES, Clock, message_of, sign_in, write
from kaggle_stub import (
    ALLOWANCE,
    KEY,
    OAUTH_TOKEN,
    PHONE,
    REFRESH_TOKEN,
    RULES,
    TOKEN,
    USERNAME,
    Fault,
    KaggleStub,
    answer,
    drop,
    garbage,
    hang,
    html,
    reset,
    slow,
    truncate,
)

from digits.errors import DigitsError
from digits.kaggle import package
from digits.kaggle.client import KaggleClient

pytestmark = pytest.mark.usefixtures("kaggle_stub", "nothing_printed")


# Signing in


def no_token(patch: pytest.MonkeyPatch) -> None:
    patch.delenv("KAGGLE_API_TOKEN")


def home() -> Path:
    return Path(os.environ["HOME"])


def kernel_token(patch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    patch.setenv("KAGGLE_KERNEL_RUN_TYPE", "Batch")
    patch.setenv("KAGGLE_DATA_PROXY_URL", "http://127.0.0.1:9")
    patch.setenv("KAGGLE_API_V1_TOKEN", str(write(tmp_path / "token", TOKEN)))
    return f"Bearer {TOKEN}"


def token_in_environment(patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    patch.setenv("KAGGLE_API_TOKEN", TOKEN)
    return f"Bearer {TOKEN}"


def token_in_named_file(patch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    patch.setenv("KAGGLE_API_TOKEN", str(write(tmp_path / "token", f"{TOKEN}\n")))
    return f"Bearer {TOKEN}"


def token_in_home(_patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    write(home() / ".kaggle/access_token", TOKEN)
    return f"Bearer {TOKEN}"


def key_in_environment(patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    patch.setenv("KAGGLE_USERNAME", USERNAME)
    patch.setenv("KAGGLE_KEY", KEY)
    return "Basic"


def key_in(path: Path) -> str:
    write(path, json.dumps({"username": USERNAME, "key": KEY}))
    path.chmod(0o644)  # the package prints a warning of that
    return "Basic"


def key_in_config_folder(patch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    patch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "config"))
    return key_in(tmp_path / "config/kaggle.json")


def key_in_home(_patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    return key_in(home() / ".kaggle/kaggle.json")


def key_in_default_folder(_patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    return key_in(home() / ".config/kaggle/kaggle.json")


def key_in_xdg_folder(patch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    patch.setenv("XDG_CONFIG_HOME", str(tmp_path / "xdg"))
    return key_in(tmp_path / "xdg/kaggle/kaggle.json")


def oauth(expires: datetime) -> Path:
    credentials = {
        "refresh_token": REFRESH_TOKEN,
        "access_token": OAUTH_TOKEN,
        "access_token_expiration": expires.isoformat(),
        "username": USERNAME,
        "scopes": [],
    }
    return write(home() / ".kaggle/credentials.json", json.dumps(credentials))


def oauth_fresh(_patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    oauth(datetime.now(UTC) + timedelta(hours=5))
    return f"Bearer {OAUTH_TOKEN}"


def oauth_to_renew(_patch: pytest.MonkeyPatch, _tmp_path: Path) -> str:
    oauth(datetime.now(UTC) - timedelta(hours=5))
    return f"Bearer {OAUTH_TOKEN}"


SOURCES = [
    kernel_token,
    token_in_environment,
    token_in_named_file,
    token_in_home,
    key_in_environment,
    key_in_config_folder,
    key_in_home,
    key_in_default_folder,
    key_in_xdg_folder,
    oauth_fresh,
    oauth_to_renew,
]


@dataclass(frozen=True)
class Credentials:
    """Those that are found, by the name of their source, and what is sent of them."""

    source: str
    sent: str


@pytest.fixture(params=SOURCES, ids=lambda source: source.__name__)
def credentials(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Credentials:
    """Credentials of each source, and no others."""
    no_token(monkeypatch)
    return Credentials(request.param.__name__, request.param(monkeypatch, tmp_path))


def test_every_source_of_credentials_signs_in(credentials: Credentials, kaggle_stub: KaggleStub) -> None:
    sign_in().submissions()
    assert kaggle_stub.log[-1].headers["authorization"].startswith(credentials.sent)


def test_credentials_that_kaggle_does_not_accept_are_named_by_their_place(
    credentials: Credentials, kaggle_stub: KaggleStub
) -> None:
    kaggle_stub.tokens.clear()
    kaggle_stub.keys.clear()
    message = message_of(lambda: sign_in().submissions(), *kaggle_stub.secrets)
    place = {
        "kernel_token": "the token in KAGGLE_API_V1_TOKEN",
        "token_in_environment": "the token in KAGGLE_API_TOKEN",
        "token_in_named_file": "the token in KAGGLE_API_TOKEN",
        "token_in_home": "the token in ~/.kaggle/access_token",
        "key_in_environment": "the key in KAGGLE_USERNAME and KAGGLE_KEY",
        "oauth_fresh": "the sign-in of `kaggle auth login`",
        "oauth_to_renew": "the sign-in of `kaggle auth login`",
    }.get(credentials.source, "kaggle.json")
    assert place in message
    assert ("kaggle auth login" if "oauth" in credentials.source else "https://www.kaggle.com/settings/api") in message


def test_without_credentials_the_steps_to_get_some_are_told(
    kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    no_token(monkeypatch)
    message = message_of(sign_in)
    for part in (
        "https://www.kaggle.com/settings/api",
        "~/.kaggle/access_token",
        "KAGGLE_API_TOKEN",
        "make demo",
    ):
        assert part in message
    assert kaggle_stub.log == []
    assert list(home().iterdir()) == []


@pytest.mark.parametrize("text", ["not JSON", "", '{"username": "tester"}'])
def test_a_kaggle_json_without_a_key_is_named(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_token(monkeypatch)
    path = write(home() / ".kaggle/kaggle.json", text)
    assert f"{path} holds no username and key" in message_of(sign_in)


def test_a_bad_token_beside_a_good_kaggle_json_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    key_in(home() / ".kaggle/kaggle.json")
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_expired")
    message = message_of(sign_in, "KGAT_expired")
    assert "does not accept the token in KAGGLE_API_TOKEN" in message
    assert "or remove it" in message


def test_a_bad_token_costs_nobody_the_sign_in_of_kaggle_auth_login(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = oauth(datetime.now(UTC) - timedelta(hours=5))
    monkeypatch.setenv("KAGGLE_API_TOKEN", "KGAT_expired")
    message_of(sign_in, "KGAT_expired")
    assert kept.exists()


def test_a_sign_in_that_has_ended_is_told(kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch) -> None:
    no_token(monkeypatch)
    oauth(datetime.now(UTC) - timedelta(hours=5))
    kaggle_stub.refresh_tokens.clear()
    message = message_of(sign_in)
    assert "has ended" in message
    assert "`kaggle auth login`" in message


@pytest.mark.parametrize("credentials", [key_in_home, oauth_fresh], indirect=True)
def test_secrets_that_kaggle_repeats_are_not_repeated(credentials: Credentials, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.reasons["ListSubmissions"] = (400, f"{KEY}, {OAUTH_TOKEN} or http://x/y?X-Signature=1 is odd")
    with pytest.raises(DigitsError) as caught:
        sign_in().submissions()
    told = str(caught.value)
    assert (KEY if credentials.source == "key_in_home" else OAUTH_TOKEN) not in told
    assert "X-Signature" not in told
    assert "is odd" in told


def test_the_packages_own_verbose_prints_nothing(monkeypatch: pytest.MonkeyPatch, csv: Path, tmp_path: Path) -> None:
    """It would print every request, token and all, if the package were imported before with VERBOSE set."""
    monkeypatch.setattr(package.import_kaggle().KaggleApi, "args", ["--verbose"])
    client = sign_in()
    client.submit(csv, MESSAGE)
    client.download(tmp_path)


def test_a_newer_version_of_the_package_is_not_announced(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.version = "99.0.0"
    assert sign_in().submissions() == []


@pytest.mark.parametrize("token", ["KGAT_\u00e9", "KGAT_\u4e2d", "KGAT_ab\ncd", "K" * 400])
def test_a_token_that_no_token_is_never_shows(token: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", token)
    message_of(lambda: sign_in().submissions(), token, token[:8])


def test_credentials_that_cannot_be_read_are_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("KAGGLE_API_TOKEN", str(tmp_path))
    assert "can't be read" in message_of(sign_in)


def test_a_renewed_sign_in_that_cannot_be_saved_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    no_token(monkeypatch)
    path = oauth(datetime.now(UTC) - timedelta(hours=5))

    def refuse(_self: object, file_path: str = str(path)) -> None:
        raise OSError(errno.EROFS, "Read-only file system", file_path)

    monkeypatch.setattr("kagglesdk.KaggleCredentials.save", refuse)
    assert "Read-only file system" in message_of(sign_in)


@pytest.mark.parametrize("fault", [answer(500), answer(503), answer(429), html(), drop(), reset(), hang()], ids=str)
def test_signing_in_is_tried_again(fault: Fault, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("IntrospectToken", fault)
    said: list[str] = []
    sign_in(said.append, fault=fault)
    assert len(said) == 1


def test_signing_in_says_what_fails(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("IntrospectToken", *[hang()] * (1 + RETRIES), answer(401))
    assert "Kaggle does not answer" in message_of(lambda: sign_in(fault=hang()))
    assert "does not accept the token" in message_of(sign_in)


PROGRAM = """
import pathlib, sys
import digits.kaggle.client as client
early = [name for name in ("kaggle", "kagglesdk", "requests") if name in sys.modules]
with client.KaggleClient() as kaggle:
    kaggle.submit(pathlib.Path("submission.csv"), "m")
    kaggle.download(pathlib.Path("data"))
    print(early, len(kaggle.submissions()), "kaggle" in sys.modules)
"""


def test_another_process_reaches_the_stub_and_prints_its_own_words_alone(
    kaggle_stub: KaggleStub, tmp_path: Path, csv: Path
) -> None:
    """HOME can't be used, and VERBOSE, which has the package print its requests with the token, is set."""
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM],
        cwd=csv.parent,
        env=kaggle_stub.environment() | {"HOME": str(csv / "home"), "VERBOSE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (ran.stdout, ran.stderr, ran.returncode) == ("[] 1 False\n", "", 0)
    assert (tmp_path / "data/digit-recognizer.zip").read_bytes() == kaggle_stub.archive


def test_the_real_package_can_be_imported_afterwards(kaggle_stub: KaggleStub) -> None:
    program = "import digits.kaggle.client as c; c.KaggleClient(); import kaggle; print(type(kaggle.api).__name__)"
    ran = subprocess.run(
        [sys.executable, "-c", program],
        env=kaggle_stub.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout == "KaggleApi\n"


def test_a_missing_package_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise ModuleNotFoundError("No module named 'six'", name="six")

    monkeypatch.setattr(package, "import_kaggle", fail)
    message = message_of(sign_in)
    assert "six is missing" in message
    assert "make setup" in message


# Whatever can go wrong with a call


REFUSALS = [
    (answer(400), "Kaggle refused the request (400, Error 400"),
    (answer(400, ALLOWANCE), "Today's submissions are used up: submit again after 00:00 UTC, in "),
    (answer(401), "Kaggle does not accept the token in KAGGLE_API_TOKEN: make a new token at"),
    (answer(403), "accept the rules at https://www.kaggle.com/competitions/digit-recognizer/rules"),
    (
        answer(403, RULES),
        "accepted the competition's rules yet: join it at https://www.kaggle.com/competitions/",
    ),
    (answer(403, PHONE), "phone number verified first: do that at https://www.kaggle.com/settings"),
    (answer(404), "Kaggle does not know what was asked for"),
    (answer(407), "The proxy wants a password"),
    (answer(409), "Kaggle refused the request (409, Error 409"),
    (answer(429, Retry_After="3600"), "Kaggle answered 429 (too many requests): run this again in 1 h 0 min"),
    (html(404), "Kaggle does not know what was asked for (Sign in)"),
    (garbage("null"), "can't be understood with kaggle 2"),
    (garbage('{"submissions": 3}'), "can't be understood with kaggle 2"),
    (garbage('{"submissions": [{"status": "BOILING"}]}'), "can't be understood with kaggle 2"),
    (garbage('{"submissions": [{"date": "soon"}]}'), "can't be understood with kaggle 2"),
    (garbage('{"code": 403, "message": "Forbidden"}'), "Kaggle refused the request (200, Forbidden"),
]
TROUBLES = [
    (answer(429), "Kaggle answered 429"),
    (answer(500), "Kaggle answered 500"),
    (answer(502), "Kaggle answered 502"),
    (answer(503), "Kaggle answered 503"),
    (answer(504), "Kaggle answered 504"),
    (html(502), "Kaggle answered 502"),
    (html(), "such as a web page"),
    (garbage(""), "such as a web page"),
    (garbage('{"submissions": ['), "such as a web page"),
    (drop(), "The connection to Kaggle was cut off"),
    (reset(), "The connection to Kaggle was cut off"),
    (truncate(), "The connection to Kaggle was cut off"),
    (hang(), "Kaggle does not answer"),
]


@pytest.mark.parametrize(("fault", "says"), REFUSALS, ids=str)
def test_a_refusal_is_told_at_once(fault: Fault, says: str, kaggle_stub: KaggleStub) -> None:
    client = sign_in()
    kaggle_stub.fail("ListSubmissions", fault)
    assert says in message_of(client.submissions)
    assert kaggle_stub.calls("ListSubmissions") == 1


@pytest.mark.parametrize(("fault", "says"), TROUBLES, ids=str)
def test_what_may_pass_is_tried_again_and_said(fault: Fault, says: str, kaggle_stub: KaggleStub) -> None:
    said: list[str] = []
    clock = Clock()
    client = sign_in(said.append, clock, fault)
    kaggle_stub.add_submission("m")
    kaggle_stub.fail("ListSubmissions", fault, times=2)
    assert len(client.submissions()) == 1
    assert [line.split("; ")[1] for line in said] == [
        "trying again in 1 s (1 of 4)",
        "trying again in 2 s (2 of 4)",
    ]
    assert says in said[0]
    assert clock.pauses == [1, 2]


@pytest.mark.parametrize(("fault", "says"), TROUBLES, ids=str)
def test_what_does_not_pass_is_told(fault: Fault, says: str, kaggle_stub: KaggleStub) -> None:
    client = sign_in(fault=fault)
    kaggle_stub.fail("ListSubmissions", fault, times=9)
    assert says in message_of(client.submissions)
    assert kaggle_stub.calls("ListSubmissions") == 1 + RETRIES


@pytest.mark.parametrize(
    ("after", "pauses"),
    [
        ("7", [7]),
        ("0", [1]),
        ("soon", [1]),
        ("-3", [1]),
        ("inf", [1]),
        ("Mon, 23 Nov 2020 18:00:00 GMT", [1]),
    ],
)
def test_kaggle_says_how_long_to_wait(after: str, pauses: list[float], kaggle_stub: KaggleStub) -> None:
    clock = Clock()
    client = sign_in(clock=clock)
    kaggle_stub.fail("ListSubmissions", answer(429, Retry_After=after))
    client.submissions()
    assert clock.pauses == pauses


def test_a_slow_answer_is_an_answer(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("ListSubmissions", slow(0.1))
    assert sign_in().submissions() == []


def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def point_to(url: str, patch: pytest.MonkeyPatch) -> None:
    import kagglesdk.kaggle_env as kaggle_env

    patch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, url)


def test_a_refused_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(f"http://127.0.0.1:{unused_port()}", monkeypatch)
    assert "The connection to Kaggle was refused" in message_of(sign_in)


def test_a_name_that_cannot_be_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert "can't be looked up (DNS)" in message_of(sign_in)


def test_a_proxy_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://user:hunter2@127.0.0.1:{unused_port()}")
    assert "The proxy can't be reached" in message_of(sign_in, "hunter2")


def test_a_proxy_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "gopher://user:hunter2@127.0.0.1:70")
    assert "correct HTTP_PROXY" in message_of(sign_in, "hunter2")


def test_a_server_without_a_certificate(kaggle_stub: KaggleStub, monkeypatch: pytest.MonkeyPatch) -> None:
    point_to(kaggle_stub.url.replace("http:", "https:"), monkeypatch)
    assert "The connection to Kaggle is not safe" in message_of(sign_in)


def test_a_server_that_does_not_take_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise TimeoutError("timed out")

    monkeypatch.setattr("urllib3.util.connection.create_connection", fail)
    assert "Kaggle does not take the connection" in message_of(sign_in)


def test_every_call_has_both_timeouts(
    kaggle_stub: KaggleStub, csv: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from requests.adapters import HTTPAdapter

    timeouts = []
    send = HTTPAdapter.send

    def watch(self: HTTPAdapter, *args: Any, **options: Any) -> Any:
        timeouts.append(options.get("timeout"))
        return send(self, *args, **options)

    monkeypatch.setattr(HTTPAdapter, "send", watch)
    client = KaggleClient(connect_timeout=3.0, read_timeout=4.0)
    client.submit(csv, MESSAGE)
    client.download(tmp_path)
    assert len(timeouts) == len(kaggle_stub.log)
    assert set(timeouts) == {(3.0, 4.0)}
