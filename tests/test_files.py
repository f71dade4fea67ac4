"""A file is there whole or not at all, and what stops it is one sentence with a remedy."""

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from digits.errors import DigitsError
from digits.files import make_folder, mendable, write_json, write_text, write_whole


def refuse(number: int) -> Callable[[Path], object]:
    """Write a part of the file, then fail as the operating system does."""

    def write(path: Path) -> None:
        path.write_text("a half-writ")
        raise OSError(number, os.strerror(number))

    return write


def interrupt(path: Path) -> None:
    path.write_text("a half-writ")
    raise KeyboardInterrupt


def test_a_file_is_written_under_its_name_and_nothing_else_is_there(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.txt", lambda path: path.write_text("new"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "new"


def test_until_the_new_file_is_whole_the_old_one_stands(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    seen = []

    def write(temporary: Path) -> None:
        temporary.write_text("new")
        seen.append((temporary.parent, temporary.suffix, path.read_text()))

    write_whole(path, write)
    assert seen == [(tmp_path, ".txt", "old")]
    assert path.read_text() == "new"


def test_whoever_reads_the_old_file_reads_it_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with path.open() as reader:
        write_text(path, "new and longer")
        assert reader.read() == "old"


@pytest.mark.parametrize(
    ("number", "remedy"),
    [
        (errno.ENOSPC, "free some space"),
        (errno.EDQUOT, "free some of your quota"),
        (errno.EACCES, "make that folder writable"),
        (errno.EPERM, "make that folder writable"),
        (errno.EROFS, "that disk is read-only, choose another folder"),
        (errno.EIO, "see that the disk is there and sound"),
    ],
)
def test_a_file_that_cannot_be_written_leaves_the_old_one_and_says_what_to_do(
    tmp_path: Path, number: int, remedy: str
) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(DigitsError) as caught:
        write_whole(path, refuse(number))
    message = str(caught.value)
    assert message.startswith(f"{path} can't be written ({os.strerror(number)}): ")
    assert remedy in message
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert path.read_text() == "old"


@pytest.mark.parametrize("write", [interrupt, lambda path: path.write_text("half") and 1 / 0])
def test_whatever_stops_the_writing_nothing_is_left_behind(tmp_path: Path, write: Callable[[Path], object]) -> None:
    with pytest.raises((KeyboardInterrupt, ZeroDivisionError)):
        write_whole(tmp_path / "a.txt", write)
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folder_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match="can't be written") as caught:
        write_text(tmp_path / "no" / "a.txt", "x")
    assert str(tmp_path / "no") in str(caught.value)
    assert "sound" not in str(caught.value)  # the disk is: what is missing is the folder


def test_a_folder_in_the_place_of_the_file_is_refused_and_stays(tmp_path: Path) -> None:
    (tmp_path / "a.txt").mkdir()
    (tmp_path / "a.txt" / "mine").write_text("mine")
    with pytest.raises(DigitsError, match="Is a directory"):
        write_text(tmp_path / "a.txt", "x")
    assert (tmp_path / "a.txt" / "mine").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_text_is_utf_8_with_lf_whatever_the_system_likes(tmp_path: Path) -> None:
    write_text(tmp_path / "a.txt", "ü\nλ\r\n")
    assert (tmp_path / "a.txt").read_bytes() == "ü\nλ\r\n".encode()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=10,
)


@given(JSON)
@settings(deadline=None, max_examples=50)
def test_json_is_read_back_as_it_was(tmp_path_factory: pytest.TempPathFactory, value: object) -> None:
    path = tmp_path_factory.getbasetemp() / "value.json"
    write_json(path, value)
    assert json.loads(path.read_text(encoding="utf-8")) == value
    assert path.read_bytes().endswith(b"\n")


def test_a_folder_is_made_with_those_above_it_and_may_be_there(tmp_path: Path) -> None:
    make_folder(tmp_path / "a" / "b")
    make_folder(tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("below", ["file", "file/folder", "file/folder/folder"])
def test_a_file_where_a_folder_should_be_is_named(tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(DigitsError, match="a file stands where a folder should be") as caught:
        make_folder(tmp_path / below)
    assert str(tmp_path / "file") in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_only_the_systems_errors_become_sentences(tmp_path: Path) -> None:
    for error in (ValueError("a bug"), DigitsError("said already")):
        with pytest.raises(type(error)) as caught, mendable(tmp_path):
            raise error
        assert caught.value is error
