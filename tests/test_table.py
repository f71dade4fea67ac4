"""The CSV reader takes every table that the competition could have written, and says where any other is wrong."""

import gzip
import re
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from tables import NEWLINES, SKETCHES, STYLES, Sketch, Style, csv, first_fault, values

from digits import table
from digits.competition import TEST_COLUMNS, TRAIN_COLUMNS
from digits.errors import DigitsError
from digits.table import parse_table, read_bytes

TABLES = st.sampled_from([TRAIN_COLUMNS, TEST_COLUMNS])
BLOCKS = st.sampled_from([1, 2, 3, 512])  # lines that are read at a time
NOT_VALUES = ["", " 5", "5 ", "5.0", "-1", "256", "999", "0300", "1e2", "x", "٣", "²", "+5", '"5"', "\0", "5\0", "\r5"]


def refusal(content: bytes, columns: tuple[str, ...] = TRAIN_COLUMNS) -> str:
    """What is said of a table that is refused."""
    with pytest.raises(DigitsError) as caught:
        parse_table(content, columns, "some/train.csv")
    message = str(caught.value)
    assert "\n" not in message
    assert message.startswith("some/train.csv")
    return message


def place(message: str) -> tuple[int, int | None]:
    """The line and column that a refusal names."""
    found = re.match(r"some/train\.csv, line (\d+)(?:, column (\d+))?", message)
    assert found, message
    return int(found[1]), int(found[2]) if found[2] else None


@given(SKETCHES, STYLES, TABLES, BLOCKS, st.integers(1, 3))
@settings(deadline=None, max_examples=100)
def test_what_was_written_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    sketch: Sketch,
    style: Style,
    columns: tuple[str, ...],
    lines: int,
    threads: int,
) -> None:
    written = sketch.values(columns)
    path = tmp_path_factory.getbasetemp() / "round-trip.csv"
    path.write_bytes(style.write(written, columns))
    with patch.object(table, "BLOCK_LINES", lines):
        read = parse_table(read_bytes(path), columns, str(path), threads)
    assert read.dtype == np.uint8
    assert np.array_equal(read, written)


@given(SKETCHES, st.integers(0, 4), st.integers(0, 784), st.sampled_from(NOT_VALUES), NEWLINES, BLOCKS)
@settings(deadline=None, max_examples=100)
@example(Sketch(3, 7, {}), 1, 0, "10", "\n", 2)  # a pixel may be 10, a label not
@example(Sketch(3, 7, {}), 2, 0, "255", "\n", 512)
def test_a_cell_that_is_no_value_is_named_with_its_line_and_column(
    sketch: Sketch, row: int, column: int, cell: str, newline: str, lines: int
) -> None:
    row %= sketch.rows
    text = csv(sketch.values(), newline=newline).decode().split(newline)
    cells = text[row + 1].split(",")
    text[row + 1] = ",".join([*cells[:column], cell, *cells[column + 1 :]])
    with patch.object(table, "BLOCK_LINES", lines):
        message = refusal(newline.join(text).encode())
    assert place(message) == (row + 2, column + 1)
    assert f"({TRAIN_COLUMNS[column]})" in message
    assert "digits data --replace" in message
    assert "missing" in message if cell == "" else repr(cell) in message


@given(SKETCHES, st.integers(0, 4), st.integers(1, 784))
@settings(deadline=None, max_examples=30)
def test_a_row_that_lacks_a_cell_is_named(sketch: Sketch, row: int, column: int) -> None:
    row %= sketch.rows
    lines = csv(sketch.values()).decode().split("\n")
    cells = lines[row + 1].split(",")
    lines[row + 1] = ",".join([*cells[:column], *cells[column + 1 :]])
    message = refusal("\n".join(lines).encode())
    assert place(message) == (row + 2, 785)
    assert "784 values and should have 785" in message


@given(SKETCHES, st.integers(0, 4), st.integers(0, 785))
@settings(deadline=None, max_examples=30)
def test_a_row_with_a_cell_too_many_is_named(sketch: Sketch, row: int, column: int) -> None:
    row %= sketch.rows
    lines = csv(sketch.values()).decode().split("\n")
    cells = lines[row + 1].split(",")
    lines[row + 1] = ",".join([*cells[:column], "7", *cells[column:]])
    message = refusal("\n".join(lines).encode())
    assert place(message) == (row + 2, 786)
    assert "786 values and should have 785" in message


@given(SKETCHES, st.integers(1, 6), NEWLINES, st.sampled_from(["", " ", "\t"]), BLOCKS)
@settings(deadline=None, max_examples=30)
def test_a_blank_line_is_named(sketch: Sketch, at: int, newline: str, blank: str, size: int) -> None:
    at = min(at, sketch.rows + 1)
    lines = csv(sketch.values(), newline=newline).decode().split(newline)
    text = newline.join([*lines[:at], blank, *lines[at:]])
    with patch.object(table, "BLOCK_LINES", size):
        message = refusal(text.encode())
    assert place(message) == (at + 1, None)
    assert "blank" in message


@given(SKETCHES, st.integers(0), NEWLINES)
@settings(deadline=None, max_examples=60)
def test_a_file_that_is_cut_off_in_a_row_is_named_where_it_ends(sketch: Sketch, end: int, newline: str) -> None:
    content = csv(sketch.values(), newline=newline)
    start = content.index(b"\n") + 2
    content = content[: start + end % (len(content) - start)]
    begun = content[content.rindex(b"\n") + 1 :]
    assume(begun and (begun.count(b",") < 784 or begun.endswith(b",")))  # a cut in the last cell leaves a whole row
    line, column = place(refusal(content))
    assert line == content.count(b"\n") + 1
    assert column == begun.count(b",") + (1 if begun.endswith(b",") else 2)


ODD_BYTES = st.sampled_from([*b'0123456789,\n\r \0"-.+x', 0x85, 0xFF]) | st.integers(0, 255)


@given(SKETCHES, NEWLINES, st.lists(st.tuples(st.integers(0), ODD_BYTES), min_size=1, max_size=4), BLOCKS)
@settings(deadline=None, max_examples=150)
def test_any_bytes_changed_in_the_rows_are_read_or_refused_as_a_plain_reader_does(
    sketch: Sketch, newline: str, changes: list[tuple[int, int]], lines: int
) -> None:
    content = bytearray(csv(sketch.values(TEST_COLUMNS), TEST_COLUMNS, newline))
    start = content.index(b"\n") + 1
    for at, new in changes:
        content[start + at % (len(content) - start)] = new
    fault = first_fault(bytes(content), TEST_COLUMNS)
    with patch.object(table, "BLOCK_LINES", lines):
        if fault:
            assert place(refusal(bytes(content), TEST_COLUMNS)) == fault
        else:
            read = parse_table(bytes(content), TEST_COLUMNS, "test.csv")
            rows = bytes(content).decode().split()[1:]
            assert read.tolist() == [[int(cell) for cell in row.split(",")] for row in rows]


def test_the_first_of_several_faults_is_named_though_blocks_are_read_side_by_side() -> None:
    lines = csv(values(3000)).decode().split("\n")
    for number in (2900, 1700, 2500, 1699):
        lines[number - 1] = lines[number - 1].replace(",", ",x", 1)
    assert place(refusal("\n".join(lines).encode())) == (1699, 2)


def test_leading_zeros_are_digits_too() -> None:
    content = csv(values(1, TEST_COLUMNS), TEST_COLUMNS).split(b"\n")
    content[1] = b",".join([b"007", *[b"000"] * 783])
    read = parse_table(b"\n".join(content), TEST_COLUMNS, "test.csv")
    assert read[0, 0] == 7
    assert not read[0, 1:].any()


def test_a_number_of_four_digits_is_not_called_too_large_when_it_is_small() -> None:
    content = csv(values(2)).decode().split("\n")
    content[2] = "5,0012," + content[2].split(",", 2)[2]
    message = refusal("\n".join(content).encode())
    assert place(message) == (3, 2)
    assert "is more than 255" not in message


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_it_reads_what_pandas_reads(sample_folder: Path, tmp_path: Path, newline: str) -> None:
    for name, columns in (("train.csv", TRAIN_COLUMNS), ("test.csv", TEST_COLUMNS)):
        path = tmp_path / name
        path.write_bytes((sample_folder / name).read_bytes().replace(b"\r\n", newline.encode()))
        assert np.array_equal(parse_table(path.read_bytes(), columns, name), pd.read_csv(path).to_numpy())


def test_train_csv_in_the_place_of_test_csv_is_recognised_and_the_other_way_round() -> None:
    assert "is this train.csv?" in refusal(csv(values(2)), TEST_COLUMNS)
    assert "is this test.csv?" in refusal(csv(values(2, TEST_COLUMNS), TEST_COLUMNS))


@pytest.mark.parametrize(
    ("columns", "where", "said"),
    [
        (["label", "pixel1", "pixel0", *TRAIN_COLUMNS[3:]], (1, 2), "out of order"),
        ([*TRAIN_COLUMNS[1:], "label"], (1, 1), "out of order"),
        ([*TRAIN_COLUMNS, "note"], (1, 786), "'note' is one column too many"),
        (["id", *TRAIN_COLUMNS], (1, 1), "'id' is one column too many"),
        ([*TRAIN_COLUMNS, "pixel5"], (1, 7), "'pixel5' is one column too many"),
        (TRAIN_COLUMNS[:-1], (1, None), "no 'pixel783'"),
        (["label", *(f"{i}x{j}" for i in range(1, 29) for j in range(1, 29))], (1, None), "no 'pixel0'"),
        (["Label", *TRAIN_COLUMNS[1:]], (1, None), "no 'label'"),
        (["0"] * 785, (1, None), "no 'label'"),
    ],
)
def test_another_header_is_refused(columns: list[str], where: tuple[int, int | None], said: str) -> None:
    message = refusal(csv(values(2), columns))
    assert place(message) == where
    assert said in message


def test_a_header_in_quotes_is_the_same_header() -> None:
    written = values(3)
    content = csv(written, [f'"{name}"' for name in TRAIN_COLUMNS])
    assert np.array_equal(parse_table(content, TRAIN_COLUMNS, "train.csv"), written)


@pytest.mark.parametrize("content", [b"", b"\n", b"\xef\xbb\xbf", b"\x00" * 100, b"PK\x03\x04" + bytes(range(256))])
def test_what_is_no_table_at_all_is_refused(content: bytes) -> None:
    assert place(refusal(content)) == (1, None)


def test_a_table_without_rows_is_refused() -> None:
    for content in (csv(values(0)), csv(values(0), end=False)):
        assert "no rows" in refusal(content)


@pytest.mark.parametrize("start", ["<!DOCTYPE html>\n<html>", "\n <html lang=en>".lstrip("\n"), "<!doctype HTML>"])
def test_a_web_page_in_the_place_of_the_table_is_called_one(start: str) -> None:
    message = refusal(f"{start}<body>Sign in</body>\n".encode())
    assert "web page" in message
    assert "digits data --replace" in message


def test_a_missing_file_says_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match=r"train\.csv is missing: run `digits data`"):
        read_bytes(tmp_path / "train.csv")


def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DigitsError, match="can't be read"):
        read_bytes(tmp_path)


@given(st.integers(0), st.integers(0, 255))
@settings(deadline=None, max_examples=60)
@example(-1, 0)
def test_a_gzip_file_that_is_cut_or_altered_is_refused_or_read_right(
    tmp_path_factory: pytest.TempPathFactory, at: int, bits: int
) -> None:
    content = csv(values(2, seed=3))
    packed = bytearray(gzip.compress(content, mtime=0))
    at = 2 + at % (len(packed) - 2)  # without the first two bytes it is no gzip file
    packed[at] ^= bits
    path = tmp_path_factory.getbasetemp() / "train.csv.gz"
    path.write_bytes(packed if bits else packed[:at])
    try:
        assert read_bytes(path) == content  # some bytes of gzip's header say nothing of the content
    except DigitsError as error:
        assert re.search(r"train\.csv\.gz is a damaged gzip file .*digits data --replace", str(error))  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
