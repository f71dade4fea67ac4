"""The competition's data: from wherever it is, to DATA_DIR, to validated uint8 arrays."""

import hashlib
import json
import os
import shutil
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal

import numpy as np
from numpy.typing import NDArray

from digits.competition import SAMPLE_SUBMISSION, TEST, TRAIN, Table
from digits.errors import DigitsError
from digits.files import make_folder, mendable, write_json, write_whole
from digits.nn import CheckpointError, read_arrays, write_arrays
from digits.submission import check_submission
from digits.table import MEND, parse_table, read_bytes

Kind = Literal["official", "sample", "own"]
Say = Callable[[str], None]

MARKER = "dataset.json"  # in DATA_DIR, says that the files are sample data, or the user's own on purpose
KAGGLE_INPUTS = (
    Path("/kaggle/input/competitions/digit-recognizer"),
    Path("/kaggle/input/digit-recognizer"),
)
# NumPy parses an array's header as Python, which CPython 3.11 can't do in two threads at once: its parser counts its
# depth in one place for all of them, and now and then a SystemError comes of it.
READING = threading.Lock()
LARGEST_MEMBER = 1 << 30  # bytes; the competition's largest file has 77 million


@dataclass(frozen=True)
class Data:
    """The labelled images and the test images, and where they stand towards the competition's.

    images: (N, 28, 28) uint8   labels: (N,) from 0 to 9   test_images: (M, 28, 28) uint8
    sha256: of each table's CSV text, by file name
    kind: "official" if both tables are the competition's to the byte; "sample" for data drawn from fonts, which no
    upload accepts; else "own". Scores on different data do not compare.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.intp]
    test_images: NDArray[np.uint8]
    sha256: dict[str, str]
    kind: Kind

    @property
    def verdict(self) -> str:
        """One line on what these files are."""
        if self.kind == "official":
            return "the competition's official files"
        if self.kind == "sample":
            return "sample data drawn from fonts: its scores say nothing about the competition"
        odd = [table.file for table in (TRAIN, TEST) if self.sha256[table.file] != table.sha256]
        return f"not the competition's official {' and '.join(odd)}: scores do not compare with others'"


def load(folder: Path, *, own: bool = False) -> Data:
    """The data in a folder, from the cache where the CSV files are what they were.

    A file is known by the SHA-256 of its bytes, never by its date. Raises DigitsError where a file is missing, is not
    what it should be (with line and column), or has another number of rows than the competition's with neither `own`
    nor the folder's marker saying that this is on purpose.
    """
    with ThreadPoolExecutor(2) as pool:
        train, test = pool.map(lambda table: _read(_find(folder, table.file), table, folder), (TRAIN, TEST))
    sha256 = {TRAIN.file: train.sha256, TEST.file: test.sha256}
    kind = _kind(folder, sha256)
    if not own and not marked(folder):
        for table, found in ((TRAIN, train), (TEST, test)):
            _check_rows(folder / table.file, len(found.values), table.rows)
    return Data(
        images=train.values[:, 1:].reshape(-1, 28, 28),
        labels=train.values[:, 0].astype(np.intp),
        test_images=test.values.reshape(-1, 28, 28),
        sha256=sha256,
        kind=kind,
    )


def acquire(
    folder: Path,
    source: Path | None = None,
    *,
    replace: bool = False,
    own: bool = False,
    say: Say,
    download: Callable[[Path], Path],
) -> Data:
    """Have the data in `folder`: what is there, else from `source` (a zip or folder), Kaggle's mount, or its API.

    Files are checked before they are put in place, and one that is there stays unless `replace`. `own` marks the data
    as the user's own, with any number of rows. `say` is told in one line what is done. `download` is called where
    nothing else has the data, with a folder of its own, and returns the path of the zip.

    Raises DigitsError as `load` does, and where the data can't be had, with what to do.
    """
    make_folder(folder)
    present = [name for name in (TRAIN.file, TEST.file) if _exists(folder, name)]
    if len(present) == 2 and not replace:
        if source:
            say(f"{folder} has the files already, so {source} is left alone (--replace takes it)")
    else:
        source = source or next((place for place in KAGGLE_INPUTS if place.is_dir()), None)
        if source:
            say(f"taking the files from {source}")
            _take(source, folder, replace, own)
        else:
            say("downloading the files from Kaggle")
            downloads = folder / ".download"  # kept until the files are in place, so that the next call can go on
            _take(download(downloads), folder, replace, own)
            shutil.rmtree(downloads, ignore_errors=True)
    data = load(folder, own=own)
    reference = folder / SAMPLE_SUBMISSION
    if reference.exists():
        check_submission(reference, len(data.test_images), remedy=MEND)
    if own:
        write_json(folder / MARKER, {"kind": "own"})
        data = load(folder)
    return data


def mark_sample(folder: Path) -> None:
    """Say that a folder's files are sample data, with any number of rows."""
    write_json(folder / MARKER, {"kind": "sample"})


@dataclass(frozen=True)
class _Values:
    values: NDArray[np.uint8]
    sha256: str


def _exists(folder: Path, name: str) -> bool:
    return (folder / name).exists() or (folder / f"{name}.gz").exists()


def _find(folder: Path, name: str) -> Path:
    """The file, or the same one packed with gzip."""
    packed = folder / f"{name}.gz"
    return packed if packed.exists() and not (folder / name).exists() else folder / name


def _read(path: Path, table: Table, folder: Path, name: str = "") -> _Values:
    """The values of a table's file, from the cache in `folder` if it holds those of these very bytes."""
    cache = folder / ".cache" / f"{table.file}.npz"
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        digest = ""  # reading it below says what is wrong
    cached = _cached(cache, digest, table)
    if cached is not None:
        return cached
    content = read_bytes(path)
    values = parse_table(content, table.columns, name or str(path))
    found = _Values(values, hashlib.sha256(content).hexdigest())
    arrays = {"values": values, "sha256": np.array(found.sha256), "key": np.array(digest)}
    try:
        make_folder(cache.parent)
        write_whole(cache, lambda temporary: write_arrays(temporary, arrays))
    except DigitsError:
        pass  # a folder that can't be written to is read anew each time
    return found


def _cached(cache: Path, key: str, table: Table) -> _Values | None:
    try:
        with READING:
            arrays = read_arrays(cache)
    except CheckpointError:
        return None
    values = arrays.get("values")
    if str(arrays.get("key")) != key or values is None or values.dtype != np.uint8 or values.ndim != 2:
        return None
    return _Values(values, str(arrays.get("sha256"))) if values.shape[1] == len(table.columns) else None


def marked(folder: Path) -> str | None:
    """What the folder's marker says its data is: "sample", "own", or None."""
    try:
        marker = json.loads((folder / MARKER).read_text(encoding="utf-8"))
        return str(marker["kind"])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DigitsError(f"{folder / MARKER} is damaged ({error}): delete it and run `digits data`") from error


def _kind(folder: Path, sha256: dict[str, str]) -> Kind:
    if all(sha256[table.file] == table.sha256 for table in (TRAIN, TEST)):
        return "official"
    return "sample" if marked(folder) == "sample" else "own"


def _check_rows(path: Path | str, rows: int, expected: int) -> None:
    if rows != expected:
        raise DigitsError(
            f"{path} has {rows:,} rows and the competition's has {expected:,}: get a fresh copy with "
            "`digits data --replace`, or if this is data of your own, say so with `digits data --own`"
        )


def _take(source: Path, folder: Path, replace: bool, own: bool) -> None:
    """Put those files in place that the folder lacks (all with `replace`), each checked before."""
    with _staging(folder) as stage:
        for name in (TRAIN.file, TEST.file, SAMPLE_SUBMISSION):
            if replace or not _exists(folder, name):
                _fetch(source, name, stage)
        staged = sorted(path for path in stage.iterdir())
        meant = own or (not replace and marked(folder))
        for table in (TRAIN, TEST):
            if _exists(stage, table.file):
                name = f"{source}: {table.file}"
                found = _read(_find(stage, table.file), table, folder, name)
                if not meant:
                    _check_rows(name, len(found.values), table.rows)
        if (stage / SAMPLE_SUBMISSION).exists():
            test = _read(_find(stage if _exists(stage, TEST.file) else folder, TEST.file), TEST, folder)
            check_submission(stage / SAMPLE_SUBMISSION, len(test.values), f"{source}: {SAMPLE_SUBMISSION}", MEND)
        with mendable(folder):
            for path in staged:
                name = path.name.removesuffix(".gz")
                for old in (folder / name, folder / f"{name}.gz"):
                    if old.name != path.name:
                        old.unlink(missing_ok=True)
                path.replace(folder / path.name)
            if replace:
                (folder / MARKER).unlink(missing_ok=True)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder beside the files to be, gone afterwards."""
    with mendable(folder):
        stage = Path(tempfile.mkdtemp(prefix=".incoming-", dir=folder))
        try:
            yield stage
        finally:
            shutil.rmtree(stage, ignore_errors=True)


def _fetch(source: Path, name: str, stage: Path) -> None:
    """Copy (from Kaggle's mount: link) the named file, or its gzip, from a zip or folder; only the sample may lack."""
    if source.is_dir():
        path = _find(source, name)
        if path.exists() and source in KAGGLE_INPUTS:
            (stage / path.name).symlink_to(path)
        elif path.exists():
            try:
                with path.open("rb") as file:
                    _copy(file, stage / path.name)
            except OSError as error:
                raise DigitsError(f"{path} can't be read ({error.strerror}): check its permissions") from error
    elif source.exists():
        _unpack(source, name, stage)
    else:
        raise DigitsError(
            f"{source} is not there: give the path of digit-recognizer.zip, or of a folder with its files"
        )
    if name != SAMPLE_SUBMISSION and not _exists(stage, name):
        raise DigitsError(f"{source} holds no {name}: give the competition's zip, or a folder with its files")


def _copy(source: IO[bytes], target: Path) -> None:
    """Copy what is read to a file; what goes wrong in writing is a DigitsError, and in reading an OSError."""
    with mendable(target.parent.parent):
        file = target.open("wb")
    with file:
        while block := source.read(1 << 20):
            with mendable(target.parent.parent):
                file.write(block)
        with mendable(target.parent.parent):
            file.flush()
            os.fsync(file.fileno())


def _unpack(source: Path, name: str, stage: Path) -> None:
    try:
        with zipfile.ZipFile(source) as archive:
            _check_members(source, archive)
            wanted = (name, f"{name}.gz")
            members = [m for m in archive.infolist() if PurePosixPath(m.filename).name in wanted]
            if len(members) > 1:
                both = " and ".join(member.filename for member in members)
                raise DigitsError(f"{source} holds {both}: keep one of them")
            for member in members:
                with archive.open(member) as packed:
                    _copy(packed, stage / PurePosixPath(member.filename).name)
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, OSError, ValueError) as error:
        raise DigitsError(f"{source} is not a sound zip file ({error}): download it again") from error


def _check_members(source: Path, archive: zipfile.ZipFile) -> None:
    for member in archive.infolist():
        path = PurePosixPath(member.filename.replace("\\", "/"))
        if path.is_absolute() or ".." in path.parts or any(":" in part for part in path.parts[:1]):
            raise DigitsError(
                f"{source} holds {member.filename!r}, which points outside the folder it is unpacked to: "
                "don't trust it, download the zip from Kaggle again"
            )
        if member.file_size > LARGEST_MEMBER:
            raise DigitsError(
                f"{source} holds {member.filename!r} of {member.file_size:,} bytes: not the competition's"
            )
