"""Calls of Kaggle in tests: by a client that loses no time, of a stub, with all that can go wrong with them."""

import itertools
import tempfile
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st
from kaggle_stub import (
    KEY,
    OAUTH_TOKEN,
    REFRESH_TOKEN,
    TOKEN,
    Fault,
    KaggleStub,
    answer,
    drop,
    garbage,
    hang,
    html,
    reset,
    stub_in_this_process,
    truncate,
)

from digits.errors import DigitsError
from digits.kaggle.client import KaggleClient

MESSAGE = "20261123-181500-cnn-s0 dev 99.52 sha 3f2a9c01"
CSV = "ImageId,Label\n1,2\n2,0\n"
RETRIES = 4


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
    """A file to submit."""
    path = tmp_path / "submission.csv"
    path.write_text(CSV)
    return path


@pytest.fixture
def nothing_printed(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """Whatever happens, the package prints nothing."""
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


def write(path: Path, text: str) -> Path:
    """A file that only its owner may read, in a folder that is made for it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


# What goes wrong


def late(fault: Fault) -> Fault:
    """The same after the call has done its work."""
    return Fault(**(vars(fault) | {"after": True}))


PASSING = [answer(500), answer(503), answer(429), html(), html(502), drop(), reset(), hang()]
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


class Killed(BaseException):
    """The process ends here."""


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
