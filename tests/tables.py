"""CSV tables for the tests: written plainly, and read so slowly and simply that the reading can't be wrong."""

import gzip
import json
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

from digits.competition import TEST_COLUMNS, TRAIN_COLUMNS
from digits.data import MARKER

Values = NDArray[np.uint8]


def values(rows: int, columns: Sequence[str] = TRAIN_COLUMNS, seed: int = 0) -> Values:
    """A table of random values; its first column has every label in turn if it is that of train.csv."""
    table = np.random.default_rng(seed).integers(0, 256, (rows, len(columns)), np.uint8)
    if columns[0] == "label":
        table[:, 0] = np.arange(rows) % 10
    return table


def csv(
    table: Values, columns: Sequence[str] = TRAIN_COLUMNS, newline: str = "\n", bom: bool = False, end: bool = True
) -> bytes:
    """The table as CSV; `end` puts a newline after the last row."""
    lines = [",".join(columns), *(",".join(map(str, row)) for row in table.tolist())]
    text = newline.join(lines) + (newline if end else "")
    return text.encode("utf-8-sig" if bom else "utf-8")


def write_tables(
    folder: Path, train_rows: int = 20, test_rows: int = 4, seed: int = 0, kind: str | None = None
) -> None:
    """train.csv and test.csv of random values, marked as `kind`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "train.csv").write_bytes(csv(values(train_rows, TRAIN_COLUMNS, seed)))
    (folder / "test.csv").write_bytes(csv(values(test_rows, TEST_COLUMNS, seed + 1), TEST_COLUMNS))
    if kind:
        (folder / MARKER).write_text(json.dumps({"kind": kind}))


def zipped(path: Path, members: dict[str, bytes]) -> Path:
    """A zip file of these members, under just these names."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder but those of the cache, with what is in it."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.parent.name != ".cache")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@dataclass(frozen=True)
class Sketch:
    """A table in few words, so that a failing example can be read: one value everywhere but in some cells."""

    rows: int
    everywhere: int
    cells: dict[tuple[int, int], int]

    def values(self, columns: Sequence[str] = TRAIN_COLUMNS) -> Values:
        """The table; labels are below 10."""
        table = np.full((self.rows, len(columns)), self.everywhere, np.uint8)
        for (row, column), value in self.cells.items():
            table[row % self.rows, column % len(columns)] = value
        if columns[0] == "label":
            table[:, 0] %= 10
        return table


@dataclass(frozen=True)
class Style:
    """A way to write a table down."""

    newline: str
    bom: bool
    end: bool
    packed: bool

    def write(self, table: Values, columns: Sequence[str] = TRAIN_COLUMNS) -> bytes:
        """The table as a file has it."""
        content = csv(table, columns, self.newline, self.bom, self.end)
        return gzip.compress(content, 1, mtime=0) if self.packed else content


BYTES = st.integers(0, 255)
PLACES = st.tuples(st.integers(0, 9), st.integers(0, 784))
SKETCHES = st.builds(Sketch, st.integers(1, 5), BYTES, st.dictionaries(PLACES, BYTES, max_size=8))
NEWLINES = st.sampled_from(["\n", "\r\n"])
STYLES = st.builds(Style, NEWLINES, st.booleans(), st.booleans(), st.booleans())


def first_fault(content: bytes, columns: Sequence[str]) -> tuple[int, int | None] | None:
    """Line and column (None for a blank line) of the first fault in the rows of a table, None where there is none."""
    lines = content.split(b"\n")
    if lines[-1] == b"":
        lines.pop()
    for number, line in enumerate(lines[1:], start=2):
        line = line.removesuffix(b"\r")
        if not line.decode("utf-8", "replace").strip():
            return number, None
        cells = line.split(b",")
        for at, (name, cell) in enumerate(zip(columns, cells, strict=False), start=1):
            highest = 9 if name == "label" else 255
            if not 1 <= len(cell) <= 3 or set(cell) - set(b"0123456789") or int(cell) > highest:
                return number, at
        if len(cells) != len(columns):
            return number, min(len(cells), len(columns)) + 1
    return None
