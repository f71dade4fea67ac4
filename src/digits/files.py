"""Files that are there whole or not at all."""

import errno
import fcntl
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from digits.errors import DigitsError

REMEDIES = {
    errno.ENOSPC: "free some space on that disk and run it again",
    errno.EDQUOT: "free some of your quota there and run it again",
    errno.EACCES: "make that folder writable, or choose another",
    errno.EPERM: "make that folder writable, or choose another",
    errno.EROFS: "that disk is read-only, choose another folder",
    errno.ENOENT: "make that folder first, or choose another",
    errno.EISDIR: "a folder stands where the file should be, move it away",
    errno.ENOTDIR: "a file stands where a folder should be, move it away or choose another folder",
    errno.EEXIST: "a file stands where a folder should be, move it away or choose another folder",
}


@contextmanager
def mendable(path: Path) -> Iterator[None]:
    """Turn the errors of an operating system that a user can mend into a DigitsError about `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        remedy = REMEDIES.get(error.errno or 0, "see that the disk is there and sound, then run it again")
        raise DigitsError(f"{path} can't be written ({reason}): {remedy}") from error


class TakenError(DigitsError):
    """Another process is at work on what this one would be alone at."""


@contextmanager
def alone(path: Path, otherwise: str) -> Iterator[None]:
    """Be the only process that holds this lock file. Raises TakenError(otherwise) where another one holds it."""
    with mendable(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TakenError(otherwise) from None
        yield
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Have `write` make the file under another name in the same folder, then put it in place in one step.

    Raises DigitsError if it can't be written; then nothing is left behind and what stood at `path` still does.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    with mendable(path):
        try:
            write(temporary)
            with temporary.open("rb") as file:
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_leftovers(folder: Path) -> None:
    """Remove what a process that was killed left of a file it was writing; only for whoever is alone at the folder."""
    for path in folder.glob(".*"):
        if re.fullmatch(r"\..+\.[0-9a-f]{8}(\.\w+)?", path.name):
            path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Put a text in place, as UTF-8 with LF line ends. Raises DigitsError if it can't be written."""
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8", newline="\n"))


def write_json(path: Path, value: Any) -> None:
    """Put a value in place as JSON that a person can read. Raises DigitsError if it can't be written."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing. Raises DigitsError if it can't be."""
    with mendable(path):
        path.mkdir(parents=True, exist_ok=True)
