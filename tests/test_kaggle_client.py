"""Kaggle's client, through the real `kaggle` package and real HTTP, against a stub of Kaggle's API."""

import errno
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
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
    make_archive,
    reset,
    slow,
    stub_in_this_process,
    truncate,
)

from digits import kaggle_client
from digits.errors import DigitsError
from digits.kaggle_client import KaggleClient, check_archive

MESSAGE = "20261123-181500-cnn-s0 dev 99.52 sha 3f2a9c01"
CSV = "ImageId,Label\n1,2\n2,0\n"
RETRIES = 4

pytestmark = pytest.mark.usefixtures("kaggle_stub")


class Clock:
    """A time that passes only where somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def sign_in(
    say: Callable[[str], object] = lambda _: None, clock: Clock | None = None, fault: Fault | None = None
) -> KaggleClient:
    """A client that loses no time: it outwaits a busy machine, except where this fault is a hang."""
    clock = clock or Clock()
    patience = 0.2 if fault and fault.way == "hang" else 10.0
    return KaggleClient(
        say, connect_timeout=10.0, read_timeout=patience, retries=RETRIES, sleep=clock.sleep, clock=clock
    )


@pytest.fixture
def csv(tmp_path: Path) -> Path:
    path = tmp_path / "submission.csv"
    path.write_text(CSV)
    return path


@pytest.fixture(autouse=True)
def nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever happens, the module prints nothing."""
    yield
    assert capfd.readouterr() == ("", "")


def message_of(call: Callable[[], object], *secrets: str) -> str:
    """What the user reads when the call fails: one line with a remedy and no secret, whatever Kaggle says."""
    with pytest.raises(DigitsError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message
    assert ": " in message
    everything = "".join(traceback.format_exception(caught.value))
    for secret in (TOKEN, KEY, REFRESH_TOKEN, OAUTH_TOKEN, "X-Signature", *secrets):
        assert secret not in everything
    return message


# Signing in


def no_token(patch: pytest.MonkeyPatch) -> None:
    patch.delenv("KAGGLE_API_TOKEN")


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


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


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_of_credentials_signs_in(
    source: Callable[[pytest.MonkeyPatch, Path], str],
    kaggle_stub: KaggleStub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    no_token(monkeypatch)
    sent = source(monkeypatch, tmp_path)
    sign_in().submissions()
    assert kaggle_stub.log[-1].headers["authorization"].startswith(sent)


@pytest.mark.parametrize("source", SOURCES)
def test_credentials_that_kaggle_does_not_accept_are_named_by_their_place(
    source: Callable[[pytest.MonkeyPatch, Path], str],
    kaggle_stub: KaggleStub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    no_token(monkeypatch)
    source(monkeypatch, tmp_path)
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
    }.get(source.__name__, "kaggle.json")
    assert place in message
    assert ("kaggle auth login" if "oauth" in source.__name__ else "https://www.kaggle.com/settings/api") in message


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


@pytest.mark.parametrize("source", [key_in_home, oauth_fresh])
def test_secrets_that_kaggle_repeats_are_not_repeated(
    source: Callable[[pytest.MonkeyPatch, Path], str],
    kaggle_stub: KaggleStub,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    no_token(monkeypatch)
    source(monkeypatch, tmp_path)
    kaggle_stub.reasons["ListSubmissions"] = (400, f"{KEY}, {OAUTH_TOKEN} or http://x/y?X-Signature=1 is odd")
    with pytest.raises(DigitsError) as caught:
        sign_in().submissions()
    told = str(caught.value)
    assert (KEY if source is key_in_home else OAUTH_TOKEN) not in told
    assert "X-Signature" not in told
    assert "is odd" in told


def test_the_packages_own_verbose_prints_nothing(monkeypatch: pytest.MonkeyPatch, csv: Path, tmp_path: Path) -> None:
    """It would print every request, token and all, if the package were imported before with VERBOSE set."""
    monkeypatch.setattr(kaggle_client._import_kaggle().KaggleApi, "args", ["--verbose"])
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
import digits.kaggle_client as client
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
    program = "import digits.kaggle_client as c; c.KaggleClient(); import kaggle; print(type(kaggle.api).__name__)"
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

    monkeypatch.setattr(kaggle_client, "_import_kaggle", fail)
    message = message_of(sign_in)
    assert "six is missing" in message
    assert "make setup" in message


# Reading


def test_the_competition() -> None:
    found = sign_in().competition()
    assert found.max_daily_submissions == 5
    assert found.user_has_entered
    assert (found.user_rank, found.team_count) == (7, 1300)
    assert found.deadline == datetime(2030, 1, 1, tzinfo=UTC)


def test_what_the_competition_leaves_out(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition = {"id": 3004, "maxDailySubmissions": 5}
    found = sign_in().competition()
    assert not found.user_has_entered
    assert found.user_rank is None
    assert found.deadline is None


def test_submissions_of_all_pages_come_newest_first(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 3
    refs = [kaggle_stub.add_submission(f"m{number}") for number in range(8)]
    assert [one.ref for one in sign_in().submissions()] == refs[::-1]
    asked = [call.body for call in kaggle_stub.log if call.name == "ListSubmissions"]
    assert [(body.get("page"), body["pageToken"]) for body in asked] == [(1, ""), (None, "3"), (None, "6")]


def test_the_states_of_a_submission(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.add_submission("scored", date="2026-11-23T18:12:35.1230000Z", publicScore="0.99")
    kaggle_stub.add_submission("pending", status=None, publicScore="")
    kaggle_stub.add_submission("refused", status="ERROR", publicScore="", errorDescription="row 3:\n bad")
    refused, pending, scored = sorted(sign_in().submissions(), key=lambda one: -one.ref)
    assert (scored.status, scored.public_score, scored.done) == ("COMPLETE", 0.99, True)
    assert scored.date == datetime(2026, 11, 23, 18, 12, 35, 123000, tzinfo=UTC)
    assert (pending.status, pending.public_score, pending.done) == ("PENDING", None, False)
    assert (refused.status, refused.error_description, refused.done) == ("ERROR", "row 3: bad", True)
    assert (refused.file_name, refused.submitted_by) == ("submission.csv", USERNAME)


@pytest.mark.parametrize(("text", "score"), [("0.5", 0.5), ("", None), (None, None), ("n/a", None), ("nan", None)])
def test_scores_are_texts(text: str | None, score: float | None, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.add_submission("m", publicScore=text)
    assert sign_in().submissions()[0].public_score == score


def test_a_list_whose_pages_never_end_does(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("ListSubmissions", garbage('{"submissions": [{"ref": 1}], "nextPageToken": "7"}'), times=9)
    assert [one.ref for one in sign_in().submissions()] == [1]


def test_the_leaderboard_from_the_top(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 20
    top = sign_in().leaderboard(rows=3)
    assert [(row.rank, row.team_name, row.score) for row in top] == [
        (1, "team 1", 0.9999),
        (2, "team 2", 0.9998),
        (3, "team 3", 0.9997),
    ]
    assert top[0].date == datetime(2026, 11, 20, 10, 0, 0, 500000, tzinfo=UTC)
    assert kaggle_stub.calls("GetLeaderboard") == 1


@pytest.mark.parametrize(
    ("around", "ranks"), [(2, range(1, 11)), (30, range(25, 35)), (48, range(43, 51)), (90, range(0))]
)
def test_the_leaderboard_around_a_rank(around: int, ranks: range, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.largest_page = 20
    assert [row.rank for row in sign_in().leaderboard(around, rows=10)] == list(ranks)


# The allowance


def yesterday() -> str:
    return (datetime.now(UTC) - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%S.0000000Z")


@pytest.mark.parametrize("counts", [True, False])
def test_the_allowance_counts_the_submissions_of_this_day(counts: bool, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.counts_submissions = counts
    kaggle_stub.competition["maxDailySubmissions"] = 7
    kaggle_stub.add_submission("a", date=yesterday())
    kaggle_stub.add_submission("b")
    kaggle_stub.add_submission("c", status="ERROR")
    allowance = sign_in().check_may_submit()
    assert (allowance.limit, allowance.used, allowance.left) == (7, 1, 6)
    assert allowance.resets_at > datetime.now(UTC)
    assert (allowance.resets_at.hour, allowance.resets_at.minute) == (0, 0)


def test_whoever_is_on_no_team_yet_has_the_whole_allowance(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.fail("GetSubmissionLimits", garbage("{}"))
    assert sign_in().check_may_submit().left == 5


@pytest.mark.parametrize("counts", [True, False])
def test_an_allowance_that_is_used_up(counts: bool, kaggle_stub: KaggleStub) -> None:
    kaggle_stub.counts_submissions = counts
    for number in range(5):
        kaggle_stub.add_submission(f"m{number}")
    client = sign_in()
    assert client.allowance().left == 0
    message = message_of(client.check_may_submit)
    assert re.search(r"used up: submit again after 00:00 UTC, in \d+ (s|min|h)", message)


def test_rules_not_accepted_are_found_before_anything_is_sent(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition["userHasEntered"] = False
    message = message_of(sign_in().check_may_submit)
    assert "https://www.kaggle.com/competitions/digit-recognizer/rules" in message


def test_a_competition_that_takes_no_submissions(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.competition["submissionsDisabled"] = True
    assert "takes no submissions" in message_of(sign_in().check_may_submit)


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


# Submitting


def test_a_submission_arrives_as_it_is(kaggle_stub: KaggleStub, csv: Path) -> None:
    submission = sign_in().submit(csv, MESSAGE)
    (row,) = kaggle_stub.submissions
    assert (row["ref"], row["description"]) == (submission.ref, MESSAGE)
    assert kaggle_stub.uploaded(row["blob"]) == CSV.encode()
    assert (submission.status, submission.public_score) == ("PENDING", None)
    assert (submission.description, submission.file_name) == (MESSAGE, "submission.csv")
    assert kaggle_stub.log[-2].name == "PUT"
    assert "authorization" not in kaggle_stub.log[-2].headers


def test_the_same_message_is_not_submitted_twice(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in()
    first = client.submit(csv, MESSAGE)
    assert client.submit(csv, MESSAGE).ref == first.ref
    assert kaggle_stub.calls("CreateSubmission") == 1
    assert client.submit(csv, MESSAGE, again=True).ref != first.ref
    assert len(kaggle_stub.submissions) == 2


@pytest.mark.parametrize("fault", [drop(), drop(after=True)], ids=str)
def test_an_older_submission_is_not_taken_for_the_one_whose_answer_is_lost(
    fault: Fault, kaggle_stub: KaggleStub, csv: Path
) -> None:
    client = sign_in()
    client.submit(csv, MESSAGE)
    kaggle_stub.fail("CreateSubmission", fault)
    assert client.submit(csv, MESSAGE, again=True).ref == kaggle_stub.submissions[-1]["ref"]
    assert len(kaggle_stub.submissions) == 2


def test_a_submission_is_found_by_its_message(kaggle_stub: KaggleStub) -> None:
    kaggle_stub.keeps_white_space = False
    kaggle_stub.add_submission("by hand")
    ref = kaggle_stub.add_submission("run 7 dev 99.5")
    client = sign_in()
    found = client.find(" run 7\tdev  99.5 ")
    assert found
    assert found.ref == ref
    assert client.find("run 7") is None


STEPS = ["StartSubmissionUpload", "PUT", "CreateSubmission"]
PASSING = [answer(500), answer(503), answer(429), html(), html(502), drop(), reset(), hang()]


def late(fault: Fault) -> Fault:
    return Fault(**(vars(fault) | {"after": True}))


LIES = [html(), garbage("{}")]  # a storage that answers 200 has the file, as far as anybody can tell
TROUBLED_STEPS = [
    *itertools.product(STEPS, [*map(late, PASSING), late(garbage("{}"))]),
    *(pair for pair in itertools.product(STEPS, PASSING) if pair[0] != "PUT" or pair[1] not in LIES),
    ("StartSubmissionUpload", garbage("{}")),
]


@pytest.mark.parametrize(("step", "fault"), TROUBLED_STEPS, ids=str)
def test_an_upload_with_trouble_arrives_once(step: str, fault: Fault, kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.fail(step, fault)
    client = sign_in(fault=fault)
    kaggle_stub.add_submission("another")
    submission = client.submit(csv, MESSAGE)
    assert [row["description"] for row in kaggle_stub.submissions] == ["another", MESSAGE]
    assert submission.ref == kaggle_stub.submissions[1]["ref"]
    assert kaggle_stub.uploaded(kaggle_stub.submissions[1]["blob"]) == CSV.encode()


@pytest.mark.parametrize("lag", [1, 3])
def test_a_submission_whose_answer_is_lost_is_looked_for_until_it_is_listed(
    lag: int, kaggle_stub: KaggleStub, csv: Path
) -> None:
    kaggle_stub.lists_until_listed = lag
    kaggle_stub.fail("CreateSubmission", drop(after=True))
    said: list[str] = []
    submission = sign_in(said.append).submit(csv, MESSAGE)
    assert [row["ref"] for row in kaggle_stub.submissions] == [submission.ref]
    assert said == ["The connection to Kaggle was cut off; looking whether the submission arrived"]


def test_an_upload_is_not_sent_again_before_the_list_has_been_read(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", drop())
    client.submit(csv, MESSAGE)
    names = kaggle_stub.names
    first, second = (place for place, name in enumerate(names) if name == "CreateSubmission")
    assert names[first + 1 : second] == ["ListSubmissions"] * kaggle_client.LOOKS
    assert len(kaggle_stub.submissions) == 1


def test_a_list_that_cannot_be_read_leaves_it_open_and_the_next_call_settles_it(
    kaggle_stub: KaggleStub, csv: Path
) -> None:
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", drop(after=True))
    kaggle_stub.fail("ListSubmissions", slow(0), *[answer(503)] * (1 + RETRIES))
    message = message_of(lambda: client.submit(csv, MESSAGE))
    assert message.startswith("Whether the submission arrived is not known (The connection to Kaggle was cut off, ")
    assert "run the same command again" in message
    assert client.submit(csv, MESSAGE).ref == kaggle_stub.submissions[0]["ref"]
    assert len(kaggle_stub.submissions) == 1


class Killed(BaseException):
    """The process ends here."""


def test_a_process_that_dies_after_the_upload_leaves_no_second_submission_to_be_made(
    kaggle_stub: KaggleStub, csv: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kaggle_stub.lists_until_listed = 3
    dying = sign_in()
    send = dying._connection.call

    def die(method: str, **fields: Any) -> Any:
        given = send(method, **fields)
        if method == "create_submission":
            raise Killed
        return given

    monkeypatch.setattr(dying._connection, "call", die)
    with pytest.raises(Killed):
        dying.submit(csv, MESSAGE)
    found = sign_in().find(MESSAGE, patient=True)
    assert found
    assert found.ref == kaggle_stub.submissions[0]["ref"]


@pytest.mark.parametrize(
    ("reason", "says"),
    [
        ((403, RULES), "join it at https://www.kaggle.com/competitions/digit-recognizer/rules"),
        ((403, PHONE), "phone number verified first"),
        ((400, ALLOWANCE), "Today's submissions are used up"),
        ((400, "Submission not allowed: Wrong | file"), "(400, Submission not allowed: Wrong | file"),
        ((404, "Competition not found"), "does not know what was asked for"),
        ((401, "Unauthenticated"), "does not accept the token"),
    ],
)
@pytest.mark.parametrize("step", ["StartSubmissionUpload", "CreateSubmission"])
def test_a_refused_submission_is_not_sent_again(
    step: str, reason: tuple[int, str], says: str, kaggle_stub: KaggleStub, csv: Path
) -> None:
    kaggle_stub.reasons[step] = reason
    assert says in message_of(lambda: sign_in().submit(csv, MESSAGE))
    assert kaggle_stub.calls(step) == 1
    assert kaggle_stub.submissions == []


@pytest.mark.parametrize(
    ("page", "says"),
    [('{"message": "Not today."}', "made no submission of it (Not today)"), ("null", "can't be understood")],
)
def test_an_answer_that_names_no_submission(page: str, says: str, kaggle_stub: KaggleStub, csv: Path) -> None:
    """Nobody knows what it means, so the submission is looked for with patience and never sent again."""
    client = sign_in()
    kaggle_stub.fail("CreateSubmission", garbage(page))
    assert says in message_of(lambda: client.submit(csv, MESSAGE))
    assert kaggle_stub.calls("CreateSubmission") == 1
    kaggle_stub.lists_until_listed = 3
    kaggle_stub.fail("CreateSubmission", garbage(page, after=True))
    assert client.submit(csv, MESSAGE).ref == kaggle_stub.submissions[0]["ref"]


def test_a_submission_without_a_message_is_a_mistake(csv: Path) -> None:
    client = sign_in()
    with pytest.raises(ValueError, match="known by its message"):
        client.submit(csv, " ")


@pytest.mark.parametrize("fault", [answer(403), answer(503), drop(), hang()], ids=str)
def test_an_upload_that_never_works_is_told(fault: Fault, kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.fail("PUT", fault, times=9)
    message_of(lambda: sign_in(fault=fault).submit(csv, MESSAGE))
    assert kaggle_stub.calls("PUT") == kaggle_stub.calls("StartSubmissionUpload") == 1 + RETRIES
    assert kaggle_stub.submissions == []


def test_a_file_that_cannot_be_read_is_told_before_anything_is_sent(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    client = sign_in()
    assert "can't be read" in message_of(lambda: client.submit(tmp_path / "none.csv", MESSAGE))
    assert kaggle_stub.names == ["IntrospectToken"]


# Waiting


def test_waiting_for_the_score(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.polls_until_known, kaggle_stub.polls_until_scored = 1, 3
    client = sign_in()
    submission = client.submit(csv, MESSAGE)
    looks: list[str] = []
    scored = client.wait(submission.ref, poll=2, tick=lambda one: looks.append(one.status))
    assert (scored.ref, scored.public_score) == (submission.ref, 0.98765)
    assert looks == ["PENDING"] * 3 + ["COMPLETE"]


def test_waiting_for_an_error(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.error = "Submission must have 28000 rows"
    client = sign_in()
    refused = client.wait(client.submit(csv, MESSAGE).ref)
    assert (refused.status, refused.error_description) == ("ERROR", "Submission must have 28000 rows")


def test_waiting_ends(kaggle_stub: KaggleStub, csv: Path) -> None:
    kaggle_stub.score = None
    clock = Clock()
    client = sign_in(clock=clock)
    assert client.wait(client.submit(csv, MESSAGE).ref, timeout=60, poll=5).status == "PENDING"
    assert clock.now == 60


def test_waiting_outlives_trouble(kaggle_stub: KaggleStub, csv: Path) -> None:
    client = sign_in(fault=hang())
    ref = client.submit(csv, MESSAGE).ref
    kaggle_stub.fail("GetSubmission", drop(), answer(503), hang())
    assert client.wait(ref).public_score == 0.98765


# Downloading


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


def test_the_data_comes_whole(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    steps: list[tuple[int, int | None]] = []
    path = sign_in().download(tmp_path / "new" / "data", lambda done, total: steps.append((done, total)))
    size = len(kaggle_stub.archive)
    assert path == tmp_path / "new" / "data" / "digit-recognizer.zip"
    assert path.read_bytes() == kaggle_stub.archive
    assert steps[-1] == (size, size)
    assert list(path.parent.iterdir()) == [path]


def test_sound_data_is_not_downloaded_twice(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    client = sign_in()
    client.download(tmp_path)
    client.download(tmp_path)
    assert kaggle_stub.calls("DownloadDataFiles") == 1


def test_damaged_data_is_replaced(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    (tmp_path / "digit-recognizer.zip").write_bytes(kaggle_stub.archive[:-50])
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


@pytest.mark.parametrize("redirects", [True, False])
def test_a_download_that_is_cut_off_goes_on(redirects: bool, kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.redirects_downloads = redirects
    kaggle_stub.fail("GET" if redirects else "DownloadDataFiles", truncate(0.4))
    said: list[str] = []
    path = sign_in(said.append).download(tmp_path)
    assert path.read_bytes() == kaggle_stub.archive
    assert said == ["The connection to Kaggle was cut off; trying again in 1 s (1 of 4)"]
    assert any("range" in call.headers for call in kaggle_stub.log) is redirects


def cut_off_for_good(kaggle_stub: KaggleStub, folder: Path) -> int:
    """Have a download fail after some bytes, and return how many of them are kept."""
    kaggle_stub.fail("GET", truncate(0.4), *[drop()] * 20)
    assert "cut off" in message_of(lambda: sign_in().download(folder))
    kaggle_stub._faults.clear()
    (part,) = parts(folder)
    assert list(folder.iterdir()) == [part]
    return part.stat().st_size


def test_the_next_call_goes_on_where_this_one_stopped(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    held = cut_off_for_good(kaggle_stub, tmp_path)
    assert 0 < held <= len(kaggle_stub.archive) * 0.4
    path = sign_in().download(tmp_path)
    assert path.read_bytes() == kaggle_stub.archive
    assert kaggle_stub.log[-1].headers["range"] == f"bytes={held}-"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_of_an_older_version_are_not_gone_on_from(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    kaggle_stub.archive, kaggle_stub.archive_tag = make_archive(train="label,pixel0\n1,2\n"), '"v2"'
    path = sign_in().download(tmp_path)
    assert path.read_bytes() == kaggle_stub.archive
    assert list(tmp_path.iterdir()) == [path]


def test_an_older_version_that_is_all_there_is_not_taken(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    (part,) = parts(tmp_path)
    part.write_bytes(kaggle_stub.archive)
    kaggle_stub.archive = make_archive(sample_submission="ImageId,Label\n" + "1,1\n" * 10)
    padding = len(part.read_bytes()) - len(kaggle_stub.archive)
    kaggle_stub.archive = make_archive(sample_submission="ImageId,Label\n" + "1,1\n" * 10 + "\n" * padding)
    kaggle_stub.archive_tag = '"v2"'
    assert len(kaggle_stub.archive) == part.stat().st_size
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


def test_other_bytes_than_were_asked_for_start_again(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    kaggle_stub.fail("GET", slow(0), Fault("answer", status=206, page="others"))
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


@pytest.mark.parametrize("tag", ["", 'W/"v1"'])
def test_the_date_tells_versions_apart_where_no_strong_tag_does(
    tag: str, kaggle_stub: KaggleStub, tmp_path: Path
) -> None:
    kaggle_stub.archive_tag = tag
    held = cut_off_for_good(kaggle_stub, tmp_path)
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive
    assert kaggle_stub.log[-1].headers["range"] == f"bytes={held}-"
    assert kaggle_stub.log[-1].headers["if-range"].endswith("GMT")


def test_a_server_that_cannot_go_on_starts_again(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    kaggle_stub.resumes_downloads = False
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


def test_more_bytes_than_there_are_start_again(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    (part,) = parts(tmp_path)
    part.write_bytes(kaggle_stub.archive + b"more")
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


def test_bytes_that_were_all_there_need_no_more(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    cut_off_for_good(kaggle_stub, tmp_path)
    (part,) = parts(tmp_path)
    part.write_bytes(kaggle_stub.archive)
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive
    assert "range" not in kaggle_stub.log[-1].headers


def broken(content: bytes) -> bytes:
    """An archive with a wrong byte in its middle."""
    middle = len(content) // 3
    return content[:middle] + bytes([content[middle] ^ 0xFF]) + content[middle + 1 :]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (broken(make_archive()), "is no sound zip file"),
        (make_archive()[:-30], "is no sound zip file"),
        (b"PK", "is no sound zip file"),
        (make_archive(test=""), "holds test.csv of 0 bytes"),
        (make_archive().replace(b"train.csv", b"trail.csv"), "holds no train.csv"),
        (b"<!doctype html><html>Sign in</html>", "such as a web page"),
        (b"", "such as a web page"),
    ],
    ids=["wrong byte", "no end", "two bytes", "empty file", "other file", "web page", "nothing"],
)
def test_what_is_not_the_data_is_not_put_in_place(
    content: bytes, says: str, kaggle_stub: KaggleStub, tmp_path: Path
) -> None:
    right, kaggle_stub.archive = kaggle_stub.archive, content
    assert says in message_of(lambda: sign_in().download(tmp_path))
    assert list(tmp_path.iterdir()) == []
    kaggle_stub.archive = right
    assert sign_in().download(tmp_path).read_bytes() == right


def test_a_truncated_download_that_does_not_tell_is_noticed(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.fail("GET", truncate(0.7, with_length=False))
    assert "is no sound zip file" in message_of(lambda: sign_in().download(tmp_path))
    assert list(tmp_path.iterdir()) == []
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


@pytest.mark.parametrize("step", ["DownloadDataFiles", "GET"])
@pytest.mark.parametrize("fault", PASSING, ids=str)
def test_a_download_with_trouble_comes_whole(step: str, fault: Fault, kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.fail(step, fault)
    assert sign_in(fault=fault).download(tmp_path).read_bytes() == kaggle_stub.archive


def test_a_signed_address_that_has_expired_is_asked_for_anew(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.fail("GET", truncate(0.3), answer(403), answer(403))
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive


def test_a_storage_that_always_refuses_is_told(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.fail("GET", answer(403), times=9)
    message = message_of(lambda: sign_in().download(tmp_path))
    assert message == "Kaggle's file storage answered 403: run this again in some minutes"


def test_a_download_needs_the_rules_accepted(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    kaggle_stub.competition["userHasEntered"] = False
    assert "/rules" in message_of(lambda: sign_in().download(tmp_path))


class FullDisk:
    """A file on a disk that has room for so many bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.file, name)

    def write(self, content: bytes) -> int:
        self.file.write(content[: self.room])
        if len(content) > self.room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self.room -= len(content)
        return len(content)


@contextmanager
def disk_with(room: int | None) -> Iterator[None]:
    """A disk on which each file has room for so many bytes."""
    open_file = Path.open
    with pytest.MonkeyPatch.context() as patch:
        if room is not None:
            patch.setattr(Path, "open", lambda self, *args: FullDisk(open_file(self, *args), room))
        yield


def test_a_full_disk_is_told_and_the_next_call_goes_on(kaggle_stub: KaggleStub, tmp_path: Path) -> None:
    with disk_with(3000):
        message = message_of(lambda: sign_in().download(tmp_path))
    assert "No space left on device" in message
    assert [part.stat().st_size for part in tmp_path.iterdir()] == [3000]
    assert kaggle_stub.calls("GET") == 1
    assert sign_in().download(tmp_path).read_bytes() == kaggle_stub.archive
    assert kaggle_stub.log[-1].headers["range"] == "bytes=3000-"


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    write(tmp_path / "file", "")
    assert "can't be written" in message_of(lambda: sign_in().download(tmp_path / "file" / "data"))


def test_an_archive_that_is_missing_is_told(tmp_path: Path) -> None:
    assert "is missing" in message_of(lambda: check_archive(tmp_path / "digit-recognizer.zip"))


def test_an_archive_got_by_hand_can_be_checked(tmp_path: Path) -> None:
    path = tmp_path / "digit-recognizer.zip"
    path.write_bytes(make_archive())
    check_archive(path)
    path.write_bytes(make_archive()[:-30])
    assert f"{path} is no sound zip file" in message_of(lambda: check_archive(path))


# Whatever happens, in whatever order

FAULTS = st.sampled_from(
    [answer(status) for status in (400, 403, 404, 429, 500, 503)]
    + [html(), html(502), garbage("{}"), drop(), reset(), truncate(0.3), truncate(0.6, with_length=False)]
)
STRIKES = st.one_of(st.none(), FAULTS, FAULTS.map(late))
SCRIPTS = st.tuples(
    st.lists(STRIKES, max_size=20),
    st.sampled_from([[], [], [], [hang()], [hang(after=True)]]),
    st.lists(STRIKES, max_size=10),
).map(lambda parts: list(itertools.chain(*parts)))
DEATHS = st.lists(st.one_of(st.none(), st.integers(1, 12)), max_size=4)


@contextmanager
def anew() -> Iterator[tuple[KaggleStub, Path]]:
    """A stub and a HOME of its own for each example."""
    with tempfile.TemporaryDirectory() as folder, stub_in_this_process(Path(folder)) as stub:
        yield stub, Path(folder)


@contextmanager
def dying_after(calls: int | None) -> Iterator[None]:
    """A process that is killed when it has had the answers to so many requests."""
    from requests.adapters import HTTPAdapter

    send = HTTPAdapter.send
    made = itertools.count(1)

    def die(self: HTTPAdapter, *args: Any, **options: Any) -> Any:
        given = send(self, *args, **options)
        if next(made) == calls:
            given.close()
            raise Killed
        return given

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(HTTPAdapter, "send", die)
        yield


@settings(max_examples=35, deadline=None)
@given(script=SCRIPTS, lag=st.integers(0, 3), deaths=DEATHS)
def test_whatever_happens_there_is_one_submission(
    script: list[Fault | None], lag: int, deaths: list[int | None]
) -> None:
    """Submit until it works, looking for the earlier attempt first, as the command does."""
    with anew() as (stub, folder):
        path = write(folder / "submission.csv", CSV)
        stub.lists_until_listed = lag
        stub.script = iter(script)
        for attempt in range(60):
            try:
                with dying_after(deaths.pop() if deaths else None):
                    client = sign_in(fault=hang())
                    found = client.find(MESSAGE, patient=True) if attempt else None
                    submission = found or client.submit(path, MESSAGE)
            except (DigitsError, Killed):
                continue
            break
        (row,) = stub.submissions
        assert (row["ref"], row["description"]) == (submission.ref, MESSAGE)
        assert stub.uploaded(row["blob"]) == CSV.encode()


@settings(max_examples=35, deadline=None)
@given(script=SCRIPTS, rooms=st.lists(st.integers(0, 20_000), max_size=4), deaths=DEATHS)
def test_whatever_happens_no_file_is_half_written(
    script: list[Fault | None], rooms: list[int], deaths: list[int | None]
) -> None:
    with anew() as (stub, folder):
        target = folder / "data" / "digit-recognizer.zip"
        stub.script = iter(script)
        for _ in range(60):
            try:
                with dying_after(deaths.pop() if deaths else None), disk_with(rooms.pop() if rooms else None):
                    sign_in(fault=hang()).download(folder / "data")
            except (DigitsError, Killed):
                assert not target.exists()
                continue
            break
        assert target.read_bytes() == stub.archive
        assert list(target.parent.iterdir()) == [target]
