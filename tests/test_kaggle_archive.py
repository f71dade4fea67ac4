"""The competition's data as it comes: downloads over real HTTP, from a stub of Kaggle's API, whole or not at all."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from calls import DEATHS, PASSING, SCRIPTS, Killed, anew, dying_after, message_of, sign_in, write
from hypothesis import given, settings
from hypothesis import strategies as st
from kaggle_stub import Fault, KaggleStub, answer, drop, hang, make_archive, slow, truncate

from digits.errors import DigitsError
from digits.kaggle.archive import check_archive

pytestmark = pytest.mark.usefixtures("kaggle_stub", "nothing_printed")


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
