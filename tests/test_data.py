"""The data is taken from where it is, checked before it is put in place, and cached without ever being stale."""

import gzip
import hashlib
import json
import os
import resource
import shutil
import signal
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tables import SKETCHES, STYLES, Sketch, Style, contents, csv, values, write_tables, zipped

from digits import competition, data
from digits.competition import TEST_COLUMNS
from digits.data import Data, load, mark_sample
from digits.errors import DigitsError

TRAIN = csv(values(20))
TEST = csv(values(4, TEST_COLUMNS, seed=1), TEST_COLUMNS)
SUBMISSION = b"ImageId,Label\n1,0\n2,0\n3,0\n4,0\n"
MEMBERS = {"train.csv": TRAIN, "test.csv": TEST, "sample_submission.csv": SUBMISSION}


@pytest.fixture(autouse=True)
def _no_kaggle_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data, "KAGGLE_INPUTS", ())


@pytest.fixture
def official(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the small tables of this module be the competition's official ones."""
    for name, content, rows in (("TRAIN", TRAIN, 20), ("TEST", TEST, 4)):
        digest = hashlib.sha256(content).hexdigest()
        monkeypatch.setattr(data, name, replace(getattr(competition, name), rows=rows, sha256=digest))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """The competition's zip, in small."""
    return zipped(tmp_path / "digit-recognizer.zip", MEMBERS)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """DATA_DIR with other data in it than `source` has."""
    write_tables(tmp_path / "data", seed=7, kind="own")
    return tmp_path / "data"


@contextmanager
def disk_that_takes(most: int) -> Iterator[None]:
    """No file can grow beyond so many bytes: it is written up to there, and then writing fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    assert signal.getsignal(signal.SIGXFSZ) == signal.SIG_IGN
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def refusal(act: Callable[[], object]) -> str:
    """The one line that a DigitsError says."""
    with pytest.raises(DigitsError) as caught:
        act()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def no_download(_: Path) -> Path:
    raise DigitsError("there is no token")


def said(folder: Path, source: Path | None = None, **options: bool) -> tuple[Data, str]:
    """What `acquire` gives and says, where Kaggle can't be had."""
    lines: list[str] = []
    found = data.acquire(folder, source, say=lines.append, download=no_download, **options)
    return found, "\n".join(lines)


def acquire(folder: Path, source: Path | None = None, **options: bool) -> Data:
    """What `acquire` gives."""
    return said(folder, source, **options)[0]


# --- where the data is taken from


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("place", ["", "digit-recognizer/", "./", "a b/ü/"])
def test_a_zip_is_unpacked_wherever_in_it_the_files_are(tmp_path: Path, place: str) -> None:
    source = zipped(tmp_path / "some.zip", {f"{place}{name}": content for name, content in MEMBERS.items()})
    found, lines = said(tmp_path / "new" / "data", source)
    assert str(source) in lines
    assert contents(tmp_path / "new" / "data") == MEMBERS
    assert np.array_equal(found.images, values(20)[:, 1:].reshape(20, 28, 28))
    assert np.array_equal(found.labels, values(20)[:, 0])
    assert np.array_equal(found.test_images, values(4, TEST_COLUMNS, 1).reshape(4, 28, 28))
    assert found.images.dtype == found.test_images.dtype == np.uint8
    assert found.labels.dtype == np.intp


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("packed", [False, True])
def test_a_folder_is_copied_and_stays_as_it_was(tmp_path: Path, packed: bool) -> None:
    source = tmp_path / "downloads"
    source.mkdir()
    for name, content in MEMBERS.items():
        if packed and name != "sample_submission.csv":
            (source / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (source / name).write_bytes(content)
    before = contents(source)
    found, _ = said(tmp_path / "data", source)
    assert found.kind == "official"
    assert contents(source) == contents(tmp_path / "data") == before
    assert not any(path.is_symlink() for path in (tmp_path / "data").iterdir())


@pytest.mark.usefixtures("official")
def test_a_zip_may_hold_gzip_files_and_no_sample_submission(tmp_path: Path) -> None:
    packed = {f"{name}.gz": gzip.compress(content) for name, content in MEMBERS.items() if "sample" not in name}
    found, _ = said(tmp_path / "data", zipped(tmp_path / "some.zip", packed))
    assert found.kind == "official"
    assert sorted(contents(tmp_path / "data")) == ["test.csv.gz", "train.csv.gz"]


@pytest.mark.usefixtures("official")
def test_what_is_there_already_is_taken_and_the_source_left_alone(folder: Path, source: Path) -> None:
    before = contents(folder)
    found, lines = said(folder, source)
    assert "left alone" in lines
    assert "--replace" in lines
    assert contents(folder) == before
    assert found.kind == "own"
    assert said(folder)[1] == ""


@pytest.mark.usefixtures("official")
def test_replace_takes_the_files_anew_over_those_that_are_there(folder: Path, source: Path) -> None:
    (folder / "train.csv").rename(folder / "train.csv.bak")
    (folder / "train.csv.gz").write_bytes(gzip.compress((folder / "train.csv.bak").read_bytes()))
    found, _ = said(folder, source, replace=True)
    assert found.kind == "official"
    there = contents(folder)
    assert {name: there[name] for name in MEMBERS} == MEMBERS
    assert "train.csv.gz" not in there  # it would be the old data, under the name of the new


@pytest.mark.usefixtures("official")
def test_only_what_is_missing_is_taken(folder: Path, source: Path) -> None:
    kept = (folder / "train.csv").read_bytes()
    (folder / "test.csv").unlink()
    said(folder, source, own=True)
    assert (folder / "train.csv").read_bytes() == kept
    assert (folder / "test.csv").read_bytes() == TEST


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("mounted", [0, 1])
def test_in_a_kaggle_kernel_the_mounted_files_are_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mounted: int
) -> None:
    places = (tmp_path / "input" / "competitions" / "digit-recognizer", tmp_path / "input" / "digit-recognizer")
    places[mounted].mkdir(parents=True)
    for name, content in MEMBERS.items():
        (places[mounted] / name).write_bytes(content)
    monkeypatch.setattr(data, "KAGGLE_INPUTS", places)
    found, lines = said(tmp_path / "data")
    assert found.kind == "official"
    assert str(places[mounted]) in lines
    assert (tmp_path / "data" / "train.csv").readlink() == places[mounted] / "train.csv"


def test_kaggle_mounts_competitions_in_either_of_two_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    assert set(map(str, data.KAGGLE_INPUTS)) == {
        "/kaggle/input/competitions/digit-recognizer",
        "/kaggle/input/digit-recognizer",
    }


@pytest.mark.usefixtures("official")
def test_a_source_that_is_given_goes_before_kaggles_mount(
    tmp_path: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tables(tmp_path / "mount", seed=9)
    monkeypatch.setattr(data, "KAGGLE_INPUTS", (tmp_path / "mount",))
    assert said(tmp_path / "data", source)[0].kind == "official"


@pytest.mark.usefixtures("official")
def test_what_nobody_else_has_is_downloaded(tmp_path: Path, source: Path) -> None:
    folder, asked = tmp_path / "data", []

    def download(place: Path) -> Path:
        asked.append(place)
        place.mkdir()
        return source.rename(place / source.name)

    lines: list[str] = []
    found = data.acquire(folder, say=lines.append, download=download)
    assert found.kind == "official"
    assert lines == ["downloading the files from Kaggle"]
    assert contents(folder) == MEMBERS  # and the zip is gone
    assert asked == [folder / ".download"]
    data.acquire(folder, say=lines.append, download=download)
    assert len(asked) == len(lines) == 1


def test_a_download_that_comes_to_nothing_changes_nothing(tmp_path: Path) -> None:
    assert refusal(lambda: acquire(tmp_path / "data")) == "there is no token"
    assert contents(tmp_path / "data") == {}


@pytest.mark.usefixtures("official")
def test_a_download_is_kept_until_its_files_are_in_place(tmp_path: Path) -> None:
    folder = tmp_path / "data"
    bad = {**MEMBERS, "test.csv": b"not a table"}

    def download(place: Path) -> Path:
        place.mkdir(exist_ok=True)
        return zipped(place / "digit-recognizer.zip", bad)

    refusal(lambda: data.acquire(folder, say=lambda _: None, download=download))
    assert set(contents(folder)) == {".download/digit-recognizer.zip"}


def test_a_file_that_is_missing_is_named(folder: Path) -> None:
    (folder / "test.csv").unlink()
    assert refusal(lambda: load(folder)).startswith(f"{folder / 'test.csv'} is missing: run `digits data`")


# --- sources that are refused, and what they leave behind


def broken_zip(path: Path, break_: Callable[[bytearray], object]) -> Path:
    content = bytearray(zipped(path, MEMBERS).read_bytes())
    break_(content)
    path.write_bytes(content)
    return path


def flip(at: int, bits: int) -> Callable[[bytearray], object]:
    def change(content: bytearray) -> None:
        content[at] ^= bits

    return change


def locked(content: bytearray) -> None:
    """Say of the first member that a password is needed."""
    content[content.index(b"PK\x01\x02") + 8] |= 1


def packed_strangely(content: bytearray) -> None:
    """Say of the first member that it is packed in a way that nobody knows."""
    content[content.index(b"PK\x01\x02") + 10] = 99


BROKEN = {
    "cut short": lambda content: content.__delitem__(slice(5000, None)),
    "cut at the front": lambda content: content.__delitem__(slice(0, 1000)),
    "a flipped bit": flip(2000, 16),
    "empty": bytearray.clear,
    "a web page": lambda content: content.__setitem__(slice(None), b"<!doctype html><html>Sign in</html>"),
    "locked with a password": locked,
    "packed strangely": packed_strangely,
}


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("damage", BROKEN)
def test_a_zip_that_is_damaged_is_refused_and_changes_nothing(folder: Path, tmp_path: Path, damage: str) -> None:
    before = contents(folder)
    path = broken_zip(tmp_path / "bad.zip", BROKEN[damage])
    message = refusal(lambda: acquire(folder, path, replace=True))
    assert message.startswith(f"{path} ")
    assert "download it again" in message
    assert contents(folder) == before


@pytest.mark.usefixtures("official")
def test_any_byte_of_a_zip_may_be_damaged(tmp_path: Path) -> None:
    folder, path = tmp_path / "data", tmp_path / "bad.zip"
    write_tables(folder, seed=7, kind="own")
    before = contents(folder)
    whole = zipped(path, MEMBERS).read_bytes()
    directory = whole.index(b"PK\x01\x02")
    places = st.integers(0, len(whole) - 1) | st.integers(directory, len(whole) - 1) | st.integers(0, 40)

    @given(places, st.integers(0, 255) | st.none())
    @settings(deadline=None, max_examples=200)
    def damaged(at: int, byte: int | None) -> None:
        path.write_bytes(whole[:at] if byte is None else whole[:at] + bytes([byte]) + whole[at + 1 :])
        try:
            assert acquire(folder, path, replace=True).kind == "official"
        except DigitsError as error:
            assert str(error).startswith(str(path))  # noqa: PT017
            assert contents(folder) == before
        else:
            shutil.rmtree(folder)
            write_tables(folder, seed=7, kind="own")

    damaged()


EVIL = ["../train.csv", "a/../../train.csv", "/train.csv", "\\train.csv", "..\\train.csv", "C:\\train.csv", "c:/train"]


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("name", EVIL)
@pytest.mark.parametrize("among", [{}, MEMBERS], ids=["alone", "among good ones"])
def test_a_zip_that_points_outside_is_refused_whatever_else_it_holds(
    folder: Path, tmp_path: Path, name: str, among: dict[str, bytes]
) -> None:
    before = contents(tmp_path)
    path = zipped(tmp_path / "evil.zip", {**among, name: TRAIN})
    message = refusal(lambda: acquire(folder, path, replace=True))
    assert "points outside" in message
    assert repr(name) in message
    path.unlink()
    assert contents(tmp_path) == before


@pytest.mark.usefixtures("official")
def test_a_zip_made_on_windows_with_backslashes_is_not_taken(tmp_path: Path) -> None:
    path = zipped(tmp_path / "windows.zip", {f"files\\{name}": content for name, content in MEMBERS.items()})
    assert "holds no train.csv" in refusal(lambda: acquire(tmp_path / "data", path))
    assert contents(tmp_path / "data") == {}


@pytest.mark.usefixtures("official")
def test_a_zip_of_a_folder_may_hold_the_folder_itself(tmp_path: Path) -> None:
    path = zipped(tmp_path / "some.zip", {"./": b"", "./data/": b"", **{f"./data/{k}": v for k, v in MEMBERS.items()}})
    assert said(tmp_path / "data", path)[0].kind == "official"


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"test.csv": TEST}, "holds no train.csv"),
        ({"train.csv": TRAIN}, "holds no test.csv"),
        ({}, "holds no train.csv"),
        ({**MEMBERS, "train.csv": TRAIN.replace(b",7,", b",x,", 1)}, "'x' is not an integer from 0 to 255"),
        ({**MEMBERS, "test.csv": TRAIN}, "test.csv, line 1"),
        ({**MEMBERS, "train.csv": TRAIN[:-200]}, "train.csv, line 21, column"),
        ({**MEMBERS, "train.csv": csv(values(19))}, "has 19 rows and the competition's has 20"),
        ({**MEMBERS, "test.csv": csv(values(5, TEST_COLUMNS), TEST_COLUMNS)}, "has 5 rows"),
        ({**MEMBERS, "sample_submission.csv": SUBMISSION[:-4]}, "sample_submission.csv"),
        ({**MEMBERS, "sample_submission.csv": b"<html>"}, "sample_submission.csv"),
    ],
)
@pytest.mark.parametrize("as_folder", [False, True], ids=["zip", "folder"])
def test_a_source_with_anything_wrong_in_it_changes_nothing(
    folder: Path, tmp_path: Path, members: dict[str, bytes], message: str, as_folder: bool
) -> None:
    (folder / "data set.json").write_bytes(b"unrelated")
    before = contents(folder)
    source = tmp_path / "bad.zip"
    if as_folder:
        source.mkdir()
        for name, content in members.items():
            (source / name).write_bytes(content)
    else:
        zipped(source, members)
    assert message in refusal(lambda: acquire(folder, source, replace=True))
    assert contents(folder) == before
    assert not [path for path in folder.iterdir() if path.is_dir() and path.name != ".cache"]
    fresh = tmp_path / "fresh"
    assert message in refusal(lambda: acquire(fresh, source))
    assert contents(fresh) == {}


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("twin", ["old/train.csv", "train.csv.gz"])
def test_a_zip_that_holds_a_file_twice_is_refused(folder: Path, tmp_path: Path, twin: str) -> None:
    before = contents(folder)
    path = zipped(tmp_path / "two.zip", {**MEMBERS, twin: gzip.compress(TRAIN) if "gz" in twin else TRAIN})
    message = refusal(lambda: acquire(folder, path, replace=True))
    assert f"holds train.csv and {twin}: keep one" in message
    assert contents(folder) == before


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("as_folder", [False, True], ids=["zip", "folder"])
def test_a_complaint_about_a_source_names_the_source_not_a_temporary_folder(tmp_path: Path, as_folder: bool) -> None:
    source = tmp_path / "source"
    bad = {**MEMBERS, "train.csv": TRAIN[:-200]}
    if as_folder:
        source.mkdir()
        for name, content in bad.items():
            (source / name).write_bytes(content)
    else:
        zipped(source, bad)
    message = refusal(lambda: acquire(tmp_path / "data", source))
    assert str(source) in message
    assert "train.csv, line 21, column" in message
    assert "incoming" not in message


def test_a_source_that_is_not_there_is_refused(folder: Path, tmp_path: Path) -> None:
    before = contents(folder)
    message = refusal(lambda: acquire(folder, tmp_path / "nowhere.zip", replace=True))
    assert message.startswith(f"{tmp_path / 'nowhere.zip'} is not there: give the path of digit-recognizer.zip")
    assert contents(folder) == before


def test_a_source_that_cannot_be_read_is_not_blamed_on_the_data_folder(folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "downloads"
    write_tables(source)
    (source / "train.csv").unlink()
    (source / "train.csv").mkdir()
    message = refusal(lambda: acquire(folder, source, replace=True))
    assert message.startswith(str(source))
    assert "written" not in message


def test_a_member_too_large_for_the_competition_is_not_unpacked(
    folder: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(data, "LARGEST_MEMBER", 10_000)
    assert f"'train.csv' of {len(TRAIN):,} bytes" in refusal(lambda: acquire(folder, source, replace=True))


@pytest.mark.usefixtures("official")
@pytest.mark.parametrize("as_folder", [False, True], ids=["zip", "folder"])
@pytest.mark.parametrize("room", [0, 1000, 20_000], ids=str)
def test_a_full_disk_leaves_what_was_there_and_nothing_else(
    folder: Path, source: Path, tmp_path: Path, as_folder: bool, room: int
) -> None:
    if as_folder:
        source = tmp_path / "downloads"
        source.mkdir()
        for name, content in MEMBERS.items():
            (source / name).write_bytes(content)
    before = contents(folder)
    with disk_that_takes(room):
        message = refusal(lambda: acquire(folder, source, replace=True))
    assert message.startswith(f"{folder} can't be written (File too large)")
    assert contents(folder) == before
    assert not list(folder.glob(".incoming*"))
    assert not list(folder.glob(".cache/.*"))


@pytest.mark.usefixtures("official")
def test_a_disk_too_full_for_the_cache_is_no_hindrance(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    for name, content in MEMBERS.items():
        (folder / name).write_bytes(content)
    with disk_that_takes(100):
        assert load(folder).kind == "official"
    assert not list(folder.glob(".cache/*"))


def test_a_file_where_the_data_folder_should_be_is_named(tmp_path: Path, source: Path) -> None:
    (tmp_path / "data").write_text("mine")
    message = refusal(lambda: acquire(tmp_path / "data", source))
    assert message.startswith(f"{tmp_path / 'data'} can't be written")
    assert "a file stands where a folder should be" in message


# --- what the files are


@pytest.mark.usefixtures("official")
def test_files_are_official_only_to_the_byte(tmp_path: Path, source: Path) -> None:
    found, _ = said(tmp_path, source)
    assert found.kind == "official"
    assert "official" in found.verdict
    assert found.sha256 == {name: hashlib.sha256(MEMBERS[name]).hexdigest() for name in ("train.csv", "test.csv")}
    (tmp_path / "test.csv").write_bytes(TEST[:-1])  # the same table, without its last newline
    found = load(tmp_path)
    assert found.kind == "own"
    assert found.verdict == "not the competition's official test.csv: scores do not compare with others'"


@pytest.mark.usefixtures("official")
def test_a_gzip_file_is_known_by_what_is_in_it(tmp_path: Path) -> None:
    for level in (1, 9):
        for name in ("train.csv", "test.csv"):
            (tmp_path / f"{name}.gz").write_bytes(gzip.compress(MEMBERS[name], level))
        assert load(tmp_path).kind == "official"
        assert load(tmp_path).kind == "official"  # from the cache


@pytest.mark.usefixtures("official")
def test_a_csv_file_goes_before_its_gzip(folder: Path) -> None:
    (folder / "train.csv.gz").write_bytes(gzip.compress(TRAIN))
    assert load(folder).sha256["train.csv"] == hashlib.sha256((folder / "train.csv").read_bytes()).hexdigest()


def test_another_number_of_rows_is_refused_unless_somebody_says_that_it_is_meant(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    message = refusal(lambda: load(folder))
    assert message.startswith(f"{folder / 'train.csv'} has 20 rows and the competition's has 42,000")
    assert "digits data --replace" in message
    assert "digits data --own" in message
    found, _ = said(folder, own=True)
    assert found.kind == "own"
    assert "train.csv and test.csv: scores do not compare" in found.verdict
    assert load(folder).kind == "own"


@pytest.mark.usefixtures("official")
def test_rows_are_counted_in_both_tables(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    (folder / "test.csv").write_bytes(csv(values(3, TEST_COLUMNS), TEST_COLUMNS))
    assert refusal(lambda: load(folder)).startswith(f"{folder / 'test.csv'} has 3 rows and the competition's has 4")


@pytest.mark.usefixtures("official")
def test_other_values_in_as_many_rows_are_the_users_own(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    assert load(folder).kind == "own"


def test_sample_data_says_so(folder: Path) -> None:
    mark_sample(folder)
    found = load(folder)
    assert found.kind == "sample"
    assert "sample data" in found.verdict


def test_files_taken_anew_are_no_longer_called_sample_data(folder: Path, source: Path) -> None:
    mark_sample(folder)
    assert said(folder, source, replace=True, own=True)[0].kind == "own"
    mark_sample(folder)
    refusal(lambda: acquire(folder, source, replace=True))  # the competition's data has more rows than this
    assert json.loads((folder / "dataset.json").read_text()) == {"kind": "sample"}


@pytest.mark.usefixtures("official")
def test_the_competitions_files_have_no_marker_that_would_outlive_them(folder: Path, source: Path) -> None:
    said(folder, source, replace=True)
    assert not (folder / "dataset.json").exists()


@pytest.mark.parametrize("marker", ["", "{", "[]", "null", '{"sort": "own"}', "\xff"])
def test_a_damaged_marker_is_named(folder: Path, marker: str) -> None:
    (folder / "dataset.json").write_text(marker, encoding="latin-1")
    message = refusal(lambda: load(folder))
    assert message.startswith(f"{folder / 'dataset.json'} is damaged")
    assert "delete it" in message


def test_own_is_not_said_of_data_that_cannot_be_read(folder: Path) -> None:
    (folder / "dataset.json").unlink()
    (folder / "train.csv").write_bytes(b"not a table")
    refusal(lambda: acquire(folder, own=True))
    assert not (folder / "dataset.json").exists()


def test_a_sample_submission_that_does_not_fit_is_refused_with_a_remedy_that_mends_it(folder: Path) -> None:
    (folder / "sample_submission.csv").write_bytes(SUBMISSION + b"5,0\n")
    message = refusal(lambda: acquire(folder))
    assert message.startswith(f"{folder / 'sample_submission.csv'} has 5 rows and test.csv has 4")
    assert "digits predict" not in message  # it writes a run's submission, never this file


# --- the cache


def cached(folder: Path) -> bool:
    """Loading takes the values from the cache: the CSV files are not parsed."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data, "parse_table", None)
        try:
            load(folder)
        except TypeError:
            return False
        return True


def test_a_table_is_parsed_once(folder: Path) -> None:
    assert not cached(folder)
    first = load(folder)
    assert cached(folder)
    second = load(folder)
    assert np.array_equal(first.images, second.images)
    assert np.array_equal(first.labels, second.labels)
    assert first.sha256 == second.sha256


@pytest.mark.parametrize("name", ["train.csv", "test.csv"])
def test_a_changed_csv_is_never_answered_from_the_cache_though_its_size_and_time_are_the_same(
    folder: Path, name: str
) -> None:
    before = load(folder)
    path = folder / name
    status = path.stat()
    content = bytearray(path.read_bytes())
    at = content.index(b"\n") + 1
    while not content[at - 1 : at + 2].replace(b"\n", b",").startswith(b",1,"):
        at += 1
    content[at] = ord("2")
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    after = load(folder)
    assert before.sha256[name] != after.sha256[name]
    changed = sum(
        int(np.count_nonzero(old != new))
        for old, new in (
            (before.images, after.images),
            (before.labels, after.labels),
            (before.test_images, after.test_images),
        )
    )
    assert changed == 1


def test_a_csv_that_breaks_after_it_was_cached_is_refused(folder: Path) -> None:
    load(folder)
    path = folder / "train.csv"
    path.write_bytes(path.read_bytes()[:-30])
    assert "line 21, column" in refusal(lambda: load(folder))
    path.unlink()
    assert "is missing" in refusal(lambda: load(folder))


def test_any_byte_of_the_cache_may_be_damaged(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("cached")
    write_tables(folder, 12, 1, kind="own")  # more than zipfile reads at a time
    expected = load(folder)
    path = folder / ".cache" / "train.csv.npz"
    whole = path.read_bytes()
    header = whole.index(b"\x93NUMPY")  # the values', which says where they begin

    @given(st.integers(0, 200) | st.integers(0, len(whole) - 1), st.integers(0, 255) | st.none())
    @settings(deadline=None, max_examples=200)
    @example(header + 8, whole[header + 8] - 2)  # two bytes too soon
    @example(header + 60, 0)
    def damaged(at: int, byte: int | None) -> None:
        path.write_bytes(whole[:at] if byte is None else whole[:at] + bytes([byte]) + whole[at + 1 :])
        found = load(folder)
        assert np.array_equal(found.images, expected.images)
        assert np.array_equal(found.labels, expected.labels)
        assert found.sha256 == expected.sha256
        assert cached(folder)

    damaged()


def foreign_arrays(folder: Path, **arrays: object) -> None:
    np.savez(folder / ".cache" / "train.csv.npz", **arrays)  # type: ignore[arg-type]


def foreign_pickle(folder: Path) -> None:
    foreign_arrays(folder, values=np.array([object()], dtype=object), key="x", sha256="x")


FOREIGN: dict[str, Callable[[Path], object]] = {
    "another table's": lambda folder: shutil.copy(folder / ".cache/test.csv.npz", folder / ".cache/train.csv.npz"),
    "a text": lambda folder: (folder / ".cache/train.csv.npz").write_text("hello"),
    "empty": lambda folder: (folder / ".cache/train.csv.npz").write_text(""),
    "no values": lambda folder: foreign_arrays(folder, key=np.array(data_key(folder)), sha256=np.array("x")),
    "of other dtype": lambda folder: foreign_arrays(folder, **keyed(folder, np.zeros((20, 785)))),
    "of other width": lambda folder: foreign_arrays(folder, **keyed(folder, np.zeros((20, 784), np.uint8))),
    "one array": lambda folder: np.save((folder / ".cache/train.csv.npz").open("wb"), np.zeros(3)),
    "pickled": foreign_pickle,
}


def data_key(folder: Path) -> str:
    return hashlib.sha256((folder / "train.csv").read_bytes()).hexdigest()


def keyed(folder: Path, table: np.ndarray) -> dict[str, object]:
    return {"values": table, "key": np.array(data_key(folder)), "sha256": np.array(data_key(folder))}


@pytest.mark.parametrize("kind", FOREIGN)
@pytest.mark.filterwarnings("ignore:unclosed file")
def test_a_foreign_cache_is_made_anew(folder: Path, kind: str) -> None:
    expected = load(folder)
    FOREIGN[kind](folder)
    found = load(folder)
    assert np.array_equal(found.images, expected.images)
    assert found.sha256 == expected.sha256
    assert cached(folder)


def test_a_folder_that_cannot_be_written_to_is_read_all_the_same(folder: Path) -> None:
    (folder / ".cache").write_text("so that no folder can be made here, for whatever user")
    first, second = load(folder), load(folder)
    assert np.array_equal(first.images, second.images)
    assert first.kind == "own"


def test_a_cache_from_another_folder_or_time_serves_the_same_bytes_only(folder: Path, tmp_path: Path) -> None:
    load(folder)
    write_tables(tmp_path / "other", seed=8, kind="own")
    shutil.copytree(folder / ".cache", tmp_path / "other" / ".cache")
    assert not cached(tmp_path / "other")
    assert np.array_equal(load(tmp_path / "other").images.reshape(20, 784), values(20, seed=8)[:, 1:])


def test_the_two_tables_are_not_read_from_the_cache_at_the_same_time(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CPython 3.11 can't parse two arrays' headers at once."""
    load(folder)
    reading: list[Path] = []

    def read(path: Path) -> dict[str, Any]:
        reading.append(path)
        time.sleep(0.05)
        assert reading == [path]
        return {"nothing": reading.pop()}

    monkeypatch.setattr(data, "read_arrays", read)
    load(folder)


@given(SKETCHES, STYLES, SKETCHES, STYLES, st.booleans())
@settings(deadline=None, max_examples=40)
def test_what_was_written_is_loaded_with_and_without_the_cache(
    train: Sketch, train_style: Style, test: Sketch, test_style: Style, named: bool
) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one, sketch, style in ((competition.TRAIN, train, train_style), (competition.TEST, test, test_style)):
            ending = ".gz" if style.packed and named else ""  # a file's name need not say that it is packed
            content = style.write(sketch.values(one.columns), one.columns)
            (folder / f"{one.file}{ending}").write_bytes(content)
        (folder / "dataset.json").write_text(json.dumps({"kind": "own"}))
        for _ in range(2):
            found = load(folder)
            assert np.array_equal(found.images.reshape(-1, 784), train.values()[:, 1:])
            assert np.array_equal(found.labels, train.values()[:, 0])
            assert np.array_equal(found.test_images.reshape(-1, 784), test.values(TEST_COLUMNS))
        assert cached(folder)


# --- the competition's real data


@pytest.mark.real
def test_the_real_files_are_official(real_folder: Path) -> None:
    found = load(real_folder)
    assert found.kind == "official"
    assert found.images.shape == (42_000, 28, 28)
    assert found.test_images.shape == (28_000, 28, 28)
    assert np.bincount(found.labels).tolist() == [4132, 4684, 4177, 4351, 4072, 3795, 4137, 4401, 4063, 4188]
    assert {path.name for path in real_folder.iterdir()} >= {"train.csv", "test.csv", "sample_submission.csv"}


def takes_less(seconds: float, act: Callable[[], object], tries: int = 5) -> bool:
    """In one of several tries: what else runs on the machine only ever makes it slower."""
    for _ in range(tries):
        start = time.perf_counter()
        act()
        if time.perf_counter() - start < seconds:
            return True
    return False


@pytest.mark.real
def test_the_real_files_load_within_three_seconds_the_first_time_and_a_fifth_of_one_after(real_folder: Path) -> None:
    def first() -> None:
        shutil.rmtree(real_folder / ".cache", ignore_errors=True)
        load(real_folder)

    assert takes_less(3, first)
    assert takes_less(0.2, lambda: load(real_folder))


@pytest.mark.real
def test_the_real_zip_holds_just_the_three_files(real_zip: Path) -> None:
    with zipfile.ZipFile(real_zip) as archive:
        assert sorted(archive.namelist()) == sorted(MEMBERS)
