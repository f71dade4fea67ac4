"""The archive of the competition's data, on its way and on the disk."""

import contextlib
import hashlib
import os
import zipfile
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from pathlib import Path, PurePosixPath
from typing import Any

from digits.errors import DigitsError
from digits.kaggle import COMPETITION, PAGE
from digits.kaggle.errors import cut_off, web_page

ARCHIVE = f"{COMPETITION}.zip"
MEMBERS = ("train.csv", "test.csv", "sample_submission.csv")
LARGEST_MEMBER = 1 << 30  # bytes unpacked; the competition's largest file has 77 million
Progress = Callable[[int, int | None], object]


def check_archive(path: Path, name: str = "") -> None:
    """Raise DigitsError unless the file is a sound zip with the competition's CSVs, of a sane size.

    The message calls it by its path, or by another `name`.
    """
    name = name or str(path)
    if not path.exists():
        raise DigitsError(f"{name} is missing: get it with `digits data`, or from {PAGE}/data")
    try:
        with zipfile.ZipFile(path) as archive:
            _check_members(archive, name)
            damaged = archive.testzip()
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError, OSError):
        damaged = "all of it"
    if damaged:
        raise DigitsError(f"{name} is no sound zip file ({damaged} is damaged): run this again to get it anew")


def _check_members(archive: zipfile.ZipFile, name: str) -> None:
    sizes = {PurePosixPath(member.filename).name: member.file_size for member in archive.infolist()}
    for member in MEMBERS:
        if not 0 < sizes.get(member, 0) <= LARGEST_MEMBER:
            found = f"{member} of {sizes[member]:,} bytes" if member in sizes else f"no {member}"
            raise DigitsError(f"{name} holds {found}: get the competition's zip from {PAGE}/data")


def receive(part: Path, chunks: Iterator[bytes], held: int, total: int | None, progress: Progress) -> None:
    """Write what comes to the file, behind the bytes held already, and see that nothing is missing."""
    first = next(chunks, b"")
    if not held and not first.startswith(b"PK"):
        raise web_page()
    with on_disk(part), part.open("ab" if held else "wb") as file:
        for chunk in chain([first], chunks):
            file.write(chunk)
            held += len(chunk)
            progress(held, total)
        file.flush()
        os.fsync(file.fileno())
    if total is not None and held < total:
        raise cut_off()


def version_of(headers: Any) -> str | None:
    """What tells one version of the archive from another, and lets the rest of it be asked for."""
    tag = headers.get("ETag")
    found = tag if tag and not tag.startswith("W/") else headers.get("Last-Modified")
    return str(found) if found else None


def fingerprint(headers: Any) -> str:
    """A name for this version of the archive, so that bytes of two versions never meet in one file."""
    return hashlib.sha256(f"{version_of(headers)} {length_of(headers)}".encode()).hexdigest()[:12]


def length_of(headers: Any) -> int | None:
    """The bytes of the body, None if that is not said or if they are packed for the journey."""
    length = headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and not headers.get("Content-Encoding") else None


def size_of(path: Path) -> int:
    """The bytes of a file, 0 where there is none."""
    return path.stat().st_size if path.exists() else 0


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[None]:
    """Turn what a disk raises into a DigitsError about `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or error.errno
        raise DigitsError(
            f"{path} can't be written ({reason}): see that the disk has room and the folder is writable, "
            "then run this again"
        ) from error
