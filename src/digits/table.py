"""The competition's CSV tables of pixels, read into uint8 and checked to the last byte.

The reader works on whole blocks of lines at a time with NumPy: some five times as fast as a general CSV reader, and
every rule below is checked on the way. Only where a block breaks a rule is it read again, line by line, to say where.
"""

import gzip
import itertools
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from digits.competition import TRAIN_COLUMNS
from digits.errors import DigitsError

BLOCK_LINES = 512
GZIP_MAGIC = b"\x1f\x8b"
BOM = b"\xef\xbb\xbf"
MEND = "get a fresh copy with `digits data --replace`"


def read_bytes(path: Path) -> bytes:
    """The bytes of a file, unpacked where it is gzip. Raises DigitsError if they can't be had."""
    try:
        raw = path.read_bytes()
        return gzip.decompress(raw) if raw.startswith(GZIP_MAGIC) else raw
    except FileNotFoundError:
        raise DigitsError(f"{path} is missing: run `digits data`") from None
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DigitsError(f"{path} is a damaged gzip file ({error}): {MEND}") from error
    except OSError as error:
        raise DigitsError(f"{path} can't be read ({error.strerror}): check its permissions") from error


def parse_table(content: bytes, columns: Sequence[str], name: str, threads: int = 2) -> NDArray[np.uint8]:
    """The values of a CSV table, (rows, len(columns)), integers 0-255, and 0-9 in a column named label.

    Lines may end in LF or CRLF, the last one in nothing, and a byte-order mark may stand first. Raises DigitsError,
    naming `name` as the file, the line (from 1, the header's), the column and what to do, where the header is not
    `columns` in that order, a row is blank, truncated or too long, or a value is not such an integer.
    """
    buffer = np.frombuffer(content, np.uint8)
    ends = np.flatnonzero(buffer == ord("\n")) + 1
    if not len(ends) or ends[-1] < len(buffer):
        ends = np.append(ends, len(buffer))
    _check_header(content[: ends[0]], columns, name)

    rows = len(ends) - 1
    if rows == 0:
        raise DigitsError(f"{name} has a header and no rows: {MEND}")
    out = np.empty((rows, len(columns)), np.uint8)

    def parse(first: int) -> int | None:
        """Fill in a block of rows; its first row if it breaks a rule."""
        last = min(first + BLOCK_LINES, rows)
        values = _block(buffer[ends[first] : ends[last]], last - first, columns)
        if values is None:
            return first
        out[first:last] = values
        return None

    with ThreadPoolExecutor(threads) as pool:
        bad = next((first for first in pool.map(parse, range(0, rows, BLOCK_LINES)) if first is not None), None)
    if bad is not None:
        _complain(content, ends[bad:], bad, columns, name)
    return out


def _block(text: NDArray[np.uint8], rows: int, columns: Sequence[str]) -> NDArray[np.uint8] | None:
    """The values of so many whole lines, or None if any rule is broken."""
    returns = np.flatnonzero(text == ord("\r"))
    if len(returns):
        if (text[returns[returns + 1 < len(text)] + 1] != ord("\n")).any():
            return None
        text = np.delete(text, returns)
    if text[-1] != ord("\n"):
        text = np.append(text, np.uint8(ord("\n")))
    digits = text - np.uint8(ord("0"))  # anything else than a digit wraps around to above 9
    stops = np.flatnonzero(digits > 9)
    if len(stops) != rows * len(columns):
        return None
    marks = text[stops].reshape(rows, len(columns))
    if (marks[:, -1] != ord("\n")).any() or (marks[:, :-1] != ord(",")).any():
        return None
    lengths = np.diff(stops, prepend=-1) - 1
    if lengths.min() < 1 or lengths.max() > 3:
        return None
    values = digits[stops - 1].astype(np.uint16)
    longer = np.flatnonzero(lengths > 1)
    values[longer] += digits[stops[longer] - 2] * np.uint16(10)
    longer = np.flatnonzero(lengths > 2)
    values[longer] += digits[stops[longer] - 3] * np.uint16(100)
    table = values.reshape(rows, len(columns))
    if values.max() > 255 or (columns[0] == "label" and table[:, 0].max() > 9):
        return None
    return table.astype(np.uint8)


def _check_header(line: bytes, columns: Sequence[str], name: str) -> None:
    """Raise DigitsError unless the line names just these columns."""
    text = line.removeprefix(BOM).rstrip(b"\r\n").decode("utf-8", "replace")
    if text.lstrip().lower().startswith(("<!doctype", "<html")):
        raise DigitsError(f"{name} is a web page, not a CSV file, perhaps a sign-in page: {MEND}")
    found = [cell.strip().strip('"') for cell in text.split(",")]
    if found == list(columns):
        return
    if sorted(found) == sorted(columns):
        at = next(i for i, (a, b) in enumerate(zip(found, columns, strict=True)) if a != b)
        raise DigitsError(
            f"{name}, line 1, column {at + 1}: the columns are out of order, {found[at]!r} stands where "
            f"{columns[at]!r} belongs: put them in the competition's order"
        )
    if found == list(TRAIN_COLUMNS):
        raise DigitsError(f"{name}, line 1, column 1: there should be no label here, is this train.csv? If not, {MEND}")
    missing = [column for column in columns if column not in found]
    if not missing:
        extra = next(column for column in found if column not in columns or found.count(column) > 1)
        raise DigitsError(
            f"{name}, line 1, column {found.index(extra) + 1}: {extra[:40]!r} is one column too many, there should be "
            f"{len(columns)}: leave it out"
        )
    hint = "is this test.csv?" if missing == ["label"] else "is this the competition's file?"
    raise DigitsError(
        f"{name}, line 1: the header has {len(found)} columns and no {missing[0]!r}, the competition's has "
        f"{len(columns)}, from {columns[0]!r} to {columns[-1]!r}; {hint} If not, {MEND}"
    )


def _complain(content: bytes, ends: NDArray[np.intp], row: int, columns: Sequence[str], name: str) -> None:
    """Read lines one by one from row `row` on, whose start is ends[0], and raise DigitsError at the first bad one."""
    for number, (start, end) in enumerate(itertools.pairwise(ends), start=row + 2):
        line = content[start:end].removesuffix(b"\n").removesuffix(b"\r").decode("utf-8", "replace")
        where = f"{name}, line {number}"
        cells = line.split(",")
        if not line.strip():
            raise DigitsError(f"{where}: the line is blank: delete it, or {MEND}")
        for column, cell in zip(columns, cells, strict=False):
            problem = _problem(cell, column)
            if problem:
                at = columns.index(column) + 1
                raise DigitsError(f"{where}, column {at} ({column}): {problem}: mend it, or {MEND}")
        if len(cells) != len(columns):
            what = "the row is cut short" if len(cells) < len(columns) else "the row is too long"
            raise DigitsError(
                f"{where}, column {min(len(cells), len(columns)) + 1}: {what}, it has {len(cells)} values and should "
                f"have {len(columns)}: mend it, or {MEND}"
            )
    raise AssertionError(f"{name}: a block of lines was refused and no line of it is bad")


def _problem(cell: str, column: str) -> str | None:
    """What is wrong with a value, or None."""
    highest = 9 if column == "label" else 255
    shown = repr(cell if len(cell) <= 20 else cell[:20] + "...")
    if cell == "":
        return "the value is missing"
    if not (cell.isascii() and cell.isdigit()):
        return f"{shown} is not an integer from 0 to {highest}"
    if len(cell) > 3 and int(cell) <= highest:
        return f"{shown} has too many digits"
    if len(cell) > 3 or int(cell) > highest:
        return f"{shown} is more than {highest}"
    return None
